//! Schemas of fields that are Kubernetes' own. They are passed on as they are: a Grid with nonsense in one of them must not keep the operator from
//! reading the others; the API server refuses its objects, which its status says. And what is changed of derived schemas.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

/// For a choice that may be left out: `nullable` allows `null`, which `kubectl explain` would list as `<no value>`.
pub(super) fn without_null(schema: &mut Schema) {
    if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        values.retain(|value| !value.is_null());
    }
}

/// Conditions of one type stand once, whoever applies them.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "description": "What holds, and since when.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "maxLength": 316},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "reason": {"type": "string", "maxLength": 1024},
                "message": {"type": "string", "maxLength": 32768},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0}
            }
        }
    })
}

pub(super) fn resources(_: &mut SchemaGenerator) -> Schema {
    let quantities = serde_json::json!({
        "type": "object",
        "additionalProperties": {"x-kubernetes-int-or-string": true}
    });
    json_schema!({
        "type": "object",
        "description": "What a pod asks of its node, and may take at most.",
        "properties": {"requests": quantities, "limits": quantities}
    })
}

pub(super) fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "description": "Taints that the pods tolerate, as in a pod.",
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
    })
}

pub(super) fn network_peers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "description": "Who may reach the API, as in `from` of a NetworkPolicy. Any pod of the cluster by default.",
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
    })
}

pub(super) fn affinity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "Where the pods go, as in a pod.",
        "x-kubernetes-preserve-unknown-fields": true
    })
}
