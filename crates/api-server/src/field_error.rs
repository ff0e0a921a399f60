//! One fault of one field, worded as apimachinery's `field.Error`.

use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldError {
    field: String,
    reason: &'static str,
    message: String,
}

impl FieldError {
    pub(crate) fn required(field: &str) -> Self {
        Self::new(field, "FieldValueRequired", "Required value".to_owned())
    }

    pub(crate) fn required_because(field: &str, detail: &str) -> Self {
        Self::new(field, "FieldValueRequired", format!("Required value: {detail}"))
    }

    pub(crate) fn invalid(field: &str, value: &Value, detail: &str) -> Self {
        Self::new(field, "FieldValueInvalid", format!("Invalid value: {}: {detail}", shown(value)))
    }

    /// A value of the wrong type; the server shows the type it found.
    pub(crate) fn wrong_type(field: &str, found: &str, detail: &str) -> Self {
        Self::new(field, "FieldValueTypeInvalid", format!("Invalid value: \"{found}\": {detail}"))
    }

    pub(crate) fn not_supported(field: &str, value: &Value, supported: &[String]) -> Self {
        let supported: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let supported = supported.join(", ");
        Self::new(
            field,
            "FieldValueNotSupported",
            format!("Unsupported value: {}: supported values: {supported}", shown(value)),
        )
    }

    pub(crate) fn duplicate(field: &str, value: &Value) -> Self {
        Self::new(field, "FieldValueDuplicate", format!("Duplicate value: {}", shown(value)))
    }

    pub(crate) fn forbidden(field: &str, detail: &str) -> Self {
        Self::new(field, "FieldValueForbidden", format!("Forbidden: {detail}"))
    }

    pub(crate) fn too_long(field: &str, at_most: u64) -> Self {
        Self::new(field, "FieldValueTooLong", format!("Too long: may not be more than {at_most} bytes"))
    }

    pub(crate) fn too_many(field: &str, found: usize, at_most: u64) -> Self {
        let items = if at_most == 1 { "item" } else { "items" };
        Self::new(
            field,
            "FieldValueTooMany",
            format!("Too many: {found}: must have at most {at_most} {items}"),
        )
    }

    fn new(field: &str, reason: &'static str, message: String) -> Self {
        Self { field: field.to_owned(), reason, message }
    }

    pub(crate) fn cause(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }

    pub(crate) fn text(&self) -> String {
        format!("{}: {}", self.field, self.message)
    }

    /// One error as it is, several in brackets, repeated ones once.
    pub(crate) fn aggregate(errors: &[Self]) -> String {
        let mut texts: Vec<String> = Vec::new();
        for error in errors {
            let text = error.text();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) }
    }
}

/// Scalars as they are, everything else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}
