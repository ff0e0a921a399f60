//! Structural schemas: defaults, and validation worded as kube-openapi's.

use regex::Regex;
use serde_json::Value;

use crate::field_error::FieldError;
use crate::go_value::float;
use crate::schema::{ListType, Schema};
use crate::time;

/// Fills in defaults, from the top down: a default may hold fields with defaults.
pub(crate) fn default_values(schema: Schema<'_>, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, child) in schema.properties() {
                let Some(default) = child.note("default") else { continue };
                let is_missing = map.get(name).is_none_or(|value| value.is_null() && !child.is_nullable());
                if is_missing {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut().filter(|(name, _)| *name != "metadata") {
                if let Some(child) = schema.child(name) {
                    default_values(child, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(child) = schema.items() {
                items.iter_mut().for_each(|item| default_values(child, item));
            }
        }
        _ => {}
    }
}

pub(crate) fn validate(schema: Schema<'_>, value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check(schema, value, "", &mut errors);
    errors
}

pub(super) fn check(schema: Schema<'_>, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if value.is_null() && schema.is_nullable() {
        return;
    }
    if let Some(error) = check_type(schema, value, path) {
        errors.push(error);
        return;
    }
    if let Some(allowed) = schema.note("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<String> =
            allowed.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
        errors.push(FieldError::not_supported(path, value, &allowed));
    }
    check_combinations(schema, value, path, errors);
    match value {
        Value::Object(map) => {
            for name in schema.required().filter(|name| !map.contains_key(*name)) {
                errors.push(FieldError::required(&join(path, name)));
            }
            check_count(schema, path, map.len(), Count::Properties, errors);
            for (name, value) in map.iter().filter(|(name, _)| !path.is_empty() || *name != "metadata") {
                if let Some(child) = schema.property(name) {
                    check(child, value, &join(path, name), errors);
                } else if let Some(child) = schema.additional() {
                    check(child, value, &join(path, name), errors);
                }
            }
        }
        Value::Array(items) => check_items(schema, items, path, errors),
        Value::String(text) => check_text(schema, text, path, errors),
        Value::Number(_) => check_number(schema, value, path, errors),
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn check_type(schema: Schema<'_>, value: &Value, path: &str) -> Option<FieldError> {
    if schema.is_int_or_string() {
        let fits = value.is_i64() || value.is_u64() || value.is_string();
        return (!fits).then(|| wrong_type(path, "integer,string", value));
    }
    let wanted = schema.type_name()?;
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        "number" => value.is_number(),
        _ => true,
    };
    (!fits).then(|| wrong_type(path, wanted, value))
}

fn wrong_type(path: &str, wanted: &str, value: &Value) -> FieldError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    FieldError::wrong_type(path, found, &format!("{path} in body must be of type {wanted}: {found:?}"))
}

fn check_combinations(schema: Schema<'_>, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let fits = |node: &Value| {
        let mut found = Vec::new();
        check(Schema::new(node), value, path, &mut found);
        found
    };
    let nodes = |name: &str| schema.note(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    errors.extend(nodes("allOf").iter().flat_map(fits));
    let any = nodes("anyOf");
    if !any.is_empty() && !schema.is_int_or_string() && !any.iter().any(|node| fits(node).is_empty()) {
        errors.push(FieldError::invalid(
            path,
            value,
            &format!("{path} in body must validate at least one schema (anyOf)"),
        ));
    }
    let one = nodes("oneOf");
    if !one.is_empty() && one.iter().filter(|node| fits(node).is_empty()).count() != 1 {
        errors.push(FieldError::invalid(
            path,
            value,
            &format!("{path} in body must validate one and only one schema (oneOf)"),
        ));
    }
    if let Some(not) = schema.note("not")
        && fits(not).is_empty()
    {
        errors.push(FieldError::invalid(
            path,
            value,
            &format!("{path} in body must not validate the schema (not)"),
        ));
    }
}

#[derive(Debug, Clone, Copy)]
enum Count {
    Properties,
    Items,
}

fn check_count(schema: Schema<'_>, path: &str, found: usize, what: Count, errors: &mut Vec<FieldError>) {
    let (least, most, word) = match what {
        Count::Properties => ("minProperties", "maxProperties", "properties"),
        Count::Items => ("minItems", "maxItems", "items"),
    };
    let bound = |name: &str| schema.note(name).and_then(Value::as_u64);
    if let Some(least) = bound(least).filter(|least| (found as u64) < *least) {
        let detail = format!("{path} in body should have at least {least} {word}");
        errors.push(FieldError::invalid(path, &Value::from(found), &detail));
    }
    if let Some(most) = bound(most).filter(|most| found as u64 > *most) {
        errors.push(FieldError::too_many(path, found, most));
    }
}

fn check_items(schema: Schema<'_>, items: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    check_count(schema, path, items.len(), Count::Items, errors);
    let keys = match schema.list_type() {
        ListType::Map(keys) => Some(keys),
        ListType::Set => Some(&[][..]),
        ListType::Atomic => None,
    };
    for (at, item) in items.iter().enumerate() {
        let place = format!("{path}[{at}]");
        if let Some(child) = schema.items() {
            check(child, item, &place, errors);
        }
        let Some(keys) = keys else { continue };
        let identity = |item: &Value| -> Value {
            if keys.is_empty() {
                return item.clone();
            }
            keys.iter().filter_map(Value::as_str).map(|key| (key.to_owned(), item[key].clone())).collect()
        };
        if items[..at].iter().any(|other| identity(other) == identity(item)) {
            errors.push(FieldError::duplicate(&place, &identity(item)));
        }
    }
}

fn check_text(schema: Schema<'_>, text: &str, path: &str, errors: &mut Vec<FieldError>) {
    let value = Value::from(text);
    let length = text.chars().count() as u64;
    let bound = |name: &str| schema.note(name).and_then(Value::as_u64);
    if let Some(most) = bound("maxLength").filter(|most| length > *most) {
        errors.push(FieldError::too_long(path, most));
    }
    if let Some(least) = bound("minLength").filter(|least| length < *least) {
        let detail = format!("{path} in body should be at least {least} chars long");
        errors.push(FieldError::invalid(path, &value, &detail));
    }
    if let Some(pattern) = schema.note("pattern").and_then(Value::as_str)
        && !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
    {
        errors.push(FieldError::invalid(path, &value, &format!("{path} in body should match '{pattern}'")));
    }
    let has_form = match schema.format() {
        Some("date-time") => time::parse(text).is_some(),
        Some("uuid") => {
            text.len() == 36 && text.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-')
        }
        Some("ipv4") => text.parse::<std::net::Ipv4Addr>().is_ok(),
        Some("ipv6") => text.parse::<std::net::Ipv6Addr>().is_ok(),
        _ => true,
    };
    if let Some(format) = schema.format().filter(|_| !has_form) {
        let detail = format!("{path} in body must be of type {format}: {text:?}");
        errors.push(FieldError::invalid(path, &value, &detail));
    }
}

fn check_number(schema: Schema<'_>, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let number = value.as_f64().unwrap_or(0.0);
    let bound = |name: &str| schema.note(name).and_then(Value::as_f64).map(|bound| (bound, float(bound)));
    let excludes = |name: &str| schema.note(name).and_then(Value::as_bool).unwrap_or(false);
    if let Some((least, text)) = bound("minimum") {
        let is_exclusive = excludes("exclusiveMinimum");
        if number < least || (is_exclusive && number <= least) {
            let words = if is_exclusive { "greater than" } else { "greater than or equal to" };
            errors.push(FieldError::invalid(
                path,
                value,
                &format!("{path} in body should be {words} {text}"),
            ));
        }
    }
    if let Some((most, text)) = bound("maximum") {
        let is_exclusive = excludes("exclusiveMaximum");
        if number > most || (is_exclusive && number >= most) {
            let words = if is_exclusive { "less than" } else { "less than or equal to" };
            errors.push(FieldError::invalid(
                path,
                value,
                &format!("{path} in body should be {words} {text}"),
            ));
        }
    }
    if let Some((step, text)) = bound("multipleOf").filter(|(step, _)| *step != 0.0)
        && (number / step).fract() != 0.0
    {
        errors.push(FieldError::invalid(
            path,
            value,
            &format!("{path} in body should be a multiple of {text}"),
        ));
    }
    let fits = match schema.format() {
        Some("int32") => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        _ => true,
    };
    if !fits {
        let detail = format!("{path} in body must be of type int32: \"{value}\"");
        errors.push(FieldError::invalid(path, value, &detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 9},
            "mode": {"type": "string", "enum": ["fast", "safe"], "default": "safe"},
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 4, "minLength": 1},
            "port": {"x-kubernetes-int-or-string": true},
            "zones": {"type": "array", "maxItems": 2, "items": {"type": "object", "properties": {
                "name": {"type": "string"}, "weight": {"type": "integer", "default": 1}}},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        }}}})
    }

    #[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
    fn check(spec: Value, expected: &[&str]) {
        let schema = schema();
        let found: Vec<String> =
            validate(Schema::new(&schema), &json!({"spec": spec})).iter().map(FieldError::text).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn faults_read_as_those_of_the_real_server() {
        check(
            json!({"size": 0}),
            &["spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"],
        );
        check(json!({}), &["spec.size: Required value"]);
        check(
            json!({"size": "3"}),
            &["spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\""],
        );
        check(
            json!({"size": 3, "mode": "slow"}),
            &["spec.mode: Unsupported value: \"slow\": supported values: \"fast\", \"safe\""],
        );
        check(
            json!({"size": 3, "name": "A"}),
            &["spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'"],
        );
        check(json!({"size": 3, "name": "abcde"}), &["spec.name: Too long: may not be more than 4 bytes"]);
        check(json!({"size": 3, "port": "http"}), &[]);
        check(
            json!({"size": 3, "zones": [{"name": "a"}, {"name": "a"}, {"name": "b"}]}),
            &[
                "spec.zones: Too many: 3: must have at most 2 items",
                "spec.zones[1]: Duplicate value: map[string]interface {}{\"name\":\"a\"}",
            ],
        );
    }

    #[test]
    fn defaults_are_filled_in_at_every_level() {
        let schema = schema();
        let mut value = json!({"spec": {"size": 3, "zones": [{"name": "a"}]}});
        default_values(Schema::new(&schema), &mut value);
        assert_eq!(
            value,
            json!({"spec": {"size": 3, "mode": "safe", "zones": [{"name": "a", "weight": 1}]}})
        );
    }
}
