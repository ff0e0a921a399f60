//! Custom resources: their definitions from the first to the last, and what a structural schema demands of an object.

mod defaulting;
mod definition;
mod definition_validation;
mod keywords;
mod rules;
mod structural;
mod structure;
mod termination;
mod typing;

use serde_json::Value;

use crate::field_error::FieldError;
use crate::object;
use crate::resource::ResourceType;

pub(crate) use definition::defined;
pub(crate) use definition_validation::validate_definition;
pub(crate) use structural::default_values;
pub(crate) use termination::{CLEANUP, Stage, begin_termination};

const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing \
    errors to complete validation";

/// What a schema and its rules have against an object; nothing for built-in types.
pub(crate) fn validate(resource: &ResourceType, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if !resource.is_custom() {
        return Vec::new();
    }
    let mut errors = structural::validate(resource.schema(), new);
    // Rules are not asked about objects that do not even have the right form. A name is missed elsewhere.
    if errors.iter().any(FieldError::blocks_rules) || object::name(new).is_empty() {
        errors.push(FieldError::invalid("<nil>", &Value::Null, UNCHECKED));
    } else {
        errors.extend(rules::validate(resource.schema(), new, old));
    }
    errors
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::resource::{Custom, builtin};

    #[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
    fn check(spec: Value, expected: &[&str]) {
        let mut resource = builtin().remove(0);
        resource.custom = Some(Custom {
            definition: String::new(),
            is_terminating: false,
            columns: Vec::new(),
            selectable_fields: Vec::new(),
        });
        resource.schema = Arc::new(json!({"type": "object", "properties": {"spec": {"type": "object",
            "required": ["size"], "x-kubernetes-validations": [{"rule": "self.size < 5", "message": "too big"}],
            "properties": {"size": {"type": "integer", "maximum": 9}}}}}));
        let object = json!({"metadata": {"name": "a"}, "spec": spec});
        let found: Vec<String> = validate(&resource, &object, None).iter().map(FieldError::text).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn rules_are_asked_beside_faults_that_leave_the_form_whole() {
        check(
            json!({"size": 10}),
            &[
                "spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9",
                "spec: Invalid value: \"object\": too big",
            ],
        );
        let unchecked = "<nil>: Invalid value: \"null\": some validation rules were not checked because the object was \
            invalid; correct the existing errors to complete validation";
        check(json!({}), &["spec.size: Required value", unchecked]);
        check(
            json!({"size": "x"}),
            &[
                "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
                unchecked,
            ],
        );
    }
}
