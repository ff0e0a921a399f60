//! Services, and how many pods an eviction may take.

use serde_json::{Value, json};

use super::{API_PORT, Blueprint, Component, HTTP_PORT, PEERS_PORT, nodes_service};

pub(super) fn objects(blueprint: &Blueprint<'_>) -> Vec<Value> {
    vec![nodes(blueprint), clients(blueprint), budget(blueprint)]
}

/// Nodes find each other here, also before they are ready: they become so only together.
fn nodes(blueprint: &Blueprint<'_>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": blueprint.metadata(&nodes_service(blueprint.name), None),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": {
                "app.kubernetes.io/name": "wattle",
                "app.kubernetes.io/instance": blueprint.name,
                "wattle.dev/member": "true",
            },
            "ports": [
                {"name": "api", "port": API_PORT, "targetPort": "api", "protocol": "TCP"},
                {"name": "peers", "port": PEERS_PORT, "targetPort": "peers", "protocol": "TCP"},
                {"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP"},
            ],
        },
    })
}

fn clients(blueprint: &Blueprint<'_>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": blueprint.metadata(blueprint.name, Some(Component::Node)),
        "spec": {
            "selector": blueprint.selector(Component::Node),
            "ports": [{"name": "api", "port": API_PORT, "targetPort": "api", "protocol": "TCP"}],
        },
    })
}

fn budget(blueprint: &Blueprint<'_>) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": blueprint.metadata(blueprint.name, None),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": {
                "app.kubernetes.io/name": "wattle",
                "app.kubernetes.io/instance": blueprint.name,
                "wattle.dev/member": "true",
            }},
        },
    })
}
