//! What people decide when copies are lost.

use wattle_client::api::{PartitionCounts, PartitionName};

use crate::harness::grid::{all_have_copies, processes};
use crate::harness::process::ProcessNode;
use crate::harness::run;
use crate::harness::wire::eventually;

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
    let map = client.raw_map("m");
    for key in 0..200 {
        map.put(key.to_string(), "v").await.unwrap();
    }
    // Of the three that vote two are left.
    tokio::join!(third.kill(), fourth.kill());
    eventually(async || client.forget_node(3).await.ok()).await;
    eventually(async || client.forget_node(4).await.ok()).await;
    let lost = counts(&first).await.lost;
    assert!((1..271).contains(&lost), "{lost}");
    let refused = client.recover_lost(vec![PartitionName { class: 0, index: 999 }]).await.unwrap_err();
    assert_eq!(refused.reason(), Some("INVALID_ARGUMENT"), "{refused}");
    let endpoint = format!("http://{}", second.address());
    let command = async |arguments: &[&str]| {
        let command = ["grid", "recover-lost", "--endpoint", endpoint.as_str()];
        let output = run(&[&command[..], arguments].concat()).await;
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(command(&["--all"]).await, (Some(2), String::new()), "nobody has said that it is meant");
    assert_eq!(counts(&first).await.lost, lost);
    let done = format!("{lost} partitions go on, empty\n");
    assert_eq!(command(&["--all", "--yes"]).await, (Some(0), done));
    assert_eq!(command(&["--all"]).await, (Some(0), "no partition is lost\n".to_owned()));
    let refused = client.recover_lost(vec![PartitionName { class: 0, index: 0 }]).await.unwrap_err();
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
