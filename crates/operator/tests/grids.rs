//! Grids from their founding to their end.

use std::net::SocketAddr;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use serde_json::json;
use wattle_api_server::AnsweredRequest;
use wattle_operator::api::{Grid, GridMap, Phase};

use crate::cluster::{BAD_VERSION, Cluster, condition};

async fn found(size: u32) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": {"size": size}})).await;
    rested(&cluster, size).await;
    cluster
}

/// Waits until the grid is as it should be, with so many pods.
async fn rested(cluster: &Cluster, size: u32) -> Grid {
    let size = i32::try_from(size).unwrap();
    cluster
        .until::<Grid>("g", |grid| {
            let Some(status) = &grid.status else { return false };
            let is_new = status.observed_generation == grid.metadata.generation;
            is_new && (status.size, status.ready, status.phase) == (size, size, Some(Phase::Running))
        })
        .await
}

fn status(grid: &Grid) -> &wattle_operator::api::GridStatus {
    grid.status.as_ref().unwrap()
}

fn images(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap()).collect()
}

async fn reasons(cluster: &Cluster) -> Vec<String> {
    let events = cluster.api::<Event>().list(&ListParams::default()).await.unwrap();
    events.iter().filter_map(|event| event.reason.clone()).collect()
}

#[tokio::test]
async fn a_grid_is_founded_with_all_its_objects() {
    let cluster = found(3).await;
    let grid = rested(&cluster, 3).await;
    let told = status(&grid);
    assert_eq!((told.version.as_str(), told.grid_id.as_str()), ("0.1.0", "ab".repeat(16).as_str()));
    assert_eq!(
        told.members.iter().map(|member| member.pod.as_str()).collect::<Vec<_>>(),
        ["g-0", "g-1", "g-2"]
    );
    for (kind, expected) in [
        ("Ready", "True"),
        ("Available", "True"),
        ("Safe", "True"),
        ("Progressing", "False"),
        ("Degraded", "False"),
    ] {
        assert_eq!(condition(&told.conditions, kind).0, expected, "{kind}: {:?}", told.conditions);
    }
    assert!(cluster.api::<Service>().get("g").await.is_ok());
    assert!(cluster.api::<Service>().get("g-nodes").await.is_ok());
    assert!(cluster.api::<PodDisruptionBudget>().get("g").await.is_ok());
    let config = cluster.api::<ConfigMap>().get("g-config").await.unwrap();
    assert_eq!(config.data.unwrap()["config.toml"], "bootstrap_expect = 3\n");
    let secret = cluster.api::<Secret>().get("g-secret").await.unwrap();
    assert_eq!(secret.data.as_ref().unwrap()["secret"].0.len(), 64);
    assert_eq!(secret.annotations()["wattle.dev/grid-uid"], grid.metadata.uid.clone().unwrap());
    assert!(reasons(&cluster).await.contains(&"Founded".to_owned()));
}

#[tokio::test]
async fn a_size_that_there_is_no_room_for_can_be_changed_before_the_grid_is_founded() {
    let cluster = Cluster::start().await;
    cluster.script.lock().room = Some(2);
    let spec = json!({"size": 3, "arbiter": {"policy": "Never"}});
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": spec})).await;
    let is_stuck = |grid: &Grid| {
        let told = grid.status.clone().unwrap_or_default();
        let is_told = told.message.starts_with("waiting: the pods have yet to found the grid; g-");
        told.size == 3 && is_told && told.message.ends_with(": ImagePullBackOff")
    };
    cluster.until::<Grid>("g", is_stuck).await;
    cluster.change::<Grid>("g", json!({"size": 2})).await;
    rested(&cluster, 2).await;
    // What is there by then is not made anew for a number that counts no more.
    cluster.script.lock().room = None;
    let pods = |pods: Vec<Pod>| pods.into_iter().map(|pod| pod.metadata.uid.unwrap()).collect::<Vec<_>>();
    let before = pods(cluster.pods().await);
    cluster.change::<Grid>("g", json!({"size": 3})).await;
    rested(&cluster, 3).await;
    assert_eq!(pods(cluster.pods().await)[..2], before);
}

#[tokio::test]
async fn what_somebody_has_changed_is_put_right_and_the_secret_is_kept() {
    let cluster = found(1).await;
    let before = cluster.api::<Secret>().get("g-secret").await.unwrap();
    let wrong = Patch::Merge(json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}));
    cluster.api::<StatefulSet>().patch("g", &PatchParams::default(), &wrong).await.unwrap();
    cluster
        .until::<StatefulSet>("g", |set| {
            let pod = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).unwrap();
            pod.termination_grace_period_seconds == Some(150)
        })
        .await;
    let after = cluster.api::<Secret>().get("g-secret").await.unwrap();
    assert_eq!((before.data, before.metadata.uid), (after.data, after.metadata.uid));
}

