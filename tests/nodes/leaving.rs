//! Nodes leave, and take nothing with them.

use wattle::config::RawConfig;
use wattle_client::Client;

use super::failover::{check, written_through};
use crate::harness::TestNode;
use crate::harness::grid::{PARTITIONS, all_have_copies, free_addresses, joined_to, processes, three};
use crate::harness::wire::eventually;

const ENTRIES: u64 = 200;

async fn fill(client: &Client) {
    let map = client.raw_map("m");
    for n in 0..ENTRIES {
        map.put(format!("k{n}"), n.to_string()).await.unwrap();
    }
}

/// All entries are there, each with one copy beside the primary's, and none in copies that nobody wants.
async fn each_entry_is_held_twice(client: &Client) {
    eventually(async || {
        let members = client.status().await.ok()?.members;
        let held = members.iter().filter_map(|member| member.report.as_ref());
        let (entries, backups) =
            held.fold((0, 0), |(e, b), report| (e + report.entries, b + report.backup_entries));
        ((entries, backups) == (ENTRIES, ENTRIES)).then_some(())
    })
    .await;
    assert_eq!(client.raw_map("m").size().await.unwrap(), ENTRIES);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_moved_elsewhere_go_where_they_were() {
    let nodes = three().await;
    let client = nodes[0].client().await;
    fill(&client).await;
    each_entry_is_held_twice(&client).await;
    let fourth = joined_to(&nodes[0]);
    eventually(async || {
        let members = client.status().await.ok()?.members;
        let copies =
            |member: &wattle_client::api::Member| member.primary_partitions + member.backup_partitions;
        (members.iter().map(copies).min()? >= 15).then_some(())
    })
    .await;
    each_entry_is_held_twice(&fourth.client().await).await;
    for node in &nodes {
        let report = node.client().await.status().await.unwrap();
        assert_eq!(report.members.len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_people_drain_leaves_when_others_hold_everything() {
    let [first, second, third] = three().await;
    let client = first.client().await;
    fill(&client).await;
    let refused = client.drain_node(9, false).await.unwrap_err();
    assert_eq!(refused.reason(), Some("NODE_NOT_FOUND"));
    client.drain_node(2, false).await.unwrap();
    eventually(async || (client.status().await.ok()?.members.len() == 2).then_some(())).await;
    // It has stopped by itself.
    second.drain().await;
    all_have_copies(&client).await;
    each_entry_is_held_twice(&client).await;
    client.drain_node(3, false).await.unwrap();
    third.drain().await;
    let refused = client.drain_node(1, false).await.unwrap_err();
    assert_eq!(refused.reason(), Some("NOBODY_TAKES"));
    assert_eq!(client.raw_map("m").size().await.unwrap(), ENTRIES);
    assert_eq!(client.status().await.unwrap().partitions.unwrap().ok, u32::from(PARTITIONS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_stop_gives_everything_away_first() {
    let [first, second, third] = processes().await;
    let client = second.client().await;
    // The first leads the control group.
    let counts = written_through(&client, async || first.stop().await).await;
    assert_eq!(client.status().await.unwrap().members.len(), 2);
    check(&third.client().await, &counts).await;
    // Nothing has to be waited for: what is left is complete.
    third.stop().await;
    assert_eq!(client.status().await.unwrap().members.len(), 1);
    check(&client, &counts).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_restarted_one_after_the_other_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let addresses = free_addresses(3);
    let start = |place: usize| {
        let raw = RawConfig {
            listen: addresses[place].parse().ok(),
            join: Some(addresses.clone()),
            bootstrap_expect: Some(3),
            data_dir: Some(directory.path().join(place.to_string())),
            partitions: Some(PARTITIONS),
            ..RawConfig::default()
        };
        tokio::task::spawn_blocking(|| TestNode::with(raw))
    };
    let (first, second, third) = tokio::join!(start(0), start(1), start(2));
    let mut nodes = [first.unwrap(), second.unwrap(), third.unwrap()].map(Some);
    let ready = async |client: &Client| {
        eventually(async || {
            let members = client.status().await.ok()?.members;
            (members.len() == 3 && members.iter().all(|member| member.votes)).then_some(())
        })
        .await;
        all_have_copies(client).await;
    };
    let client = nodes[0].as_ref().unwrap().client().await;
    ready(&client).await;
    fill(&client).await;
    for (place, node) in nodes.iter_mut().enumerate() {
        node.take().unwrap().drain().await;
        let again = start(place).await.unwrap();
        let client = again.client().await;
        ready(&client).await;
        each_entry_is_held_twice(&client).await;
        let member = client.status().await.unwrap().members.into_iter().find(|member| member.incarnation > 1);
        assert!(member.is_some(), "it is the node that it was");
        *node = Some(again);
    }
}
