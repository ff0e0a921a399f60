//! What a grid says about itself: its members and its partitions.

use std::net::TcpListener;

use serde_json::{Value, json};
use wattle::config::RawConfig;
use wattle_client::api::{Member, NodeRole, NodeState, Partition, PartitionCounts, PartitionState};
use wattle_core::partition::partition_of;
use wattle_proto::v1;
use wattle_proto::v1::grid_service_client::GridServiceClient;

use crate::harness::TestNode;
use crate::harness::grid::{PARTITIONS, address, free_addresses, joined_to, three};
use crate::harness::wire::eventually;

/// What a command prints, which must succeed.
async fn printed(node: &TestNode, arguments: &[&str]) -> String {
    let output = node.command(arguments).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn printed_json(node: &TestNode, arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(node, &[arguments, &["--output", "json"]].concat()).await).unwrap()
}

#[tokio::test]
async fn a_lone_node_says_what_it_is_and_has() {
    let node = TestNode::with(RawConfig { grid: Some("alone".to_owned()), ..RawConfig::default() });
    let client = node.client().await;
    for key in ["a", "b", "c"] {
        client.raw_map("m").put(key, "v").await.unwrap();
    }
    let status = client.status().await.unwrap();
    assert_eq!((status.name.as_str(), status.grid_id.len(), status.generation), ("alone", 16, 1));
    assert_eq!((status.leader, status.maps, status.functions), (Some(1), 1, 0));
    assert_eq!(status.partitions, Some(PartitionCounts { ok: 271, ..PartitionCounts::default() }));
    let [member] = &status.members[..] else { panic!("{status:?}") };
    let report = member.report.expect("it answers for itself");
    assert_eq!((report.entries, report.backup_entries, report.ready), (3, 0, true));
    assert!(0 < report.bytes_held && report.bytes_held < report.bytes_limit, "{report:?}");
    let expected = Member {
        address: address(&node),
        node: 1,
        incarnation: 1,
        role: NodeRole::Data.into(),
        state: NodeState::Joined.into(),
        votes: true,
        leads: true,
        primary_partitions: 271,
        // Of the machine, and of this build.
        name: member.name.clone(),
        version: status.version.clone(),
        report: member.report,
        ..Member::default()
    };
    assert_eq!(*member, expected);
    assert!(!member.name.is_empty());
    let listed = client.partitions().await.unwrap();
    assert_eq!(listed.table_version, status.table_version);
    assert_eq!(listed.partitions.len(), 271);
    for (index, partition) in (0..).zip(&listed.partitions) {
        let expected = Partition {
            index,
            primary: Some(1),
            in_sync: vec![1],
            wanted: vec![1],
            state: PartitionState::Ok.into(),
            epoch: Some(v1::Epoch { generation: 1, number: 1 }),
            ..Partition::default()
        };
        assert_eq!(*partition, expected);
    }
    assert_eq!(node.metric("wattle_grid_members").await, 1);
    assert_eq!(node.metric("wattle_partitions{state=\"ok\"}").await, 271);
    assert_eq!(node.metric("wattle_partitions{state=\"lost\"}").await, 0);
}

#[tokio::test]
async fn commands_print_the_grid_for_programs_and_for_people() {
    let node = TestNode::with(RawConfig { partitions: Some(2), ..RawConfig::default() });
    let client = node.client().await;
    client.raw_map("m").put("k", "v").await.unwrap();
    let told = client.status().await.unwrap();
    let report = told.members[0].report.unwrap();
    let status = printed_json(&node, &["grid", "status"]).await;
    let expected = json!({
        "name": "wattle",
        "id": told.grid_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "generation": 1,
        "table_version": told.table_version,
        "versions": [told.version],
        "nodes": 1,
        "nodes_answering": 1,
        "leader": 1,
        "outdated": false,
        "partitions": { "ok": 2, "under_replicated": 0, "lost": 0, "not_begun": 0, "unreachable": 0 },
        "maps": 1,
        "functions": 0,
        "entries": 1,
        "bytes_held": report.bytes_held,
        "bytes_limit": report.bytes_limit,
        "warnings": [],
    });
    assert_eq!(status, expected);
    let mut members = printed_json(&node, &["grid", "members"]).await;
    let uptime = members[0]["uptime_seconds"].take();
    assert!(uptime.as_f64().is_some_and(|seconds| seconds > 0.0), "{uptime}");
    let expected = json!([{
        "node": 1,
        "incarnation": 1,
        "name": told.members[0].name,
        "address": address(&node),
        "zone": null,
        "role": "data",
        "state": "joined",
        "version": told.version,
        "votes": true,
        "leads": true,
        "primary_partitions": 2,
        "backup_partitions": 0,
        "answers": true,
        "ready": true,
        "uptime_seconds": null,
        "entries": 1,
        "backup_entries": 0,
        "bytes_held": report.bytes_held,
        "bytes_limit": report.bytes_limit,
        "not_loaded": [],
    }]);
    assert_eq!(members, expected);
    assert_eq!(printed(&node, &["grid", "partitions"]).await, "all 2 partitions have their copies\n");
    assert_eq!(printed_json(&node, &["grid", "partitions"]).await, json!([]));
    let table = printed(&node, &["grid", "partitions", "--all"]).await;
    let expected = "\
CLASS  PARTITION  STATE  PRIMARY  IN SYNC  WANTED  EPOCH
0      0          ok     1        1        1       1.1
0      1          ok     1        1        1       1.1
";
    assert_eq!(table, expected);
    assert!(printed(&node, &["grid", "status"]).await.contains("nodes       1 of 1 answer\n"));
    assert!(printed(&node, &["grid", "members"]).await.contains("  data  ready  leads    2 "));
}

