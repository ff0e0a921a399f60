//! Services, who may reach the pods, and how many of them an eviction may take.

use serde_json::{Value, json};

use super::{API_PORT, Blueprint, Component, HTTP_PORT, PEERS_PORT, SERVICE_LABEL, nodes_service};

pub(super) fn objects(blueprint: &Blueprint<'_>) -> Vec<Value> {
    vec![nodes(blueprint), clients(blueprint), policy(blueprint), budget(blueprint)]
}

/// Nodes find each other here, also before they are ready: they become so only together.
fn nodes(blueprint: &Blueprint<'_>) -> Value {
    let mut metadata = blueprint.metadata(&nodes_service(blueprint.name), None);
    metadata["labels"][SERVICE_LABEL] = json!("nodes");
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": metadata,
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": blueprint.members(),
            "ports": [
                {"name": "api", "port": API_PORT, "targetPort": "api", "protocol": "TCP"},
                {"name": "peers", "port": PEERS_PORT, "targetPort": "peers", "protocol": "TCP"},
                {"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP"},
            ],
        },
    })
}

fn clients(blueprint: &Blueprint<'_>) -> Value {
    let mut metadata = blueprint.metadata(blueprint.name, Some(Component::Node));
    metadata["labels"][SERVICE_LABEL] = json!("clients");
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": metadata,
        "spec": {
            "selector": blueprint.selector(Component::Node),
            "ports": [{
                "name": "api", "port": API_PORT, "targetPort": "api", "protocol": "TCP",
                "appProtocol": "kubernetes.io/h2c",
            }],
        },
    })
}

/// Nobody is asked who they are: so it is said here who may come.
fn policy(blueprint: &Blueprint<'_>) -> Value {
    let members = json!({"podSelector": {"matchLabels": blueprint.members()}});
    let port = |port: u16| json!([{"port": port, "protocol": "TCP"}]);
    // Pods of all namespaces, and nobody from outside the cluster.
    let mut api = json!({"from": [{"namespaceSelector": {}}], "ports": port(API_PORT)});
    if let Some(clients) = &blueprint.spec.clients {
        let operator = json!({
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": blueprint.operator_namespace}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "wattle-operator"}},
        });
        let mut from = vec![members.clone(), operator];
        from.extend(clients.iter().map(|client| json!(client)));
        api["from"] = json!(from);
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": blueprint.metadata(blueprint.name, None),
        "spec": {
            "podSelector": {"matchLabels": blueprint.members()},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [members], "ports": port(PEERS_PORT)},
                api,
                {"ports": port(HTTP_PORT)},
            ],
        },
    })
}

fn budget(blueprint: &Blueprint<'_>) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": blueprint.metadata(blueprint.name, None),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": blueprint.members()},
        },
    })
}
