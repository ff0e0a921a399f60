//! Grids as people ask for them: founded, scaled, with maps and functions, deleted.

use std::cell::RefCell;

use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::time::timeout;
use wattle_operator::api::Phase;

use super::observer::Taken;
use super::operated::{GRID, Operated, condition};
use crate::harness::examples::example;
use crate::harness::wire::{PATIENCE, eventually};
use crate::harness::writer::{Writer, members};

/// All that the operator makes for a grid, and what follows from it.
const OBJECTS: [(&str, &str); 12] = [
    ("apps/v1", "StatefulSet"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "PersistentVolumeClaim"),
];

/// A map `counts` and a function `add`, whose module is in a ConfigMap.
async fn make_map_and_function(grid: &Operated) {
    grid.make_modules(&[("counter", &example("counter"))]).await;
    grid.apply("GridMap", "counts", &json!({"grid": "g"})).await;
    let source = json!({"configMap": {"name": "modules", "key": "counter"}});
    grid.apply("GridFunction", "add", &json!({"grid": "g", "source": source, "export": "add"})).await;
}

/// Waits until an object is gone with its finalizers, and a namespace with all that is in it.
async fn delete(api: &Api<DynamicObject>, name: &str) {
    api.delete(name, &DeleteParams::default()).await.unwrap();
    eventually(async || api.get_opt(name).await.unwrap().is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_of_pods_is_founded_scaled_and_deleted() {
    let grid = Operated::found(3, json!({})).await;
    make_map_and_function(&grid).await;
    let client = grid.client().await;
    let (id, _) = members(&client).await;
    let writer = Writer::start(&client);
    grid.told("GridMap", "counts", "AsSpecified").await;
    let (status, _) = grid.told("GridFunction", "add", "Loaded").await;
    assert_eq!(status["loaded"], "3/3");
    let map = client.raw_map("counts");
    assert_eq!(map.invoke("add", "visits", "2").await.unwrap().response, "2");

    let five = Patch::Merge(json!({"spec": {"replicas": 5}}));
    grid.grids().patch_scale("g", &PatchParams::default(), &five).await.unwrap();
    let status = grid.rested(5).await;
    assert_eq!(status.members.iter().filter(|member| member.votes).count(), 5);
    let loaded = async || grid.told("GridFunction", "add", "Loaded").await.0["loaded"].clone();
    eventually(async || (loaded().await == "5/5").then_some(())).await;
    grid.change(json!({"size": 3})).await;
    grid.rested(3).await;
    let seen = grid.observer.seen();
    let others = |number: usize| (0..number).map(|at| format!("g-{at}")).collect::<Vec<_>>();
    let taken = [4, 3].map(|at| Taken { pod: format!("g-{at}"), serving: others(at) });
    assert_eq!(seen.taken, taken);
    let then =
        [Phase::Founding, Phase::Running, Phase::Scaling, Phase::Running, Phase::Scaling, Phase::Running];
    assert_eq!(seen.phases, then);
    assert_eq!(map.invoke("add", "visits", "").await.unwrap().response, "3");
    assert_eq!(members(&client).await, (id, 3), "one grid");
    writer.check(&client).await;

    grid.grids().delete("g", &DeleteParams::default()).await.unwrap();
    let refused = grid.until(|status| status.phase == Some(Phase::Deleting)).await;
    assert!(refused.message.starts_with("deletion refused: map "), "{}", refused.message);
    assert_eq!(condition(&refused, "Degraded"), "True");
    let events = grid.cluster.api("events.k8s.io/v1", "Event").list(&ListParams::default()).await.unwrap();
    assert!(events.iter().any(|event| event.data["reason"] == "DeletionRefused"));
    assert_eq!(map.invoke("add", "visits", "").await.unwrap().response, "4");
    assert_eq!(grid.observer.taken(), 2, "the grid serves on");
    grid.change(json!({"deletionPolicy": "Delete"})).await;
    eventually(async || grid.grids().get_opt("g").await.unwrap().is_none().then_some(())).await;
    delete(&grid.cluster.api(GRID, "GridMap"), "counts").await;
    delete(&grid.cluster.api(GRID, "GridFunction"), "add").await;
    for (version, kind) in OBJECTS {
        nothing_is_left(&grid, version, kind).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_goes_with_its_namespace_whatever_it_holds() {
    let grid = Operated::found(1, json!({})).await;
    make_map_and_function(&grid).await;
    grid.told("GridMap", "counts", "AsSpecified").await;
    grid.client().await.raw_map("counts").put("visits", "1").await.unwrap();
    grid.grids().delete("g", &DeleteParams::default()).await.unwrap();
    let refused = grid.until(|status| status.phase == Some(Phase::Deleting)).await;
    assert!(refused.message.starts_with("deletion refused: map "), "{}", refused.message);
    delete(&grid.cluster.api("v1", "Namespace"), grid.cluster.namespace).await;
}

async fn nothing_is_left(grid: &Operated, version: &str, kind: &str) {
    let is_ours = |object: &&DynamicObject| object.name_any().starts_with('g');
    let api = grid.cluster.api(version, kind);
    let left = RefCell::new(Vec::new());
    let gone = eventually(async || {
        let found = api.list(&ListParams::default()).await.unwrap();
        *left.borrow_mut() = found.iter().filter(is_ours).cloned().collect();
        left.borrow().is_empty().then_some(())
    });
    let gone = timeout(PATIENCE / 2, gone).await;
    assert!(gone.is_ok(), "{:?}", left.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_of_pods_shrinks_to_one_is_upgraded_and_grows_again() {
    let grid = Operated::found(3, json!({})).await;
    let client = grid.client().await;
    let (id, _) = members(&client).await;
    let writer = Writer::start(&client);
    let votes = |status: &wattle_operator::api::GridStatus| {
        status.members.iter().filter(|member| member.votes).count()
    };

    grid.change(json!({"size": 2})).await;
    let status = grid.rested(2).await;
    assert_eq!((status.members.len(), votes(&status)), (3, 3));
    assert!(status.members.iter().any(|member| member.arbiter && member.pod == "g-arbiter-0"));
    let serving = ["g-0", "g-1", "g-arbiter-0"].map(str::to_owned).to_vec();
    assert_eq!(grid.observer.take().taken, [Taken { pod: "g-2".to_owned(), serving }]);
    grid.change(json!({"version": "0.2.0"})).await;
    grid.rested(2).await;
    let taken = grid.observer.take().taken;
    assert!(taken.len() == 3 && taken.iter().all(|taken| taken.serving.len() == 2), "{taken:?}");

    grid.change(json!({"size": 1})).await;
    let status = grid.rested(1).await;
    assert_eq!((status.members.len(), votes(&status), status.members[0].arbiter), (1, 1, false));
    assert_eq!(grid.pods().await.len(), 1, "the arbiter has gone");
    grid.observer.take();
    grid.change(json!({"version": "0.1.0"})).await;
    grid.rested(1).await;
    let taken = grid.observer.take().taken;
    let expected = [("g-0", "g-1"), ("g-1", "g-0")];
    let expected = expected.map(|(pod, other)| Taken { pod: pod.into(), serving: vec![other.into()] });
    assert_eq!(taken, expected, "another one takes what it holds, and gives it back");

    grid.change(json!({"size": 3})).await;
    let status = grid.rested(3).await;
    assert_eq!((status.members.len(), votes(&status)), (3, 3));
    let phases = grid.observer.seen().phases;
    assert!(!phases.contains(&Phase::Waiting) && !phases.contains(&Phase::Failing), "{phases:?}");
    assert_eq!(members(&client).await, (id, 3), "one grid");
    writer.check(&client).await;
}