#[tokio::test]
async fn each_node_tells_of_all_and_of_each_entry_once() {
    let nodes = three().await;
    let client = nodes[0].client().await;
    let partitions = client.partitions().await.unwrap().partitions;
    assert_eq!(partitions.len(), usize::from(PARTITIONS));
    assert!(partitions.iter().all(|partition| partition.in_sync.len() == 2), "{partitions:?}");
    let is_first =
        |key: &String| partitions[usize::from(partition_of(key.as_bytes(), PARTITIONS))].primary == Some(1);
    let key = (0..).map(|n| format!("k{n}")).find(is_first).unwrap();
    let partition = &partitions[usize::from(partition_of(key.as_bytes(), PARTITIONS))];
    let other = *partition.in_sync.iter().find(|node| **node != 1).unwrap();
    client.raw_map("m").put(key, "v").await.unwrap();
    for node in &nodes {
        let client = node.client().await;
        // The backup has it when it hears that it is committed.
        let members = eventually(async || {
            let members = client.status().await.unwrap().members;
            let backups = members.iter().filter_map(|member| member.report).map(|it| it.backup_entries);
            (backups.sum::<u64>() > 0).then_some(members)
        })
        .await;
        assert_eq!(members.iter().map(|member| member.node).collect::<Vec<_>>(), [1, 2, 3]);
        let addresses = members.iter().map(|member| member.address.clone()).collect::<Vec<_>>();
        assert_eq!(addresses, nodes.each_ref().map(address));
        for member in members {
            let report = member.report.expect("it answers");
            let expected = (u64::from(member.node == 1), u64::from(member.node == other), true);
            assert_eq!((report.entries, report.backup_entries, report.ready), expected, "{}", member.node);
        }
    }
    // Who is asked about itself alone asks nobody.
    let mut service = GridServiceClient::connect(nodes[1].endpoint()).await.unwrap();
    let local =
        service.status(v1::StatusRequest { local: true, ..Default::default() }).await.unwrap().into_inner();
    let told = local.members.iter().map(|member| (member.node, member.report.is_some())).collect::<Vec<_>>();
    assert_eq!(told, [(2, true)]);
    assert_eq!(nodes[2].metric("wattle_grid_members").await, 3);
}

#[tokio::test]
async fn a_node_that_stopped_does_not_answer_and_its_partitions_are_the_others() {
    let [first, second, third] = three().await;
    let client = first.client().await;
    let before = client.partitions().await.unwrap().partitions;
    let was_third = |index: usize| before[index].in_sync.contains(&3);
    assert!((0..before.len()).any(was_third), "{before:?}");
    third.stop().await;
    for node in [&first, &second] {
        let client = node.client().await;
        let after = eventually(async || {
            let partitions = client.partitions().await.unwrap().partitions;
            let names = |partition: &Partition| partition.in_sync.contains(&3);
            (!partitions.iter().any(names)).then_some(partitions)
        })
        .await;
        for (index, partition) in after.iter().enumerate() {
            assert!(matches!(partition.primary, Some(1 | 2)), "{partition:?}");
            let in_sync = partition.in_sync.len();
            let expected = if in_sync == 2 { PartitionState::Ok } else { PartitionState::UnderReplicated };
            // Until its copies are elsewhere.
            assert_eq!(partition.state(), expected, "{partition:?}");
            assert!(in_sync == 2 || was_third(index), "{partition:?}");
        }
        let members = client.status().await.unwrap().members;
        let answers = members.iter().map(|member| member.report.is_some()).collect::<Vec<_>>();
        assert_eq!(answers, [true, true, false]);
        let silent = printed(node, &["grid", "status"]).await;
        assert!(silent.contains("nodes       2 of 3 answer\n"), "{silent}");
        assert!(silent.contains("warning: no answer from node 3 ("), "{silent}");
        assert!(printed(node, &["grid", "members"]).await.contains("  no answer  "));
    }
}

#[tokio::test]
async fn who_answers_where_a_member_was_is_not_taken_for_it() {
    let address = free_addresses(1).remove(0);
    let listening = || RawConfig { listen: address.parse().ok(), ..RawConfig::default() };
    let first = TestNode::with(listening());
    let second = joined_to(&first);
    let client = second.client().await;
    let answering = async || {
        let members = client.status().await.unwrap().members;
        members.iter().map(|member| (member.node, member.report.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(answering().await, [(1, true), (2, true)]);
    first.stop().await;
    let mute = TcpListener::bind(&address).unwrap();
    assert_eq!(answering().await, [(1, false), (2, true)]);
    drop(mute);
    // The first node of a grid, too, in its first life.
    let stranger = TestNode::with(listening());
    assert_eq!(stranger.client().await.status().await.unwrap().members[0].node, 1);
    assert_eq!(answering().await, [(1, false), (2, true)]);
}
