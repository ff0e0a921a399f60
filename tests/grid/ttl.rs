//! Entries whose time has come.

use std::time::Duration;

use wattle_client::{MapOptions, PutOptions, ScanOptions};

use crate::harness::TestNode;
use crate::harness::wire::eventually;

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn an_entry_is_absent_when_its_time_has_come() {
    let node = TestNode::start();
    let map = node.client().await.raw_map("m");
    let short = PutOptions::new().ttl(SHORT);
    map.put_with("k", "v", short).await.unwrap();
    map.put("stays", "v").await.unwrap();
    assert_eq!(map.get("k").await.unwrap().unwrap().value, "v");
    eventually(async || map.get("k").await.unwrap().is_none().then_some(())).await;
    assert_eq!(map.size().await.unwrap(), 1);
    assert_eq!(map.lifetime("k").await.unwrap(), None);
    assert!(!map.remove("k").await.unwrap());
    let mut scan = map.scan(ScanOptions::new());
    assert_eq!(scan.next().await.unwrap().unwrap().key, "stays");
    assert_eq!(scan.next().await.unwrap(), None);
    // To those who write it is absent too.
    map.put_with("k", "again", short.if_absent()).await.unwrap();
}

#[tokio::test]
async fn entries_expire_although_nobody_asks_for_them() {
    let node = TestNode::start();
    let client = node.client().await;
    client.maps().create("m", &MapOptions::new().ttl(SHORT)).await.unwrap();
    let map = client.raw_map("m");
    let entries = (0..600).map(|n| (format!("k{n}"), "v"));
    for written in map.put_many(entries, PutOptions::new()).await.unwrap() {
        written.unwrap();
    }
    map.put_with("stays", "v", PutOptions::new().keep_for_ever()).await.unwrap();
    // Describing looks at no entry and expires none.
    let statistics = eventually(async || {
        let (_, statistics) = client.maps().describe("m").await.unwrap();
        (statistics.expirations == 600).then_some(statistics)
    });
    assert_eq!(statistics.await.entries, 1);
    assert_eq!(map.get("stays").await.unwrap().unwrap().value, "v");
}

#[tokio::test]
async fn a_write_begins_the_time_to_live_anew() {
    let node = TestNode::start();
    let client = node.client().await;
    client.maps().create("m", &MapOptions::new().ttl(Duration::from_secs(3600))).await.unwrap();
    let map = client.raw_map("m");
    map.put_with("k", "v", PutOptions::new().ttl(SHORT)).await.unwrap();
    map.put("k", "w").await.unwrap();
    assert!(map.lifetime("k").await.unwrap().unwrap().ttl.unwrap() > SHORT);
    map.set_ttl("k", SHORT).await.unwrap().unwrap();
    eventually(async || map.get("k").await.unwrap().is_none().then_some(())).await;
}

#[tokio::test]
async fn reads_keep_an_idle_entry_alive_and_others_go() {
    let node = TestNode::start();
    let client = node.client().await;
    let idle = Duration::from_secs(2);
    client.maps().create("m", &MapOptions::new().max_idle(idle)).await.unwrap();
    let map = client.raw_map("m");
    map.put("read", "v").await.unwrap();
    map.put("idle", "v").await.unwrap();
    let begun = std::time::Instant::now();
    // `idle` is not asked for: the statistics tell of it.
    eventually(async || {
        assert_eq!(map.get("read").await.unwrap().expect("it was read a moment ago").value, "v");
        let (_, statistics) = client.maps().describe("m").await.unwrap();
        (statistics.expirations == 1).then_some(())
    })
    .await;
    assert!(begun.elapsed() >= idle, "it was not idle for so long");
    assert_eq!(map.get("idle").await.unwrap(), None);
    // Without reads it goes as well.
    eventually(async || {
        let (_, statistics) = client.maps().describe("m").await.unwrap();
        (statistics.entries == 0).then_some(())
    })
    .await;
}
