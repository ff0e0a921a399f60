//! Keys and values as people and programs read them, by the map's content type; and values as people type them.

use anyhow::Context;
use serde_json::{Value, json};
use wattle_client::ContentType;

/// A value as JSON: what is JSON or MessagePack as itself, text as a string, other bytes as `{"hex": "…"}`.
pub(super) fn as_json(content_type: ContentType, value: &[u8]) -> Value {
    let parsed = match content_type {
        ContentType::Json => serde_json::from_slice(value).ok(),
        ContentType::MessagePack => message_pack(value),
        ContentType::Unspecified | ContentType::Bytes | ContentType::Text => None,
    };
    parsed.unwrap_or_else(|| text_or_hex(value))
}

/// A value for a terminal: JSON as it stands, MessagePack as JSON, printable text as itself, other bytes as `hex:…`.
pub(super) fn as_text(content_type: ContentType, value: &[u8]) -> String {
    if content_type == ContentType::MessagePack
        && let Some(value) = message_pack(value)
    {
        return value.to_string();
    }
    match printable(value) {
        Some(text) => text.to_owned(),
        None => format!("hex:{}", hex(value)),
    }
}

/// A response of a function: JSON where it is some, else text or bytes.
pub(super) fn response_as_json(response: &[u8]) -> Value {
    serde_json::from_slice(response).unwrap_or_else(|_| text_or_hex(response))
}

/// What was typed as a value or an argument, for a map of this content type.
pub(super) fn typed(content_type: ContentType, text: &str) -> anyhow::Result<Vec<u8>> {
    match content_type {
        ContentType::MessagePack => {
            let value: Value = serde_json::from_str(text).with_context(|| {
                format!("{text:?} is not JSON: the map holds MessagePack, which is typed as JSON")
            })?;
            Ok(rmp_serde::to_vec_named(&value)?)
        }
        ContentType::Json => {
            serde_json::from_str::<serde::de::IgnoredAny>(text).with_context(|| {
                format!("{text:?} is not JSON, which the map holds: text is typed with its quotes, as in '\"text\"'")
            })?;
            Ok(text.as_bytes().to_vec())
        }
        ContentType::Unspecified | ContentType::Bytes | ContentType::Text => Ok(text.as_bytes().to_vec()),
    }
}

fn text_or_hex(value: &[u8]) -> Value {
    match printable(value) {
        Some(text) => Value::from(text),
        None => json!({ "hex": hex(value) }),
    }
}

/// Control characters could do anything to a terminal; a line break or a tab is harmless.
fn printable(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t').then_some(text)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal text.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<_>>>()?;
    let pairs = digits.chunks_exact(2);
    // Two digits are below 256.
    pairs.remainder().is_empty().then(|| pairs.map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

fn message_pack(value: &[u8]) -> Option<Value> {
    rmp_serde::from_slice(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_by_their_content_type() {
        let object = br#"{"a":1}"#;
        let packed = b"\x81\xa1a\x01";
        assert_eq!(as_text(ContentType::Json, object), r#"{"a":1}"#);
        assert_eq!(as_json(ContentType::Json, object), json!({"a": 1}));
        assert_eq!(as_text(ContentType::MessagePack, packed), r#"{"a":1}"#);
        assert_eq!(as_json(ContentType::MessagePack, packed), json!({"a": 1}));
        assert_eq!(as_json(ContentType::Text, object), json!(r#"{"a":1}"#));
        assert_eq!(as_json(ContentType::Bytes, &[0, 255]), json!({"hex": "00ff"}));
    }

    #[test]
    fn nothing_unprintable_reaches_a_terminal() {
        assert_eq!(as_text(ContentType::Text, "grün".as_bytes()), "grün");
        assert_eq!(as_text(ContentType::Text, b"\x1b[2J"), "hex:1b5b324a");
        assert_eq!(as_text(ContentType::Bytes, &[0xff]), "hex:ff");
    }

    #[test]
    fn what_is_typed_becomes_the_content_type() {
        assert_eq!(typed(ContentType::MessagePack, r#"{"a":1}"#).unwrap(), b"\x81\xa1a\x01");
        assert_eq!(typed(ContentType::Json, "[1, 2]").unwrap(), b"[1, 2]");
        assert_eq!(typed(ContentType::Text, "hello").unwrap(), b"hello");
        let refused = typed(ContentType::Json, "hello").unwrap_err();
        assert!(refused.to_string().starts_with("\"hello\" is not JSON"), "{refused}");
    }

    #[test]
    fn hexadecimal_text_is_read_back() {
        assert_eq!(unhex(&hex(&[0, 171, 255])), Some(vec![0, 171, 255]));
        assert_eq!(unhex("abc"), None);
        assert_eq!(unhex("zz"), None);
    }
}
