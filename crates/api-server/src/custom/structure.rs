//! Whether a schema is structural: every value has one type, and logic only narrows what the types allow.

use serde_json::{Value, json};

use super::rules;
use crate::field_error::FieldError;
use crate::object::{list, map, text};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Level {
    Root,
    Field,
    Item,
}

pub(crate) fn validate(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if !text(schema, "/type").is_empty() && schema["type"] != "object" {
        errors.push(FieldError::invalid(
            &format!("{path}.type"),
            &schema["type"],
            "must be object at the root",
        ));
    }
    check(schema, path, Level::Root, errors);
}

fn check(schema: &Value, path: &str, level: Level, errors: &mut Vec<FieldError>) {
    let is_set = |field: &str| schema[field] == true;
    let is_free = is_set("x-kubernetes-int-or-string") || is_set("x-kubernetes-preserve-unknown-fields");
    if text(schema, "/type").is_empty() && !is_free {
        let place = match level {
            Level::Root => "at the root",
            Level::Field => "for specified object fields",
            Level::Item => "for specified array items",
        };
        errors.push(FieldError::required_because(
            &format!("{path}.type"),
            &format!("must not be empty {place}"),
        ));
    }
    if schema["type"] == "array" && schema.get("items").is_none() {
        errors.push(FieldError::required_because(&format!("{path}.items"), "must be specified"));
    }
    if schema.get("properties").is_some() && schema.get("additionalProperties").is_some() {
        let detail = "additionalProperties and properties are mutual exclusive";
        errors.push(FieldError::forbidden(&format!("{path}.additionalProperties"), detail));
    }
    check_unsupported(schema, path, errors);
    check_keys(schema, path, errors);
    check_rules(schema, path, errors);
    check_logic(schema, path, is_set("x-kubernetes-int-or-string"), errors);
    for (name, child) in map(schema, "/properties").into_iter().flatten() {
        check(child, &format!("{path}.properties[{name}]"), Level::Field, errors);
    }
    if let Some(items) = schema.get("items") {
        check(items, &format!("{path}.items"), Level::Item, errors);
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        check(values, &format!("{path}.additionalProperties"), Level::Field, errors);
    }
}

fn check_unsupported(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for field in ["$ref", "definitions", "dependencies", "patternProperties", "additionalItems"] {
        if schema.get(field).is_some() {
            errors.push(FieldError::forbidden(
                &format!("{path}.{field}"),
                &format!("{field} is not supported"),
            ));
        }
    }
    if schema["uniqueItems"] == true {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&format!("{path}.uniqueItems"), detail));
    }
}

/// Items of a list with keys must have them.
fn check_keys(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if schema["x-kubernetes-list-type"] != "map" {
        return;
    }
    let required = list(schema, "/items/required");
    for key in list(schema, "/x-kubernetes-list-map-keys").iter().filter_map(Value::as_str) {
        let field = format!("{path}.items.properties[{key}]");
        let Some(property) = schema["items"]["properties"].get(key) else {
            let field = format!("{path}.x-kubernetes-list-map-keys");
            let detail = "entries must all be names of item properties";
            errors.push(FieldError::invalid(&field, &json!(key), detail));
            continue;
        };
        if !required.contains(&json!(key)) && property.get("default").is_none() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required_because(&format!("{field}.default"), detail));
        }
        if property["nullable"] == true {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&format!("{field}.nullable"), detail));
        }
    }
}

fn check_rules(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (at, rule) in list(schema, "/x-kubernetes-validations").iter().enumerate() {
        if let Err(why) = rules::compile(text(rule, "/rule")) {
            let field = format!("{path}.x-kubernetes-validations[{at}].rule");
            errors.push(FieldError::invalid(&field, &rule["rule"], &format!("compilation failed: {why}")));
        }
    }
}

/// Inside of `allOf` and its like nothing may say what belongs to the type itself.
fn check_logic(schema: &Value, path: &str, is_int_or_string: bool, errors: &mut Vec<FieldError>) {
    for word in ["allOf", "anyOf", "oneOf"] {
        // The one exception: both types of an int-or-string, spelled out.
        if is_int_or_string && word == "anyOf" {
            continue;
        }
        for (at, node) in list(schema, &format!("/{word}")).iter().enumerate() {
            check_nested(node, &format!("{path}.{word}[{at}]"), errors);
        }
    }
    if let Some(node) = schema.get("not") {
        check_nested(node, &format!("{path}.not"), errors);
    }
}

fn check_nested(node: &Value, path: &str, errors: &mut Vec<FieldError>) {
    check_logic(node, path, false, errors);
    if let Some(items) = node.get("items") {
        check_nested(items, &format!("{path}.items"), errors);
    }
    for (name, child) in map(node, "/properties").into_iter().flatten() {
        check_nested(child, &format!("{path}.properties[{name}]"), errors);
    }
    for (field, what) in [
        ("type", "empty"),
        ("additionalProperties", "undefined"),
        ("default", "undefined"),
        ("title", "empty"),
        ("description", "empty"),
        ("nullable", "false"),
        ("x-kubernetes-preserve-unknown-fields", "false"),
        ("x-kubernetes-int-or-string", "false"),
        ("x-kubernetes-embedded-resource", "false"),
        ("x-kubernetes-validations", "empty"),
    ] {
        let is_set = node.get(field).is_some_and(|value| *value != false && *value != "");
        if is_set {
            let detail = format!("must be {what} to be structural");
            errors.push(FieldError::forbidden(&format!("{path}.{field}"), &detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
    fn check(schema: Value, expected: &[&str]) {
        let mut errors = Vec::new();
        let schema = json!({"type": "object", "properties": {"a": schema}});
        validate(&schema, "s", &mut errors);
        let found: Vec<String> = errors.iter().map(FieldError::text).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_value_needs_a_type() {
        check(json!({"type": "string"}), &[]);
        check(
            json!({}),
            &["s.properties[a].type: Required value: must not be empty for specified object fields"],
        );
        check(
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            &[],
        );
    }

    #[test]
    fn logic_says_nothing_of_types() {
        check(
            json!({"type": "string", "oneOf": [{"type": "string", "description": "x"}]}),
            &[
                "s.properties[a].oneOf[0].type: Forbidden: must be empty to be structural",
                "s.properties[a].oneOf[0].description: Forbidden: must be empty to be structural",
            ],
        );
        check(
            json!({"type": "object", "properties": {"b": {"type": "string"}}, "oneOf": [{"required": ["b"]}]}),
            &[],
        );
    }

    #[test]
    fn keys_of_lists_are_required_or_have_a_default() {
        let items = json!({"type": "object", "properties": {"type": {"type": "string"}}});
        let list = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
            "items": items});
        check(
            list,
            &["s.properties[a].items.properties[type].default: Required value: this property is in \
               x-kubernetes-list-map-keys, so it must have a default or be a required property"],
        );
    }
}
