//! What single built-in types demand, as far as people meet it.

use serde_json::{Value, json};

use crate::field_error::FieldError;
use crate::object::{self, list, map, text};
use crate::resource::ResourceType;
use crate::{defaults, events, go_value, names, pod_rules};

/// Of ConfigMaps and Secrets, in bytes.
const MAX_CONTENT: usize = 1024 * 1024;

/// `missing` are the fields that the schema requires and that are not there.
pub(crate) fn validate(
    resource: &ResourceType,
    value: &Value,
    missing: Vec<FieldError>,
    errors: &mut Vec<FieldError>,
) {
    if let ("apps", "statefulsets" | "deployments" | "replicasets") = (&*resource.group, &*resource.plural) {
        return validate_workload(resource, value, missing, errors);
    }
    errors.extend(missing.into_iter().filter(|error| {
        // What versions of a definition say is looked at for all of them, and closer.
        resource.group != "apiextensions.k8s.io" || !error.is_below("spec.versions")
    }));
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod_rules::validate(&value["spec"], "spec", errors),
        ("", "services") => validate_service(value, errors),
        ("", "configmaps") => validate_config_map(value, errors),
        ("", "secrets") => validate_secret(value, errors),
        ("coordination.k8s.io", "leases") => validate_lease(&value["spec"], errors),
        ("policy", "poddisruptionbudgets") => validate_budget(&value["spec"], errors),
        _ if events::is_event(resource) => validate_event(value, errors),
        _ => {}
    }
}

fn validate_workload(
    resource: &ResourceType,
    value: &Value,
    missing: Vec<FieldError>,
    errors: &mut Vec<FieldError>,
) {
    let spec = &value["spec"];
    if let Some(replicas) = spec["replicas"].as_i64().filter(|replicas| *replicas < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("spec.replicas", &json!(replicas), detail));
    }
    let (in_template, missing): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|error| error.is_below("spec.template"));
    errors.extend(missing);
    let selector = &spec["selector"];
    if selector.is_object() && is_empty(selector) {
        let detail = format!("empty selector is invalid for {}", resource.kind.to_lowercase());
        errors.push(FieldError::invalid_typed("spec.selector", &go_value::label_selector(selector), &detail));
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if !selects(selector, labels) {
        let detail = "`selector` does not match template `labels`";
        let shown = go_value::string_map(labels);
        errors.push(FieldError::invalid_typed("spec.template.metadata.labels", &shown, detail));
    }
    errors.extend(in_template);
    let pod = &spec["template"]["spec"];
    pod_rules::validate(pod, "spec.template.spec", errors);
    pod_rules::validate_lasting(pod, "spec.template.spec", errors);
}

fn is_empty(selector: &Value) -> bool {
    map(selector, "/matchLabels").is_none_or(serde_json::Map::is_empty)
        && list(selector, "/matchExpressions").is_empty()
}

/// Whether a selector takes these labels; none takes nothing.
fn selects(selector: &Value, labels: &Value) -> bool {
    let has = |key: &str, values: &[Value]| labels.get(key).is_some_and(|label| values.contains(label));
    let holds = |one: &Value| {
        let (key, values) = (text(one, "/key"), list(one, "/values"));
        match text(one, "/operator") {
            "In" => has(key, values),
            "NotIn" => !has(key, values),
            "Exists" => labels.get(key).is_some(),
            "DoesNotExist" => labels.get(key).is_none(),
            _ => false,
        }
    };
    selector.is_object()
        && map(selector, "/matchLabels")
            .into_iter()
            .flatten()
            .all(|(key, value)| labels.get(key) == Some(value))
        && list(selector, "/matchExpressions").iter().all(holds)
}

fn validate_service(value: &Value, errors: &mut Vec<FieldError>) {
    const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    validate_ports(value, errors);
    let kind = &value["spec"]["type"];
    if kind.as_str().is_some_and(|kind| !TYPES.contains(&kind)) {
        errors.push(FieldError::not_supported("spec.type", kind, &TYPES.map(str::to_owned)));
    }
}

fn validate_ports(value: &Value, errors: &mut Vec<FieldError>) {
    let ports = list(value, "/spec/ports");
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

fn validate_config_map(value: &Value, errors: &mut Vec<FieldError>) {
    for (key, _) in map(value, "/data").into_iter().flatten() {
        validate_key("data", key, errors);
        if value["binaryData"].get(key).is_some() {
            let detail = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(&format!("data[{key}]"), &json!(key), detail));
        }
    }
    for (key, _) in map(value, "/binaryData").into_iter().flatten() {
        validate_key("binaryData", key, errors);
    }
    let plain = map(value, "/data").into_iter().flatten();
    let plain: usize = plain.map(|(_, text)| text.as_str().unwrap_or_default().len()).sum();
    if plain + decoded_size(value, "/binaryData") > MAX_CONTENT {
        // The whole object is meant.
        errors.push(FieldError::too_long("[]", MAX_CONTENT as u64));
    }
}

fn validate_secret(value: &Value, errors: &mut Vec<FieldError>) {
    for (key, _) in map(value, "/data").into_iter().flatten() {
        validate_key("data", key, errors);
    }
    if decoded_size(value, "/data") > MAX_CONTENT {
        errors.push(FieldError::too_long("data", MAX_CONTENT as u64));
    }
}

fn validate_key(field: &str, key: &str, errors: &mut Vec<FieldError>) {
    for fault in names::config_key(key) {
        errors.push(FieldError::invalid(&format!("{field}[{key}]"), &json!(key), &fault));
    }
}

