//! Whether a value is what its map's content type says.

use serde::de::IgnoredAny;
use wattle_core::map::ContentType;

use crate::failure::{ContentTypeName, Failure};

/// Nesting of a MessagePack value: deeper ones are refused before they exhaust the stack. (serde_json has its own limit, 128.)
const DEPTH: usize = 128;

/// Checks a value.
pub(crate) fn check(content_type: ContentType, value: &[u8]) -> Result<(), Failure> {
    let refuse = |problem: String| Failure::Value { expected: ContentTypeName(content_type), problem };
    match content_type {
        ContentType::Bytes => Ok(()),
        ContentType::Text => std::str::from_utf8(value).map(drop).map_err(|error| refuse(error.to_string())),
        ContentType::Json => {
            serde_json::from_slice::<IgnoredAny>(value).map(drop).map_err(|error| refuse(error.to_string()))
        }
        ContentType::MessagePack => {
            let mut decoder = rmp_serde::Deserializer::new(std::io::Cursor::new(value));
            decoder.set_max_depth(DEPTH);
            let read: Result<IgnoredAny, _> = serde::Deserialize::deserialize(&mut decoder);
            read.map_err(|error| refuse(error.to_string()))?;
            let end = usize::try_from(decoder.position()).unwrap_or(usize::MAX);
            if end == value.len() {
                Ok(())
            } else {
                Err(refuse(format!("{} bytes follow its end", value.len() - end)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_held_to_their_content_type() {
        use ContentType::{Bytes, Json, MessagePack, Text};
        for (content_type, value, fits) in [
            (Bytes, &b"\xff"[..], true),
            (Text, "grüezi".as_bytes(), true),
            (Text, b"\xff", false),
            (Json, b"{\"a\": [1, null]}", true),
            (Json, b"{\"a\": 1} x", false),
            (Json, b"", false),
            (MessagePack, b"\x92\x01\xc0", true),
            (MessagePack, b"\x92\x01", false),
            (MessagePack, b"\x01\x01", false),
        ] {
            assert_eq!(check(content_type, value).is_ok(), fits, "{content_type:?} {value:?}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        assert!(check(ContentType::MessagePack, &[0x91; 1_000_000]).is_err());
        assert!(check(ContentType::Json, &[b'['; 1_000_000]).is_err());
    }
}
