//! Watches: committed changes as they happen, from now or from where an earlier stream stood.

use std::time::Duration;

use bytes::Bytes;
use tokio_stream::StreamExt;
use tonic::Code;
use wattle_client::{
    Answer, Change, ChangeKind, Client, EvictionPolicy, MapOptions, Operation, PutOptions, RawMap, Watch,
    WatchFrom, Written,
};
use wattle_proto::v1;

use crate::harness::TestNode;
use crate::harness::wire::{Wire, facts, refusal};

async fn client() -> (TestNode, Client, RawMap) {
    let node = TestNode::start();
    let client = node.client().await;
    client.maps().create("m", &MapOptions::new()).await.unwrap();
    let map = client.raw_map("m");
    (node, client, map)
}

/// A watch that has begun: what happens from now on is seen. And its first token.
async fn begun(map: &RawMap, prefix: &'static str, from: WatchFrom) -> (Watch, Bytes) {
    let mut watch = map.watch(prefix, from);
    let first = next(&mut watch).await;
    assert_eq!((first.changes, first.missed), (Vec::new(), false));
    (watch, first.token)
}

async fn next(watch: &mut Watch) -> wattle_client::Changes {
    tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("a message comes").unwrap()
}

/// The next changes, and the token after them.
async fn changes(watch: &mut Watch, count: usize) -> (Vec<Change>, Bytes) {
    let mut seen = Vec::new();
    loop {
        let message = next(watch).await;
        assert!(!message.missed, "nothing is missed");
        seen.extend(message.changes);
        if seen.len() >= count {
            assert_eq!(seen.len(), count, "{seen:?}");
            return (seen, message.token);
        }
    }
}

fn change(kind: ChangeKind, key: &'static str, value: &'static str, version: u64) -> Change {
    Change { kind, key: key.into(), value: value.into(), version }
}

