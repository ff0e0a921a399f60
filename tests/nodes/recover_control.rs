//! What people decide when most of the voters are gone.

use serde_json::{Value, json};
use wattle_client::Client;
use wattle_client::api::{Partition, StatusResponse};

use crate::harness::grid::{all_have_copies, processes};
use crate::harness::process::ProcessNode;
use crate::harness::run;
use crate::harness::wire::eventually;

pub(super) const KEYS: usize = 200;

/// Runs a command about the grid at a node; its exit code, and what it prints.
async fn grid(node: &ProcessNode, arguments: &[&str]) -> (Option<i32>, String) {
    let (code, shown, _) = grid_at(node.address(), arguments).await;
    (code, shown)
}

/// The same at an address, and what it says of errors.
pub(super) async fn grid_at(address: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let endpoint = format!("http://{address}");
    let output = run(&[&["grid"], arguments, &["--endpoint", endpoint.as_str()]].concat()).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

pub(super) async fn recover_control(node: &ProcessNode, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, shown) = grid(node, &[&["recover-control", "--output", "json"], arguments].concat()).await;
    (code, serde_json::from_str(&shown).unwrap_or(Value::Null))
}

pub(super) async fn written(client: &Client) {
    let map = client.raw_map("m");
    for key in 0..KEYS {
        map.put(key.to_string(), "v").await.unwrap();
    }
}

/// How many of the keys are there; every one can be written.
pub(super) async fn kept(client: &Client) -> usize {
    let map = client.raw_map("m");
    let mut kept = 0;
    for key in 0..KEYS {
        kept += usize::from(map.get(key.to_string()).await.unwrap().is_some());
        map.put(key.to_string(), "again").await.unwrap();
    }
    kept
}

pub(super) async fn forget_all(client: &Client, nodes: &[u64]) -> u32 {
    let mut lost = 0;
    for node in nodes {
        lost += eventually(async || client.forget_node(*node).await.ok()).await;
    }
    lost
}

