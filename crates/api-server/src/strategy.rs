//! What each type does to an object on its way in: which fields a writer may set, and whose they stay.

use serde_json::{Value, json};

use crate::field_error::FieldError;
use crate::go_value;
use crate::object;
use crate::pod_rules;
use crate::resource::ResourceType;

/// Through which door an object comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Main,
    Status,
    Scale,
}

/// A new object: the server's own fields are not the client's to set.
pub(crate) fn prepare_create(resource: &ResourceType, object: &mut Value) {
    if resource.has_status && !keeps_status_on_create(resource) {
        object::copy_field(object, &json!({}), "status");
    }
    if resource.tracks_generation || resource.is_custom() {
        object::set_meta(object, "generation", json!(1));
    } else {
        object::meta_mut(object).remove("generation");
    }
}

/// Nodes and services arrive with the status their creator gives them.
fn keeps_status_on_create(resource: &ResourceType) -> bool {
    resource.is("", "nodes")
}

/// Keeps what this door does not lead to.
pub(crate) fn prepare_update(resource: &ResourceType, door: Door, old: &Value, new: &mut Value) {
    match door {
        Door::Main | Door::Scale if resource.has_status => object::copy_field(new, old, "status"),
        Door::Main | Door::Scale => {}
        Door::Status => keep_all_but_status(resource, old, new),
    }
    for field in [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        object::copy_meta(new, old, field);
    }
    if resource.is("", "services") && new["spec"]["type"] != "ExternalName" {
        keep_allocated(old, new);
    }
    if tracks(resource) && differs_in_spec(resource, old, new) {
        object::set_meta(new, "generation", json!(object::generation(old) + 1));
    }
}

/// What the server has handed out to a service stays its own if a writer leaves it out.
fn keep_allocated(old: &Value, new: &mut Value) {
    if new["spec"]["clusterIP"].as_str().is_none_or(str::is_empty) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let before = old["spec"].get(field).cloned();
            if let (Some(before), Some(spec)) = (before, new["spec"].as_object_mut()) {
                spec.insert(field.to_owned(), before);
            }
        }
    }
}

fn tracks(resource: &ResourceType) -> bool {
    resource.tracks_generation || resource.is_custom()
}

fn keep_all_but_status(resource: &ResourceType, old: &Value, new: &mut Value) {
    let status = new.get("status").cloned();
    let metadata = new["metadata"].clone();
    *new = old.clone();
    match status {
        Some(status) => new["status"] = status,
        None => object::copy_field(new, &json!({}), "status"),
    }
    if resource.is_custom() {
        object::copy_meta(new, &json!({"metadata": metadata}), "managedFields");
    } else {
        new["metadata"] = metadata;
    }
}

/// Everything but metadata counts, and but the status where it has a door of its own.
fn differs_in_spec(resource: &ResourceType, old: &Value, new: &Value) -> bool {
    let relevant = |object: &Value| {
        let mut fields = object.as_object().cloned().unwrap_or_default();
        fields.remove("metadata");
        if resource.has_status {
            fields.remove("status");
        }
        fields
    };
    relevant(old) != relevant(new)
}

/// Rules of single types about changes; the fields of `metadata` that nobody may change are in `validate`.
pub(crate) fn refused_changes(resource: &ResourceType, old: &Value, new: &Value) -> Vec<FieldError> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("apps", "statefulsets") => stateful_set(old, new),
        ("apps", "deployments" | "replicasets") => selector(old, new),
        ("", "pods") => pod_rules::refused_changes(old, new),
        ("", "persistentvolumeclaims") => claim(old, new),
        ("", "configmaps" | "secrets") => frozen(resource, old, new),
        ("", "services") => cluster_ip(old, new),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => role_reference(old, new),
        ("discovery.k8s.io", "endpointslices") => immutable(old, new, "addressType"),
        _ => Vec::new(),
    }
}

fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

fn immutable(old: &Value, new: &Value, path: &str) -> Vec<FieldError> {
    let (before, after) = (old.pointer(&pointer(path)), new.pointer(&pointer(path)));
    if before == after {
        return Vec::new();
    }
    vec![FieldError::invalid(path, after.unwrap_or(&Value::Null), "field is immutable")]
}

fn selector(old: &Value, new: &Value) -> Vec<FieldError> {
    let after = &new["spec"]["selector"];
    if old["spec"]["selector"] == *after {
        return Vec::new();
    }
    vec![FieldError::invalid_typed("spec.selector", &go_value::label_selector(after), "field is immutable")]
}

fn stateful_set(old: &Value, new: &Value) -> Vec<FieldError> {
    const CHANGEABLE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |object: &Value| {
        let mut spec = object["spec"].as_object().cloned().unwrap_or_default();
        spec.retain(|field, _| !CHANGEABLE.contains(&field.as_str()));
        spec
    };
    if fixed(old) == fixed(new) {
        return Vec::new();
    }
    vec![FieldError::forbidden(
        "spec",
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
         'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
    )]
}

fn claim(old: &Value, new: &Value) -> Vec<FieldError> {
    let fixed = |object: &Value| {
        let mut spec = object["spec"].as_object().cloned().unwrap_or_default();
        for field in ["resources", "volumeAttributesClassName", "volumeName"] {
            spec.remove(field);
        }
        spec
    };
    if fixed(old) == fixed(new) {
        return Vec::new();
    }
    vec![FieldError::forbidden(
        "spec",
        "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
    )]
}

fn frozen(resource: &ResourceType, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old["immutable"] == true {
        if new["immutable"] != true {
            errors.push(FieldError::forbidden("immutable", "field is immutable when `immutable` is set"));
        }
        for field in ["data", "binaryData"] {
            if old[field] != new[field] {
                errors.push(FieldError::forbidden(field, "field is immutable when `immutable` is set"));
            }
        }
    }
    if resource.plural == "secrets" {
        errors.extend(immutable(old, new, "type"));
    }
    errors
}

fn cluster_ip(old: &Value, new: &Value) -> Vec<FieldError> {
    if old["spec"]["clusterIP"] == new["spec"]["clusterIP"] || new["spec"]["type"] == "ExternalName" {
        return Vec::new();
    }
    let after = go_value::strings(&json!([new["spec"]["clusterIP"]]));
    vec![FieldError::invalid_typed("spec.clusterIPs[0]", &after, "may not change once set")]
}

fn role_reference(old: &Value, new: &Value) -> Vec<FieldError> {
    if old["roleRef"] == new["roleRef"] {
        return Vec::new();
    }
    let shown = |field: &str| go_value::text(&new["roleRef"][field]);
    let after = format!(
        "rbac.RoleRef{{APIGroup:{}, Kind:{}, Name:{}}}",
        shown("apiGroup"),
        shown("kind"),
        shown("name")
    );
    vec![FieldError::invalid_typed("roleRef", &after, "cannot change roleRef")]
}
