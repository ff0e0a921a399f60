//! The StatefulSets of the nodes and of the arbiter. Their pods are replaced when the operator deletes them, in its order and no other.

use serde_json::{Value, json};

use super::{
    API_PORT, Blueprint, Component, Founders, GRACE_SECONDS, HTTP_PORT, MEMBER_LABEL, PEERS_PORT,
    STOP_SECONDS, arbiter_name, configuration, founders, nodes_service,
};
use crate::api::{ListenAddress, Spread};

const USER: u32 = 65532;
const MACHINES: &str = "kubernetes.io/hostname";
/// Of an arbiter, which keeps a log of what is decided and no entries.
const ARBITER_STORAGE: &str = "1Gi";

pub(crate) fn node_set(blueprint: &Blueprint<'_>, replicas: u32, founders: &Founders) -> Value {
    set(blueprint, Component::Node, replicas, founders)
}

pub(crate) fn arbiter_set(blueprint: &Blueprint<'_>, founders: &Founders) -> Value {
    set(blueprint, Component::Arbiter, 1, founders)
}

fn set(blueprint: &Blueprint<'_>, component: Component, replicas: u32, founders: &Founders) -> Value {
    let name = match component {
        Component::Node => blueprint.name.to_owned(),
        Component::Arbiter => arbiter_name(blueprint.name),
    };
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": blueprint.metadata(&name, Some(component)),
        "spec": {
            "replicas": replicas,
            "serviceName": nodes_service(blueprint.name),
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            "selector": {"matchLabels": blueprint.selector(component)},
            "template": template(blueprint, component, founders),
        },
    });
    if let Some(storage) = &blueprint.spec.storage {
        let size = match component {
            Component::Node => storage.size.as_str(),
            Component::Arbiter => ARBITER_STORAGE,
        };
        let mut claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
        });
        if let Some(class) = &storage.storage_class_name {
            claim["spec"]["storageClassName"] = json!(class);
        }
        set["spec"]["volumeClaimTemplates"] = json!([claim]);
        // A node that was scaled away has left the grid: nothing of it is worth keeping. But before the grid is known it may be one that came
        // back with its volumes. A grid that was deleted may be wanted back, for which its arbiter is not needed.
        let when_deleted = match component {
            Component::Node => "Retain",
            Component::Arbiter => "Delete",
        };
        let when_scaled = if blueprint.is_founded { "Delete" } else { "Retain" };
        let retention = json!({"whenDeleted": when_deleted, "whenScaled": when_scaled});
        set["spec"]["persistentVolumeClaimRetentionPolicy"] = retention;
    }
    set
}

fn template(blueprint: &Blueprint<'_>, component: Component, founders: &Founders) -> Value {
    let options = &blueprint.spec.pods;
    let mut labels = json!(options.labels);
    for (key, value) in entries(blueprint.labels(Some(component))) {
        labels[key] = value;
    }
    labels[MEMBER_LABEL] = json!("true");
    let mut annotations = json!(options.annotations);
    annotations["wattle.dev/settings"] = json!(configuration::fingerprint(&blueprint.spec.settings));
    if let Some(founders) = founders.annotation() {
        annotations[founders::ANNOTATION] = json!(founders);
    }
    let mut spec = json!({
        "serviceAccountName": blueprint.name,
        "automountServiceAccountToken": true,
        "terminationGracePeriodSeconds": stop_seconds(blueprint) + GRACE_SECONDS,
        "enableServiceLinks": false,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container(blueprint, component)],
        "volumes": volumes(blueprint),
        "topologySpreadConstraints": spread(blueprint),
    });
    if !blueprint.spec.image_pull_secrets.is_empty() {
        let named = blueprint.spec.image_pull_secrets.iter().map(|name| json!({"name": name}));
        spec["imagePullSecrets"] = named.collect();
    }
    if !options.node_selector.is_empty() {
        spec["nodeSelector"] = json!(options.node_selector);
    }
    if !options.tolerations.is_empty() {
        spec["tolerations"] = json!(options.tolerations);
    }
    if let Some(affinity) = &options.affinity {
        spec["affinity"] = json!(affinity);
    }
    if let Some(class) = &options.priority_class_name {
        spec["priorityClassName"] = json!(class);
    }
    json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec})
}

fn entries(object: Value) -> serde_json::Map<String, Value> {
    match object {
        Value::Object(map) => map,
        other => unreachable!("{other} is no object: it was made as one"),
    }
}