/// The nodes of the grid with their lives, as soon as it is of a generation and has so many voters.
pub(super) async fn settled(client: &Client, generation: u32, voters: usize) -> Vec<(u64, u64)> {
    let status: StatusResponse = eventually(async || {
        let status = client.status().await.ok()?;
        let votes = status.members.iter().filter(|member| member.votes).count();
        (status.generation == generation && votes == voters).then_some(status)
    })
    .await;
    status.members.iter().map(|member| (member.node, member.incarnation)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_three_nodes_goes_on_with_what_it_has() {
    let [first, second, third] = processes().await;
    let client = third.client().await;
    written(&client).await;
    assert_eq!(recover_control(&third, &["--yes"]).await, (Some(4), Value::Null), "the voters are there");
    let held = eventually(async || {
        let members = client.status().await.unwrap().members;
        let held: Vec<u64> = members
            .iter()
            .map(|member| member.report.map_or(0, |report| report.entries + report.backup_entries))
            .collect();
        // A backup takes up what it has when it hears that it is committed.
        (held.iter().sum::<u64>() == 2 * KEYS as u64).then_some(held[2] as usize)
    })
    .await;
    assert!((1..KEYS).contains(&held), "{held}");
    tokio::join!(first.kill(), second.kill());

    let (code, _) = grid(&third, &["forget", "1", "--yes", "--timeout", "1s"]).await;
    assert_ne!(code, Some(0), "nobody decides any more");
    let (code, shown) = recover_control(&third, &["--dry-run"]).await;
    let answers = |member: &Value| (member["votes"].clone(), member["answers"].clone());
    let answers: Vec<_> = shown["members"].as_array().unwrap().iter().map(answers).collect();
    let (yes, no) = (json!(true), json!(false));
    assert_eq!((code, &shown["newest"], &shown["new_generation"]), (Some(0), &json!(3), &Value::Null));
    assert_eq!(answers, [(yes.clone(), no.clone()), (yes.clone(), no), (yes.clone(), yes)]);
    assert_eq!(
        recover_control(&third, &[]).await,
        (Some(2), Value::Null),
        "nobody has said that it is meant"
    );
    let (code, shown) = recover_control(&third, &["--yes"]).await;
    assert_eq!((code, &shown["new_generation"]), (Some(0), &json!(2)));

    assert_eq!(settled(&client, 2, 1).await, [(1, 1), (2, 1), (3, 1)]);
    let lost = forget_all(&client, &[1, 2]).await;
    assert!((1..271).contains(&lost), "what the two held alone: {lost}");
    assert_eq!(grid(&third, &["recover-lost", "--all", "--yes"]).await.0, Some(0));
    assert_eq!(kept(&client).await, held, "all that it held, and nothing else");
    // New nodes can join, and the old one can go.
    let (fourth, fifth) = (third.joined().await, third.joined().await);
    // No number is given out that the lost group can have given out.
    let members = settled(&fourth.client().await, 2, 3).await;
    assert_eq!(members, [(3, 1), (1_000_000_001, 1), (1_000_000_002, 1)]);
    all_have_copies(&client).await;
    third.kill().await;
    let client = fifth.client().await;
    assert_eq!(kept(&client).await, KEYS);
    all_have_copies(&client).await;
    fourth.stop().await;
    fifth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_of_five_goes_on_as_the_members_that_they_are() {
    let [first, second, third] = processes().await;
    let (fourth, fifth) = (first.joined().await, first.joined().await);
    let client = fourth.client().await;
    settled(&client, 1, 5).await;
    eventually(async || {
        let status = client.status().await.unwrap();
        status.members.iter().all(|member| member.backup_partitions > 40).then_some(())
    })
    .await;
    // Nobody holds anything any more that others are to hold.
    eventually(async || {
        let partitions = client.partitions().await.unwrap().partitions;
        partitions.iter().all(|partition| partition.in_sync.len() == 2).then_some(())
    })
    .await;
    all_have_copies(&client).await;
    written(&client).await;
    let gone = |partition: &&Partition| partition.in_sync.iter().all(|node| *node <= 3);
    let partitions = client.partitions().await.unwrap().partitions;
    let gone = partitions.iter().filter(gone).count();
    tokio::join!(first.kill(), second.kill(), third.kill());
    let (code, shown) = recover_control(&fourth, &["--yes"]).await;
    assert_eq!((code, &shown["new_generation"]), (Some(0), &json!(2)), "{shown}");
    for node in [&fourth, &fifth] {
        let members = settled(&node.client().await, 2, 1).await;
        assert_eq!(members, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
    }
    assert_eq!(forget_all(&client, &[1, 2, 3]).await as usize, gone);
    assert_eq!(grid(&fifth, &["recover-lost", "--all", "--yes"]).await.0, Some(0));
    all_have_copies(&client).await;
    let there = kept(&fifth.client().await).await;
    assert!((1..KEYS).contains(&there), "{there}");
    fourth.stop().await;
    fifth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_comes_back_from_its_disk_goes_on_in_the_new_group() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = ProcessNode::with_data(directory.path()).await;
    let second = first.joined_with(&["--data-dir", other.path().to_str().unwrap()]).await;
    let client = second.client().await;
    all_have_copies(&client).await;
    written(&client).await;
    first.kill().await;
    let (code, shown) = recover_control(&second, &["--yes"]).await;
    assert_eq!((code, &shown["new_generation"]), (Some(0), &json!(2)), "{shown}");
    assert_eq!(settled(&client, 2, 1).await, [(1, 1), (2, 1)]);
    assert_eq!(kept(&client).await, KEYS, "it had a copy of everything");
    // It voted alone in the old group, and has its log.
    let first = ProcessNode::with_data(directory.path()).await;
    assert_eq!(settled(&first.client().await, 2, 1).await, [(1, 2), (2, 1)]);
    all_have_copies(&client).await;
    first.kill().await;
    let first = ProcessNode::with_data(directory.path()).await;
    assert_eq!(settled(&first.client().await, 2, 1).await, [(1, 3), (2, 1)]);
    all_have_copies(&client).await;
    // So does who has built the new one.
    second.kill().await;
    let second = ProcessNode::with_data(other.path()).await;
    assert_eq!(settled(&second.client().await, 2, 1).await, [(1, 3), (2, 2)]);
    all_have_copies(&first.client().await).await;
    assert_eq!(kept(&second.client().await).await, KEYS);
    first.stop().await;
    second.stop().await;
}
