//! The patches of the API: JSON patch, JSON merge patch, strategic merge patch. Server-side apply is in `apply`.

mod json_patch;
mod kind;
mod strategic;

use serde_json::Value;

pub(crate) use json_patch::json_patch;
pub(crate) use kind::{PatchKind, go_value};
pub(crate) use strategic::strategic_merge;

/// RFC 7396.
pub(crate) fn json_merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = serde_json::json!({});
    }
    let Some(map) = target.as_object_mut() else { return };
    for (name, value) in fields {
        if value.is_null() {
            map.remove(name);
        } else {
            json_merge(map.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_merge_patch_replaces_lists_and_removes_nulls() {
        let mut target = json!({"a": {"b": 1, "c": [1, 2]}, "d": true});
        json_merge(&mut target, &json!({"a": {"b": null, "c": [3], "e": {"f": null, "g": 1}}}));
        assert_eq!(target, json!({"a": {"c": [3], "e": {"g": 1}}, "d": true}));
    }
}
