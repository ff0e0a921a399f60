//! Grids of several nodes.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use wattle::config::RawConfig;
use wattle_client::Client;
use wattle_client::api::{Member, PartitionCounts};

use super::TestNode;
use super::process::ProcessNode;
use super::wire::eventually;

/// Of grids in this process.
pub(crate) const PARTITIONS: u16 = 31;

pub(crate) fn address(node: &TestNode) -> String {
    node.endpoint().trim_start_matches("http://").to_owned()
}

pub(crate) fn joined_to(node: &TestNode) -> TestNode {
    TestNode::with(RawConfig { join: Some(vec![address(node)]), ..RawConfig::default() })
}

/// A grid in this process whose partitions all have two copies, which are where they stay.
pub(crate) async fn three() -> [TestNode; 3] {
    let first = TestNode::with(RawConfig { partitions: Some(PARTITIONS), ..RawConfig::default() });
    let nodes = [joined_to(&first), joined_to(&first)];
    let client = nodes[1].client().await;
    eventually(async || {
        let status = client.status().await.unwrap();
        let counts = PartitionCounts { ok: PARTITIONS.into(), ..PartitionCounts::default() };
        let has_share = |member: &Member| {
            let copies = member.primary_partitions + member.backup_partitions;
            (10..=11).contains(&member.primary_partitions) && (20..=21).contains(&copies)
        };
        (status.partitions == Some(counts) && status.members.iter().all(has_share)).then_some(())
    })
    .await;
    let [second, third] = nodes;
    [first, second, third]
}

/// A grid of processes whose partitions all have two copies.
pub(crate) async fn processes() -> [ProcessNode; 3] {
    let first = ProcessNode::start().await;
    let (second, third) = (first.joined().await, first.joined().await);
    let client = third.client().await;
    eventually(async || {
        let members = client.status().await.unwrap().members;
        let has_part = |member: &Member| member.votes && member.backup_partitions > 0;
        (members.len() == 3 && members.iter().all(has_part)).then_some(())
    })
    .await;
    all_have_copies(&client).await;
    [first, second, third]
}

/// Waits until every partition has all its copies, where they should be.
pub(crate) async fn all_have_copies(client: &Client) {
    eventually(async || {
        // Who is asked may be about to notice that somebody is dead.
        let status = client.status().await.ok()?;
        let PartitionCounts { ok, under_replicated, lost, not_begun, unreachable } = status.partitions?;
        (ok > 0 && under_replicated + lost + not_begun + unreachable == 0).then_some(())
    })
    .await;
}

/// Addresses that nobody listens at, for nodes that are told where to listen.
///
/// They lie below the ports that Linux gives to connections (`ip_local_port_range`): one of those could be the near end
/// of another test's connection when the node comes to listen there.
pub(crate) fn free_addresses(count: usize) -> Vec<String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another run of these tests begins elsewhere.
    let begin = (std::process::id() % 100) as u16 * 100;
    let ports = std::iter::repeat_with(|| 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000);
    let addresses = ports.map(|port| format!("127.0.0.1:{port}"));
    addresses.filter(|address| TcpListener::bind(address).is_ok()).take(count).collect()
}
