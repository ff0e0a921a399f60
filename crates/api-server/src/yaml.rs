//! YAML in bodies and answers, as Go's library reads it: of version 1.1, where it matters.

use serde_json::Value;

use crate::error::ApiError;

pub(crate) const MEDIA_TYPE: &str = "application/yaml";

/// Parses a configuration for server-side apply. Most are JSON, which is YAML, too.
pub(crate) fn parse_config(body: &[u8]) -> Result<Value, ApiError> {
    read(body).map_err(|error| {
        ApiError::BadRequest(format!("error decoding YAML: error converting YAML to JSON: yaml: {error}"))
    })
}

/// Parses an object that is YAML.
pub(crate) fn parse(body: &[u8]) -> Result<Value, ApiError> {
    read(body).map_err(|error| {
        ApiError::BadRequest(format!("the object provided is unrecognized (must be of type object): {error}"))
    })
}

fn read(body: &[u8]) -> Result<Value, serde_saphyr::Error> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    serde_saphyr::from_slice_with_options(body, options)
}

pub(crate) fn write(value: &Value) -> Option<String> {
    serde_saphyr::to_string(value).ok()
}

/// Whether an `Accept` header prefers YAML to what else this server speaks.
pub(crate) fn is_preferred(accept: &str) -> bool {
    let known = accept.split(',').find_map(|one| match one.split(';').next()?.trim() {
        MEDIA_TYPE => Some(true),
        "application/json" | "application/*" | "*/*" => Some(false),
        _ => None,
    });
    known.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_are_those_of_the_real_server() {
        let read = parse(b"a: yes\nb: 0644\nc: '1'\nd: ~\ne: 1.5\nf: on\ng: \"yes\"\nh: 12:30").unwrap();
        let expected =
            json!({"a": true, "b": 420, "c": "1", "d": null, "e": 1.5, "f": true, "g": "yes", "h": "12:30"});
        assert_eq!(read, expected);
    }

    #[test]
    fn texts_that_look_like_something_else_stay_texts() {
        let texts =
            ["1", "true", "yes", "null", "1e3", "0x1", "", "a: b", "- a", "x\ny\n", "#", "{", "2026-01-01"];
        let value = json!({"texts": texts, "number": 1, "list": [{"a": [], "b": {}}]});
        assert_eq!(parse(write(&value).unwrap().as_bytes()).unwrap(), value);
    }

    #[test]
    fn the_first_form_decides() {
        for (accept, expected) in [
            ("application/yaml", true),
            ("application/yaml;as=Table;v=v1;g=meta.k8s.io, application/json", true),
            ("application/vnd.kubernetes.protobuf, application/yaml", true),
            ("application/json, application/yaml", false),
            ("", false),
        ] {
            assert_eq!(is_preferred(accept), expected, "{accept}");
        }
    }
}
