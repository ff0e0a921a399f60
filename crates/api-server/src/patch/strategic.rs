//! Strategic merge patch: a merge patch that knows from the schema how lists merge (apimachinery's
//! `strategicpatch`), with its directives.

use serde_json::{Map, Value};

use crate::schema::Schema;

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

pub(crate) fn strategic_merge(schema: Schema<'_>, original: &Value, patch: &Value) -> Value {
    match patch {
        Value::Object(patch) => Value::Object(merge_map(Some(schema), original.as_object(), patch)),
        other => other.clone(),
    }
}

fn merge_map(
    schema: Option<Schema<'_>>,
    original: Option<&Map<String, Value>>,
    patch: &Map<String, Value>,
) -> Map<String, Value> {
    match patch.get(PATCH).and_then(Value::as_str) {
        Some("delete") => return Map::new(),
        Some("replace") => {
            let mut replaced = patch.clone();
            replaced.remove(PATCH);
            return replaced;
        }
        _ => {}
    }
    let mut merged = original.cloned().unwrap_or_default();
    if let Some(retained) = patch.get(RETAIN).and_then(Value::as_array) {
        merged.retain(|name, _| retained.iter().any(|one| one == name));
    }
    for (name, gone) in patch.iter().filter_map(|(name, value)| Some((name.strip_prefix(DELETE)?, value))) {
        let gone = gone.as_array().map_or(&[][..], Vec::as_slice);
        if let Some(list) = merged.get_mut(name).and_then(Value::as_array_mut) {
            list.retain(|item| !gone.contains(item));
        }
    }
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        let below = schema.and_then(|schema| schema.child(name));
        let merged_value = match value {
            Value::Null => None,
            Value::Object(map) => {
                Some(Value::Object(merge_map(below, merged.get(name).and_then(Value::as_object), map)))
            }
            Value::Array(items) if below.is_some_and(|below| below.merges()) => {
                let old = merged.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                Some(Value::Array(merge_list(below, old, items)))
            }
            other => Some(other.clone()),
        };
        match merged_value {
            Some(value) => merged.insert(name.clone(), value),
            None => merged.remove(name),
        };
    }
    for (name, order) in patch.iter().filter_map(|(name, value)| Some((name.strip_prefix(ORDER)?, value))) {
        let key = schema.and_then(|schema| schema.child(name)).and_then(|below| below.merge_key());
        if let (Some(list), Some(order)) =
            (merged.get_mut(name).and_then(Value::as_array_mut), order.as_array())
        {
            *list = ordered(list, order, key);
        }
    }
    merged
}

fn merge_list(schema: Option<Schema<'_>>, old: &[Value], patch: &[Value]) -> Vec<Value> {
    let Some(key) = schema.and_then(|schema| schema.merge_key()) else {
        let mut merged = old.to_vec();
        for item in patch {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return merged;
    };
    let is_replacement =
        |item: &Value| item.get(PATCH).is_some_and(|what| what == "replace") && item.get(key).is_none();
    let mut merged = if patch.iter().any(is_replacement) { Vec::new() } else { old.to_vec() };
    let items = schema.and_then(|schema| schema.items());
    for item in patch.iter().filter(|item| !is_replacement(item)) {
        let Some(fields) = item.as_object() else { continue };
        let at = merged.iter().position(|other| other.get(key) == item.get(key));
        if fields.get(PATCH).is_some_and(|what| what == "delete") {
            merged.retain(|other| other.get(key) != item.get(key));
            continue;
        }
        let old = at.and_then(|at| merged[at].as_object());
        let value = Value::Object(merge_map(items, old, fields));
        match at {
            Some(at) => merged[at] = value,
            None => merged.push(value),
        }
    }
    merged
}

/// What the patch names comes in its order; what only the server has stays behind what it stood behind.
fn ordered(list: &[Value], order: &[Value], key: Option<&str>) -> Vec<Value> {
    let identity = |item: &Value| key.map_or_else(|| item.clone(), |key| item[key].clone());
    let place = |item: &Value| order.iter().position(|one| identity(one) == identity(item));
    let mut named: Vec<&Value> = list.iter().filter(|item| place(item).is_some()).collect();
    named.sort_by_key(|item| place(item));
    let mut sorted: Vec<Value> = named.into_iter().cloned().collect();
    for (at, item) in list.iter().enumerate().filter(|(_, item)| place(item).is_none()) {
        let before = at.checked_sub(1).map(|before| &list[before]);
        let behind = before.and_then(|before| sorted.iter().position(|one| one == before));
        sorted.insert(behind.map_or(0, |behind| behind + 1), item.clone());
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::reference;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
    fn check(original: Value, patch: Value, expected: Value) {
        let node = reference("io.k8s.api.core.v1.PodSpec");
        assert_eq!(strategic_merge(Schema::new(&node), &original, &patch), expected);
    }

    #[test]
    fn containers_merge_by_name() {
        check(
            json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]}),
            json!({"containers": [{"name": "b", "image": "b:2"}, {"name": "c", "image": "c:1"}]}),
            json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:2"},
                {"name": "c", "image": "c:1"}]}),
        );
    }

    #[test]
    fn directives_delete_replace_and_order() {
        check(
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"containers": [{"$patch": "delete", "name": "a"}, {"name": "c"}],
                "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}]}),
            json!({"containers": [{"name": "c"}, {"name": "b"}]}),
        );
        check(
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}),
            json!({"containers": [{"name": "z"}]}),
        );
        check(
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
        );
    }

    #[test]
    fn atomic_lists_are_replaced_and_nulls_remove() {
        check(
            json!({"tolerations": [{"key": "a"}], "nodeName": "n", "nodeSelector": {"a": "1", "b": "2"}}),
            json!({"tolerations": [{"key": "b"}], "nodeName": null, "nodeSelector": {"a": null}}),
            json!({"tolerations": [{"key": "b"}], "nodeSelector": {"b": "2"}}),
        );
    }

    #[test]
    fn finalizers_merge_as_values() {
        let node = reference("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        let merged = strategic_merge(
            Schema::new(&node),
            &json!({"finalizers": ["a", "b"]}),
            &json!({"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}),
        );
        assert_eq!(merged, json!({"finalizers": ["b", "c"]}));
    }
}
