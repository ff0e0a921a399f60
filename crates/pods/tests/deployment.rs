//! Deployments.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::bench::{Bench, is_ready, pod_spec, restarts};

fn deployment(bench: &Bench, version: &str) -> Value {
    let mut pods = pod_spec(bench, &[]);
    pods["terminationGracePeriodSeconds"] = json!(1);
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "sample"}},
        "spec": {"selector": {"matchLabels": {"app": "sample"}},
            "template": {"metadata": {"labels": {"app": "sample", "version": version}}, "spec": pods}}})
}

#[tokio::test]
async fn a_deployment_keeps_a_pod_of_its_newest_template() {
    let bench = Bench::start().await;
    let _: Deployment = bench.apply(deployment(&bench, "1")).await;
    let first = bench.until_pods(|pods| pods.values().any(is_ready)).await;
    let name = first.keys().next().unwrap().clone();
    bench.cluster.kill_pod("default", &name).await.unwrap();
    bench.until_pods(|pods| restarts(&pods[&name]) == 1 && is_ready(&pods[&name])).await;
    bench.api::<Pod>().delete(&name, &DeleteParams::default()).await.unwrap();
    bench
        .until_pods(|pods| pods.len() == 1 && !pods.contains_key(&name) && pods.values().all(is_ready))
        .await;
    let is_available = |one: &Deployment| {
        let status = one.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let holds = |type_: &str, reason: &str| {
            conditions.iter().any(|one| one.type_ == type_ && one.reason.as_deref() == Some(reason))
        };
        status.available_replicas == Some(1)
            && status.observed_generation == one.metadata.generation
            && holds("Available", "MinimumReplicasAvailable")
            && holds("Progressing", "NewReplicaSetAvailable")
    };
    bench.until("app=sample", |found| found.values().all(is_available)).await;
    let _: Deployment = bench.apply(deployment(&bench, "2")).await;
    bench
        .until_pods(|pods| {
            assert!(pods.values().any(is_ready), "a new pod is ready before the old one goes");
            pods.len() == 1 && pods.values().all(|pod| pod.labels()["version"] == "2")
        })
        .await;
    bench.until("app=sample", |found| found.values().all(is_available)).await;
    bench.api::<Deployment>().delete("web", &DeleteParams::background()).await.unwrap();
    bench.until_pods(|pods| pods.is_empty()).await;
}
