//! A watch is of the whole grid, whoever serves it.

use std::collections::BTreeSet;

use wattle_client::{RawMap, WatchFrom};

use crate::harness::grid::{all_have_copies, joined_to, three};
use crate::harness::wire::PATIENCE;

async fn write(map: &RawMap, keys: std::ops::Range<u32>) {
    for n in keys {
        map.put(format!("k{n}"), n.to_string()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_what_changes_on_all_nodes_and_goes_on_at_another() {
    let nodes = three().await;
    let map = nodes[0].client().await.raw_map("m");
    write(&map, 0..1).await;
    let mut watch = nodes[2].client().await.raw_map("m").watch("", WatchFrom::Now);
    let first = watch.next().await.unwrap();
    assert_eq!((first.changes.len(), first.missed), (0, false));
    write(&map, 0..200).await;
    let mut seen = BTreeSet::new();
    let mut token = first.token;
    while seen.len() < 200 {
        let changes = watch.next().await.unwrap();
        assert!(!changes.missed);
        token = changes.token;
        for change in changes.changes {
            assert!(seen.insert(change.key.clone()), "{:?} comes twice", change.key);
        }
    }
    drop(watch);
    write(&map, 200..210).await;
    let again = nodes[1].client().await.raw_map("m");
    let mut watch = again.watch("", WatchFrom::Token(token));
    let first = watch.next().await.unwrap();
    assert!(!first.missed);
    drop(watch);
    // What its token is behind was told.
    let mut seen: BTreeSet<_> = first.changes.into_iter().map(|change| change.key).collect();
    let mut watch = again.watch("", WatchFrom::Token(first.token));
    write(&map, 210..220).await;
    while seen.len() < 20 {
        let changes = watch.next().await.unwrap();
        assert!(!changes.missed);
        seen.extend(changes.changes.into_iter().map(|change| change.key));
    }
    let expected: BTreeSet<_> = (200..220).map(|n| bytes::Bytes::from(format!("k{n}"))).collect();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_while_partitions_move_or_says_what_it_missed() {
    let nodes = three().await;
    let client = nodes[0].client().await;
    let map = client.raw_map("m");
    write(&map, 0..1).await;
    let mut watch = nodes[0].client().await.raw_map("m").watch("", WatchFrom::Now);
    watch.next().await.unwrap();
    let fourth = joined_to(&nodes[0]);
    write(&fourth.client().await.raw_map("m"), 1..500).await;
    let (mut seen, mut missed) = (BTreeSet::new(), false);
    while !missed && seen.len() < 499 {
        let changes = watch.next().await.unwrap();
        missed |= changes.missed;
        for change in changes.changes {
            assert!(seen.insert(change.key.clone()), "{:?} comes twice", change.key);
        }
    }
    all_have_copies(&client).await;
    // What comes now is seen, wherever it is now. Who decides may still change: a partition whose new primary kept nothing for the
    // watch yet is said to be missed, and there are only so many partitions.
    let all: BTreeSet<String> = (500..600).map(|n| format!("k{n}")).collect();
    let mut left = BTreeSet::new();
    let mut missed = true;
    while missed || !left.is_empty() {
        if missed {
            write(&map, 500..600).await;
            left.clone_from(&all);
        }
        let changes = tokio::time::timeout(PATIENCE, watch.next()).await;
        let changes = changes.unwrap_or_else(|_| panic!("the watch is silent about {left:?}")).unwrap();
        missed = changes.missed;
        for change in changes.changes {
            left.remove(std::str::from_utf8(&change.key).unwrap());
        }
    }
}
