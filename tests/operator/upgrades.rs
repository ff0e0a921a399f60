//! Upgrades of grids of pods: good ones, bad ones, and those that are taken back.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use wattle_client::Error;
use wattle_operator::api::{GridStatus, Phase};

use super::operated::Operated;
use crate::harness::wire::eventually;
use crate::harness::writer::{Writer, members};

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_pods_is_paused_and_goes_on() {
    let grid = Operated::found(3, json!({})).await;
    let client = grid.client().await;
    let (id, _) = members(&client).await;
    let writer = Writer::start(&client);
    grid.observer.take();
    grid.change(json!({"version": "0.2.0"})).await;
    eventually(async || (grid.observer.taken() > 0).then_some(())).await;
    grid.change(json!({"upgrade": {"paused": true}})).await;
    let paused = grid.until(|status| status.phase == Some(Phase::Paused)).await;
    let outdated = grid.images().await.iter().filter(|image| *image == "wattle:0.1.0").count();
    assert!((1..3).contains(&outdated), "{outdated} pods are as they were");
    let expected = format!("waiting: the upgrade is paused; {} of 3 pods are upgraded", 3 - outdated);
    assert!(paused.message.starts_with(&expected), "{}", paused.message);
    grid.change(json!({"upgrade": {"paused": false}})).await;
    grid.rested(3).await;
    assert_eq!(grid.images().await, ["wattle:0.2.0"; 3]);
    assert_eq!(grid.taken_one_by_one(3), 3);
    let phases = grid.observer.take().phases;
    assert!(!phases.contains(&Phase::Waiting) && !phases.contains(&Phase::Failing), "{phases:?}");
    assert_eq!(members(&client).await, (id, 3), "one grid");
    writer.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_pods_goes_zone_by_zone() {
    let grid = Operated::found(6, json!({"upgrade": {"strategy": "ByZone"}})).await;
    let client = grid.client().await;
    let (id, _) = members(&client).await;
    let writer = Writer::start(&client);
    grid.observer.take();
    let zones = grid.rested(6).await.members;
    let zone = |pod: &str| zones.iter().find(|member| member.pod == pod).unwrap().zone.clone();
    grid.change(json!({"version": "0.2.0"})).await;
    grid.rested(6).await;
    assert_eq!(grid.images().await, ["wattle:0.2.0"; 6]);
    let taken = grid.observer.take().taken;
    assert_eq!(taken.len(), 6, "{taken:?}");
    for pair in taken.chunks(2) {
        assert_eq!(zone(&pair[0].pod), zone(&pair[1].pod), "{taken:?}");
        assert_eq!((pair[0].serving.len(), pair[1].serving.len()), (5, 4), "{taken:?}");
    }
    assert_eq!(members(&client).await, (id, 6), "one grid");
    writer.check(&client).await;
}

/// A version that no pod gets over stops at the first one, which is the last that does not lead; what was asked for before then heals the grid.
async fn stops_at_the_first_pod(grid: &Operated, version: &str, is_stuck: impl Fn(&GridStatus) -> bool) {
    let before: BTreeSet<String> = grid.uids().await.into_iter().collect();
    grid.observer.take();
    grid.change(json!({"version": version})).await;
    let stuck = grid.until(is_stuck).await;
    assert_eq!((stuck.size, stuck.ready, stuck.phase), (3, 2, Some(Phase::Upgrading)));
    grid.change(json!({"version": "0.1.0"})).await;
    grid.rested(3).await;
    let taken = grid.observer.take().taken;
    assert_eq!(taken.len(), 1, "the others never stopped: {taken:?}");
    let after: BTreeSet<String> = grid.uids().await.into_iter().collect();
    assert_eq!(before.intersection(&after).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_upgrade_of_pods_is_taken_back() {
    let grid = Operated::found(3, json!({})).await;
    let client = grid.client().await;
    let (id, _) = members(&client).await;
    let writer = Writer::start(&client);
    let says = |what: &'static str| move |status: &GridStatus| status.message.contains(what);
    stops_at_the_first_pod(&grid, "0.9.9", says(" is not ready; ErrImagePull: ")).await;
    image(&grid, "broken", "echo this version does not start; exit 3");
    stops_at_the_first_pod(&grid, "broken", says(" is not ready; its container has ended")).await;
    // Its probes find nobody, but it joins, and takes copies.
    let elsewhere = format!(
        "for word; do shift; case $word in *:7119) word=${{word%:7119}}:7129; esac; set -- \"$@\" \"$word\"; done\nexec {} \"$@\"",
        env!("CARGO_BIN_EXE_wattle")
    );
    image(&grid, "elsewhere", &elsewhere);
    let has_joined = |status: &GridStatus| {
        let mut members = status.members.iter().filter(|member| member.answers && !member.pod.is_empty());
        members.any(|member| status.message.contains(&format!("{} is not ready", member.pod)))
    };
    stops_at_the_first_pod(&grid, "elsewhere", has_joined).await;
    assert_eq!(members(&client).await, (id, 3), "one grid");
    writer.check(&client).await;
}

/// A version of Wattle that is this script.
fn image(grid: &Operated, version: &str, script: &str) {
    let path = grid.cluster.directory().join(version);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    grid.cluster.pods.set_image(&format!("wattle:{version}"), &path).unwrap();
}

/// More than fits into the smallest memory that a node may have.
const LARGE: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_leave_no_room_lose_nothing_and_are_taken_back() {
    let grid = Operated::found(2, json!({"arbiter": {"policy": "Never"}})).await;
    let value = vec![7_u8; 64 << 10];
    let client = grid.client().await;
    for number in 0..LARGE {
        client.raw_map("large").put(number.to_string(), value.clone()).await.unwrap();
    }
    grid.change(json!({"settings": {"memoryBytes": 1 << 20}})).await;
    grid.rested(2).await;
    // All pods have other addresses now.
    let client = grid.client().await;
    let refused = client.raw_map("large").put("another", value.clone()).await.unwrap_err();
    assert!(matches!(&refused, Error::Full(_)), "{refused:?}");
    grid.change(json!({"settings": {"memoryBytes": null}})).await;
    grid.rested(2).await;
    let map = grid.client().await.raw_map("large");
    map.put("another", value.clone()).await.unwrap();
    for number in 0..LARGE {
        let found = map.get(number.to_string()).await.unwrap();
        assert_eq!(found.expect("nothing is lost").value, value);
    }
}
