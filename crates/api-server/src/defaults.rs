//! What a real server fills in when it decodes a built-in object, and custom resources' own defaults.

use serde_json::{Value, json};

use crate::custom;
use crate::object::{child, default_to};
use crate::resource::ResourceType;

/// What has a `spec` even if nobody wrote one: in Go it is no pointer.
const HAVE_SPECS: [(&str, &str); 7] = [
    ("", "pods"),
    ("", "services"),
    ("", "persistentvolumeclaims"),
    ("apps", "statefulsets"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("networking.k8s.io", "networkpolicies"),
];

pub(crate) fn apply(resource: &ResourceType, object: &mut Value) {
    if resource.is_custom() {
        return custom::default_values(resource.schema(), object);
    }
    if HAVE_SPECS.contains(&(&*resource.group, &*resource.plural)) {
        child(object, "spec");
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => {
            pod_spec(&mut object["spec"]);
            default_to(&mut object["spec"], "enableServiceLinks", json!(true));
        }
        ("", "services") => service(&mut object["spec"]),
        ("", "secrets") => secret(object),
        ("", "namespaces") => namespace(object),
        ("", "persistentvolumeclaims") => default_to(&mut object["spec"], "volumeMode", json!("Filesystem")),
        ("apps", "statefulsets") => stateful_set(&mut object["spec"]),
        ("apps", "deployments") => deployment(&mut object["spec"]),
        ("apps", "replicasets") => workload(&mut object["spec"]),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => role_binding(object),
        ("discovery.k8s.io", "endpointslices") => {
            each(&mut object["ports"], |port| {
                default_to(port, "name", json!(""));
                default_to(port, "protocol", json!("TCP"));
            });
        }
        ("networking.k8s.io", "networkpolicies") => network_policy(&mut object["spec"]),
        ("autoscaling", _) => default_to(&mut object["spec"], "minReplicas", json!(1)),
        ("apiextensions.k8s.io", _) => definition(&mut object["spec"]),
        _ => {}
    }
}

/// The status that a new object has before any controller has seen it.
pub(crate) fn apply_status(resource: &ResourceType, object: &mut Value) {
    let status = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => json!({"phase": "Pending", "qosClass": "BestEffort"}),
        ("", "services") => json!({"loadBalancer": {}}),
        ("", "namespaces") => json!({"phase": "Active"}),
        ("", "persistentvolumeclaims") => json!({"phase": "Pending"}),
        ("apps", "statefulsets") => json!({"replicas": 0, "availableReplicas": 0}),
        ("apps", "replicasets") => json!({"replicas": 0}),
        ("apps", "deployments") => json!({}),
        ("policy", "poddisruptionbudgets") => {
            json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
        }
        ("apiextensions.k8s.io", _) => {
            let versions = crate::object::list(object, "/spec/versions").iter();
            let stored: Vec<&Value> =
                versions.filter(|one| one["storage"] == true).map(|one| &one["name"]).collect();
            json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": stored})
        }
        ("autoscaling", _) => json!({"currentMetrics": null, "desiredReplicas": 0}),
        _ => return,
    };
    default_to(object, "status", status);
}

fn each(list: &mut Value, change: impl Fn(&mut Value)) {
    list.as_array_mut().into_iter().flatten().for_each(change);
}

fn service(spec: &mut Value) {
    default_to(spec, "type", json!("ClusterIP"));
    default_to(spec, "sessionAffinity", json!("None"));
    default_to(spec, "internalTrafficPolicy", json!("Cluster"));
    let is_headless = spec["clusterIP"] == "None";
    each(&mut spec["ports"], |port| {
        default_to(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        default_to(port, "targetPort", number);
    });
    drop_null(spec, "ports");
    if is_headless {
        default_to(spec, "clusterIPs", json!(["None"]));
    }
}

/// Indexing a field to change it leaves a null where there was nothing.
fn drop_null(value: &mut Value, field: &str) {
    if value[field].is_null()
        && let Some(map) = value.as_object_mut()
    {
        map.remove(field);
    }
}

/// The object at a field, made if it is not there.
fn child_value<'a>(object: &'a mut Value, field: &str) -> &'a mut Value {
    child(object, field);
    &mut object[field]
}

