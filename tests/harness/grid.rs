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
    is_shared_by_three(&nodes[1].client().await).await;
    let [second, third] = nodes;
    [first, second, third]
}

/// A grid of processes whose partitions all have two copies, which are where they stay.
pub(crate) async fn processes() -> [ProcessNode; 3] {
    let first = ProcessNode::start().await;
    let (second, third) = (first.joined().await, first.joined().await);
    is_shared_by_three(&third.client().await).await;
    [first, second, third]
}

/// Waits until three nodes vote, and each has its share of the primaries and of two copies of all partitions: nothing moves then.
pub(crate) async fn is_shared_by_three(client: &Client) {
    eventually(async || {
        let status = client.status().await.unwrap();
        let partitions: u32 = status.partitions.as_ref().map(|counts| counts.ok).filter(|ok| *ok > 0)?;
        let counts = PartitionCounts { ok: partitions, ..PartitionCounts::default() };
        let is_share = |count: u32, of: u32| (of / 3..=of.div_ceil(3)).contains(&count);
        let has_share = |member: &Member| {
            let copies = member.primary_partitions + member.backup_partitions;
            member.votes
                && is_share(member.primary_partitions, partitions)
                && is_share(copies, 2 * partitions)
        };
        let is_shared = status.members.len() == 3 && status.members.iter().all(has_share);
        (status.partitions == Some(counts) && is_shared).then_some(())
    })
    .await;
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
