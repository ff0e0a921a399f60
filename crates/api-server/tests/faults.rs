//! Faults on demand, and that the kube crate's watcher comes through them.

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::Stream;
use kube::api::{DynamicObject, ListParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use wattle_api_server::{ApiServer, Break, Outage, Refusal, Settings};

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
    server.faults().refuse_all(Refusal::TooManyRequests { retry_after_seconds: 1 });
    server.faults().only_on_paths_with("secrets");
    maps.list(&ListParams::default()).await.unwrap();
    server.faults().only_on_paths_with("");
    server.faults().refuse_nothing();
    let codes: Vec<u16> = server.requests().iter().map(|request| request.code).collect();
    assert_eq!(codes, [500, 200]);
    assert!(server.requests()[0].path.ends_with("/configmaps"));
    server.faults().delay_answers(Duration::from_millis(50));
    let start = Instant::now();
    maps.list(&ListParams::default()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_eq!(server.faults().late_answers(), 1);
}

#[tokio::test]
async fn a_watcher_may_stream_its_list() {
    let server = start().await;
    let maps = api(&admin(&server).await, "", "v1", "ConfigMap");
    create(&maps, "a").await;
    let mut events: Events = Box::pin(watch(maps.clone(), watcher::Config::default().streaming_lists()));
    until(&mut events, "a").await;
    assert!(matches!(next(&mut events).await, Ok(Event::InitDone)));
    create(&maps, "b").await;
    assert_eq!(until(&mut events, "b").await, 0);
}

#[tokio::test]
async fn bookmarks_say_how_far_a_quiet_watch_is() {
    let settings = Settings { bookmark_interval: Duration::from_millis(10), ..Settings::default() };
    let server = ApiServer::start(settings).await.unwrap();
    let maps = api(&admin(&server).await, "", "v1", "ConfigMap");
    let mut stream = Box::pin(maps.watch(&WatchParams::default(), "1").await.unwrap());
    server.advance_resource_version(1000);
    let expected = server.resource_version().to_string();
    loop {
        let WatchEvent::Bookmark(bookmark) = next(&mut stream).await.unwrap() else { panic!("no bookmark") };
        if bookmark.metadata.resource_version == expected {
            return;
        }
    }
}

#[tokio::test]
async fn a_silent_stream_says_nothing_more() {
    let server = start().await;
    let maps = api(&admin(&server).await, "", "v1", "ConfigMap");
    let from = server.resource_version().to_string();
    let mut silent = Box::pin(maps.watch(&WatchParams::default().timeout(290), &from).await.unwrap());
    server.faults().break_watches(Break::Silent);
    create(&maps, "a").await;
    let mut sound = Box::pin(maps.watch(&WatchParams::default(), &from).await.unwrap());
    assert!(matches!(next(&mut sound).await.unwrap(), WatchEvent::Added(_)));
    // The event that the other stream has brought by now is not on this one.
    let brought = futures_util::FutureExt::now_or_never(futures_util::StreamExt::next(&mut silent));
    assert!(brought.is_none());
}
