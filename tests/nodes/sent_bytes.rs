//! What nodes count of what they send to each other.

use wattle::config::RawConfig;
use wattle_client::RawMap;
use wattle_client::api::Member;

use crate::harness::TestNode;
use crate::harness::grid::{PARTITIONS, joined_to};
use crate::harness::wire::eventually;

const ENTRIES: u64 = 100;
const VALUE_BYTES: usize = 1000;
/// What all entries take at least.
const BYTES: u64 = ENTRIES * VALUE_BYTES as u64;

async fn write_all(map: &RawMap) {
    for n in 0..ENTRIES {
        map.put(format!("k{n}"), vec![b'v'; VALUE_BYTES]).await.unwrap();
    }
}

/// Of both nodes.
async fn sent(nodes: [&TestNode; 2], purpose: &str) -> u64 {
    let name = format!("wattle_peer_sent_bytes_total{{purpose=\"{purpose}\"}}");
    nodes[0].metric(&name).await + nodes[1].metric(&name).await
}

#[tokio::test]
async fn what_a_new_copy_takes_is_counted_apart_from_what_is_written() {
    let first = TestNode::with(RawConfig { partitions: Some(PARTITIONS), ..RawConfig::default() });
    let client = first.client().await;
    let map = client.raw_map("m");
    write_all(&map).await;
    let second = joined_to(&first);
    let nodes = [&first, &second];
    eventually(async || {
        let members = client.status().await.unwrap().members;
        let holds_all =
            |member: &Member| member.primary_partitions + member.backup_partitions == u32::from(PARTITIONS);
        (members.len() == 2 && members.iter().all(holds_all)).then_some(())
    })
    .await;
    let copied = sent(nodes, "copying").await;
    assert!((BYTES..2 * BYTES).contains(&copied), "{copied}");
    let before = sent(nodes, "replication").await;
    write_all(&map).await;
    let written = sent(nodes, "replication").await - before;
    assert!((BYTES..3 * BYTES).contains(&written), "{written}");
    assert_eq!(sent(nodes, "copying").await, copied);
    for purpose in ["heartbeats", "control"] {
        eventually(async || (sent(nodes, purpose).await > 0).then_some(())).await;
    }
}
