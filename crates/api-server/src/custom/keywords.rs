//! What the keywords of a schema may say beside one another, and whether its CEL rules can be asked
//! (apiextensions-apiserver's `ValidateCustomResourceDefinitionOpenAPISchema`).

use std::fmt;

use cel::ParseErrors;
use serde_json::{Value, json};

use super::rules;
use super::typing::{self, Type, TypeError};
use crate::field_error::FieldError;
use crate::go_value;
use crate::object::{list, map, text};

/// What holds for a schema because of where it stands.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    is_root: bool,
    /// Why there may be no defaults.
    without_defaults: Option<&'a str>,
    in_metadata: bool,
    /// Inside of logic, rules are another check's.
    in_logic: bool,
    /// Where the values before and after a change can no longer be told to be the same.
    unrelated: Option<&'a str>,
}

/// Faults of the schema, then those of its rules. Rules are not looked at if the schema is not even structural.
pub(super) fn validate(schema: &Value, path: &str, is_structural: bool, errors: &mut Vec<FieldError>) {
    let place = Place { is_root: true, in_logic: !is_structural, ..Place::default() };
    let mut faults = Faults::default();
    check(schema, path, place, &mut faults);
    errors.extend(faults.of_schema);
    errors.extend(faults.of_rules);
}

#[derive(Default)]
struct Faults {
    of_schema: Vec<FieldError>,
    of_rules: Vec<FieldError>,
}

fn check(schema: &Value, path: &str, place: Place<'_>, faults: &mut Faults) {
    let before = faults.of_schema.len();
    check_keywords(schema, path, place, &mut faults.of_schema);
    check_below(schema, path, place, faults);
    check_list(schema, path, &mut faults.of_schema);
    check_map(schema, path, &mut faults.of_schema);
    let all_rules = list(schema, "/x-kubernetes-validations");
    for (at, rule) in all_rules.iter().enumerate() {
        check_rule(rule, &format!("{path}.x-kubernetes-validations[{at}]"), &mut faults.of_schema);
    }
    if faults.of_schema.len() == before && !place.in_logic {
        for (at, rule) in all_rules.iter().enumerate() {
            let field = format!("{path}.x-kubernetes-validations[{at}]");
            compile(schema, rule, &field, place, &mut faults.of_rules);
        }
    }
}

fn check_below(schema: &Value, path: &str, place: Place<'_>, faults: &mut Faults) {
    let inside = Place { is_root: false, ..place };
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        let reason = place.in_metadata.then_some("inside additionalProperties applying to object metadata");
        let inside = Place { without_defaults: place.without_defaults.or(reason), ..inside };
        check(values, &format!("{path}.additionalProperties"), inside, faults);
    }
    let is_resource = place.is_root || schema["x-kubernetes-embedded-resource"] == true;
    let is_atomic = schema["x-kubernetes-map-type"] == "atomic";
    for (name, child) in map(schema, "/properties").into_iter().flatten() {
        let is_meta = is_resource && ["metadata", "kind", "apiVersion"].contains(&name.as_str());
        let reason = format!("in top-level {name}");
        let inside = Place {
            in_metadata: place.in_metadata || is_meta,
            without_defaults: if is_meta && place.is_root { Some(&reason) } else { inside.without_defaults },
            unrelated: if is_atomic { place.unrelated.or(Some(path)) } else { place.unrelated },
            ..inside
        };
        check(child, &format!("{path}.properties[{name}]"), inside, faults);
    }
    let in_logic = Place { in_logic: true, ..inside };
    if let Some(not) = schema.get("not") {
        check(not, &format!("{path}.not"), in_logic, faults);
    }
    for word in ["allOf", "oneOf", "anyOf"] {
        for (at, node) in list(schema, &format!("/{word}")).iter().enumerate() {
            check(node, &format!("{path}.{word}[{at}]"), in_logic, faults);
        }
    }
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        let is_keyed = schema["x-kubernetes-list-type"] == "map";
        let unrelated = if is_keyed { place.unrelated } else { place.unrelated.or(Some(path)) };
        check(items, &format!("{path}.items"), Place { unrelated, ..inside }, faults);
    }
}

