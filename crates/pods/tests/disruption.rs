//! Budgets of disruption, and evictions.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::EvictParams;
use serde_json::json;

use crate::bench::{Bench, is_ready, set};

async fn until_allowed(bench: &Bench, allowed: i32) {
    let is_so = |budget: &PodDisruptionBudget| {
        let status = budget.status.clone().unwrap_or_default();
        status.disruptions_allowed == allowed && status.observed_generation == budget.metadata.generation
    };
    bench.until("app=sample", |budgets| budgets.values().any(is_so)).await;
}

#[tokio::test]
async fn pods_are_evicted_one_after_the_other() {
    let bench = Bench::start().await;
    let _: StatefulSet = bench.apply(set(&bench, 2, "Parallel")).await;
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "labels": {"app": "sample"}},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "sample"}}}});
    let _: PodDisruptionBudget = bench.apply(budget).await;
    let before = bench.until_pods(|pods| pods.len() == 2 && pods.values().all(is_ready)).await;
    until_allowed(&bench, 1).await;
    let pods = bench.api::<Pod>();
    bench.set_ready("web-0", false);
    pods.evict("web-0", &EvictParams::default()).await.unwrap();
    until_allowed(&bench, 0).await;
    let refused = pods.evict("web-1", &EvictParams::default()).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 429));
    let is_back = |pods: &std::collections::BTreeMap<String, Pod>| {
        pods.get("web-0").is_some_and(|pod| pod.uid() != before["web-0"].uid())
    };
    bench.until_pods(is_back).await;
    bench.set_ready("web-0", true);
    until_allowed(&bench, 1).await;
    pods.evict("web-1", &EvictParams::default()).await.unwrap();
}
