//! Where Prometheus' operator finds the nodes' metrics.

use serde_json::{Value, json};

use super::{Blueprint, SERVICE_LABEL};

/// The same as the chart's. Which of them scrapes is said by the labels that people give it.
pub(crate) fn service_monitor(blueprint: &Blueprint<'_>) -> Value {
    let options = &blueprint.spec.monitoring.service_monitor;
    let mut metadata = blueprint.metadata(blueprint.name, None);
    for (key, value) in &options.labels {
        // Its own labels say whose it is.
        if metadata["labels"].get(key).is_none() {
            metadata["labels"][key] = json!(value);
        }
    }
    json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor",
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": {
                "app.kubernetes.io/name": "wattle",
                "app.kubernetes.io/instance": blueprint.name,
                SERVICE_LABEL: "nodes",
            }},
            "endpoints": [{"port": "http", "path": "/metrics", "interval": options.interval}],
        },
    })
}
