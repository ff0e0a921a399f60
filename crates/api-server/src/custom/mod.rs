//! Custom resources: their definitions from the first to the last, and what a structural schema demands of an object.

mod definition;
mod rules;
mod structural;
mod structure;
mod termination;

use serde_json::Value;

use crate::field_error::FieldError;
use crate::resource::ResourceType;

pub(crate) use definition::{defined, validate_definition};
pub(crate) use structural::default_values;
pub(crate) use termination::{CLEANUP, Stage, begin_termination};

/// What a schema and its rules have against an object; nothing for built-in types.
pub(crate) fn validate(resource: &ResourceType, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if !resource.is_custom() {
        return Vec::new();
    }
    let mut errors = structural::validate(resource.schema(), new);
    // Rules are not asked about objects that do not even have the right form.
    if errors.is_empty() {
        errors = rules::validate(resource.schema(), new, old);
    }
    errors
}