fn secret(object: &mut Value) {
    default_to(object, "type", json!("Opaque"));
    let plain = object.as_object_mut().and_then(|map| map.remove("stringData"));
    for (name, text) in plain.as_ref().and_then(Value::as_object).into_iter().flatten() {
        let encoded = base64(text.as_str().unwrap_or_default().as_bytes());
        child(object, "data").insert(name.clone(), json!(encoded));
    }
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Of what a text in base64 stands for.
pub(crate) fn decoded_length(base64: &str) -> usize {
    base64.trim_end_matches('=').chars().filter(|letter| !letter.is_whitespace()).count() * 3 / 4
}

fn namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    if name.is_string() {
        child(&mut object["metadata"], "labels").insert("kubernetes.io/metadata.name".to_owned(), name);
    }
    if object["metadata"].get("deletionTimestamp").is_none() {
        child(object, "spec");
        default_to(&mut object["spec"], "finalizers", json!(["kubernetes"]));
    }
    let mut phase = json!({"phase": "Active"});
    std::mem::swap(&mut phase, &mut object["status"]);
    if phase.is_object() {
        object["status"] = phase;
    }
}

fn workload(spec: &mut Value) {
    default_to(spec, "replicas", json!(1));
    child(child_value(spec, "template"), "metadata");
    pod_spec(child_value(&mut spec["template"], "spec"));
}

fn stateful_set(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    workload(spec);
    default_to(spec, "podManagementPolicy", json!("OrderedReady"));
    default_to(spec, "updateStrategy", json!({"type": "RollingUpdate"}));
    if spec["updateStrategy"]["type"] == "RollingUpdate" {
        let rolling = child(&mut spec["updateStrategy"], "rollingUpdate");
        rolling.entry("partition").or_insert(json!(0));
    }
    default_to(spec, "revisionHistoryLimit", json!(10));
    default_to(
        spec,
        "persistentVolumeClaimRetentionPolicy",
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
    );
    each(&mut spec["volumeClaimTemplates"], |claim| {
        default_to(claim, "apiVersion", json!("v1"));
        default_to(claim, "kind", json!("PersistentVolumeClaim"));
        default_to(&mut claim["spec"], "volumeMode", json!("Filesystem"));
        default_to(claim, "status", json!({"phase": "Pending"}));
    });
    drop_null(spec, "volumeClaimTemplates");
}

fn deployment(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    workload(spec);
    default_to(spec, "strategy", json!({"type": "RollingUpdate"}));
    default_to(&mut spec["strategy"], "type", json!("RollingUpdate"));
    if spec["strategy"]["type"] == "RollingUpdate" {
        let rolling = child(&mut spec["strategy"], "rollingUpdate");
        rolling.entry("maxSurge").or_insert(json!("25%"));
        rolling.entry("maxUnavailable").or_insert(json!("25%"));
    }
    default_to(spec, "revisionHistoryLimit", json!(10));
    default_to(spec, "progressDeadlineSeconds", json!(600));
}

fn pod_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("securityContext", json!({})),
    ] {
        default_to(spec, field, value);
    }
    if spec["serviceAccountName"].is_string() {
        let account = spec["serviceAccountName"].clone();
        default_to(spec, "serviceAccount", account);
    }
    drop_null(spec, "serviceAccountName");
    for field in ["containers", "initContainers"] {
        each(&mut spec[field], container);
        drop_null(spec, field);
    }
    each(&mut spec["volumes"], volume);
    drop_null(spec, "volumes");
}

