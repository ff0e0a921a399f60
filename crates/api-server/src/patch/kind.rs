//! Which patch a request brings.

use serde_json::Value;

use crate::error::ApiError;
use crate::resource::ResourceType;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

const WITH_STRATEGIC: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const WITHOUT_STRATEGIC: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

impl PatchKind {
    pub(crate) fn of(resource: &ResourceType, media_type: &str) -> Result<Self, ApiError> {
        let accepted = if resource.is_custom() { WITHOUT_STRATEGIC } else { WITH_STRATEGIC };
        match media_type {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            "application/strategic-merge-patch+json" if !resource.is_custom() => Ok(Self::Strategic),
            _ => Err(ApiError::UnsupportedMediaType { accepted }),
        }
    }
}

/// As Go prints a value with `%v`.
pub(crate) fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let fields = map.iter().map(|(name, value)| format!("{name}:{}", go_value(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}
