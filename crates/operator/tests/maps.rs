//! Maps of a grid.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use wattle_operator::api::{Grid, GridMap};
use wattle_proto::v1;

use crate::cluster::{Cluster, condition};

async fn with_grid() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": {"size": 1}})).await;
    cluster
}

#[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
fn map(name: &str, spec: Value) -> Value {
    let mut map = json!({"metadata": {"name": name}, "spec": {"grid": "g"}});
    for (key, value) in spec.as_object().unwrap() {
        map["spec"][key] = value.clone();
    }
    map
}

/// Waits until the map says this.
async fn told(cluster: &Cluster, name: &str, status: &str, reason: &str) -> GridMap {
    cluster
        .until::<GridMap>(name, |map| {
            let Some(told) = &map.status else { return false };
            let (found, why, _) = condition(&told.conditions, "Ready");
            told.observed_generation == map.metadata.generation && (found, why) == (status, reason)
        })
        .await
}

fn in_grid(cluster: &Cluster, name: &str) -> Option<v1::MapOptions> {
    cluster.script.lock().maps.get(name).and_then(|map| map.options)
}

#[tokio::test]
async fn a_map_is_made_and_changed_while_it_is_used() {
    let cluster = with_grid().await;
    let spec = json!({"contentType": "Json", "ttl": "1h30m", "backups": 1, "name": "Flights_2013"});
    cluster.make::<GridMap>(map("flights", spec)).await;
    let made = told(&cluster, "flights", "True", "AsSpecified").await;
    let status = made.status.unwrap();
    assert_eq!((status.name.as_str(), status.id, status.revision), ("Flights_2013", Some(1), Some(1)));
    let options = in_grid(&cluster, "Flights_2013").unwrap();
    assert_eq!(options.ttl.unwrap().seconds, 5400);
    assert_eq!(options.replication.unwrap(), v1::Replication { backups: 1, min_in_sync: 1 });
    cluster.change::<GridMap>("flights", json!({"ttl": null, "maxBytes": 1000, "eviction": "Lru"})).await;
    told(&cluster, "flights", "True", "AsSpecified").await;
    let options = in_grid(&cluster, "Flights_2013").unwrap();
    assert_eq!(
        (options.ttl.unwrap().seconds, options.max_bytes, options.eviction()),
        (0, 1000, v1::EvictionPolicy::Lru)
    );
}

#[tokio::test]
async fn a_map_is_of_a_class_of_its_grid_for_life() {
    let cluster = with_grid().await;
    cluster.make::<GridMap>(map("m", json!({"class": "gold"}))).await;
    let waiting = told(&cluster, "m", "False", "ClassNotFound").await;
    let conditions = waiting.status.unwrap().conditions;
    assert_eq!(condition(&conditions, "Ready").2, "Grid g has no class gold; it has standard, durable");
    assert_eq!(in_grid(&cluster, "m"), None);
    let gold = |backups| json!({"classes": [{"name": "gold", "backups": backups}]});
    cluster.change::<Grid>("g", gold(2)).await;
    let made = told(&cluster, "m", "False", "TooFewNodes").await;
    let conditions = made.status.unwrap().conditions;
    assert_eq!(
        condition(&conditions, "Ready").2,
        "of its 3 copies the grid's size of 1 allows 1, and no entry is read or written while fewer \
         than 2 copies are in sync"
    );
    assert_eq!(
        in_grid(&cluster, "m").unwrap().replication.unwrap(),
        v1::Replication { backups: 2, min_in_sync: 2 }
    );
    // The map is in the class of two backups. That the name stands for another one now does not move it.
    cluster.change::<Grid>("g", gold(3)).await;
    let refused = told(&cluster, "m", "False", "CannotChangeLive").await;
    let conditions = refused.status.unwrap().conditions;
    let why = condition(&conditions, "Ready").2;
    assert!(why.starts_with("backups cannot change from 2 to 3 (class gold) while the map exists"), "{why}");
    cluster.change::<GridMap>("m", json!({"class": "durable"})).await;
    told(&cluster, "m", "False", "TooFewNodes").await;
    cluster.change::<Grid>("g", json!({"size": 2, "arbiter": {"policy": "Never"}})).await;
    told(&cluster, "m", "True", "AsSpecified").await;
}