#[tokio::test]
async fn a_grid_grows_and_shrinks_only_while_it_is_safe() {
    let cluster = found(3).await;
    cluster.script.lock().unsafe_because = Some("partition 7 has 1 of 2 copies".to_owned());
    cluster.change::<Grid>("g", json!({"size": 4})).await;
    let waiting = cluster.until::<Grid>("g", |grid| status(grid).phase == Some(Phase::Scaling)).await;
    let told = status(&waiting);
    assert_eq!(condition(&told.conditions, "Safe"), ("False", "NotSafe", "partition 7 has 1 of 2 copies"));
    assert_eq!(condition(&told.conditions, "Progressing").0, "True");
    assert_eq!((told.size, told.message.contains("partition 7")), (3, true), "{}", told.message);
    cluster.script.lock().unsafe_because = None;
    rested(&cluster, 4).await;
    cluster.change::<Grid>("g", json!({"size": 3})).await;
    rested(&cluster, 3).await;
    assert_eq!(cluster.script.lock().members(), 3);
}

#[tokio::test]
async fn a_class_with_more_copies_than_nodes_is_served_and_said() {
    let cluster = found(1).await;
    let fit = |grid: &Grid| {
        let (holds, reason, message) = condition(&status(grid).conditions, "ClassesFit");
        (holds == "True", reason.to_owned(), message.to_owned())
    };
    assert!(fit(&rested(&cluster, 1).await).0);
    let classes = json!([{"name": "gold", "backups": 2}, {"name": "fast", "backups": 0}]);
    cluster.change::<Grid>("g", json!({"classes": classes})).await;
    let what = "class gold has 3 copies, and the grid's size is 1: its maps have fewer copies".to_owned();
    assert_eq!(fit(&rested(&cluster, 1).await), (false, "TooFewNodes".to_owned(), what));
    assert!(reasons(&cluster).await.contains(&"TooFewNodes".to_owned()));
    cluster.change::<Grid>("g", json!({"size": 3})).await;
    assert!(fit(&rested(&cluster, 3).await).0);
}

#[tokio::test]
async fn the_scale_subresource_sizes_a_grid() {
    let cluster = found(1).await;
    let three = Patch::Merge(json!({"spec": {"replicas": 3}}));
    cluster.api::<Grid>().patch_scale("g", &PatchParams::default(), &three).await.unwrap();
    rested(&cluster, 3).await;
    let scale = cluster.api::<Grid>().get_scale("g").await.unwrap().status.unwrap();
    assert_eq!(scale.replicas, 3);
    assert_eq!(
        scale.selector.unwrap(),
        "app.kubernetes.io/name=wattle,app.kubernetes.io/instance=g,app.kubernetes.io/component=node"
    );
}

#[tokio::test]
async fn with_two_nodes_there_is_an_arbiter_and_with_others_there_is_none() {
    let cluster = found(3).await;
    cluster.change::<Grid>("g", json!({"size": 2})).await;
    let grid = rested(&cluster, 2).await;
    assert_eq!(status(&grid).members.iter().filter(|member| member.votes).count(), 3);
    assert!(cluster.api::<Pod>().get("g-arbiter-0").await.is_ok());
    cluster.change::<Grid>("g", json!({"size": 1})).await;
    rested(&cluster, 1).await;
    cluster.until_gone::<Pod>("g-arbiter-0").await;
    assert_eq!(cluster.script.lock().members(), 1);
}

#[tokio::test]
async fn an_upgrade_goes_through_pod_by_pod_and_can_be_paused() {
    let cluster = found(3).await;
    cluster.change::<Grid>("g", json!({"version": "0.2.0", "upgrade": {"paused": true}})).await;
    let paused = cluster.until::<Grid>("g", |grid| status(grid).phase == Some(Phase::Paused)).await;
    assert_eq!(status(&paused).message, "waiting: the upgrade is paused; 0 of 3 pods are upgraded");
    assert_eq!(images(&cluster.pods().await), ["wattle:0.1.0"; 3]);
    cluster.change::<Grid>("g", json!({"upgrade": {"paused": false}})).await;
    let grid = rested(&cluster, 3).await;
    assert_eq!(images(&cluster.pods().await), ["wattle:0.2.0"; 3]);
    assert_eq!(status(&grid).version, "0.2.0");
}

