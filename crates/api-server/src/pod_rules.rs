//! What a pod's specification must say, also in a template, and what of a pod may change (kubernetes'
//! `pkg/apis/core/validation`).

use serde_json::{Value, json};

use crate::field_error::FieldError;
use crate::names;
use crate::object::list;

const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];

/// What may change, in the words of the server.
const CHANGEABLE: [&str; 5] = [
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
];

pub(crate) fn validate(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for field in ["containers", "initContainers"] {
        let containers = list(spec, &format!("/{field}"));
        for (at, container) in containers.iter().enumerate() {
            let place = format!("{path}.{field}[{at}]");
            let name = container["name"].as_str().unwrap_or_default();
            // That there is none is another's to say.
            let faults = if name.is_empty() { Vec::new() } else { names::label(name) };
            for fault in faults {
                errors.push(FieldError::invalid(&format!("{place}.name"), &json!(name), &fault));
            }
            if container["image"].as_str().is_none_or(str::is_empty) {
                errors.push(FieldError::required(&format!("{place}.image")));
            }
            if !name.is_empty() && containers[..at].iter().any(|other| other["name"] == name) {
                errors.push(FieldError::duplicate(&format!("{place}.name"), &json!(name)));
            }
        }
    }
    let policy = &spec["restartPolicy"];
    if policy.as_str().is_some_and(|policy| !RESTART_POLICIES.contains(&policy)) {
        let supported = RESTART_POLICIES.map(str::to_owned);
        errors.push(FieldError::not_supported(&format!("{path}.restartPolicy"), policy, &supported));
    }
}

/// What of a template its pods cannot live with: they are to run for ever.
pub(crate) fn validate_lasting(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let policy = &spec["restartPolicy"];
    if policy.is_string() && policy != "Always" {
        let field = format!("{path}.restartPolicy");
        errors.push(FieldError::not_supported(&field, policy, &["Always".to_owned()]));
    }
}

pub(crate) fn refused_changes(old: &Value, new: &Value) -> Vec<FieldError> {
    let (old, new) = (&old["spec"], &new["spec"]);
    let mut errors = Vec::new();
    for field in ["containers", "initContainers"] {
        let pointer = format!("/{field}");
        if list(old, &pointer).len() != list(new, &pointer).len() {
            let detail = "pod updates may not add or remove containers";
            return vec![FieldError::forbidden(&format!("spec.{field}"), detail)];
        }
    }
    refuse_deadline(old, new, &mut errors);
    let (before, after) = (list(old, "/tolerations"), list(new, "/tolerations"));
    if before.iter().any(|toleration| !after.contains(toleration)) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", detail));
    }
    let (old_grace, grace) = (&old["terminationGracePeriodSeconds"], &new["terminationGracePeriodSeconds"]);
    let keeps_grace = old_grace == grace || (old_grace.as_i64().is_some_and(|old| old < 0) && *grace == 1);
    if fixed(old) != fixed(new) || !keeps_grace {
        let detail = format!("pod updates may not change fields other than {}", CHANGEABLE.join(","));
        errors.push(FieldError::forbidden("spec", &detail));
    }
    errors
}

fn refuse_deadline(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    const FIELD: &str = "spec.activeDeadlineSeconds";
    let (before, after) = (old["activeDeadlineSeconds"].as_i64(), new["activeDeadlineSeconds"].as_i64());
    let detail = match (before, after) {
        (Some(_), None) => "must not update from a positive integer to nil value",
        (Some(before), Some(after)) if after > before => "must be less than or equal to previous value",
        _ => return,
    };
    errors.push(FieldError::invalid(FIELD, &json!(after), detail));
}

/// A specification without what may change.
fn fixed(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for field in ["containers", "initContainers"] {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                container.remove("image");
            }
        }
    }
    if let Some(fields) = spec.as_object_mut() {
        for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"] {
            fields.remove(field);
        }
        // Containers for looking around come by a subresource of their own.
        fields.remove("ephemeralContainers");
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
    fn check(spec: Value, expected: &[&str]) {
        let mut errors = Vec::new();
        validate(&spec, "spec", &mut errors);
        assert_eq!(errors.iter().map(FieldError::text).collect::<Vec<_>>(), expected);
    }

    #[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
    fn check_change(change: Value, expected: &str) {
        let old = json!({"spec": {"containers": [{"name": "a", "image": "a:1"}], "restartPolicy": "Always"}});
        let mut new = old.clone();
        crate::patch::json_merge(&mut new["spec"], &change);
        let found: Vec<String> = refused_changes(&old, &new).iter().map(FieldError::text).collect();
        assert!(found.concat().starts_with(expected) && found.is_empty() == expected.is_empty(), "{found:?}");
    }

    #[test]
    fn a_container_has_a_name_of_its_own_and_an_image() {
        check(json!({"containers": [{"name": "a", "image": "a"}], "restartPolicy": "Never"}), &[]);
        check(
            json!({"containers": [{"name": "a"}, {"name": "a", "image": "a"}], "restartPolicy": "Foo"}),
            &[
                "spec.containers[0].image: Required value",
                "spec.containers[1].name: Duplicate value: \"a\"",
                "spec.restartPolicy: Unsupported value: \"Foo\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        );
    }

    #[test]
    fn of_a_pod_hardly_anything_changes() {
        check_change(json!({"containers": [{"name": "a", "image": "a:2"}]}), "");
        check_change(json!({"activeDeadlineSeconds": 3, "tolerations": [{"operator": "Exists"}]}), "");
        let other = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
            `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,";
        check_change(json!({"restartPolicy": "Never"}), other);
        check_change(json!({"containers": [{"name": "a", "image": "a:1", "env": []}]}), other);
        check_change(
            json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b"}]}),
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        );
    }
}
