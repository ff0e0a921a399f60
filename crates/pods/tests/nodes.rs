//! Nodes that go and come, and addresses that are used again.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use wattle_pods::{Error, Settings};

use crate::bench::{Bench, address, is_ready, pod, restarts, set, until};

fn impatient(settings: Settings) -> Settings {
    let moment = Duration::from_millis(200);
    Settings { node_monitor_grace: moment, eviction: moment, ..settings }
}

fn node_of(pod: &Pod) -> String {
    pod.spec.clone().unwrap().node_name.unwrap()
}

async fn until_node(bench: &Bench, name: &str, status: &str) {
    let nodes: Api<Node> = Api::all(bench.client.clone());
    let mut is_so = |nodes: &std::collections::BTreeMap<String, Node>| {
        let conditions = nodes[name].status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == status)
    };
    until(nodes, "", &mut is_so).await;
}

#[tokio::test]
async fn pods_of_a_node_that_is_gone_run_elsewhere_once_its_object_is_deleted() {
    let bench = Bench::start_with(impatient).await;
    let _: StatefulSet = bench.apply(set(&bench, 2, "Parallel")).await;
    let before = bench.until_pods(|pods| pods.len() == 2 && pods.values().all(is_ready)).await;
    let lost = node_of(&before["web-1"]);
    let process = bench.process("web-1").await;
    bench.cluster.fail_node(&lost).await.unwrap();
    process.ended().await;
    until_node(&bench, &lost, "Unknown").await;
    let stuck = bench.until_pods(|pods| pods["web-1"].metadata.deletion_timestamp.is_some()).await;
    assert!(!is_ready(&stuck["web-1"]), "and nobody says that it has ended");
    let nodes: Api<Node> = Api::all(bench.client.clone());
    nodes.delete(&lost, &DeleteParams::default()).await.unwrap();
    let is_new = |pods: &std::collections::BTreeMap<String, Pod>| {
        pods.get("web-1").is_some_and(|pod| is_ready(pod) && pod.uid() != before["web-1"].uid())
    };
    let after = bench.until_pods(is_new).await;
    assert_ne!(node_of(&after["web-1"]), lost);
    assert_eq!(after["web-0"].uid(), before["web-0"].uid());
}

#[tokio::test]
async fn pods_of_a_node_that_comes_back_start_again_with_other_addresses() {
    let patient = |settings| Settings { eviction: Duration::from_secs(300), ..impatient(settings) };
    let bench = Bench::start_with(patient).await;
    let _: Pod = bench.apply(pod(&bench, "a", &[])).await;
    let before = bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let node = node_of(&before["a"]);
    bench.cluster.fail_node(&node).await.unwrap();
    until_node(&bench, &node, "Unknown").await;
    bench.until_pods(|pods| !is_ready(&pods["a"])).await;
    bench.cluster.restore_node(&node).await.unwrap();
    until_node(&bench, &node, "True").await;
    let after = bench.until_pods(|pods| is_ready(&pods["a"])).await;
    assert_eq!((after["a"].uid(), restarts(&after["a"])), (before["a"].uid(), 1));
    assert_ne!(address(&after["a"]), address(&before["a"]));
    let unknown = bench.cluster.fail_node("elsewhere").await.unwrap_err();
    assert!(matches!(unknown, Error::NoSuchNode { name } if name == "elsewhere"));
}

#[tokio::test]
async fn a_machine_is_switched_off_and_on_by_an_annotation() {
    let patient = |settings| Settings { eviction: Duration::from_secs(300), ..impatient(settings) };
    let bench = Bench::start_with(patient).await;
    let _: Pod = bench.apply(pod(&bench, "a", &[])).await;
    let before = bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let (node, process) = (node_of(&before["a"]), bench.process("a").await);
    let nodes: Api<Node> = Api::all(bench.client.clone());
    let switch = async |name: &str, power: Value| {
        let patch = json!({"metadata": {"annotations": {"wattle.dev/power": power}}});
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    switch(&node, json!("on")).await;
    switch(&node, json!("off")).await;
    process.ended().await;
    until_node(&bench, &node, "Unknown").await;
    bench.until_pods(|pods| !is_ready(&pods["a"])).await;
    switch(&node, Value::Null).await;
    until_node(&bench, &node, "True").await;
    let after = bench.until_pods(|pods| is_ready(&pods["a"])).await;
    assert_eq!((after["a"].uid(), restarts(&after["a"])), (before["a"].uid(), 1), "it was off once");
}

#[tokio::test]
async fn a_pod_can_have_the_address_that_another_had() {
    let bench = Bench::start().await;
    let _: Pod = bench.apply(pod(&bench, "a", &[])).await;
    let first = bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let used = address(&first["a"]);
    bench.cluster.reuse_address(used.parse().unwrap()).unwrap();
    bench.api::<Pod>().delete("a", &DeleteParams::default()).await.unwrap();
    bench.until_pods(|pods| pods.is_empty()).await;
    let _: Pod = bench.apply(pod(&bench, "b", &[])).await;
    let second = bench.until_pods(|pods| is_ready(&pods["b"])).await;
    assert_eq!(address(&second["b"]), used);
    let foreign = bench.cluster.reuse_address([10, 0, 0, 1].into()).unwrap_err();
    assert!(matches!(foreign, Error::ForeignAddress { .. }));
}
