//! Bodies that are no object of the type their path names, refused in the words of apiserver's `transformDecodeError`.

use serde_json::Value;

use crate::error::ApiError;
use crate::object;
use crate::resource::{self, ResourceType, split_api_version};

/// How much of a body is shown.
const SUMMARY: usize = 30;

/// A body that is no JSON.
pub(crate) fn no_json(kind: &str, body: &[u8], error: &serde_json::Error) -> ApiError {
    let why = format!("couldn't get version/kind; json parse error: {}", go_message(body, error));
    refuse(kind, body, &why)
}

/// A body that is JSON and no object.
pub(crate) fn no_object(kind: &str, body: &[u8], found: &str) -> ApiError {
    let why = format!(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go value of type struct {{ \
         APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
    );
    refuse(kind, body, &why)
}

pub(crate) fn no_kind(kind: &str, body: &[u8]) -> ApiError {
    let shown = String::from_utf8_lossy(body);
    refuse(kind, body, &format!("Object 'Kind' is missing in '{}'", shown.trim_end()))
}

fn refuse(kind: &str, body: &[u8], why: &str) -> ApiError {
    let message =
        format!("the object provided is unrecognized (must be of type {kind}): {why} ({})", summary(body));
    ApiError::BadRequest(message)
}

/// The beginning of a body: as it is, if it looks like an object, else in hexadecimal.
fn summary(body: &[u8]) -> String {
    let shown = &body[..body.len().min(SUMMARY)];
    let more = if body.len() > SUMMARY { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => shown.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + more,
    }
}

/// What Go's scanner says where another parser stops.
fn go_message(body: &[u8], error: &serde_json::Error) -> String {
    const PLACES: [(&str, &str); 9] = [
        ("expected value", "looking for beginning of value"),
        ("key must be a string", "looking for beginning of object key string"),
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("trailing characters", "after top-level value"),
        ("control character", "in string literal"),
        ("invalid escape", "in string escape code"),
        ("invalid number", "in numeric literal"),
    ];
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let text = error.to_string();
    let line = body.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let Some(&byte) = line.get(error.column().saturating_sub(1)) else { return text };
    let place = match PLACES.iter().find(|(start, _)| text.starts_with(start)) {
        Some((_, place)) => place,
        None if text.starts_with("trailing comma") && byte == b'}' => PLACES[1].1,
        None if text.starts_with("trailing comma") => PLACES[0].1,
        None => return text,
    };
    let quoted = match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\n' => "'\\n'".to_owned(),
        byte => format!("'{}'", char::from(byte)),
    };
    format!("invalid character {quoted} {place}")
}

/// An object of another built-in type than that of its path; nothing against those of old versions.
pub(crate) fn other_type(resource: &ResourceType, object: &Value) -> Option<ApiError> {
    let (found, kind) = (object::text(object, "/apiVersion"), object::text(object, "/kind"));
    let (group, version) = split_api_version(found);
    let types = resource::builtin();
    let is_known = types.iter().any(|one| one.group == group && one.kind == kind && one.version == version);
    let is_old = WITH_OLD_VERSIONS.contains(&group) && version.contains(['a', 'b']) && kind == resource.kind;
    if is_old && group == resource.group {
        return None;
    }
    let why = if is_known {
        let package = internal_package(&resource.group, &resource.plural);
        format!("converting ({version}.{kind}) to ({package}.{}): unknown conversion", resource.kind)
    } else {
        format!(
            "no kind \"{kind}\" is registered for version \"{found}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        )
    };
    let message = format!("{kind} in version \"{version}\" cannot be handled as a {}: {why}", resource.kind);
    Some(ApiError::BadRequest(message))
}

/// Groups with versions that are known still, and served no more.
const WITH_OLD_VERSIONS: [&str; 12] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
];

/// The Go package of a group's types without version.
fn internal_package<'a>(group: &'a str, plural: &str) -> &'a str {
    match group.split('.').next() {
        Some("events") if plural == "events" => "core",
        None | Some("") => "core",
        Some(package) => package,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use serde_json::json;

    fn check(body: &str, expected: &str) {
        let error = serde_json::from_str::<Value>(body).unwrap_err();
        let expected = format!(
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse \
             error: {expected}"
        );
        assert_eq!(no_json("ConfigMap", body.as_bytes(), &error).message(), expected);
    }

    #[test]
    fn what_is_no_json_is_refused_as_go_does() {
        check("", "unexpected end of JSON input (<empty>)");
        check("{\"a\":", "unexpected end of JSON input ({\"a\":)");
        check(
            "apiVersion: v1\nkind: ConfigMap\n",
            "invalid character 'a' looking for beginning of value \
             (61706956657273696f6e3a2076310a6b696e643a20436f6e6669674d6170 ...)",
        );
        check("{\"a\" 1}", "invalid character '1' after object key ({\"a\" 1})");
        check("{\"a\": 1 2}", "invalid character '2' after object key:value pair ({\"a\": 1 2})");
        check(
            "{\"a\": 1,}",
            "invalid character '}' looking for beginning of object key string ({\"a\": 1,})",
        );
        check("{\"a\": [1 2]}", "invalid character '2' after array element ({\"a\": [1 2]})");
        check("{} x", "invalid character 'x' after top-level value ({} x)");
        check("{a: 1}", "invalid character 'a' looking for beginning of object key string ({a: 1})");
    }

    #[test]
    fn an_object_of_another_type_is_not_converted() {
        let maps = Registry::new().find("", "v1", "configmaps").unwrap();
        let refused = |api_version: &str, kind: &str| {
            other_type(&maps, &json!({"apiVersion": api_version, "kind": kind})).unwrap().message()
        };
        assert_eq!(
            refused("v1", "Secret"),
            "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): \
             unknown conversion"
        );
        assert_eq!(
            refused("v2", "ConfigMap"),
            "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for \
             version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        );
        let sets = Registry::new().find("apps", "v1", "statefulsets").unwrap();
        let old = json!({"apiVersion": "apps/v1beta1", "kind": "StatefulSet"});
        assert!(other_type(&sets, &old).is_none());
    }
}
