//! What becomes of grids of pods when something fails, and of their upgrades in the midst of which it does.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::time::interval;
use wattle_api_server::Outage;
use wattle_operator::api::Phase;

use super::operated::{OPERATORS, Operated, condition};
use crate::harness::kubernetes::probe;
use crate::harness::wire::eventually;
use crate::harness::writer::{Writer, members};

/// Begins an upgrade, and waits until the first pod is told to stop.
async fn begin_upgrade(grid: &Operated, version: &str) {
    grid.observer.take();
    grid.change(json!({"version": version})).await;
    eventually(async || (grid.observer.taken() > 0).then_some(())).await;
}

async fn lease(grid: &Operated) -> LeaseSpec {
    let leases: Api<Lease> = Api::namespaced(grid.cluster.client.clone(), OPERATORS);
    leases.get("wattle-operator").await.unwrap().spec.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_operator_goes_on_with_an_upgrade() {
    let grid = Operated::start(2).await;
    grid.make(3, json!({})).await;
    let client = grid.client().await;
    let (id, _) = members(&client).await;
    let writer = Writer::start(&client);
    let first = lease(&grid).await.holder_identity.unwrap();
    let operators: BTreeSet<String> = grid.operators().await.iter().map(Pod::name_any).collect();
    let leads = |name: &&String| first.starts_with(name.as_str());
    let leader = operators.iter().find(leads).expect("one of the operators leads").clone();
    assert_eq!(operators.len(), 2);

    begin_upgrade(&grid, "0.2.0").await;
    let renewed = lease(&grid).await.renew_time.unwrap();
    grid.cluster.pods.kill_pod(OPERATORS, &leader).await.unwrap();
    grid.rested(3).await;
    assert_eq!(grid.images().await, ["wattle:0.2.0"; 3]);
    assert_eq!(grid.taken_one_by_one(3), 3);
    let now = lease(&grid).await;
    let second = now.holder_identity.unwrap();
    assert_ne!(second, first);
    let pause = now.acquire_time.unwrap().0.duration_since(renewed.0);
    assert!(pause.as_secs() >= 15, "the other one waits until the lease is over: {pause:?}");

    begin_upgrade(&grid, "0.1.0").await;
    let leader = operators.iter().find(|name| second.starts_with(name.as_str())).unwrap();
    let process = grid.cluster.pods.processes(OPERATORS, leader).await.unwrap();
    grid.cluster.pods.freeze_pod(OPERATORS, leader).await.unwrap();
    grid.rested(3).await;
    assert_eq!(grid.images().await, ["wattle:0.1.0"; 3]);
    grid.cluster.pods.thaw_pod(OPERATORS, leader).await.unwrap();
    let processes = async || grid.cluster.pods.processes(OPERATORS, leader).await.unwrap_or_default();
    eventually(async || (processes().await != process).then_some(())).await;
    assert_ne!(lease(&grid).await.holder_identity.unwrap(), second);
    grid.rested(3).await;
    assert_eq!(grid.taken_one_by_one(3), 3);
    assert_eq!(members(&client).await, (id, 3), "one grid");
    writer.check(&client).await;
}

/// A pod that serves, on a machine where neither the operator is nor another pod.
async fn lonely_pod(grid: &Operated) -> (String, String) {
    let machine = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.clone().unwrap();
    let (pods, operators) = (grid.pods().await, grid.operators().await);
    let taken = grid.observer.seen().taken;
    let is_alone = |pod: &&Pod| {
        let all = pods.iter().chain(&operators);
        all.filter(|other| machine(other) == machine(pod)).count() == 1
            && taken.iter().all(|taken| taken.pod != pod.name_any())
    };
    let found = pods.iter().find(is_alone).expect("there are more machines than pods");
    (found.name_any(), machine(found))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_waits_for_pods_that_crash_and_for_machines_that_fail() {
    let grid = Operated::found(4, json!({})).await;
    let client = grid.client().await;
    let (id, _) = members(&client).await;
    let writer = Writer::start(&client);

    begin_upgrade(&grid, "0.2.0").await;
    let (pod, _) = lonely_pod(&grid).await;
    grid.cluster.kill(&pod).await;
    grid.rested(4).await;
    assert_eq!(grid.images().await, ["wattle:0.2.0"; 4]);
    grid.taken_one_by_one(4);

    begin_upgrade(&grid, "0.1.0").await;
    let (pod, machine) = lonely_pod(&grid).await;
    grid.cluster.pods.fail_node(&machine).await.unwrap();
    let remedy = format!("if it is gone for good, delete Node {machine}");
    let status = grid.until(|now| now.message.contains(&pod) && now.message.contains(&remedy)).await;
    assert_eq!(status.phase, Some(Phase::Upgrading));
    let taken = grid.observer.taken();
    let machines = grid.cluster.api("v1", "Node");
    machines.delete(&machine, &DeleteParams::default()).await.unwrap();
    grid.rested(4).await;
    assert_eq!(grid.images().await, ["wattle:0.1.0"; 4]);
    assert!(taken < grid.taken_one_by_one(4), "it goes on only then");
    assert_eq!(members(&client).await, (id, 4), "one grid");
    writer.check(&client).await;
}

/// A machine, which is a zone of its own here, that so many of the grid's pods run on, with or without the operator.
async fn zone(grid: &Operated, count: usize, with_operator: bool) -> String {
    let machine = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.clone().unwrap();
    let (pods, operators) = (grid.pods().await, grid.operators().await);
    let mut machines = pods.iter().map(machine);
    let is_asked_for = |name: &String| {
        pods.iter().filter(|pod| machine(pod) == *name).count() == count
            && operators.iter().any(|operator| machine(operator) == *name) == with_operator
    };
    machines.find(is_asked_for).expect("five pods are two, two and one on three machines")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_dies_with_two_of_five_pods_and_nothing_is_lost() {
    let grid = Operated::found(5, json!({})).await;
    let client = grid.client().await;
    let (id, count) = members(&client).await;
    assert_eq!(count, 5);

    let gone = zone(&grid, 2, false).await;
    let writer = Writer::start(&client);
    grid.cluster.pods.fail_node(&gone).await.unwrap();
    let status = grid.until(|now| now.ready == 3).await;
    assert_eq!(condition(&status, "Safe"), "False");
    eventually(async || (members(&client).await == (id.clone(), 3)).then_some(())).await;
    // Nothing is asked of those that are gone: what was acknowledged is there, and more is taken.
    writer.check(&client).await;
    let writer = Writer::start(&client);
    grid.until(|now| condition(now, "Available") == "True").await;
    grid.cluster.pods.restore_node(&gone).await.unwrap();
    let before = grid.rested(5).await.members;
    assert_eq!(grid.observer.taken(), 0, "nobody was told to stop");
    writer.check(&client).await;

    // The operator is lost with this one, and nothing of it comes back.
    let gone = zone(&grid, 2, true).await;
    let writer = Writer::start(&client);
    grid.cluster.pods.fail_node(&gone).await.unwrap();
    eventually(async || (members(&client).await == (id.clone(), 3)).then_some(())).await;
    let machines = grid.cluster.api("v1", "Node");
    machines.delete(&gone, &DeleteParams::default()).await.unwrap();
    let elsewhere = async || {
        let pods = grid.pods().await;
        let machine = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.clone();
        (pods.len() == 5 && pods.iter().all(|pod| machine(pod).is_some_and(|name| name != gone)))
            .then_some(())
    };
    eventually(elsewhere).await;
    // Another operator acts only when the lease of the one before is over.
    grid.until(|now| now.members != before).await;
    grid.rested(5).await;
    assert_eq!(members(&client).await, (id, 5), "one grid");
    writer.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_goes_on_when_the_api_server_is_back() {
    let grid = Operated::found(3, json!({})).await;
    let client = grid.client().await;
    let (id, _) = members(&client).await;
    let writer = Writer::start(&client);
    begin_upgrade(&grid, "0.2.0").await;
    let before = grid.observer.taken();
    let first = grid.observer.seen().taken[0].pod.clone();
    let others: Vec<Pod> = grid.pods().await.into_iter().filter(|pod| pod.name_any() != first).collect();
    let host = |pod: &Pod| pod.status.as_ref().unwrap().pod_ip.clone().unwrap();
    let hosts: Vec<String> = others.iter().map(host).collect();

    grid.cluster.server.faults().start_outage(Outage::Refused);
    let until = Instant::now() + Duration::from_secs(30);
    let map = client.raw_map("other");
    let mut turns = 0_u64;
    let mut pace = interval(Duration::from_millis(50));
    while Instant::now() < until {
        map.put("turn", turns.to_string()).await.unwrap();
        for host in &hosts {
            assert!(probe(host, "/readyz").await && probe(host, "/livez").await, "who serves stays ready");
        }
        turns += 1;
        pace.tick().await;
    }
    grid.cluster.server.faults().end_outage();
    grid.rested(3).await;
    assert_eq!((before, grid.taken_one_by_one(3)), (1, 3));
    assert_eq!(grid.images().await, ["wattle:0.2.0"; 3]);
    assert_eq!(members(&client).await, (id, 3), "one grid");
    writer.check(&client).await;
}
