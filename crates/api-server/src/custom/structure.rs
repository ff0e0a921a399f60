//! Whether a schema is structural: every value has one type, and logic only narrows what the types allow
//! (apiextensions-apiserver's `pkg/apiserver/schema`). Then its defaults and keywords are looked at.

use regex::Regex;
use serde_json::{Map, Value, json};

use super::{defaulting, keywords};
use crate::field_error::FieldError;
use crate::object::{list, map, text};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Level {
    Root,
    Field,
    Item,
}

/// What is wrong with a schema. One step is taken only if the one before found nothing, but for keywords.
pub(crate) fn validate(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut found = Vec::new();
    check(schema, path, Level::Root, &mut found);
    complete(schema, schema, path, path, &mut found);
    found.sort_by_key(FieldError::text);
    if found.is_empty() {
        defaulting::validate(schema, path, &mut found);
    }
    let is_sound = found.is_empty();
    errors.extend(found);
    keywords::validate(schema, path, is_sound, errors);
}

fn is_set(schema: &Value, field: &str) -> bool {
    schema[field] == true
}

fn check(schema: &Value, path: &str, level: Level, errors: &mut Vec<FieldError>) {
    if schema["type"] == "array" && schema.get("items").is_none() {
        errors.push(FieldError::required_because(&format!("{path}.items"), "must be specified"));
    }
    if schema.get("additionalProperties").is_some() && level == Level::Root {
        errors.push(FieldError::forbidden(
            &format!("{path}.additionalProperties"),
            "must not be used at the root",
        ));
    }
    check_type(schema, path, level, errors);
    check_resource(schema, path, level, errors);
    if is_set(schema, "x-kubernetes-int-or-string") {
        for field in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
            if is_set(schema, field) {
                let detail = "must be false if x-kubernetes-int-or-string is true";
                errors.push(FieldError::invalid(&format!("{path}.{field}"), &json!(true), detail));
            }
        }
    }
    check_logic(schema, path, is_set(schema, "x-kubernetes-int-or-string"), errors);
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

fn check_type(schema: &Value, path: &str, level: Level, errors: &mut Vec<FieldError>) {
    let field = format!("{path}.type");
    let kind = text(schema, "/type");
    let is_free = is_set(schema, "x-kubernetes-int-or-string")
        || is_set(schema, "x-kubernetes-preserve-unknown-fields");
    if is_set(schema, "x-kubernetes-embedded-resource") && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if kind.is_empty() {
            FieldError::required_because(&field, detail)
        } else {
            FieldError::invalid(&field, &schema["type"], detail)
        });
    } else if kind.is_empty() && !is_free {
        let place = match level {
            Level::Root => "at the root",
            Level::Field => "for specified object fields",
            Level::Item => "for specified array items",
        };
        errors.push(FieldError::required_because(&field, &format!("must not be empty {place}")));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(&field, &schema["type"], "must be object at the root"));
    }
}

/// What every resource has by itself may hardly be described: the definition's own, and those embedded.
fn check_resource(schema: &Value, path: &str, level: Level, errors: &mut Vec<FieldError>) {
    let is_embedded = is_set(schema, "x-kubernetes-embedded-resource");
    if is_embedded && schema.get("additionalProperties").is_some() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&format!("{path}.additionalProperties"), detail));
    }
    let properties = map(schema, "/properties");
    if is_embedded
        && !is_set(schema, "x-kubernetes-preserve-unknown-fields")
        && properties.is_none_or(Map::is_empty)
    {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required_because(&format!("{path}.properties"), detail));
    }
    if level != Level::Root && !is_embedded {
        return;
    }
    for (name, kind) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let Some(property) = properties.and_then(|properties| properties.get(name)) else { continue };
        if property["type"] != kind {
            let field = format!("{path}.properties[{name}].type");
            let found = json!(text(property, "/type"));
            errors.push(FieldError::invalid(&field, &found, &format!("must be {kind}")));
        }
    }
    if let Some(metadata) = properties.and_then(|properties| properties.get("metadata"))
        && level == Level::Root
        && !says_only_names(metadata)
    {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&format!("{path}.properties[metadata]"), detail));
    }
}

