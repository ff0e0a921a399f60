//! One fault of one field, worded as apimachinery's `field.Error`.

use serde_json::{Value, json};

use crate::go_value;

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
        Self::new(
            field,
            "FieldValueInvalid",
            format!("Invalid value: {}: {detail}", go_value::interface(value)),
        )
    }

    /// A value whose type Go knows, written as Go does.
    pub(crate) fn invalid_typed(field: &str, shown: &str, detail: &str) -> Self {
        Self::new(field, "FieldValueInvalid", format!("Invalid value: {shown}: {detail}"))
    }

    /// A value of the wrong type; the server shows the type it found.
    pub(crate) fn wrong_type(field: &str, found: &str, detail: &str) -> Self {
        Self::new(field, "FieldValueTypeInvalid", format!("Invalid value: \"{found}\": {detail}"))
    }

    pub(crate) fn not_supported(field: &str, value: &Value, supported: &[String]) -> Self {
        Self::not_supported_typed(field, &go_value::interface(value), supported)
    }

    /// A value whose type Go knows, written as Go does.
    pub(crate) fn not_supported_typed(field: &str, shown: &str, supported: &[String]) -> Self {
        let supported: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let supported = supported.join(", ");
        Self::new(
            field,
            "FieldValueNotSupported",
            format!("Unsupported value: {shown}: supported values: {supported}"),
        )
    }

    pub(crate) fn duplicate(field: &str, value: &Value) -> Self {
        Self::new(field, "FieldValueDuplicate", format!("Duplicate value: {}", go_value::interface(value)))
    }

    pub(crate) fn forbidden(field: &str, detail: &str) -> Self {
        Self::new(field, "FieldValueForbidden", format!("Forbidden: {detail}"))
    }

    pub(crate) fn too_long(field: &str, at_most: u64) -> Self {
        let bytes = if at_most == 1 { "byte" } else { "bytes" };
        Self::new(field, "FieldValueTooLong", format!("Too long: may not be more than {at_most} {bytes}"))
    }

    pub(crate) fn too_many(field: &str, found: usize, at_most: u64) -> Self {
        let items = if at_most == 1 { "item" } else { "items" };
        Self::new(
            field,
            "FieldValueTooMany",
            format!("Too many: {found}: must have at most {at_most} {items}"),
        )
    }

    /// A value that Go prints otherwise than JSON.
    pub(crate) fn invalid_as(field: &str, shown: &str, detail: &str) -> Self {
        Self::new(field, "FieldValueInvalid", format!("Invalid value: {shown}: {detail}"))
    }

    fn new(field: &str, reason: &'static str, message: String) -> Self {
        Self { field: field.to_owned(), reason, message }
    }

    /// Whether a custom resource with such a fault is too broken to ask CEL rules about it.
    pub(crate) fn blocks_rules(&self) -> bool {
        const BLOCKING: [&str; 5] = [
            "FieldValueRequired",
            "FieldValueTypeInvalid",
            "FieldValueNotSupported",
            "FieldValueTooLong",
            "FieldValueTooMany",
        ];
        BLOCKING.contains(&self.reason)
    }

    pub(crate) fn is_below(&self, field: &str) -> bool {
        self.field.strip_prefix(field).is_some_and(|rest| rest.starts_with(['.', '[']))
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
