//! Faults on demand, and that the kube crate's watcher comes through them.

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::Stream;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use wattle_api_server::{Break, Outage, Refusal};

use crate::server::{admin, api, config_map, next, start, status};

type Events = Pin<Box<dyn Stream<Item = watcher::Result<Event<DynamicObject>>> + Send>>;

fn watched(maps: &Api<DynamicObject>) -> Events {
    Box::pin(watch(maps.clone(), watcher::Config::default()).default_backoff())
}

/// Reads on until an object of that name is told of; says how often the watcher had to list anew until then.
async fn until(events: &mut Events, name: &str) -> usize {
    let mut lists = 0;
    loop {
        match next(events).await {
            Ok(Event::Init) => lists += 1,
            Ok(Event::Apply(object) | Event::InitApply(object)) if object.name_any() == name => return lists,
            _ => {}
        }
    }
}

async fn create(maps: &Api<DynamicObject>, name: &str) {
    maps.create(&PostParams::default(), &config_map(name, json!({}))).await.unwrap();
}

#[tokio::test]
async fn a_watcher_comes_through_broken_streams_without_a_new_list() {
    let server = start().await;
    let maps = api(&admin(&server).await, "", "v1", "ConfigMap");
    create(&maps, "a").await;
    let mut events = watched(&maps);
    assert_eq!(until(&mut events, "a").await, 1);
    for (name, how) in [("b", Break::Close), ("c", Break::MidLine)] {
        create(&maps, &format!("{name}0")).await;
        until(&mut events, &format!("{name}0")).await;
        server.faults().break_watches(how);
        create(&maps, name).await;
        assert_eq!(until(&mut events, name).await, 0, "{how:?}");
    }
}

#[tokio::test]
async fn a_watcher_lists_anew_after_410() {
    let server = start().await;
    let maps = api(&admin(&server).await, "", "v1", "ConfigMap");
    create(&maps, "a").await;
    server.faults().expire_next_watches(1);
    let mut events = watched(&maps);
    until(&mut events, "a").await;
    create(&maps, "b").await;
    assert_eq!(until(&mut events, "b").await, 1);
}

#[tokio::test]
async fn nobody_is_reached_during_an_outage() {
    let server = start().await;
    let maps = api(&admin(&server).await, "", "v1", "ConfigMap");
    create(&maps, "a").await;
    let mut events = watched(&maps);
    until(&mut events, "a").await;
    for outage in [Outage::Refused, Outage::Reset] {
        server.faults().start_outage(outage);
        loop {
            // Its open connections are cut at once, though perhaps after the first of these requests.
            if maps.list(&ListParams::default()).await.is_err() {
                break;
            }
        }
        server.faults().end_outage();
        while maps.list(&ListParams::default()).await.is_err() {}
    }
    create(&maps, "b").await;
    until(&mut events, "b").await;
}

#[tokio::test]
async fn answers_are_refused_and_late_as_told() {
    let server = start().await;
    let maps = api(&admin(&server).await, "", "v1", "ConfigMap");
    server.faults().refuse_next(1, Refusal::InternalError);
    let refused = status(maps.list(&ListParams::default()).await);
    assert_eq!((refused.code, refused.reason.as_str()), (500, "InternalError"));
    server.faults().delay_answers(Duration::from_millis(50));
    let start = Instant::now();
    maps.list(&ListParams::default()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50));
}
