//! RFC 6902.

use serde_json::Value;

use crate::error::ApiError;

/// Operations of one patch, as in the real server.
const MAX_OPERATIONS: usize = 10_000;

pub(crate) fn json_patch(target: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let Some(operations) = patch.as_array() else {
        return Err(ApiError::BadRequest(
            "json: cannot unmarshal object into Go value of type jsonpatch.Patch".to_owned(),
        ));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(ApiError::BadRequest(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    for operation in operations {
        step(target, operation).ok_or(ApiError::Unprocessable)?;
    }
    Ok(())
}

fn step(target: &mut Value, operation: &Value) -> Option<()> {
    let path = operation["path"].as_str()?;
    let value = || operation.get("value").cloned();
    let from = || operation["from"].as_str();
    match operation["op"].as_str()? {
        "add" => add(target, path, value()?),
        "remove" => remove(target, path).map(drop),
        "replace" => {
            *target.pointer_mut(path)? = value()?;
            Some(())
        }
        "move" => {
            let moved = remove(target, from()?)?;
            add(target, path, moved)
        }
        "copy" => {
            let copied = target.pointer(from()?)?.clone();
            add(target, path, copied)
        }
        "test" => (target.pointer(path).unwrap_or(&Value::Null)
            == operation.get("value").unwrap_or(&Value::Null))
        .then_some(()),
        _ => None,
    }
}

fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *target = value;
        return Some(());
    }
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(list) => {
            let at = if last == "-" { list.len() } else { last.parse().ok()? };
            if at > list.len() {
                return None;
            }
            list.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(target: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(map) => map.remove(&last),
        Value::Array(list) => {
            let at = last.parse().ok().filter(|&at: &usize| at < list.len())?;
            Some(list.remove(at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
    fn check(operations: Value, expected: Option<Value>) {
        let mut target = json!({"a": [1, 2], "b/c": {"d": "x"}});
        let result = json_patch(&mut target, &operations);
        match expected {
            Some(expected) => assert_eq!(target, expected),
            None => assert_eq!(result.unwrap_err().code(), 422),
        }
    }

    #[test]
    fn every_operation_does_what_the_rfc_says() {
        check(
            json!([{"op": "add", "path": "/a/-", "value": 3}]),
            Some(json!({"a": [1, 2, 3], "b/c": {"d": "x"}})),
        );
        check(json!([{"op": "remove", "path": "/b~1c/d"}]), Some(json!({"a": [1, 2], "b/c": {}})));
        check(
            json!([{"op": "test", "path": "/a/0", "value": 1}, {"op": "replace", "path": "/a", "value": 0}]),
            Some(json!({"a": 0, "b/c": {"d": "x"}})),
        );
        check(
            json!([{"op": "move", "from": "/a", "path": "/e"}]),
            Some(json!({"e": [1, 2], "b/c": {"d": "x"}})),
        );
        check(
            json!([{"op": "copy", "from": "/b~1c/d", "path": "/a/0"}]),
            Some(json!({"a": ["x", 1, 2], "b/c": {"d": "x"}})),
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        check(json!([{"op": "test", "path": "/a/0", "value": 2}]), None);
        check(json!([{"op": "remove", "path": "/z"}]), None);
        check(json!([{"op": "add", "path": "/z/y", "value": 1}]), None);
    }
}
