//! Whether the defaults in a schema are values that the schema itself would take.

use serde_json::{Value, json};

use super::{rules, structural};
use crate::decode;
use crate::field_error::FieldError;
use crate::object::map;
use crate::schema::Schema;

pub(super) fn validate(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        check(Schema::new(schema), default, &format!("{path}.default"), errors);
    }
    // Defaults in the values of maps are not followed: they are forbidden there.
    if let Some(items) = schema.get("items") {
        validate(items, &format!("{path}.items"), errors);
    }
    for (name, child) in map(schema, "/properties").into_iter().flatten() {
        validate(child, &format!("{path}.properties[{name}]"), errors);
    }
}

fn check(schema: Schema<'_>, default: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut unknown = Vec::new();
    decode::prune_value(schema, &mut default.clone(), "", &mut unknown);
    if !unknown.is_empty() {
        errors.push(FieldError::invalid(path, &json!(default), "must not have unknown fields"));
    }
    let mut found = Vec::new();
    structural::check(schema, default, path, &mut found);
    if found.is_empty() {
        rules::walk(schema, (default, None), path, &mut found);
    }
    errors.extend(found);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
    fn check(schema: Value, expected: &[&str]) {
        let mut errors = Vec::new();
        validate(&schema, "s", &mut errors);
        let found: Vec<String> = errors.iter().map(FieldError::text).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_default_fits_its_schema() {
        check(json!({"type": "object", "properties": {"a": {"type": "integer", "default": 3}}}), &[]);
        check(
            json!({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}),
            &[
                "s.properties[a].default: Invalid value: \"string\": s.properties[a].default in body must be of type \
               integer: \"string\"",
            ],
        );
        check(
            json!({"type": "object", "default": {"q": 1}, "properties": {"a": {"type": "integer"}}}),
            &["s.default: Invalid value: map[string]interface {}{\"q\":1}: must not have unknown fields"],
        );
        check(
            json!({"type": "integer", "default": 0, "x-kubernetes-validations": [{"rule": "self > 0"}]}),
            &["s.default: Invalid value: \"integer\": failed rule: self > 0"],
        );
    }
}