fn container(blueprint: &Blueprint<'_>, component: Component) -> Value {
    let mut container = json!({
        "name": "wattle",
        "image": blueprint.image,
        "args": arguments(blueprint, component),
        "env": [
            environment("POD_IP", "status.podIP"),
            environment("POD_NAME", "metadata.name"),
            environment("POD_NAMESPACE", "metadata.namespace"),
        ],
        "ports": [
            {"name": "api", "containerPort": API_PORT, "protocol": "TCP"},
            {"name": "peers", "containerPort": PEERS_PORT, "protocol": "TCP"},
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
        ],
        "startupProbe": probe("/livez", 2, 60),
        "livenessProbe": probe("/livez", 10, 6),
        "readinessProbe": probe("/readyz", 2, 3),
        // Why a node has ended is the last line of its log: the pod's status shows it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts(blueprint),
    });
    if let Some(policy) = blueprint.spec.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    match component {
        Component::Node => {
            if let Some(resources) = &blueprint.spec.resources {
                container["resources"] = json!(resources);
            }
        }
        Component::Arbiter => {
            let small = json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}});
            let own = blueprint.spec.arbiter.resources.as_ref();
            container["resources"] = own.map_or(small, |resources| json!(resources));
        }
    }
    container
}

fn arguments(blueprint: &Blueprint<'_>, component: Component) -> Vec<String> {
    let address = match blueprint.spec.pods.listen_address {
        ListenAddress::V4 => "0.0.0.0",
        ListenAddress::V6 => "[::]",
    };
    let listen = |port: u16| format!("{address}:{port}");
    let pairs = [
        ("--listen", listen(API_PORT)),
        ("--peer-listen", listen(PEERS_PORT)),
        ("--http-listen", listen(HTTP_PORT)),
        ("--advertise", "$(POD_IP)".to_owned()),
        ("--discovery", "kubernetes".to_owned()),
        ("--service", nodes_service(blueprint.name)),
        ("--grid", blueprint.name.to_owned()),
        ("--grid-secret-file", "/etc/wattle/secret/secret".to_owned()),
        ("--config", "/etc/wattle/config/config.toml".to_owned()),
        ("--stop-seconds", stop_seconds(blueprint).to_string()),
        ("--log-format", "json".to_owned()),
    ];
    let mut arguments = vec!["serve".to_owned(), "--insecure".to_owned()];
    for (flag, value) in pairs {
        arguments.extend([flag.to_owned(), value]);
    }
    if blueprint.spec.storage.is_some() {
        arguments.extend(["--data-dir", "/var/lib/wattle"].map(str::to_owned));
    }
    if component == Component::Arbiter {
        arguments.push("--arbiter".to_owned());
    }
    arguments
}

fn stop_seconds(blueprint: &Blueprint<'_>) -> i32 {
    blueprint.spec.stop_seconds.unwrap_or(STOP_SECONDS)
}

fn environment(name: &str, field: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": field}}})
}

fn probe(path: &str, period: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    })
}

fn mounts(blueprint: &Blueprint<'_>) -> Value {
    let mut mounts = vec![
        json!({"name": "config", "mountPath": "/etc/wattle/config", "readOnly": true}),
        json!({"name": "secret", "mountPath": "/etc/wattle/secret", "readOnly": true}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    if blueprint.spec.storage.is_some() {
        mounts.push(json!({"name": "data", "mountPath": "/var/lib/wattle"}));
    }
    json!(mounts)
}

fn volumes(blueprint: &Blueprint<'_>) -> Value {
    json!([
        {"name": "config", "configMap": {"name": configuration::name(blueprint.name)}},
        {"name": "secret", "secret": {"secretName": blueprint.secret_name(), "defaultMode": 0o440}},
        {"name": "tmp", "emptyDir": {}},
    ])
}

/// Over zones as is asked, and over machines as well as can be. An arbiter keeps away from nodes, too.
fn spread(blueprint: &Blueprint<'_>) -> Value {
    let over = |key: &str, unsatisfiable: &str| {
        json!({
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": unsatisfiable,
            "labelSelector": {"matchLabels": blueprint.members()},
        })
    };
    let machines = over(MACHINES, "ScheduleAnyway");
    let zones = &blueprint.spec.zones;
    // Of one label there can be one constraint.
    if zones.topology_key == MACHINES {
        return json!([machines]);
    }
    match zones.spread {
        Spread::Prefer => json!([over(&zones.topology_key, "ScheduleAnyway"), machines]),
        Spread::Require => json!([over(&zones.topology_key, "DoNotSchedule"), machines]),
        Spread::Ignore => json!([machines]),
    }
}
