//! EndpointSlices.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::DeleteParams;
use serde_json::json;

use crate::bench::{Bench, address, is_ready, phase, pod};

/// Waits until a service has one endpoint with these conditions: ready, serving, terminating.
async fn until_endpoint(bench: &Bench, service: &str, expected: [bool; 3]) -> (Endpoint, EndpointSlice) {
    let label = format!("kubernetes.io/service-name={service}");
    let conditions = |slice: &EndpointSlice| {
        let [endpoint] = slice.endpoints.as_slice() else { return None };
        let found = endpoint.conditions.as_ref()?;
        Some([found.ready?, found.serving?, found.terminating?])
    };
    let wanted = Some(expected);
    let mut slices = bench
        .until::<EndpointSlice>(&label, |slices| {
            slices.len() == 1 && slices.values().all(|one| conditions(one) == wanted)
        })
        .await;
    let slice = slices.pop_first().unwrap().1;
    (slice.endpoints[0].clone(), slice)
}

#[tokio::test]
async fn endpoints_follow_readiness_and_termination() {
    let bench = Bench::start().await;
    for (name, publishes) in [("web", false), ("web-nodes", true)] {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
            "clusterIP": "None", "selector": {"app": "sample"}, "publishNotReadyAddresses": publishes,
            "ports": [{"name": "api", "port": 80, "targetPort": "http"}]}});
        let _: Service = bench.apply(service).await;
    }
    let label = "kubernetes.io/service-name=web";
    let empty = bench.until::<EndpointSlice>(label, |slices| slices.len() == 1).await;
    assert!(empty.values().all(|slice| slice.endpoints.is_empty()));
    bench.set_ready("web-0", false);
    let mut object = pod(&bench, "web-0", &["--ignore-sigterm"]);
    object["spec"]["terminationGracePeriodSeconds"] = json!(4);
    object["spec"]["subdomain"] = json!("web-nodes");
    object["spec"]["hostname"] = json!("web-0");
    let _: Pod = bench.apply(object).await;
    let pods = bench.until_pods(|pods| phase(&pods["web-0"]) == "Running").await;
    let (endpoint, slice) = until_endpoint(&bench, "web", [false, false, false]).await;
    assert_eq!(endpoint.addresses, [address(&pods["web-0"])]);
    assert_eq!(endpoint.target_ref.as_ref().unwrap().uid, pods["web-0"].metadata.uid);
    assert!(endpoint.zone.unwrap().starts_with("zone-") && endpoint.node_name.unwrap().starts_with("node-"));
    let port = &slice.ports.unwrap()[0];
    assert_eq!((port.name.as_deref(), port.port), (Some("api"), Some(7117)));
    let (endpoint, _) = until_endpoint(&bench, "web-nodes", [true, false, false]).await;
    assert_eq!(endpoint.hostname.as_deref(), Some("web-0"));
    bench.set_ready("web-0", true);
    bench.until_pods(|pods| is_ready(&pods["web-0"])).await;
    until_endpoint(&bench, "web", [true, true, false]).await;
    until_endpoint(&bench, "web-nodes", [true, true, false]).await;
    bench.api::<Pod>().delete("web-0", &DeleteParams::default()).await.unwrap();
    until_endpoint(&bench, "web", [false, true, true]).await;
    until_endpoint(&bench, "web-nodes", [true, true, true]).await;
    bench.until_pods(|pods| pods.is_empty()).await;
    bench
        .until::<EndpointSlice>(label, |slices| slices.values().all(|slice| slice.endpoints.is_empty()))
        .await;
}
