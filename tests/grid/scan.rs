//! Scans: everything that is there throughout is seen exactly once, however often the scan begins again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use wattle_client::{Outcome, PutOptions, RawMap, ScanOptions};

use crate::harness::TestNode;

async fn filled(node: &TestNode, entries: usize) -> RawMap {
    let map = node.client().await.raw_map("m");
    fill(&map, (0..entries).map(|n| format!("k{n}"))).await;
    map
}

async fn fill(map: &RawMap, keys: impl Iterator<Item = String>) {
    let entries = keys.map(|key| (key.clone(), key));
    for written in map.put_many(entries, PutOptions::new()).await.unwrap() {
        written.unwrap();
    }
}

/// The keys that a scan answers, in its order.
async fn keys(map: &RawMap, options: ScanOptions) -> (Vec<Bytes>, Option<Bytes>) {
    let mut scan = map.scan(options);
    let mut keys = Vec::new();
    while let Some(entry) = scan.next().await.unwrap() {
        keys.push(entry.key);
    }
    (keys, scan.cursor())
}

fn all(entries: usize) -> BTreeSet<Bytes> {
    (0..entries).map(|n| Bytes::from(format!("k{n}"))).collect()
}

#[tokio::test]
async fn a_scan_answers_every_entry_once_with_what_belongs_to_it() {
    let node = TestNode::start();
    let map = filled(&node, 2000).await;
    fill(&map, (0..1000).map(|n| format!("{{t}}{n}"))).await;
    let hour = std::time::Duration::from_secs(3600);
    let version = map.put_with("mortal", "v", PutOptions::new().ttl(hour)).await.unwrap();
    let mut scan = map.scan(ScanOptions::new());
    let mut seen = HashMap::new();
    while let Some(entry) = scan.next().await.unwrap() {
        assert!(entry.key == "mortal" || (entry.value == entry.key && entry.ttl.is_none()));
        assert!(seen.insert(entry.key.clone(), entry).is_none(), "no entry comes twice");
    }
    assert_eq!((seen.len(), scan.cursor()), (3001, None));
    let mortal = &seen[&Bytes::from_static(b"mortal")];
    assert_eq!((mortal.value.as_ref(), mortal.version), (&b"v"[..], version));
    assert!(mortal.ttl.unwrap() <= hour && !mortal.ttl.unwrap().is_zero());
}

#[tokio::test]
async fn limits_are_exact_and_cursors_go_on_over_many_streams() {
    let node = TestNode::start();
    let map = filled(&node, 1000).await;
    fill(&map, (0..700).map(|n| format!("{{t}}{n}"))).await;
    for limit in [1, 7, 256, 300, 1700, 5000] {
        let mut seen = BTreeSet::new();
        let mut cursor = Some(Bytes::new());
        let mut streams = 0;
        while let Some(from) = cursor.take() {
            // Many scans of one entry each would only be slow.
            if limit == 1 && streams == 20 {
                break;
            }
            let (page, next) = keys(&map, ScanOptions::new().limit(limit).resume(from)).await;
            assert!(page.len() as u64 == limit || next.is_none(), "{} of {limit}", page.len());
            assert_eq!(page.iter().filter(|key| !seen.insert((*key).clone())).count(), 0, "none comes twice");
            (cursor, streams) = (next, streams + 1);
        }
        assert!(limit == 1 && seen.len() == 20 || seen.len() == 1700, "{limit}: {}", seen.len());
    }
}

#[tokio::test]
async fn a_prefix_selects_and_keys_only_leaves_values_out() {
    let node = TestNode::start();
    let map = filled(&node, 1200).await;
    let (found, cursor) = keys(&map, ScanOptions::new().prefix("k11")).await;
    let expected: BTreeSet<_> = all(1200).into_iter().filter(|key| key.starts_with(b"k11")).collect();
    assert_eq!((found.len(), expected.len(), cursor), (111, 111, None));
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(keys(&map, ScanOptions::new().prefix("x")).await, (Vec::new(), None));
    let mut scan = map.scan(ScanOptions::new().keys_only().prefix("k119"));
    let mut count = 0;
    while let Some(entry) = scan.next().await.unwrap() {
        assert!(entry.value.is_empty() && entry.version > 0);
        count += 1;
    }
    assert_eq!(count, 11);
}

#[tokio::test]
async fn a_cursor_of_another_map_is_refused() {
    let node = TestNode::start();
    let map = filled(&node, 100).await;
    let (_, cursor) = keys(&map, ScanOptions::new().limit(5)).await;
    let cursor = cursor.unwrap();
    let client = node.client().await;
    let other = client.raw_map("other");
    other.put("k", "v").await.unwrap();
    client.maps().delete("m").await.unwrap();
    map.put("k", "v").await.unwrap();
    for (name, map) in [("another", &other), ("a new one of the same name", &map)] {
        let refused = map.scan(ScanOptions::new().resume(cursor.clone())).next().await.unwrap_err();
        assert_eq!(refused.reason(), Some("CURSOR_INVALID"), "{name}");
        assert_ne!(refused.outcome(), Some(Outcome::InDoubt));
    }
    let nonsense = map.scan(ScanOptions::new().resume("nonsense")).next().await.unwrap_err();
    assert_eq!(nonsense.reason(), Some("CURSOR_INVALID"));
}

#[tokio::test]
async fn what_is_there_throughout_is_seen_once_while_others_write() {
    let node = TestNode::start();
    let map = filled(&node, 1500).await;
    fill(&map, (0..1500).map(|n| format!("{{t}}{n}"))).await;
    let ended = Arc::new(AtomicBool::new(false));
    let writer = node.client().await.raw_map("m");
    let stop = Arc::clone(&ended);
    // Entries come, change and go beside those that stay, in the same partitions.
    let writes = tokio::spawn(async move {
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) {
            fill(&writer, (0..60).map(|n| format!("{{t}}new{round}-{n}"))).await;
            fill(&writer, (0..60).map(|n| format!("{{t}}{}", (round * 60 + n) % 1500))).await;
            fill(&writer, (0..60).map(|n| format!("k{}", (round * 60 + n) % 1500))).await;
            for n in 0..20 {
                assert!(writer.remove(format!("{{t}}new{round}-{n}")).await.unwrap());
            }
            round += 1;
        }
        round
    });
    for _ in 0..5 {
        let mut seen: HashMap<Bytes, u32> = HashMap::new();
        let mut cursor = Some(Bytes::new());
        while let Some(from) = cursor {
            let (page, next) = keys(&map, ScanOptions::new().limit(400).resume(from)).await;
            page.into_iter().for_each(|key| *seen.entry(key).or_default() += 1);
            cursor = next;
        }
        for n in 0..1500 {
            for key in [format!("k{n}"), format!("{{t}}{n}")] {
                assert_eq!(seen.get(key.as_bytes()), Some(&1), "{key}");
            }
        }
    }
    ended.store(true, Ordering::Relaxed);
    assert!(writes.await.unwrap() > 0, "somebody wrote meanwhile");
}

#[tokio::test]
async fn a_scan_of_a_map_that_is_deleted_meanwhile_ends_with_an_error() {
    let node = TestNode::start();
    let map = filled(&node, 500).await;
    let (_, cursor) = keys(&map, ScanOptions::new().limit(5)).await;
    node.client().await.maps().delete("m").await.unwrap();
    let refused = map.scan(ScanOptions::new().resume(cursor.unwrap())).next().await.unwrap_err();
    assert_eq!(refused.reason(), Some("MAP_NOT_FOUND"));
}
