//! Two operators at once.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;
use wattle_operator::api::Grid;

use crate::cluster::Cluster;

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

#[tokio::test]
async fn of_two_operators_one_acts_and_the_other_one_takes_over() {
    let mut cluster = Cluster::without_operator().await;
    let lease = Duration::from_secs(5);
    let first = cluster.operate(cluster.client.clone(), "first", lease);
    cluster.until::<Lease>("wattle-operator", |lease| holder(lease) == Some("first")).await;
    cluster.operate(cluster.client.clone(), "second", lease);
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": {"size": 1}})).await;
    let is_running = |grid: &Grid| grid.status.as_ref().is_some_and(|status| status.ready == 1);
    cluster.until::<Grid>("g", is_running).await;
    let lease = cluster.until::<Lease>("wattle-operator", |_| true).await;
    assert_eq!(holder(&lease), Some("first"));
    let asked = cluster.server.requests();
    assert!(asked.iter().any(|request| request.path.ends_with("/grids/g/status")), "somebody acts");
    cluster.kill(first);
    cluster.until::<Lease>("wattle-operator", |lease| holder(lease) == Some("second")).await;
    let lease = cluster.until::<Lease>("wattle-operator", |_| true).await;
    assert!(lease.spec.unwrap().lease_transitions > Some(1));
    cluster.change::<Grid>("g", json!({"settings": {"memoryBytes": 2_000_000}})).await;
    let changed = |set: &StatefulSet| set.metadata.generation > Some(1);
    cluster.until::<StatefulSet>("g", changed).await;
}