#[tokio::test]
async fn a_watch_shows_what_happens_from_now_on() {
    let (_node, _client, map) = client().await;
    map.put("{t}before", "v").await.unwrap();
    let (mut watch, _) = begun(&map, "", WatchFrom::Now).await;
    let put = map.put("{t}k", "1").await.unwrap();
    let counted = map.increment("{t}n", 7).await.unwrap();
    assert!(map.remove("{t}k").await.unwrap());
    assert!(!map.remove("{t}none").await.unwrap());
    let (seen, _) = changes(&mut watch, 3).await;
    let expected = [
        change(ChangeKind::Put, "{t}k", "1", put),
        change(ChangeKind::Put, "{t}n", "7", counted.version),
        change(ChangeKind::Removed, "{t}k", "", counted.version + 1),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_watch_that_goes_on_from_its_token_misses_nothing() {
    let (_node, _client, map) = client().await;
    let (mut watch, _) = begun(&map, "", WatchFrom::Now).await;
    map.put("{t}0", "v").await.unwrap();
    let (_, token) = changes(&mut watch, 1).await;
    drop(watch);
    for n in 1..=200 {
        map.put(format!("{{t}}{n}"), "v").await.unwrap();
    }
    let mut again = map.watch("", WatchFrom::Token(token.clone()));
    let (seen, last) = changes(&mut again, 200).await;
    let keys: Vec<_> = seen.iter().map(|change| change.key.clone()).collect();
    assert_eq!(keys, (1..=200).map(|n| Bytes::from(format!("{{t}}{n}"))).collect::<Vec<_>>());
    // A token may be used as often as one likes.
    let (seen, _) = changes(&mut map.watch("", WatchFrom::Token(token)), 200).await;
    assert_eq!(seen.len(), 200);
    let (mut from_last, _) = begun(&map, "", WatchFrom::Token(last)).await;
    map.put("{t}new", "v").await.unwrap();
    assert_eq!(changes(&mut from_last, 1).await.0[0].key, "{t}new");
}

#[tokio::test]
async fn a_watch_of_a_prefix_shows_nothing_else() {
    let (_node, _client, map) = client().await;
    let (mut watch, _) = begun(&map, "user/", WatchFrom::Now).await;
    for n in 0..50 {
        map.put(format!("other/{n}"), "v").await.unwrap();
    }
    let version = map.put("user/1", "v").await.unwrap();
    assert_eq!(changes(&mut watch, 1).await.0, [change(ChangeKind::Put, "user/1", "v", version)]);
}

#[tokio::test]
async fn processors_and_batches_are_watched_too() {
    let (_node, client, map) = client().await;
    crate::harness::examples::upload(&client, "counter", "add").await;
    let (mut watch, _) = begun(&map, "", WatchFrom::Now).await;
    let put = Operation::Put { key: "{t}p".into(), value: "v".into(), options: PutOptions::new() };
    let invoke = Operation::Invoke { key: "{t}n".into(), function: "add".into(), argument: "4".into() };
    let answers = map.batch(vec![put, invoke]).await.unwrap();
    let [Ok(Answer::Written(Written { version, .. })), Ok(Answer::Response(_))] = &answers[..] else {
        panic!("{answers:?}")
    };
    let (seen, _) = changes(&mut watch, 2).await;
    let expected =
        [change(ChangeKind::Put, "{t}p", "v", *version), change(ChangeKind::Put, "{t}n", "4", version + 1)];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn expiry_eviction_and_clear_are_shown_as_what_they_are() {
    let (_node, client, _map) = client().await;
    let options = MapOptions::new().max_bytes(271 * 1000).eviction(EvictionPolicy::Lru);
    client.maps().create("small", &options).await.unwrap();
    let map = client.raw_map("small");
    let (mut watch, _) = begun(&map, "", WatchFrom::Now).await;
    map.put_with("{t}mortal", "v", PutOptions::new().ttl(Duration::from_millis(50))).await.unwrap();
    let (seen, _) = changes(&mut watch, 2).await;
    assert_eq!((seen[1].kind, seen[1].key.as_ref()), (ChangeKind::Expired, &b"{t}mortal"[..]));
    map.put("{t}first", vec![b'v'; 700]).await.unwrap();
    map.put("{t}second", vec![b'v'; 700]).await.unwrap();
    let (seen, _) = changes(&mut watch, 3).await;
    let kinds: Vec<_> = seen.iter().map(|change| (change.kind, change.key.as_ref())).collect();
    let expected: [(ChangeKind, &[u8]); 3] =
        [(ChangeKind::Put, b"{t}first"), (ChangeKind::Evicted, b"{t}first"), (ChangeKind::Put, b"{t}second")];
    assert_eq!(kinds, expected);
    assert_eq!(map.clear().await.unwrap(), 1);
    // Every partition is cleared, and says so.
    let cleared = loop {
        let message = next(&mut watch).await;
        if let Some(cleared) = message.changes.into_iter().find(|change| change.kind == ChangeKind::Cleared) {
            break cleared;
        }
    };
    assert!(cleared.key.is_empty() && cleared.value.is_empty());
}

/// More changes than are kept.
async fn overflow(map: &RawMap) {
    for n in 0..8 {
        map.put(format!("{{t}}{n}"), vec![b'v'; 100_000]).await.unwrap();
    }
}

#[tokio::test]
async fn who_comes_back_too_late_is_told_that_changes_were_missed() {
    let (_node, _client, map) = client().await;
    let (watch, token) = begun(&map, "", WatchFrom::Now).await;
    drop(watch);
    overflow(&map).await;
    let mut late = map.watch("", WatchFrom::Token(token));
    assert!(next(&mut late).await.missed);
    let version = map.put("{t}after", "v").await.unwrap();
    loop {
        let message = next(&mut late).await;
        assert!(!message.missed, "it is told once");
        if message.changes.contains(&change(ChangeKind::Put, "{t}after", "v", version)) {
            break;
        }
    }
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_that_changes_were_missed() {
    let (node, _client, map) = client().await;
    let mut wire = Wire::to(&node).await;
    let request = v1::WatchRequest { map: "m".into(), ..Default::default() };
    let mut stream = wire.maps.watch(request).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap();
    // Nobody reads meanwhile: the stream's window fills up, and then the tail overflows.
    for _ in 0..20 {
        overflow(&map).await;
    }
    map.put("{t}last", "v").await.unwrap();
    let mut missed = false;
    loop {
        let message = stream.next().await.unwrap().unwrap();
        missed |= message.missed;
        if message.changes.iter().any(|change| change.key == "{t}last") {
            break;
        }
    }
    assert!(missed, "16 MB of changes were not kept for this reader");
}

#[tokio::test]
async fn a_watch_of_a_deleted_map_ends_with_an_error() {
    let (_node, client, map) = client().await;
    let (mut watch, _) = begun(&map, "", WatchFrom::Now).await;
    client.maps().delete("m").await.unwrap();
    // A new map of the name is another one, and not what was watched.
    map.put("k", "v").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap().unwrap_err();
    assert_eq!(ended.reason(), Some("MAP_NOT_FOUND"));
}

#[tokio::test]
async fn a_token_of_another_map_is_refused() {
    let (node, client, map) = client().await;
    let (_, token) = begun(&map, "", WatchFrom::Now).await;
    client.raw_map("other").put("k", "v").await.unwrap();
    let mut wire = Wire::to(&node).await;
    for token in [token, Bytes::from_static(b"\xff")] {
        let request =
            v1::WatchRequest { map: "other".into(), prefix: Bytes::new(), token, partitions: Vec::new() };
        let refused = wire.maps.watch(request).await.unwrap_err();
        assert_eq!(facts(&refused), refusal(Code::InvalidArgument, "TOKEN_INVALID", "NOT_APPLIED"));
    }
    let request = v1::WatchRequest { map: "none".into(), ..Default::default() };
    let refused = wire.maps.watch(request).await.unwrap_err();
    assert_eq!(facts(&refused), refusal(Code::NotFound, "MAP_NOT_FOUND", "NOT_APPLIED"));
}

/// Entries and the log of their changes die with the process, so that nobody can tell what a watch has missed.
#[tokio::test]
async fn a_token_of_an_earlier_start_says_that_changes_were_missed_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let node = TestNode::with_data(directory.path());
    let map = node.client().await.raw_map("m");
    map.put("{t}k", "before").await.unwrap();
    let (mut watch, _) = begun(&map, "", WatchFrom::Now).await;
    map.put("{t}k", "seen").await.unwrap();
    let (_, token) = changes(&mut watch, 1).await;
    drop((watch, map));
    node.stop().await;

    let node = TestNode::with_data(directory.path());
    let map = node.client().await.raw_map("m");
    // As many changes as there were before: positions alone would look the same.
    map.put("{t}k", "one").await.unwrap();
    map.put("{t}k", "two").await.unwrap();
    let mut watch = map.watch("", WatchFrom::Token(token.clone()));
    let first = next(&mut watch).await;
    assert!(first.missed, "{first:?}");
    assert!(first.changes.is_empty() && first.token != token, "{first:?}");
    let version = map.put("{t}k", "three").await.unwrap();
    let (seen, later) = changes(&mut watch, 1).await;
    assert_eq!(seen, [change(ChangeKind::Put, "{t}k", "three", version)]);
    drop(watch);
    // The new token is one of this start: nothing is missed from there on.
    let version = map.put("{t}k", "four").await.unwrap();
    let mut watch = map.watch("", WatchFrom::Token(later));
    let (seen, _) = changes(&mut watch, 1).await;
    assert_eq!(seen, [change(ChangeKind::Put, "{t}k", "four", version)]);
}