#[tokio::test]
async fn a_bad_upgrade_stops_at_the_first_pod_and_is_taken_back() {
    let cluster = found(3).await;
    cluster.change::<Grid>("g", json!({"version": BAD_VERSION})).await;
    let stuck = cluster.until::<Grid>("g", |grid| status(grid).message.contains("g-2 is not ready")).await;
    assert_eq!((status(&stuck).ready, status(&stuck).phase), (2, Some(Phase::Upgrading)));
    assert_eq!(images(&cluster.pods().await), ["wattle:0.1.0", "wattle:0.1.0", "wattle:bad"]);
    // Also while the others miss their third node.
    cluster.script.lock().unsafe_because = Some("g-2 is missing".to_owned());
    cluster.change::<Grid>("g", json!({"version": "0.1.0"})).await;
    cluster.until::<Pod>("g-2", |pod| images(std::slice::from_ref(pod)) == ["wattle:0.1.0"]).await;
    cluster.script.lock().unsafe_because = None;
    rested(&cluster, 3).await;
    assert_eq!(images(&cluster.pods().await), ["wattle:0.1.0"; 3]);
}

#[tokio::test]
async fn a_change_of_settings_rolls_through_the_pods_and_one_of_the_size_does_not() {
    let cluster = found(2).await;
    let pods = |pods: Vec<Pod>| pods.into_iter().map(|pod| pod.metadata.uid.unwrap()).collect::<Vec<_>>();
    let before = pods(cluster.pods().await);
    cluster.change::<Grid>("g", json!({"arbiter": {"policy": "Never"}, "size": 3})).await;
    rested(&cluster, 3).await;
    let grown = pods(cluster.pods().await);
    assert!(before.iter().filter(|uid| grown.contains(uid)).count() >= 2, "{before:?} {grown:?}");
    cluster.change::<Grid>("g", json!({"settings": {"memoryBytes": 2_000_000}})).await;
    rested(&cluster, 3).await;
    let changed = pods(cluster.pods().await);
    assert!(grown.iter().all(|uid| !changed.contains(uid)), "{grown:?} {changed:?}");
}

#[tokio::test]
async fn who_is_cut_off_from_the_others_is_not_asked_how_they_are() {
    let cluster = found(3).await;
    {
        let mut script = cluster.script.lock();
        script.cut_off = script.status().members[0].address.parse::<SocketAddr>().ok().map(|at| at.ip());
    }
    cluster.change::<Grid>("g", json!({"size": 4})).await;
    rested(&cluster, 4).await;
    cluster.make::<GridMap>(json!({"metadata": {"name": "m"}, "spec": {"grid": "g"}})).await;
    let is_ready = |map: &GridMap| {
        map.status.as_ref().is_some_and(|told| condition(&told.conditions, "Ready").0 == "True")
    };
    cluster.until::<GridMap>("m", is_ready).await;
}

#[tokio::test]
async fn a_member_that_has_died_for_good_is_forgotten() {
    let cluster = found(3).await;
    {
        let mut script = cluster.script.lock();
        let address = script.status().members[1].address.parse::<SocketAddr>().unwrap().ip();
        script.crash(address);
        // Its container starts again, and is another node.
        script.join(address, false, "0.1.0");
    }
    cluster.until::<Grid>("g", |grid| status(grid).members.iter().any(|member| member.node == 4)).await;
    let started = cluster.until::<Grid>("g", |grid| status(grid).members.len() == 3).await;
    assert!(status(&started).members.iter().all(|member| member.answers));
    assert!(cluster.script.lock().dead.is_empty());
}

#[tokio::test]
async fn a_grid_with_entries_is_not_deleted_unless_its_owner_says_so() {
    let cluster = found(1).await;
    {
        let mut script = cluster.script.lock();
        script.maps.insert(
            "flights".to_owned(),
            wattle_proto::v1::Map { name: "flights".into(), ..Default::default() },
        );
        script.entries.insert("flights".to_owned(), 842);
    }
    // Whose dependents would be deleted while it waits.
    cluster.api::<Grid>().delete("g", &DeleteParams::foreground()).await.unwrap();
    let refused = cluster.until::<Grid>("g", |grid| status(grid).phase == Some(Phase::Deleting)).await;
    assert!(
        status(&refused).message.contains("map flights holds 842 entries"),
        "{}",
        status(&refused).message
    );
    assert!(reasons(&cluster).await.contains(&"DeletionRefused".to_owned()));
    for kind in ["Ready", "Degraded"] {
        assert_eq!(condition(&status(&refused).conditions, kind).1, "DeletionRefused");
    }
    // How it is meanwhile is told, too.
    cluster.script.lock().unsafe_because = Some("partition 7 has one copy".to_owned());
    let is_told = |grid: &Grid| condition(&status(grid).conditions, "Safe").2 == "partition 7 has one copy";
    cluster.until::<Grid>("g", is_told).await;
    let set = cluster.api::<StatefulSet>().get("g").await.unwrap();
    assert_eq!((set.metadata.deletion_timestamp, set.metadata.owner_references), (None, None));
    assert!(cluster.api::<Pod>().get("g-0").await.unwrap().metadata.deletion_timestamp.is_none());
    assert!(cluster.api::<Secret>().get("g-secret").await.is_ok());
    cluster.change::<Grid>("g", json!({"deletionPolicy": "Delete"})).await;
    cluster.until_gone::<Grid>("g").await;
    cluster.until_gone::<StatefulSet>("g").await;
    cluster.until_gone::<Secret>("g-secret").await;
}

