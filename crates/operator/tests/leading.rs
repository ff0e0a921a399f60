//! Two operators at once.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;
use wattle_api_server::AnsweredRequest;
use wattle_operator::api::Grid;

use crate::cluster::{Cluster, client_named};

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

/// An operator that may say who leads and see which grids there are, and nothing else.
async fn start_second(cluster: &mut Cluster, lease: Duration) {
    let rules = json!([
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]},
        {"apiGroups": ["wattle.dev"], "resources": ["grids", "gridmaps", "gridfunctions"], "verbs": ["list"]},
    ]);
    cluster.grant(("default", "second"), "candidate", rules).await;
    let token = cluster.server.service_account_token("default", "second", None);
    let client = client_named(&cluster.server, &token, "second").await;
    cluster.operate(client, "second", lease);
}

#[tokio::test]
async fn of_two_operators_one_acts_and_the_other_one_takes_over() {
    let mut cluster = Cluster::without_operator().await;
    let lease = Duration::from_secs(5);
    let first = cluster.operate(cluster.client.clone(), "first", lease);
    cluster.until::<Lease>("wattle-operator", |lease| holder(lease) == Some("first")).await;
    start_second(&mut cluster, lease).await;
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": {"size": 1}})).await;
    let is_running = |grid: &Grid| grid.status.as_ref().is_some_and(|status| status.ready == 1);
    cluster.until::<Grid>("g", is_running).await;
    // With the grid before it, the second one has looked who leads.
    let looked = |request: &AnsweredRequest| {
        request.user_agent == "second" && request.path.ends_with("/leases/wattle-operator")
    };
    cluster.until_asked_again(2, looked).await;
    assert_eq!(cluster.denied(), Vec::<String>::new(), "the second one has acted");
    let lease = cluster.until::<Lease>("wattle-operator", |_| true).await;
    assert_eq!(holder(&lease), Some("first"));
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    cluster.grant(("default", "second"), "operator", everything).await;
    cluster.kill(first);
    cluster.until::<Lease>("wattle-operator", |lease| holder(lease) == Some("second")).await;
    let lease = cluster.until::<Lease>("wattle-operator", |_| true).await;
    assert!(lease.spec.unwrap().lease_transitions > Some(1));
    cluster.change::<Grid>("g", json!({"settings": {"memoryBytes": 2_000_000}})).await;
    let changed = |set: &StatefulSet| set.metadata.generation > Some(1);
    cluster.until::<StatefulSet>("g", changed).await;
}
