//! What people decide when copies are lost.

use serde_json::{Value, json};
use wattle_client::api::{PartitionCopy, PartitionCounts, PartitionName, Recovery};

use crate::harness::grid::{all_have_copies, processes};
use crate::harness::process::ProcessNode;
use crate::harness::run;
use crate::harness::wire::eventually;

/// Runs the command at a node; its exit code, and what it prints.
async fn recover_lost(node: &ProcessNode, arguments: &[&str]) -> (Option<i32>, String) {
    let endpoint = format!("http://{}", node.address());
    let command = ["grid", "recover-lost", "--endpoint", endpoint.as_str()];
    let output = run(&[&command[..], arguments].concat()).await;
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// What the command prints and hints at.
async fn partitions(node: &ProcessNode) -> (String, String) {
    let output = run(&["grid", "partitions", "--endpoint", &format!("http://{}", node.address())]).await;
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn empty(index: u32) -> Vec<Recovery> {
    vec![Recovery { partition: Some(PartitionName { class: 0, index }), copy: None }]
}

async fn counts(node: &ProcessNode) -> PartitionCounts {
    node.client().await.status().await.unwrap().partitions.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_dead_nodes_held_goes_on_empty_when_people_say_so() {
    let [first, second, third] = processes().await;
    let fourth = first.joined().await;
    let client = first.client().await;
    eventually(async || {
        let status = client.status().await.unwrap();
        status.members.iter().all(|member| member.backup_partitions > 50).then_some(())
    })
    .await;
    all_have_copies(&client).await;
    // Nobody holds anything any more that others are to hold.
    eventually(async || {
        let partitions = client.partitions().await.unwrap().partitions;
        partitions.iter().all(|partition| partition.in_sync.len() == 2).then_some(())
    })
    .await;
    let map = client.raw_map("m");
    for key in 0..200 {
        map.put(key.to_string(), "v").await.unwrap();
    }
    // Of the three that vote two are left.
    tokio::join!(third.kill(), fourth.kill());
    let silent =
        eventually(async || Some(counts(&first).await).filter(|counts| counts.unreachable > 0)).await;
    let (shown, hint) = partitions(&first).await;
    assert!(shown.lines().nth(1).is_some_and(|worst| worst.contains("  unreachable  ")), "{shown}");
    assert!(hint.starts_with("hint: what only silent nodes hold is served again"), "{hint}");
    eventually(async || client.forget_node(3).await.ok()).await;
    eventually(async || client.forget_node(4).await.ok()).await;
    let lost = counts(&first).await.lost;
    assert!((1..271).contains(&lost), "{lost}");
    assert_eq!((silent.unreachable, silent.lost, counts(&first).await.unreachable), (lost, 0, 0));
    let refused = client.recover_lost(empty(999)).await.unwrap_err();
    assert_eq!(refused.reason(), Some("INVALID_ARGUMENT"), "{refused}");
    let (code, shown) = recover_lost(&second, &["--all", "--empty"]).await;
    assert_eq!(
        (code, shown.lines().count()),
        (Some(2), 1 + lost as usize),
        "nobody has said that it is meant"
    );
    assert_eq!(counts(&first).await.lost, lost);
    let (code, shown) = recover_lost(&second, &["--all", "--empty", "--yes"]).await;
    let done = format!("0 partitions go on with a copy (0 entries), {lost} begin empty");
    assert_eq!((code, shown.lines().last()), (Some(0), Some(done.as_str())));
    let (code, said) = recover_lost(&second, &["--all"]).await;
    assert!(code == Some(0) && said.starts_with("no partition is lost"), "{code:?} {said}");
    let refused = client.recover_lost(empty(0)).await.unwrap_err();
    assert_eq!(refused.reason(), Some("NOT_LOST"), "{refused}");
    all_have_copies(&client).await;
    let mut kept = 0;
    for key in 0..200 {
        kept += usize::from(map.get(key.to_string()).await.unwrap().is_some());
        map.put(key.to_string(), "again").await.unwrap();
    }
    assert!((1..200).contains(&kept), "what others held is there: {kept}");
    first.stop().await;
    second.stop().await;
}

/// A backup stood still until it was counted on no more; then the only node that held everything dies.
#[tokio::test(flavor = "multi_thread")]
async fn lost_partitions_go_on_with_the_older_copy_of_a_node_that_comes_back() {
    let first = ProcessNode::start().await;
    let (second, arbiter) = (first.joined().await, first.joined_with(&["--arbiter"]).await);
    let client = arbiter.client().await;
    eventually(async || {
        let members = client.status().await.unwrap().members;
        (members.len() == 3 && members.iter().all(|member| member.votes)).then_some(())
    })
    .await;
    all_have_copies(&client).await;
    let map = client.raw_map("m");
    for key in 0..50 {
        map.put(key.to_string(), "old").await.unwrap();
    }
    // A backup takes up what it has when it hears that it is committed.
    eventually(async || {
        let members = client.status().await.ok()?.members;
        let held = members.iter().filter_map(|member| member.report);
        (held.map(|report| report.entries + report.backup_entries).sum::<u64>() == 100).then_some(())
    })
    .await;
    second.pause();
    eventually(async || {
        let partitions = client.partitions().await.ok()?.partitions;
        partitions.iter().all(|partition| partition.in_sync == [1]).then_some(())
    })
    .await;
    for key in 25..75 {
        map.put(key.to_string(), "new").await.unwrap();
    }
    first.kill().await;
    second.resume();
    eventually(async || client.forget_node(1).await.ok()).await;
    assert_eq!(counts(&arbiter).await.lost, 271, "what comes back is counted on no more");

    let (code, shown) = recover_lost(&arbiter, &["--all", "--dry-run", "--output", "json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &shown["recovered"], &shown["silent_nodes"]), (Some(0), &json!(false), &json!([])));
    let copies = shown["partitions"].as_array().unwrap();
    let entries: u64 = copies.iter().map(|partition| partition["copy"]["entries"].as_u64().unwrap()).sum();
    assert_eq!((copies.len(), entries), (271, 50), "{shown}");
    assert!(copies.iter().all(|partition| partition["copy"]["node"] == 2), "{shown}");
    let partition = Some(PartitionName { class: 0, index: 0 });
    let copy = Some(PartitionCopy { node: 2, incarnation: 1, ..PartitionCopy::default() });
    let refused = client.recover_lost(vec![Recovery { partition, copy }]).await.unwrap_err();
    assert_eq!(refused.reason(), Some("COPY_GONE"), "{refused}");
    assert_eq!(counts(&arbiter).await.lost, 271, "nothing was changed so far");

    let (code, shown) = recover_lost(&arbiter, &["--all", "--yes"]).await;
    let done = "271 partitions go on with a copy (50 entries), 0 begin empty";
    assert_eq!((code, shown.lines().last()), (Some(0), Some(done)));
    for key in 0..75 {
        let found = map.get(key.to_string()).await.unwrap().map(|found| found.value);
        let held = (key < 50).then_some("old");
        assert_eq!(found.as_deref(), held.map(str::as_bytes), "{key}");
        map.put(key.to_string(), "again").await.unwrap();
    }
    let third = second.joined().await;
    all_have_copies(&third.client().await).await;
    second.stop().await;
    third.stop().await;
    arbiter.stop().await;
}