#[tokio::test]
async fn what_cannot_change_live_is_refused_with_the_reason() {
    let cluster = with_grid().await;
    cluster.make::<GridMap>(map("m", json!({"contentType": "Json"}))).await;
    told(&cluster, "m", "True", "AsSpecified").await;
    cluster.change::<GridMap>("m", json!({"contentType": "Text", "ttl": "1m"})).await;
    let refused = told(&cluster, "m", "False", "CannotChangeLive").await;
    let conditions = refused.status.unwrap().conditions;
    assert_eq!(
        condition(&conditions, "Ready").2,
        "contentType cannot change from Json to Text while the map exists: set it back, or make another map and move the \
         entries"
    );
    assert_eq!(in_grid(&cluster, "m").unwrap().ttl, None, "all of a change is made, or nothing");
    cluster.change::<GridMap>("m", json!({"contentType": "Json"})).await;
    told(&cluster, "m", "True", "AsSpecified").await;
    assert_eq!(in_grid(&cluster, "m").unwrap().ttl.unwrap().seconds, 60);
}

#[tokio::test]
async fn a_deleted_object_leaves_its_map_unless_it_is_to_go() {
    let cluster = with_grid().await;
    for (name, policy) in [("kept", "Retain"), ("gone", "Delete")] {
        cluster.make::<GridMap>(map(name, json!({"deletionPolicy": policy}))).await;
        told(&cluster, name, "True", "AsSpecified").await;
        cluster.api::<GridMap>().delete(name, &DeleteParams::default()).await.unwrap();
        cluster.until_gone::<GridMap>(name).await;
    }
    assert!(in_grid(&cluster, "kept").is_some());
    assert!(in_grid(&cluster, "gone").is_none());
}

#[tokio::test]
async fn a_map_waits_for_its_grid_and_does_not_outlive_it() {
    let cluster = Cluster::start().await;
    cluster.make::<GridMap>(map("m", json!({"deletionPolicy": "Delete"}))).await;
    let waiting = told(&cluster, "m", "False", "GridNotFound").await;
    let conditions = waiting.status.unwrap().conditions;
    assert_eq!(condition(&conditions, "Ready").2, "there is no Grid g in namespace default");
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": {"size": 1}})).await;
    told(&cluster, "m", "True", "AsSpecified").await;
    cluster.api::<Grid>().delete("g", &DeleteParams::default()).await.unwrap();
    cluster.until_gone::<Grid>("g").await;
    told(&cluster, "m", "False", "GridNotFound").await;
    cluster.api::<GridMap>().delete("m", &DeleteParams::default()).await.unwrap();
    cluster.until_gone::<GridMap>("m").await;
}

#[tokio::test]
async fn of_two_objects_for_one_map_the_older_one_has_it() {
    let cluster = with_grid().await;
    cluster.make::<GridMap>(map("first", json!({"name": "m", "ttl": "1m"}))).await;
    told(&cluster, "first", "True", "AsSpecified").await;
    // The times of objects are whole seconds.
    let is_older = |first: &GridMap| first.creation_timestamp().is_some_and(|made| made.0 < this_second());
    cluster.until::<GridMap>("first", is_older).await;
    cluster.make::<GridMap>(map("second", json!({"name": "m", "ttl": "2m"}))).await;
    let second = cluster
        .until::<GridMap>("second", |map| {
            map.status.as_ref().is_some_and(|status| !condition(&status.conditions, "Ready").0.is_empty())
        })
        .await;
    let conditions = second.status.unwrap().conditions;
    let (_, reason, message) = condition(&conditions, "Ready");
    assert_eq!((reason, message), ("Duplicate", "GridMap first has this map of the grid already"));
    let ttl = || in_grid(&cluster, "m").unwrap().ttl.unwrap().seconds;
    assert_eq!(ttl(), 60);
    cluster.change::<GridMap>("first", json!({"ttl": "3m"})).await;
    told(&cluster, "first", "True", "AsSpecified").await;
    assert_eq!(ttl(), 180);
}

fn this_second() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap()
}