fn container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let tag = image.rsplit('/').next().and_then(|last| last.split_once(':')).map_or("latest", |(_, tag)| tag);
    let policy = if tag == "latest" && !image.contains('@') { "Always" } else { "IfNotPresent" };
    default_to(container, "imagePullPolicy", json!(policy));
    default_to(container, "terminationMessagePath", json!("/dev/termination-log"));
    default_to(container, "terminationMessagePolicy", json!("File"));
    default_to(container, "resources", json!({}));
    each(&mut container["ports"], |port| default_to(port, "protocol", json!("TCP")));
    each(&mut container["env"], |variable| {
        if variable["valueFrom"]["fieldRef"].is_object() {
            default_to(&mut variable["valueFrom"]["fieldRef"], "apiVersion", json!("v1"));
        }
        drop_null(variable, "valueFrom");
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container[probe].is_object() {
            fill_probe(&mut container[probe]);
        }
        drop_null(container, probe);
    }
    for field in ["ports", "env", "image"] {
        drop_null(container, field);
    }
}

fn fill_probe(probe: &mut Value) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        default_to(probe, field, json!(value));
    }
    if probe["httpGet"].is_object() {
        default_to(&mut probe["httpGet"], "scheme", json!("HTTP"));
        default_to(&mut probe["httpGet"], "path", json!("/"));
    }
    drop_null(probe, "httpGet");
}

fn volume(volume: &mut Value) {
    for kind in ["secret", "configMap", "projected", "downwardAPI"] {
        if volume[kind].is_object() {
            default_to(&mut volume[kind], "defaultMode", json!(0o644));
        }
        drop_null(volume, kind);
    }
}

fn role_binding(object: &mut Value) {
    default_to(&mut object["roleRef"], "apiGroup", json!("rbac.authorization.k8s.io"));
    each(&mut object["subjects"], |subject| {
        if subject["kind"] == "User" || subject["kind"] == "Group" {
            default_to(subject, "apiGroup", json!("rbac.authorization.k8s.io"));
        }
    });
    drop_null(object, "subjects");
}

fn network_policy(spec: &mut Value) {
    let mut kinds = vec!["Ingress"];
    if spec.get("egress").is_some_and(Value::is_array) {
        kinds.push("Egress");
    }
    default_to(spec, "policyTypes", json!(kinds));
    for rule in ["ingress", "egress"] {
        each(&mut spec[rule], |rule| {
            each(&mut rule["ports"], |port| default_to(port, "protocol", json!("TCP")));
            drop_null(rule, "ports");
        });
        drop_null(spec, rule);
    }
}

fn definition(spec: &mut Value) {
    let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
    default_to(&mut spec["names"], "singular", json!(kind.to_lowercase()));
    default_to(&mut spec["names"], "listKind", json!(format!("{kind}List")));
    default_to(spec, "conversion", json!({"strategy": "None"}));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    #[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
    fn check(group: &str, plural: &str, mut object: Value, expected: Value) {
        let kind = Registry::new().find(group, "v1", plural).unwrap();
        apply(&kind, &mut object);
        assert_eq!(object, expected);
    }

    #[test]
    fn services_and_secrets_are_completed() {
        check(
            "",
            "services",
            json!({"spec": {"clusterIP": "None", "ports": [{"port": 80}]}}),
            json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"], "type": "ClusterIP", "sessionAffinity": "None",
                "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]}}),
        );
        check(
            "",
            "secrets",
            json!({"stringData": {"a": "hello"}}),
            json!({"type": "Opaque", "data": {"a": "aGVsbG8="}}),
        );
    }

    #[test]
    fn pods_of_a_stateful_set_are_completed() {
        let kind = Registry::new().find("apps", "v1", "statefulsets").unwrap();
        let mut object = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "a", "image": "a", "readinessProbe": {"httpGet": {"port": 1}}}]}}}});
        apply(&kind, &mut object);
        let container = &object["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(container["readinessProbe"]["httpGet"], json!({"port": 1, "path": "/", "scheme": "HTTP"}));
        assert_eq!(
            object["spec"]["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
        );
        assert_eq!(object["spec"]["replicas"], 1);
        assert!(object["spec"]["template"]["spec"].get("volumes").is_none());
    }
}
