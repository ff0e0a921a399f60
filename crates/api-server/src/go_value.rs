//! Values as Go's `%#v` writes them: so the server of 1.32 shows in a refusal what is no scalar.

use serde_json::{Map, Value};

/// Where pointers of a running server point to says nothing; what they point to is not shown.
const SOMEWHERE: &str = "0xc000000000";

/// A value that Go only knows from JSON. A scalar is written bare.
pub(crate) fn interface(value: &Value) -> String {
    match value {
        // A nil that is the whole value is replaced by this text before it is written.
        Value::Null => "\"null\"".to_owned(),
        Value::Number(number) if number.is_f64() => float(number.as_f64().unwrap_or_default()),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", joined(items.iter().map(nested)))
        }
        Value::Object(map) => format!("map[string]interface {{}}{{{}}}", entries(map, nested)),
        scalar => scalar.to_string(),
    }
}

fn nested(value: &Value) -> String {
    if value.is_null() { "interface {}(nil)".to_owned() } else { interface(value) }
}

pub(crate) fn string_map(value: &Value) -> String {
    match value.as_object() {
        Some(map) => format!("map[string]string{{{}}}", entries(map, Value::to_string)),
        None => "map[string]string(nil)".to_owned(),
    }
}

pub(crate) fn strings(value: &Value) -> String {
    list("[]string", value, Value::to_string)
}

/// `TYPE{..}` of a list, `TYPE(nil)` of none.
pub(crate) fn list(kind: &str, value: &Value, item: impl Fn(&Value) -> String) -> String {
    match value.as_array() {
        Some(items) => format!("{kind}{{{}}}", joined(items.iter().map(item))),
        None => format!("{kind}(nil)"),
    }
}

pub(crate) fn label_selector(value: &Value) -> String {
    if value.is_null() {
        return "\"null\"".to_owned();
    }
    let requirements = list("[]v1.LabelSelectorRequirement", &value["matchExpressions"], |one| {
        format!(
            "v1.LabelSelectorRequirement{{Key:{}, Operator:{}, Values:{}}}",
            text(&one["key"]),
            text(&one["operator"]),
            strings(&one["values"])
        )
    });
    let labels = string_map(&value["matchLabels"]);
    format!("v1.LabelSelector{{MatchLabels:{labels}, MatchExpressions:{requirements}}}")
}

pub(crate) fn text(value: &Value) -> String {
    Value::from(value.as_str().unwrap_or_default()).to_string()
}

pub(crate) fn pointer(kind: &str, value: &Value) -> String {
    let target = if value.is_null() { "nil" } else { SOMEWHERE };
    format!("(*{kind})({target})")
}

fn joined(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn entries(map: &Map<String, Value>, shown: impl Fn(&Value) -> String) -> String {
    joined(map.iter().map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), shown(value))))
}

/// Shortest, and with an exponent from a million on.
pub(crate) fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(power @ (..-4 | 6..)) => {
            let sign = if power < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", power.unsigned_abs())
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn floats_are_short() {
        let numbers = [1.0, 100_000.0, 1_048_576.0, 1_000_000.0, 0.5, 0.000_01, 0.000_1];
        let expected = ["1", "100000", "1.048576e+06", "1e+06", "0.5", "1e-05", "0.0001"];
        assert_eq!(numbers.map(float), expected);
    }

    #[test]
    fn lists_and_maps_say_their_type() {
        assert_eq!(
            interface(&json!({"a": [1, "b", null, 0.5], "c": {}})),
            r#"map[string]interface {}{"a":[]interface {}{1, "b", interface {}(nil), 0.5}, "c":map[string]interface {}{}}"#
        );
        assert_eq!(interface(&Value::Null), "\"null\"");
        assert_eq!(string_map(&json!({"a": "c"})), r#"map[string]string{"a":"c"}"#);
        assert_eq!(strings(&json!(["1.2.3.4"])), r#"[]string{"1.2.3.4"}"#);
        assert_eq!(
            label_selector(&json!({"matchLabels": {"a": "c"}})),
            r#"v1.LabelSelector{MatchLabels:map[string]string{"a":"c"}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}"#
        );
    }
}