fn says_only_names(metadata: &Value) -> bool {
    let names = |properties: &Map<String, Value>| {
        properties.keys().all(|name| name == "name" || name == "generateName")
    };
    metadata.as_object().into_iter().flatten().all(|(keyword, value)| match keyword.as_str() {
        "type" | "default" => true,
        "properties" => value.as_object().is_none_or(names),
        _ => value.is_null(),
    })
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
    if let Some(Err(why)) = schema["pattern"].as_str().map(Regex::new) {
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(&format!("{path}.pattern"), &schema["pattern"], &detail));
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
    if node["properties"].get("metadata").is_some() {
        let detail = "must not be specified in a nested context";
        errors.push(FieldError::forbidden(&format!("{path}.properties[metadata]"), detail));
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
        ("x-kubernetes-list-map-keys", "empty"),
        ("x-kubernetes-list-type", "undefined"),
        ("x-kubernetes-map-type", "undefined"),
        ("x-kubernetes-validations", "empty"),
    ] {
        let is_set = node.get(field).is_some_and(|value| *value != false && *value != "");
        if is_set {
            let detail = format!("must be {what} to be structural");
            errors.push(FieldError::forbidden(&format!("{path}.{field}"), &detail));
        }
    }
}

/// What logic speaks of must be described outside of it too. `node` is the schema itself, or logic about it.
fn complete(node: &Value, schema: &Value, path: &str, said_at: &str, errors: &mut Vec<FieldError>) {
    let is_logic = path != said_at;
    for word in ["allOf", "anyOf", "oneOf"] {
        for (at, nested) in list(node, &format!("/{word}")).iter().enumerate() {
            complete(nested, schema, path, &format!("{said_at}.{word}[{at}]"), errors);
        }
    }
    if let Some(not) = node.get("not") {
        complete(not, schema, path, &format!("{said_at}.not"), errors);
    }
    let mut descend = |step: String, nested: &Value, described: Option<&Value>| {
        let (below, said_below) = (format!("{path}.{step}"), format!("{said_at}.{step}"));
        match described {
            Some(described) => complete(nested, described, &below, &said_below, errors),
            None if is_logic => {
                let detail = format!("because it is defined in {said_below}");
                errors.push(FieldError::required_because(&below, &detail));
            }
            None => {}
        }
    };
    for (name, nested) in map(node, "/properties").into_iter().flatten() {
        descend(format!("properties[{name}]"), nested, schema["properties"].get(name));
    }
    if let Some(nested) = node.get("items") {
        descend("items".to_owned(), nested, schema.get("items"));
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
                "s.properties[a].oneOf[0].description: Forbidden: must be empty to be structural",
                "s.properties[a].oneOf[0].type: Forbidden: must be empty to be structural",
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

    #[test]
    fn metadata_is_not_described() {
        let root = |metadata: Value| {
            let mut errors = Vec::new();
            validate(&json!({"type": "object", "properties": {"metadata": metadata}}), "s", &mut errors);
            errors.iter().map(FieldError::text).collect::<Vec<_>>()
        };
        assert_eq!(
            root(json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 4}}})),
            [""; 0]
        );
        let expected = "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, \
            but metadata is implicitly specified";
        assert_eq!(root(json!({"type": "object", "properties": {"labels": {"type": "object"}}})), [expected]);
    }

    #[test]
    fn logic_speaks_of_what_is_described() {
        check(
            json!({"type": "object", "anyOf": [{"properties": {"b": {"minimum": 1}}}]}),
            &["s.properties[a].properties[b]: Required value: because it is defined in \
               s.properties[a].anyOf[0].properties[b]"],
        );
        let described = json!({"type": "object", "properties": {"b": {"type": "integer"}},
            "anyOf": [{"properties": {"b": {"minimum": 1}}}]});
        check(described, &[]);
    }
}
