//! Reading and writing the metadata of an object that is plain JSON.

use serde_json::{Map, Value, json};

pub(crate) fn meta<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get("metadata")?.get(field)?.as_str()
}

pub(crate) fn name(object: &Value) -> &str {
    meta(object, "name").unwrap_or_default()
}

pub(crate) fn namespace(object: &Value) -> &str {
    meta(object, "namespace").unwrap_or_default()
}

pub(crate) fn uid(object: &Value) -> &str {
    meta(object, "uid").unwrap_or_default()
}

pub(crate) fn resource_version(object: &Value) -> &str {
    meta(object, "resourceVersion").unwrap_or_default()
}

pub(crate) fn is_terminating(object: &Value) -> bool {
    meta(object, "deletionTimestamp").is_some()
}

pub(crate) fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or(0)
}

pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    list(object, "/metadata/finalizers").iter().filter_map(Value::as_str).collect()
}

/// An object without finalizers does not have the field.
pub(crate) fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    if finalizers.is_empty() {
        meta_mut(object).remove("finalizers");
    } else {
        set_meta(object, "finalizers", json!(finalizers));
    }
}

pub(crate) fn drop_finalizer(object: &mut Value, finalizer: &str) {
    let rest = finalizers(object).into_iter().filter(|one| *one != finalizer);
    let rest: Vec<String> = rest.map(str::to_owned).collect();
    set_finalizers(object, &rest);
}

pub(crate) fn owners(object: &Value) -> &[Value] {
    list(object, "/metadata/ownerReferences")
}

/// The list at a JSON pointer; what is not there is empty.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata` as a map, made if it is not there. What is no object becomes one.
pub(crate) fn meta_mut(object: &mut Value) -> &mut Map<String, Value> {
    child(object, "metadata")
}

/// The object at a field, made if it is not there.
pub(crate) fn child<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    if !object[field].is_object() {
        object[field] = json!({});
    }
    object[field].as_object_mut().expect("it was made an object above")
}

pub(crate) fn set_meta(object: &mut Value, field: &str, value: Value) {
    meta_mut(object).insert(field.to_owned(), value);
}

/// Takes a metadata field from another object, also its absence.
pub(crate) fn copy_meta(object: &mut Value, from: &Value, field: &str) {
    match from.get("metadata").and_then(|meta| meta.get(field)) {
        Some(value) => set_meta(object, field, value.clone()),
        None => {
            meta_mut(object).remove(field);
        }
    }
}

/// Takes a top-level field from another object, also its absence.
pub(crate) fn copy_field(object: &mut Value, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => object[field] = value.clone(),
        None => {
            if let Some(map) = object.as_object_mut() {
                map.remove(field);
            }
        }
    }
}

/// The object at a field if it is there, else an empty one for reading.
pub(crate) fn map<'a>(object: &'a Value, pointer: &str) -> Option<&'a Map<String, Value>> {
    object.pointer(pointer).and_then(Value::as_object)
}

/// Sets a field that is missing.
pub(crate) fn default_to(object: &mut Value, field: &str, value: Value) {
    if let Some(map) = object.as_object_mut() {
        let missing = map.get(field).is_none_or(Value::is_null);
        if missing {
            map.insert(field.to_owned(), value);
        }
    }
}
