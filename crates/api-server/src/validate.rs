//! Rules about names and metadata that hold for all types. What single types demand is in `type_rules`.

use serde_json::{Value, json};

use crate::delete::{FOREGROUND, ORPHAN};
use crate::field_error::FieldError;
use crate::object;
use crate::resource::ResourceType;
use crate::schema::Schema;
use crate::{go_value, names, type_rules};

/// Everything about an object that does not depend on what was there before.
pub(crate) fn validate(resource: &ResourceType, value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_name(resource, object::name(value), &mut errors);
    validate_labels(value, &mut errors);
    validate_owners(value, &mut errors);
    validate_finalizers(resource, value, &mut errors);
    if !resource.is_custom() {
        let mut missing = Vec::new();
        required(resource.schema(), value, "", &mut missing);
        type_rules::validate(resource, value, missing, &mut errors);
    }
    errors
}

/// What of `metadata` nobody may change.
pub(crate) fn validate_metadata_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if object::is_terminating(old) {
        let before = object::finalizers(old);
        let added: Vec<&str> =
            object::finalizers(new).into_iter().filter(|finalizer| !before.contains(finalizer)).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {}",
                go_value::strings(&json!(added))
            );
            errors.push(FieldError::forbidden("metadata.finalizers", &detail));
        }
    }
    errors
}

fn validate_name(resource: &ResourceType, name: &str, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required_because("metadata.name", "name or generateName is required"));
        return;
    }
    let faults = match (resource.group.as_str(), resource.plural.as_str()) {
        // Names of roles may hold colons; they must only be one segment of a path.
        ("rbac.authorization.k8s.io", _) => names::segment(name),
        ("", "services") => names::service(name),
        ("", "namespaces") => names::label(name),
        _ => names::subdomain(name),
    };
    errors.extend(faults.iter().map(|fault| FieldError::invalid("metadata.name", &json!(name), fault)));
}

fn validate_labels(value: &Value, errors: &mut Vec<FieldError>) {
    const FIELD: &str = "metadata.labels";
    for (key, content) in object::map(value, "/metadata/labels").into_iter().flatten() {
        for fault in names::qualified(key) {
            errors.push(FieldError::invalid(FIELD, &json!(key), &fault));
        }
        for fault in names::label_value(content.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(FIELD, content, &fault));
        }
    }
    const ANNOTATIONS: &str = "metadata.annotations";
    const MAX_ANNOTATIONS: usize = 256 * 1024;
    let mut size = 0;
    for (key, content) in object::map(value, "/metadata/annotations").into_iter().flatten() {
        // Here capitals do not matter.
        for fault in names::qualified(&key.to_lowercase()) {
            errors.push(FieldError::invalid(ANNOTATIONS, &json!(key), &fault));
        }
        size += key.len() + content.as_str().unwrap_or_default().len();
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long(ANNOTATIONS, MAX_ANNOTATIONS as u64));
    }
}

fn validate_owners(value: &Value, errors: &mut Vec<FieldError>) {
    const FIELD: &str = "metadata.ownerReferences";
    let mut controller = None;
    for owner in object::owners(value) {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                let detail =
                    format!("{} must not be empty", if field == "apiVersion" { "version" } else { field });
                errors.push(FieldError::invalid(&format!("{FIELD}.{field}"), &json!(""), &detail));
            }
        }
        if owner["controller"] != true {
            continue;
        }
        let name = format!("{}/{}", object::text(owner, "/kind"), object::text(owner, "/name"));
        if let Some(first) = &controller {
            let detail = format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
            );
            let shown = go_value::list("[]v1.OwnerReference", &json!(object::owners(value)), shown_owner);
            errors.push(FieldError::invalid_typed(FIELD, &shown, &detail));
        } else {
            controller = Some(name);
        }
    }
}

/// A reference as Go writes it.
fn shown_owner(owner: &Value) -> String {
    format!(
        "v1.OwnerReference{{APIVersion:{}, Kind:{}, Name:{}, UID:{}, Controller:{}, BlockOwnerDeletion:{}}}",
        go_value::text(&owner["apiVersion"]),
        go_value::text(&owner["kind"]),
        go_value::text(&owner["name"]),
        go_value::text(&owner["uid"]),
        go_value::pointer("bool", &owner["controller"]),
        go_value::pointer("bool", &owner["blockOwnerDeletion"])
    )
}

fn validate_finalizers(resource: &ResourceType, value: &Value, errors: &mut Vec<FieldError>) {
    const FIELD: &str = "metadata.finalizers";
    let finalizers = object::finalizers(value);
    for finalizer in &finalizers {
        for fault in names::qualified(finalizer) {
            errors.push(FieldError::invalid(FIELD, &json!(finalizer), &fault));
        }
    }
    if finalizers.contains(&FOREGROUND) && finalizers.contains(&ORPHAN) {
        let shown = go_value::strings(&json!(finalizers));
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid_typed(FIELD, &shown, &detail));
    }
    // Definitions and their objects may have any.
    if resource.is_custom() || resource.group == "apiextensions.k8s.io" {
        return;
    }
    for (at, finalizer) in finalizers.into_iter().enumerate().filter(|(_, finalizer)| is_nobodys(finalizer)) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(&format!("{FIELD}[{at}]"), &json!(finalizer), detail));
    }
}

