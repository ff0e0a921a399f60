//! NDJSON: one JSON object on each line.

use serde_json::{Map, Value};

use super::row::{Row, RowError, Shape};

/// A line becomes its value as it stands, unless a text in it stands for nothing.
pub(super) fn row(line: u64, text: &[u8], shape: &Shape) -> Result<Row, RowError> {
    let text = std::str::from_utf8(text).map_err(|_| RowError::NotUtf8)?.trim();
    let mut object: Map<String, Value> = serde_json::from_str(text)?;
    let key = join_key(&object, shape)?;
    let changed = forget_nulls(&mut object, shape);
    let value = match &shape.value {
        Some(column) => {
            let value = object.remove(column).ok_or_else(|| RowError::NoValue { column: column.clone() })?;
            value.to_string().into_bytes()
        }
        None if changed => Value::from(object).to_string().into_bytes(),
        None => text.as_bytes().to_vec(),
    };
    Ok(Row { line, key, value })
}

fn join_key(object: &Map<String, Value>, shape: &Shape) -> Result<String, RowError> {
    let mut parts = Vec::with_capacity(shape.key.len());
    for column in &shape.key {
        let part = match object.get(column) {
            Some(Value::String(text)) if !text.is_empty() && !shape.is_null(text) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(_) | Value::Null) | None => {
                return Err(RowError::NoKey { column: column.clone() });
            }
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
                return Err(RowError::KeyNotPlain { column: column.clone() });
            }
        };
        parts.push(part);
    }
    Ok(parts.join(","))
}

fn forget_nulls(object: &mut Map<String, Value>, shape: &Shape) -> bool {
    let mut changed = false;
    for value in object.values_mut() {
        if value.as_str().is_some_and(|text| shape.is_null(text)) {
            *value = Value::Null;
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(nulls: &[&str]) -> Shape {
        let nulls = nulls.iter().map(|&text| text.to_owned()).collect();
        Shape { key: vec!["a".into(), "b".into()], value: None, nulls }
    }

    fn check(text: &str, shape: &Shape, key: &str, value: &str) {
        let row = row(3, text.as_bytes(), shape).unwrap();
        assert_eq!((row.line, row.key.as_str(), std::str::from_utf8(&row.value).unwrap()), (3, key, value));
    }

    #[test]
    fn a_line_is_its_value_as_it_stands() {
        check("{\"b\": 2.50, \"a\": \"x\"}\r\n", &shape(&[]), "x,2.5", "{\"b\": 2.50, \"a\": \"x\"}");
    }

    #[test]
    fn null_texts_become_null() {
        check(r#"{"a":"x","b":1,"c":"NA"}"#, &shape(&["NA"]), "x,1", r#"{"a":"x","b":1,"c":null}"#);
    }

    #[test]
    fn one_member_may_be_the_value() {
        let shape = Shape { value: Some("v".into()), ..shape(&[]) };
        check(r#"{"a":"x","b":1,"v":[1]}"#, &shape, "x,1", "[1]");
        let refused = row(1, br#"{"a":"x","b":1}"#, &shape).unwrap_err();
        assert!(matches!(&refused, RowError::NoValue { column } if column == "v"), "{refused:?}");
    }

    #[test]
    fn what_is_no_object_or_has_no_key_is_refused() {
        let refused = |text: &[u8]| row(1, text, &shape(&["NA"])).unwrap_err();
        assert!(matches!(refused(b"[1]"), RowError::NotAnObject(_)));
        assert!(matches!(refused(b"{"), RowError::NotAnObject(_)));
        assert!(matches!(refused(b"\xff"), RowError::NotUtf8));
        assert!(matches!(refused(br#"{"a":"NA","b":1}"#), RowError::NoKey { .. }));
        assert!(matches!(refused(br#"{"a":"x","b":{}}"#), RowError::KeyNotPlain { .. }));
    }
}
