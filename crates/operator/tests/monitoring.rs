//! Grids that Prometheus' operator is told of.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::core::ApiResource;
use serde_json::{Value, json};
use tokio::time::{Instant, interval};
use wattle_operator::api::{Grid, Phase};

use crate::cluster::{Cluster, DEADLINE, TICK, condition};

const DEFINITION: &str = include_str!("../../../deploy/tests/service_monitor.yaml");

pub(crate) async fn install_prometheus_operator(cluster: &Cluster) {
    let kinds: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let definition = serde_saphyr::from_str(DEFINITION).unwrap();
    kinds.create(&PostParams::default(), &definition).await.unwrap();
}

async fn monitors(cluster: &Cluster) -> Vec<DynamicObject> {
    let kind = GroupVersionKind::gvk("monitoring.coreos.com", "v1", "ServiceMonitor");
    let kind = ApiResource::from_gvk(&kind);
    let monitors: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), "default", &kind);
    monitors.list(&ListParams::default()).await.unwrap().items
}

/// Waits until the grid runs as it is specified now, and says this of its ServiceMonitor.
async fn told(cluster: &Cluster, expected: (&str, &str)) -> Grid {
    cluster
        .until::<Grid>("g", |grid| {
            let status = grid.status.clone().unwrap_or_default();
            let (holds, reason, _) = condition(&status.conditions, "Monitored");
            let is_newest = status.observed_generation == grid.metadata.generation;
            is_newest && (holds, reason) == expected && status.phase == Some(Phase::Running)
        })
        .await
}

#[tokio::test]
async fn a_cluster_without_prometheus_operator_runs_grids_and_gets_their_monitors_when_it_has_it() {
    let cluster = Cluster::start().await;
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": {"size": 1}})).await;
    told(&cluster, ("", "")).await;
    let monitor = |fields: Value| json!({"monitoring": {"serviceMonitor": fields}});
    let mut spec = monitor(json!({"enabled": true, "labels": {"release": "prometheus"}}));
    spec["size"] = json!(1);
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": spec})).await;
    let grid = told(&cluster, ("False", "NoSuchKind")).await;
    let conditions = grid.status.unwrap().conditions;
    let message = condition(&conditions, "Monitored").2;
    assert!(
        message.starts_with("the cluster has no kind ServiceMonitor of monitoring.coreos.com/v1"),
        "{message}"
    );
    install_prometheus_operator(&cluster).await;
    cluster.change::<Grid>("g", monitor(json!({"interval": "15s"}))).await;
    told(&cluster, ("True", "ServiceMonitorMade")).await;
    let made = monitors(&cluster).await;
    assert_eq!(made[0].data["spec"]["endpoints"][0]["interval"], "15s");
    assert_eq!(made[0].metadata.labels.as_ref().unwrap()["release"], "prometheus");
    cluster.change::<Grid>("g", monitor(json!({"enabled": false}))).await;
    told(&cluster, ("", "")).await;
    assert_eq!(monitors(&cluster).await, []);
}

#[tokio::test]
async fn a_monitor_of_somebody_else_is_left_alone_and_one_s_own_goes_with_the_grid() {
    let cluster = Cluster::start().await;
    install_prometheus_operator(&cluster).await;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("monitoring.coreos.com", "v1", "ServiceMonitor"));
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), "default", &kind);
    let other = json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "g"},
        "spec": {"endpoints": [], "selector": {}},
    });
    let other: DynamicObject = serde_json::from_value(other).unwrap();
    api.create(&PostParams::default(), &other).await.unwrap();
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": {"size": 1}})).await;
    told(&cluster, ("", "")).await;
    assert_eq!(monitors(&cluster).await.len(), 1);
    cluster.change::<Grid>("g", json!({"monitoring": {"serviceMonitor": {"enabled": true}}})).await;
    told(&cluster, ("False", "NameTaken")).await;
    api.delete("g", &Default::default()).await.unwrap();
    cluster.change::<Grid>("g", json!({"monitoring": {"serviceMonitor": {"interval": "1m"}}})).await;
    told(&cluster, ("True", "ServiceMonitorMade")).await;
    cluster.api::<Grid>().delete("g", &Default::default()).await.unwrap();
    cluster.until_gone::<Grid>("g").await;
    let (mut ticks, started) = (interval(TICK), Instant::now());
    while !monitors(&cluster).await.is_empty() {
        ticks.tick().await;
        assert!(started.elapsed() < DEADLINE, "the ServiceMonitor stays");
    }
}