/// Whether a finalizer's name says nothing of whose it is, and it is none of the server's.
fn is_nobodys(finalizer: &str) -> bool {
    !finalizer.contains('/') && !["kubernetes", ORPHAN, FOREGROUND].contains(&finalizer)
}

/// What to tell the writer of a custom resource that is taken all the same.
pub(crate) fn warnings(resource: &ResourceType, new: &Value, old: Option<&Value>) -> Vec<String> {
    if !resource.is_custom() {
        return Vec::new();
    }
    let before = old.map(object::finalizers).unwrap_or_default();
    let mut added: Vec<&str> =
        object::finalizers(new).into_iter().filter(|finalizer| !before.contains(finalizer)).collect();
    added.sort_unstable();
    added.dedup();
    let warn = |finalizer: &str, why: &str| format!("metadata.finalizers: {finalizer:?}: {why}");
    let mut all = Vec::new();
    for finalizer in added {
        all.extend(names::qualified(finalizer).iter().map(|fault| warn(finalizer, fault)));
        if is_nobodys(finalizer) {
            all.push(warn(
                finalizer,
                "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with \
                 other finalizer writers",
            ));
        }
    }
    all
}

/// Fields that the definitions of built-in types call required. The definitions count fields as required that Go's
/// zero value satisfies; those that may be empty are let through.
fn required(schema: Schema<'_>, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for name in schema.required().filter(|name| !MAY_BE_EMPTY.contains(name)) {
                if map
                    .get(name)
                    .is_none_or(|value| value == "" || value.as_array().is_some_and(Vec::is_empty))
                {
                    errors.push(FieldError::required(&join(path, name)));
                }
            }
            for (name, value) in map.iter().filter(|(name, _)| *name != "metadata" && *name != "status") {
                if let Some(child) = schema.child(name) {
                    required(child, value, &join(path, name), errors);
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                if let Some(child) = schema.items() {
                    required(child, item, &format!("{path}[{at}]"), errors);
                }
            }
        }
        _ => {}
    }
}

const MAY_BE_EMPTY: [&str; 10] = [
    "endpoints",
    "rules",
    "subjects",
    "serviceName",
    "value",
    "involvedObject",
    "metadata",
    "eventTime",
    "reason",
    "key",
];

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn check(group: &str, plural: &str, object: &Value, expected: &[&str]) {
        let kind = Registry::new().find(group, "v1", plural).unwrap();
        let found: Vec<String> = validate(&kind, object).iter().map(FieldError::text).collect();
        let starts = found.len() == expected.len()
            && found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected));
        assert!(starts, "{found:#?} are not {expected:#?}");
    }

    #[test]
    fn names_and_labels_have_their_form() {
        check(
            "",
            "configmaps",
            &json!({"metadata": {"name": "Web"}}),
            &["metadata.name: Invalid value: \"Web\": a lowercase RFC 1123 subdomain"],
        );
        check(
            "",
            "configmaps",
            &json!({"metadata": {}}),
            &["metadata.name: Required value: name or generateName is required"],
        );
        check(
            "",
            "configmaps",
            &json!({"metadata": {"name": "a", "labels": {"x": "a b"}}}),
            &["metadata.labels: Invalid value: \"a b\": a valid label must be"],
        );
        check("rbac.authorization.k8s.io", "clusterroles", &json!({"metadata": {"name": "system:a"}}), &[]);
    }

    #[test]
    fn finalizers_say_whose_they_are() {
        check("", "configmaps", &json!({"metadata": {"name": "a", "finalizers": ["a.b/c", "orphan"]}}), &[]);
        check(
            "",
            "configmaps",
            &json!({"metadata": {"name": "a", "finalizers": ["a b"]}}),
            &[
                "metadata.finalizers: Invalid value: \"a b\": name part must consist of",
                "metadata.finalizers[0]: Invalid value: \"a b\": name is neither a standard finalizer name nor is it \
                 fully qualified",
            ],
        );
        check(
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            &json!({"metadata": {"name": "a", "finalizers": ["foo"]}, "spec": {"group": "a.b", "scope": "Cluster",
                "names": {"plural": "x", "kind": "X"}, "versions": [{"name": "v1", "served": true, "storage": true}]}}),
            &[],
        );
    }

    #[test]
    fn owners_are_named_in_full() {
        check(
            "",
            "configmaps",
            &json!({"metadata": {"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "b"}]}}),
            &["metadata.ownerReferences.uid: Invalid value: \"\": uid must not be empty"],
        );
    }
}