/// What its objects refer to is not decided when the collector looks.
#[tokio::test]
async fn who_orphans_what_a_grid_has_has_it_deleted_all_the_same() {
    let cluster = found(1).await;
    let orphan =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    cluster.api::<Grid>().delete("g", &orphan).await.unwrap();
    cluster.until_gone::<Grid>("g").await;
    cluster.until_gone::<StatefulSet>("g").await;
    cluster.until_gone::<Secret>("g-secret").await;
    cluster.until_gone::<ConfigMap>("g-config").await;
}

#[tokio::test]
async fn an_empty_grid_goes_with_all_its_objects() {
    let cluster = found(1).await;
    // Who has asked for something that is refused may delete it as well as anybody.
    cluster.change::<Grid>("g", json!({"pods": {"tolerations": [{"operator": 5}]}})).await;
    let is_refused = |grid: &Grid| status(grid).message.contains("tolerations");
    cluster.until::<Grid>("g", is_refused).await;
    cluster.api::<Grid>().delete("g", &DeleteParams::default()).await.unwrap();
    cluster.until_gone::<Grid>("g").await;
    cluster.until_gone::<StatefulSet>("g").await;
    cluster.until_gone::<Service>("g-nodes").await;
    cluster.until_gone::<ConfigMap>("g-config").await;
}

/// What is said of a grid is a change of its object, and counts differ all the time.
#[tokio::test]
async fn nobody_looks_again_for_what_is_said() {
    let cluster = found(1).await;
    {
        let mut script = cluster.script.lock();
        let flights = wattle_proto::v1::Map { name: "flights".into(), ..Default::default() };
        script.maps.insert("flights".to_owned(), flights);
        script.entries.insert("flights".to_owned(), 1);
        script.entries_grow = true;
    }
    cluster.api::<Grid>().delete("g", &DeleteParams::default()).await.unwrap();
    let is_told = |request: &AnsweredRequest| request.path.contains("/grids/g/status");
    cluster.until::<Grid>("g", |grid| status(grid).phase == Some(Phase::Deleting)).await;
    let before = cluster.asked(is_told);
    // Another grid is founded meanwhile.
    let other = json!({"metadata": {"name": "h"}, "spec": {"size": 1}});
    cluster.make::<Grid>(other).await;
    cluster
        .until::<Grid>("h", |grid| grid.status.as_ref().is_some_and(|told| !told.grid_id.is_empty()))
        .await;
    let asked = cluster.asked(is_told) - before;
    assert!(asked <= 1, "it was told {asked} times");
    let events = cluster.api::<Event>().list(&ListParams::default()).await.unwrap();
    let refusals = events.iter().filter(|event| event.reason.as_deref() == Some("DeletionRefused"));
    assert_eq!(refusals.count(), 1);
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone() {
    let cluster = Cluster::start().await;
    let taken = json!({"metadata": {"name": "g-config"}, "data": {"a": "b"}});
    let taken: ConfigMap = serde_json::from_value(taken).unwrap();
    cluster.api::<ConfigMap>().create(&PostParams::default(), &taken).await.unwrap();
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": {"size": 1}})).await;
    let failing = cluster.until::<Grid>("g", |grid| {
        grid.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Failing))
    });
    let failing = failing.await;
    let (holds, reason, message) = condition(&status(&failing).conditions, "Degraded");
    assert_eq!((holds, reason), ("True", "NameTaken"));
    assert!(message.starts_with("ConfigMap g-config is there and does not belong to this Grid"), "{message}");
    let kept = cluster.api::<ConfigMap>().get("g-config").await.unwrap();
    assert_eq!(kept.data.unwrap()["a"], "b");
    cluster.api::<ConfigMap>().delete("g-config", &DeleteParams::default()).await.unwrap();
    rested(&cluster, 1).await;
}