fn check_keywords(schema: &Value, path: &str, place: Place<'_>, errors: &mut Vec<FieldError>) {
    const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    let kind = text(schema, "/type");
    let mut forbid = |field: &str, detail: &str| {
        errors.push(FieldError::forbidden(&format!("{path}.{field}"), detail));
    };
    if let Some(reason) = place.without_defaults.filter(|_| schema.get("default").is_some()) {
        forbid("default", &format!("must not be set {reason}"));
    }
    for field in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if schema.get(field).is_some() {
            forbid(field, &format!("{field} is not supported"));
        }
    }
    if kind == "null" {
        forbid("type", "type cannot be set to null, use nullable as an alternative");
    }
    if schema["items"].is_array() {
        forbid("items", "items must be a schema object and not an array");
    }
    if place.in_metadata && schema["x-kubernetes-embedded-resource"] == true {
        forbid("x-kubernetes-embedded-resource", "must not be used inside of resource meta");
    }
    if schema["uniqueItems"] == true {
        forbid(
            "uniqueItems",
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    let additional = schema.get("additionalProperties");
    let has_properties = map(schema, "/properties").is_some_and(|properties| !properties.is_empty());
    if has_properties && additional.is_some_and(|additional| *additional != true) {
        let detail = "additionalProperties and properties are mutual exclusive";
        forbid("additionalProperties", detail);
    }
    if place.is_root && schema["nullable"] == true {
        forbid("nullable", "nullable cannot be true at the root");
    }
    if !kind.is_empty() && !TYPES.contains(&kind) {
        let field = format!("{path}.type");
        errors.push(FieldError::not_supported(&field, &schema["type"], &TYPES.map(str::to_owned)));
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let field = format!("{path}.x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(&field, &json!(false), "must be true or undefined"));
    }
}

/// A keyword that belongs to one type, and what it may be.
fn check_notes(
    schema: &Value,
    path: &str,
    (word, kind): (&str, &str),
    allowed: &[&str],
    errors: &mut Vec<FieldError>,
) {
    let Some(found) = schema.get(word).and_then(Value::as_str) else { return };
    if schema["type"] != kind {
        let (field, detail) = (format!("{path}.type"), format!("must be {kind} if {word} is specified"));
        errors.push(if text(schema, "/type").is_empty() {
            FieldError::required_because(&field, &detail)
        } else {
            FieldError::invalid(&field, &schema["type"], &detail)
        });
    }
    if !allowed.contains(&found) {
        let allowed: Vec<String> = allowed.iter().map(|&one| one.to_owned()).collect();
        errors.push(FieldError::not_supported(&format!("{path}.{word}"), &json!(found), &allowed));
    }
}

fn check_map(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    check_notes(schema, path, ("x-kubernetes-map-type", "object"), &["atomic", "granular"], errors);
}

fn check_list(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    check_notes(schema, path, ("x-kubernetes-list-type", "array"), &["atomic", "set", "map"], errors);
    let kind = text(schema, "/x-kubernetes-list-type");
    let items = &schema["items"];
    if kind == "set" {
        let (field, is_atomic) = match text(items, "/type") {
            "array" => {
                ("x-kubernetes-list-type", ["", "atomic"].contains(&text(items, "/x-kubernetes-list-type")))
            }
            "object" => ("x-kubernetes-map-type", items["x-kubernetes-map-type"] == "atomic"),
            _ => ("", true),
        };
        if !is_atomic {
            let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
            let found = &items["x-kubernetes-list-type"];
            errors.push(FieldError::invalid(&format!("{path}.items.{field}"), found, detail));
        }
    }
    if ["set", "map"].contains(&kind) && items["nullable"] == true {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.push(FieldError::forbidden(&format!("{path}.items.nullable"), &detail));
    }
    let keys = &schema["x-kubernetes-list-map-keys"];
    let has_keys = keys.as_array().is_some_and(|keys| !keys.is_empty());
    if has_keys && kind != "map" {
        let field = format!("{path}.x-kubernetes-list-type");
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(if kind.is_empty() {
            FieldError::required_because(&field, detail)
        } else {
            FieldError::invalid(&field, &json!(kind), detail)
        });
    }
    if kind == "map" {
        check_keys(schema, path, errors);
    }
}

/// Items of a list with keys must have them.
fn check_keys(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let keys_field = format!("{path}.x-kubernetes-list-map-keys");
    let keys = &schema["x-kubernetes-list-map-keys"];
    let items = &schema["items"];
    if keys.as_array().is_none_or(Vec::is_empty) {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required_because(&keys_field, detail));
    }
    if items.is_null() {
        let detail = "must have a schema if x-kubernetes-list-type is map";
        errors.push(FieldError::required_because(&format!("{path}.items"), detail));
        return;
    }
    if items["type"] != "object" {
        let (field, found) = (format!("{path}.items.type"), json!(text(items, "/type")));
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&field, &found, detail));
        return;
    }
    let names: Vec<&str> =
        list(schema, "/x-kubernetes-list-map-keys").iter().filter_map(Value::as_str).collect();
    let refused = |detail: &str| FieldError::invalid_typed(&keys_field, &go_value::strings(keys), detail);
    for (at, key) in names.iter().enumerate() {
        match items["properties"].get(key) {
            None => errors.push(refused("entries must all be names of item properties")),
            Some(property) => check_key(items, property, key, path, errors),
        }
        if names[..at].contains(key) {
            errors.push(refused("must not contain duplicate entries"));
        }
    }
}

