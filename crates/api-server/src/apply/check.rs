//! Whether a configuration fits its type, in the words of structured-merge-diff.

use serde_json::Value;

use super::field_set::shown;
use super::typed::element;
use crate::patch::go_value;
use crate::schema::{ListType, Schema, key_default};

/// Everything in which a configuration does not fit its type; `None` if it does.
pub(crate) fn mismatch(schema: Schema<'_>, config: &Value) -> Option<String> {
    let mut found = Vec::new();
    check(schema, config, "", &mut found);
    match found.len() {
        0 => None,
        1 => found.pop(),
        _ => Some(format!("errors:\n  {}", found.join("\n  "))),
    }
}

fn check(schema: Schema<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    if value.is_null() || is_untyped(schema) {
        return;
    }
    match (schema.type_name().unwrap_or_default(), value) {
        ("object", Value::Object(map)) => {
            for (name, value) in map {
                let path = format!("{path}.{name}");
                match schema.child(name) {
                    Some(child) => check(child, value, &path, found),
                    None if knows(schema, name) => {}
                    None => found.push(format!("{path}: field not declared in schema")),
                }
            }
        }
        ("object", other) => found.push(format!("{path}: expected map, got &{{{}}}", go_value(other))),
        ("array", Value::Array(items)) => check_items(schema, items, path, found),
        ("array", other) => found.push(format!("{path}: expected list, got &{{{}}}", go_value(other))),
        ("string", Value::String(_)) | ("boolean", Value::Bool(_)) => {}
        ("integer" | "number", Value::Number(_)) => {}
        ("string", other) => found.push(format!(
            "{path}: expected string, got &value.valueUnstructured{{Value:{}}}",
            go_syntax(other)
        )),
        ("boolean", other) => found.push(format!("{path}: expected boolean, got &{{{}}}", go_value(other))),
        ("integer" | "number", other) => {
            found.push(format!("{path}: expected numeric (int or float), got {}", go_type(other)));
        }
        _ => {}
    }
}

fn check_items(schema: Schema<'_>, items: &[Value], path: &str, found: &mut Vec<String>) {
    let kind = schema.list_type();
    let mut seen = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let step = match kind {
            ListType::Atomic => format!("[{at}]"),
            ListType::Set | ListType::Map(_) => {
                if let Some(missing) = missing_key(schema, kind, item) {
                    found.push(format!(
                        "{path}: element {at}: associative list with keys has an element that omits key field \
                         {missing:?} (and doesn't have default value)"
                    ));
                    return;
                }
                let step = shown(&element(Some(schema), kind, item));
                if seen.contains(&step) {
                    found.push(format!("{path}: duplicate entries for key {step}"));
                }
                seen.push(step.clone());
                step
            }
        };
        if let Some(items) = schema.items() {
            check(items, item, &format!("{path}{step}"), found);
        }
    }
}

fn missing_key<'a>(schema: Schema<'a>, kind: ListType<'a>, item: &Value) -> Option<&'a str> {
    let ListType::Map(keys) = kind else { return None };
    let is_missing =
        |key: &&str| item.get(*key).is_none_or(Value::is_null) && key_default(schema.items(), key).is_none();
    keys.iter().filter_map(Value::as_str).find(is_missing)
}

/// Quantities, times, and numbers that may be texts are any scalar to the server.
fn is_untyped(schema: Schema<'_>) -> bool {
    schema.type_name().is_none()
        || schema.is_int_or_string()
        || schema.is_quantity()
        || matches!(schema.definition(), Some("Time" | "MicroTime"))
}

fn knows(schema: Schema<'_>, name: &str) -> bool {
    schema.keeps_unknown_fields()
        || (schema.is_embedded_resource() && ["apiVersion", "kind", "metadata"].contains(&name))
}

/// As Go prints a value with `%#v`.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(go_syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let fields = map.iter().map(|(name, value)| format!("{name:?}:{}", go_syntax(value)));
            format!("map[string]interface {{}}{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
