//! Rules about names and metadata that hold for all types, and the demands of built-in types that people meet.

use serde_json::{Value, json};

use crate::field_error::FieldError;
use crate::object;
use crate::resource::ResourceType;
use crate::schema::Schema;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SERVICE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
    used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
    with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// Everything about an object that does not depend on what was there before.
pub(crate) fn validate(resource: &ResourceType, value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_name(resource, object::name(value), &mut errors);
    validate_labels(value, &mut errors);
    validate_owners(value, &mut errors);
    for (at, finalizer) in object::finalizers(value).into_iter().enumerate() {
        if !is_qualified(finalizer) {
            let field = format!("metadata.finalizers[{at}]");
            errors.push(FieldError::invalid(&field, &json!(finalizer), QUALIFIED));
        }
    }
    if !resource.is_custom() {
        required(resource.schema(), value, "", &mut errors);
        validate_type(resource, value, &mut errors);
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
            errors.push(FieldError::forbidden(
                "metadata.finalizers",
                &format!("no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"),
            ));
        }
    }
    errors
}

fn validate_name(resource: &ResourceType, name: &str, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required_because("metadata.name", "name or generateName is required"));
        return;
    }
    let fault = match (resource.group.as_str(), resource.plural.as_str()) {
        ("rbac.authorization.k8s.io", _) => {
            // Names of roles may hold colons; they must only be one segment of a path.
            name.contains(['/', '%']).then_some("may not contain '/' or '%'")
        }
        ("", "services") => {
            (!is_label(name) || name.starts_with(|letter: char| letter.is_ascii_digit())).then_some(SERVICE)
        }
        ("", "namespaces") => (!is_label(name)).then_some(LABEL),
        _ => (name.len() > 253 || !name.split('.').all(is_label_part)).then_some(SUBDOMAIN),
    };
    if let Some(fault) = fault {
        errors.push(FieldError::invalid("metadata.name", &json!(name), fault));
    } else if (resource.is("", "namespaces") || resource.is("", "services")) && name.len() > 63 {
        errors.push(FieldError::invalid("metadata.name", &json!(name), "must be no more than 63 characters"));
    }
}

fn is_label(text: &str) -> bool {
    is_label_part(text)
}

fn is_label_part(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_word(text: &str) -> bool {
    let is_end = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    text.len() <= 63
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
        && is_end(text.chars().next())
        && is_end(text.chars().last())
}

fn is_qualified(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => prefix.split('.').all(is_label_part) && is_word(name),
        None => is_word(text),
    }
}

fn validate_labels(value: &Value, errors: &mut Vec<FieldError>) {
    for (pointer, field) in
        [("/metadata/labels", "metadata.labels"), ("/metadata/annotations", "metadata.annotations")]
    {
        for (key, content) in object::map(value, pointer).into_iter().flatten() {
            if !is_qualified(key) {
                errors.push(FieldError::invalid(field, &json!(key), QUALIFIED));
            }
            let text = content.as_str().unwrap_or_default();
            if field == "metadata.labels" && !text.is_empty() && !is_word(text) {
                let detail = if text.len() > 63 { "must be no more than 63 characters" } else { LABEL_VALUE };
                errors.push(FieldError::invalid(field, content, detail));
            }
        }
    }
}

fn validate_owners(value: &Value, errors: &mut Vec<FieldError>) {
    let mut controllers = 0;
    for (at, owner) in object::owners(value).iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                let path = format!("metadata.ownerReferences[{at}].{field}");
                let detail =
                    format!("{} must not be empty", if field == "apiVersion" { "version" } else { field });
                errors.push(FieldError::invalid(&path, owner.get(field).unwrap_or(&json!("")), &detail));
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        let detail = "Only one reference can have Controller set to true. Found \"true\" in references";
        errors.push(FieldError::invalid("metadata.ownerReferences", &json!(object::owners(value)), detail));
    }
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

fn validate_type(resource: &ResourceType, value: &Value, errors: &mut Vec<FieldError>) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("apps", _) => validate_workload(value, errors),
        ("", "services") => validate_ports(value, errors),
        ("policy", "poddisruptionbudgets") => {
            let spec = &value["spec"];
            if spec.get("minAvailable").is_some() && spec.get("maxUnavailable").is_some() {
                let detail = "minAvailable and maxUnavailable cannot be both set";
                errors.push(FieldError::invalid("spec", &json!("{}"), detail));
            }
        }
        _ => {}
    }
}

fn validate_workload(value: &Value, errors: &mut Vec<FieldError>) {
    let spec = &value["spec"];
    if let Some(replicas) = spec["replicas"].as_i64().filter(|replicas| *replicas < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("spec.replicas", &json!(replicas), detail));
    }
    let Some(wanted) = object::map(value, "/spec/selector/matchLabels") else { return };
    let labels = object::map(value, "/spec/template/metadata/labels");
    if wanted.iter().any(|(key, value)| labels.and_then(|labels| labels.get(key)) != Some(value)) {
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(
            "spec.template.metadata.labels",
            &spec["template"]["metadata"]["labels"],
            detail,
        ));
    }
}

fn validate_ports(value: &Value, errors: &mut Vec<FieldError>) {
    let ports = object::list(value, "/spec/ports");
    let is_headless = value["spec"]["clusterIP"] == "None";
    if ports.is_empty() && !is_headless && value["spec"]["type"] != "ExternalName" {
        errors.push(FieldError::required("spec.ports"));
    }
    for (at, port) in ports.iter().enumerate() {
        if ports.len() > 1 && port["name"].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(&format!("spec.ports[{at}].name")));
        }
        let number = port["port"].as_i64().unwrap_or(0);
        if !(1..=65_535).contains(&number) {
            let detail = "must be between 1 and 65535, inclusive";
            errors.push(FieldError::invalid(&format!("spec.ports[{at}].port"), &json!(number), detail));
        }
        if ports[..at].iter().any(|other| !port["name"].is_null() && other["name"] == port["name"]) {
            errors.push(FieldError::duplicate(&format!("spec.ports[{at}].name"), &port["name"]));
        }
    }
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
    fn a_stateful_set_needs_what_it_needs() {
        check(
            "apps",
            "statefulsets",
            &json!({"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "c"}}, "spec": {"containers": [{"image": "x"}]}}}}),
            &[
                "spec.template.spec.containers[0].name: Required value",
                "spec.template.metadata.labels: Invalid value",
            ],
        );
    }
}
