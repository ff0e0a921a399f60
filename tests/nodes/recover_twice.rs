//! A control group that is built anew more than once: what was begun was not finished, or groups know nothing of each other.

use std::path::Path;

use bytes::Bytes;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use wattle::config::RawConfig;
use wattle_client::MapOptions;
use wattle_core::ids::{MemberId, NodeId};
use wattle_peers::{Grid, Secret};

use super::bad_peers::Liar;
use super::recover_control::{KEYS, forget_all, grid_at, kept, recover_control, settled, written};
use crate::harness::grid::{all_have_copies, free_addresses, processes};
use crate::harness::process::ProcessNode;
use crate::harness::wire::eventually;
use crate::harness::{TestNode, try_start};

/// A voter asks another for its vote, in a control group that it has built.
fn asks_for_a_vote(grid: u128, generation: u32, (from, to): (u64, u64)) -> Bytes {
    let group = json!({ "grid": 0, "generation": generation, "founder": from }).to_string();
    let group = group.replace("\"grid\":0", &format!("\"grid\":{grid}"));
    let vote = json!({ "leader_id": { "term": 1, "node_id": format!("{from}.1") }, "committed": false });
    let request = json!({ "vote": vote, "last_log_id": null });
    let head = format!(r#"[{{"group":{group},"from":"{from}.1","to":"{to}.1"}},{request}]"#);
    let length = u32::try_from(head.len()).unwrap().to_le_bytes();
    [&[1, 1], length.as_slice(), head.as_bytes()].concat().into()
}

/// A node hears of a control group that another has built, and has nothing of its log.
async fn hears_of(generation: u32, (from, to): (u64, u64), node: &ProcessNode) {
    let status = node.client().await.status().await.unwrap();
    let id: [u8; 16] = status.grid_id[..].try_into().unwrap();
    let grid = Grid { id: u128::from_be_bytes(id), name: status.name };
    let request = asks_for_a_vote(grid.id, generation, (from, to));
    let member = |node| MemberId { node: NodeId(node), incarnation: 1 };
    let founder = Liar::with(grid, member(from), Secret::none());
    founder.peers.set_members([(member(to), node.address().to_owned())]);
    eventually(async || founder.peers.control(NodeId(to), request.clone()).await.ok()).await;
    founder.peers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_whose_founder_dies_is_done_again_beyond_it() {
    let [first, second, third] = processes().await;
    let fourth = first.joined().await;
    let client = fourth.client().await;
    all_have_copies(&client).await;
    written(&client).await;
    tokio::join!(first.kill(), second.kill());
    // The second had built a group before it died, and one of those who are left has heard of it.
    hears_of(2, (2, 4), &fourth).await;
    let (code, shown) = recover_control(&third, &["--yes"]).await;
    assert_eq!((code, &shown["new_generation"]), (Some(0), &json!(3)), "{shown}");
    for node in [&third, &fourth] {
        let members = settled(&node.client().await, 3, 1).await;
        assert_eq!(members, [(1, 1), (2, 1), (3, 1), (4, 1)]);
    }
    // Both have heard of the next one, and nobody has anything of it.
    hears_of(4, (2, 3), &third).await;
    hears_of(4, (2, 4), &fourth).await;
    let (code, shown) = recover_control(&fourth, &["--yes"]).await;
    assert_eq!((code, &shown["new_generation"]), (Some(0), &json!(5)), "{shown}");
    for node in [&third, &fourth] {
        settled(&node.client().await, 5, 1).await;
    }
    forget_all(&client, &[1, 2]).await;
    assert_eq!(grid_at(third.address(), &["recover-lost", "--all", "--yes"]).await.0, Some(0));
    all_have_copies(&client).await;
    let there = kept(&client).await;
    assert!((1..=KEYS).contains(&there), "{there}");
    third.stop().await;
    fourth.stop().await;
}

/// A node with a data directory and an address that stays; all but the first join that one.
fn start(root: &Path, addresses: &[String], index: usize) -> JoinHandle<TestNode> {
    let raw = raw(root, addresses, index);
    tokio::task::spawn_blocking(|| TestNode::with(raw))
}

fn raw(root: &Path, addresses: &[String], index: usize) -> RawConfig {
    RawConfig {
        listen: addresses[index].parse().ok(),
        data_dir: Some(root.join(index.to_string())),
        join: (index > 0).then(|| vec![addresses[0].clone()]),
        partitions: Some(31),
        ..RawConfig::default()
    }
}

/// A voter by itself, of a group that others may have built anew, says who it waits for as long as it does.
async fn waits_for_others(address: &str) {
    eventually(async || {
        let (code, _, said) = grid_at(address, &["forget", "9", "--yes", "--timeout", "1s"]).await;
        (code != Some(0) && said.contains("no node 9")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_meets_nobody_of_its_grid_does_not_go_on_by_itself() {
    let root = tempfile::tempdir().unwrap();
    let addresses = free_addresses(2);
    let start = |index| start(root.path(), &addresses, index);
    let (first, second) = (start(0).await.unwrap(), start(1).await.unwrap());
    let client = second.client().await;
    all_have_copies(&client).await;
    first.stop().await;
    let (code, _, said) = grid_at(&addresses[1], &["recover-control", "--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(settled(&client, 2, 1).await, [(1, 1), (2, 1)]);
    let once = MapOptions::new().replication(0, 1);
    client.maps().create("once", &once).await.unwrap();
    second.stop().await;

    // It voted alone, and nobody tells it that the other has built another group since.
    let first = start(0);
    waits_for_others(&addresses[0]).await;
    assert!(!first.is_finished(), "it serves nobody");
    let (first, second) = (first, start(1));
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    let client = first.client().await;
    assert_eq!(settled(&client, 2, 1).await, [(1, 2), (2, 2)]);
    assert!(client.maps().list().await.unwrap().iter().any(|map| map.name == "once"));
    first.stop().await;
    second.stop().await;

    // The other votes alone now. People say that nobody else will come.
    let second = start(1);
    waits_for_others(&addresses[1]).await;
    assert!(!second.is_finished(), "it serves nobody");
    let (code, _, said) = grid_at(&addresses[1], &["forget", "1", "--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    let second = second.await.unwrap();
    let client = second.client().await;
    assert_eq!(settled(&client, 2, 1).await, [(2, 3)]);
    all_have_copies(&client).await;
    client.raw_map("once").put("k", "v").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn old_voters_that_went_on_by_themselves_stop_when_they_meet_the_new_group() {
    let root = tempfile::tempdir().unwrap();
    let addresses = free_addresses(2);
    let start = |index| start(root.path(), &addresses, index);
    let old = [start(0).await.unwrap(), start(1).await.unwrap()];
    let third = ProcessNode::with(&["--join", &addresses[0]]).await;
    let client = third.client().await;
    assert_eq!(settled(&client, 1, 3).await, [(1, 1), (2, 1), (3, 1)]);
    all_have_copies(&client).await;
    for node in old {
        node.stop().await;
    }
    let (code, shown) = recover_control(&third, &["--yes"]).await;
    assert_eq!((code, &shown["new_generation"]), (Some(0), &json!(2)), "{shown}");
    third.pause();
    let (first, second) = (start(0), start(1));
    let old = [first.await.unwrap(), second.await.unwrap()];
    assert_eq!(settled(&old[0].client().await, 1, 3).await, [(1, 2), (2, 2), (3, 1)]);
    third.resume();
    for address in &addresses {
        eventually(async || TcpStream::connect(address).await.err()).await;
    }
    for node in old {
        node.stop().await;
    }
    let (first, second) = (start(0), start(1));
    let _again = [first.await.unwrap(), second.await.unwrap()];
    let members = settled(&client, 2, 3).await;
    assert_eq!(members.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [1, 2, 3]);
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_groups_of_one_generation_people_choose_one() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("4");
    let [first, second, third] = processes().await;
    let fourth = first.joined_with(&["--data-dir", data.to_str().unwrap()]).await;
    let client = third.client().await;
    all_have_copies(&client).await;
    tokio::join!(first.kill(), second.kill());
    // Each is the only one for the other's time.
    for (here, there) in [(&third, &fourth), (&fourth, &third)] {
        there.pause();
        let (code, shown) = recover_control(here, &["--yes"]).await;
        assert_eq!((code, &shown["new_generation"]), (Some(0), &json!(2)), "{shown}");
        here.pause();
        there.resume();
    }
    fourth.resume();
    for node in [&third, &fourth] {
        let (code, _, said) = grid_at(node.address(), &["recover-control", "--yes"]).await;
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains("built anew twice in generation 2, by nodes 3 and 4"), "{said}");
    }
    // One that comes back from its disk cannot know which one people want.
    fourth.kill().await;
    let raw = RawConfig { data_dir: Some(data), ..RawConfig::default() };
    let started = tokio::task::spawn_blocking(|| try_start(raw)).await.unwrap();
    let error = format!("{:#}", anyhow::Error::from(started.map(drop).unwrap_err()));
    assert!(error.contains("twice in generation 2") && error.contains("empty data directories"), "{error}");
    let fourth = third.joined().await;
    forget_all(&client, &[1, 2, 4]).await;
    assert_eq!(grid_at(third.address(), &["recover-lost", "--all", "--yes"]).await.0, Some(0));
    all_have_copies(&client).await;
    fourth.stop().await;
    third.stop().await;
}