fn check_key(items: &Value, property: &Value, key: &str, path: &str, errors: &mut Vec<FieldError>) {
    let field = format!("{path}.items.properties[{key}]");
    if property["type"] == "array" || property["type"] == "object" {
        let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&format!("{field}.type"), &items["type"], detail));
    }
    if !list(items, "/required").contains(&json!(key)) && property.get("default").is_none() {
        let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
        errors.push(FieldError::required_because(&format!("{field}.default"), detail));
    }
    if property["nullable"] == true {
        let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
        errors.push(FieldError::forbidden(&format!("{field}.nullable"), detail));
    }
}

fn check_rule(rule: &Value, field: &str, errors: &mut Vec<FieldError>) {
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    let at = |name: &str| format!("{field}.{name}");
    let breaks = |text: &str| text.contains(['\n', '\r']);
    let (source, message) = (text(rule, "/rule").trim(), text(rule, "/message"));
    if source.is_empty() {
        errors.push(FieldError::required_because(&at("rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        let detail = "message must be non-empty if specified";
        errors.push(FieldError::invalid(&at("message"), &json!(message), detail));
    } else if breaks(message.trim()) {
        let detail = "message must not contain line breaks";
        errors.push(FieldError::invalid(&at("message"), &json!(message), detail));
    } else if breaks(source) && message.is_empty() {
        let detail = "message must be specified if rule contains line breaks";
        errors.push(FieldError::required_because(&at("message"), detail));
    }
    let expression = text(rule, "/messageExpression");
    if !expression.is_empty() && expression.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        errors.push(FieldError::required_because(&at("messageExpression"), detail));
    }
    if let Some(reason) =
        rule.get("reason").filter(|one| !REASONS.contains(&one.as_str().unwrap_or_default()))
    {
        errors.push(FieldError::not_supported(&at("reason"), reason, &REASONS.map(str::to_owned)));
    }
    if breaks(text(rule, "/fieldPath")) {
        let detail = "fieldPath must not contain line breaks";
        errors.push(FieldError::invalid(&at("fieldPath"), &rule["fieldPath"], detail));
    }
}

/// Why a rule cannot be asked.
enum RuleError {
    Syntax(ParseErrors),
    Type(TypeError),
}

impl fmt::Display for RuleError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("compilation failed: ")?;
        match self {
            Self::Syntax(why) => why.fmt(formatter),
            Self::Type(why) => why.fmt(formatter),
        }
    }
}

fn compile(schema: &Value, rule: &Value, field: &str, place: Place<'_>, errors: &mut Vec<FieldError>) {
    let found = |source: &str| -> Result<(Type<'static>, bool), RuleError> {
        let program = rules::compile(source.trim()).map_err(RuleError::Syntax)?;
        let result = typing::check(&program, schema, place.is_root).map_err(RuleError::Type)?;
        Ok((result, program.references().has_variable("oldSelf")))
    };
    let mut refuse = |name: &str, shown: &str, detail: &str| {
        errors.push(FieldError::invalid_typed(&format!("{field}.{name}"), shown, detail));
    };
    let checked = found(text(rule, "/rule"));
    match &checked {
        Err(why) => refuse("rule", &shown(rule), &why.to_string()),
        Ok((result, _)) if result.is_not_bool() => {
            refuse("rule", &shown(rule), "cel expression must evaluate to a bool");
        }
        Ok(_) => {}
    }
    let expression = text(rule, "/messageExpression");
    if let Some(Err(why)) = (!expression.is_empty()).then(|| found(expression)) {
        refuse("messageExpression", &shown(rule), &format!("messageExpression {why}"));
    }
    match (checked, place.unrelated) {
        (Ok((_, true)), Some(unrelated)) => refuse(
            "rule",
            &go_value::text(&rule["rule"]),
            &format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {unrelated}"),
        ),
        (Ok((_, false)), _) if rule["optionalOldSelf"].is_boolean() => refuse(
            "optionalOldSelf",
            &rule["optionalOldSelf"].to_string(),
            "may not be set if oldSelf is not used in rule",
        ),
        _ => {}
    }
}