/// How many bytes the base64 in a map stands for.
fn decoded_size(value: &Value, pointer: &str) -> usize {
    let texts = map(value, pointer).into_iter().flatten().filter_map(|(_, text)| text.as_str());
    texts.map(defaults::decoded_length).sum()
}

fn validate_lease(spec: &Value, errors: &mut Vec<FieldError>) {
    for (field, least, detail) in [
        ("leaseDurationSeconds", 1, "must be greater than 0"),
        ("leaseTransitions", 0, "must be greater than or equal to 0"),
    ] {
        if let Some(found) = spec[field].as_i64().filter(|found| *found < least) {
            errors.push(FieldError::invalid(&format!("spec.{field}"), &json!(found), detail));
        }
    }
}

fn validate_budget(spec: &Value, errors: &mut Vec<FieldError>) {
    if spec.get("minAvailable").is_none() || spec.get("maxUnavailable").is_none() {
        return;
    }
    let pointer = |kind: &str, field: &str| go_value::pointer(kind, &spec[field]);
    let shown = format!(
        "policy.PodDisruptionBudgetSpec{{MinAvailable:{}, Selector:{}, MaxUnavailable:{}, \
         UnhealthyPodEvictionPolicy:{}}}",
        pointer("intstr.IntOrString", "minAvailable"),
        pointer("v1.LabelSelector", "selector"),
        pointer("intstr.IntOrString", "maxUnavailable"),
        pointer("policy.UnhealthyPodEvictionPolicyType", "unhealthyPodEvictionPolicy")
    );
    let detail = "minAvailable and maxUnavailable cannot be both set";
    errors.push(FieldError::invalid_typed("spec", &shown, detail));
}

/// An event is in the namespace of what it is about, and those about what is in none are in `default`.
fn validate_event(value: &Value, errors: &mut Vec<FieldError>) {
    let about = if value["regarding"].is_object() { &value["regarding"] } else { &value["involvedObject"] };
    let wanted = text(about, "/namespace");
    if object::namespace(value) != if wanted.is_empty() { "default" } else { wanted } {
        let detail = "does not match event.namespace";
        errors.push(FieldError::invalid("involvedObject.namespace", &json!(wanted), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn check(group: &str, plural: &str, mut value: Value, expected: &[&str]) {
        let kind = Registry::new().find(group, "v1", plural).unwrap();
        value["metadata"] = json!({"name": "a", "namespace": "default"});
        defaults::apply(&kind, &mut value);
        let found: Vec<String> =
            crate::validate::validate(&kind, &value).iter().map(FieldError::text).collect();
        let starts = found.len() == expected.len()
            && found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected));
        assert!(starts, "{found:#?} are not {expected:#?}");
    }

    #[test]
    fn a_stateful_set_needs_what_it_needs() {
        let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "c"}},
            "spec": {"containers": [{"image": "x"}], "restartPolicy": "Never"}}});
        check(
            "apps",
            "statefulsets",
            json!({"spec": spec}),
            &[
                "spec.template.metadata.labels: Invalid value: map[string]string{\"a\":\"c\"}: `selector` does not match",
                "spec.template.spec.containers[0].name: Required value",
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ],
        );
        check(
            "apps",
            "statefulsets",
            json!({}),
            &[
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: map[string]string(nil): `selector` does not match",
                "spec.template.spec.containers: Required value",
            ],
        );
    }

    #[test]
    fn selectors_have_expressions_too() {
        let labels = json!({"a": "b"});
        let selector = |operator: &str| json!({"matchExpressions": [{"key": "a", "operator": operator, "values": ["b", "c"]}]});
        assert!(selects(&selector("In"), &labels) && !selects(&selector("NotIn"), &labels));
        assert!(selects(&selector("Exists"), &labels) && !selects(&selector("DoesNotExist"), &labels));
    }

    #[test]
    fn a_service_has_one_of_four_types() {
        check(
            "",
            "services",
            json!({"spec": {"type": "Foo", "ports": [{"port": 80}]}}),
            &["spec.type: Unsupported value: \"Foo\": supported values: \"ClusterIP\", \"ExternalName\", \
               \"LoadBalancer\", \"NodePort\""],
        );
    }

    #[test]
    fn config_maps_and_secrets_hold_so_much_under_names_of_files() {
        check(
            "",
            "configmaps",
            json!({"data": {"a b": "x"}}),
            &["data[a b]: Invalid value: \"a b\": a valid config key must consist of"],
        );
        let much = "x".repeat(MAX_CONTENT);
        check("", "configmaps", json!({"data": {"a": much}}), &[]);
        check(
            "",
            "configmaps",
            json!({"data": {"a": much, "b": "x"}}),
            &["[]: Too long: may not be more than 1048576 bytes"],
        );
        check("", "secrets", json!({"stringData": {"a": much}}), &[]);
        check(
            "",
            "secrets",
            json!({"stringData": {"a": much, "b": "x"}}),
            &["data: Too long: may not be more than 1048576 bytes"],
        );
    }

    #[test]
    fn a_lease_lasts() {
        check(
            "coordination.k8s.io",
            "leases",
            json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": 0}}),
            &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        );
    }

    #[test]
    fn an_event_is_where_what_it_is_about_is() {
        check("", "events", json!({"involvedObject": {"namespace": "default"}}), &[]);
        check("", "events", json!({"involvedObject": {}}), &[]);
        check(
            "events.k8s.io",
            "events",
            json!({"regarding": {"namespace": "other"}}),
            &["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"],
        );
    }
}