/// A rule as Go writes it.
fn shown(rule: &Value) -> String {
    let text = |field: &str| go_value::text(&rule[field]);
    format!(
        "apiextensions.ValidationRule{{Rule:{}, Message:{}, MessageExpression:{}, Reason:{}, FieldPath:{}, \
         OptionalOldSelf:{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        go_value::pointer("apiextensions.FieldValueErrorReason", &rule["reason"]),
        text("fieldPath"),
        go_value::pointer("bool", &rule["optionalOldSelf"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
    fn check(schema: Value, expected: &[&str]) {
        let schema = json!({"type": "object", "properties": {"a": schema}});
        let mut errors = Vec::new();
        validate(&schema, "s", true, &mut errors);
        let found: Vec<String> = errors.iter().map(FieldError::text).collect();
        assert_eq!(found, expected);
    }

    fn check_rule(rule: &str, expected: &[&str]) {
        let properties = json!({"n": {"type": "integer"}, "x-y": {"type": "boolean"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"m": {"type": "integer"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let rules = json!([{"rule": rule}]);
        let schema = json!({"type": "object", "properties": properties, "x-kubernetes-validations": rules});
        let shown = format!(
            "s.properties[a].x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule{{Rule:{}, \
             Message:\"\", MessageExpression:\"\", Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:\"\", \
             OptionalOldSelf:(*bool)(nil)}}: ",
            json!(rule)
        );
        let expected: Vec<String> = expected.iter().map(|one| format!("{shown}{one}")).collect();
        check(schema, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn types_are_those_of_open_api() {
        check(
            json!({"type": "foo"}),
            &["s.properties[a].type: Unsupported value: \"foo\": supported values: \"array\", \"boolean\", \
               \"integer\", \"number\", \"object\", \"string\""],
        );
    }

    #[test]
    fn lists_and_their_keys_fit() {
        let items = json!({"type": "object", "properties": {"k": {"type": "string"}}});
        check(
            json!({"type": "array", "items": items, "x-kubernetes-list-type": "set"}),
            &[
                "s.properties[a].items.x-kubernetes-map-type: Invalid value: \"null\": must be atomic as item of a list \
               with x-kubernetes-list-type=set",
            ],
        );
        check(
            json!({"type": "array", "items": items, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["z"]}),
            &[
                "s.properties[a].x-kubernetes-list-map-keys: Invalid value: []string{\"z\"}: entries must all be names of \
               item properties",
            ],
        );
    }

    #[test]
    fn rules_speak_of_fields_that_there_are() {
        for sound in [
            "self.n == 1",
            "self.x__dash__y",
            "has(self.n) && self.list.all(one, one.m > self.n)",
            "self.map.all(key, self.map[key].size() > 1)",
            "self.free.what.ever == 1",
            "self.list.exists_one(one, one.m == 1)",
            "size(self.list.map(one, one.m)) == 1 ? true : self.x__dash__y",
            "type(self.n) == int",
            "optional.none().orValue(self.x__dash__y)",
        ] {
            check_rule(sound, &[]);
        }
        check_rule(
            "self.b == 1",
            &["compilation failed: ERROR: <input>:1:5: undefined field 'b'\n | self.b == 1\n | ....^"],
        );
        check_rule(
            "self.list.all(one, one.b > 1)",
            &[
                "compilation failed: ERROR: <input>:1:23: undefined field 'b'\n | self.list.all(one, one.b > 1)\n | \
               ......................^",
            ],
        );
        check_rule(
            "slef.n == 1",
            &[
                "compilation failed: ERROR: <input>:1:1: undeclared reference to 'slef' (in container '')\n | slef.n == \
               1\n | ^",
            ],
        );
    }

    #[test]
    fn rules_come_to_yes_or_no() {
        for other in ["self.n", "self.n + 1", "'x'", "self.list", "self", "true ? 1 : 2"] {
            check_rule(other, &["cel expression must evaluate to a bool"]);
        }
    }

    #[test]
    fn rules_about_changes_need_to_know_what_was_before() {
        let rules = json!([{"rule": "self == oldSelf"}]);
        let items = json!({"type": "integer", "x-kubernetes-validations": rules});
        check(
            json!({"type": "array", "items": items}),
            &[
                "s.properties[a].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf \
               cannot be used on the uncorrelatable portion of the schema within s.properties[a]",
            ],
        );
    }
}
