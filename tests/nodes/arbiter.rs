//! Two nodes with data and one that only votes.

use wattle_client::api::NodeRole;

use crate::harness::grid::all_have_copies;
use crate::harness::process::ProcessNode;
use crate::harness::wire::eventually;

/// Writes to both, kills one of the two, and goes on at the other.
async fn goes_on_without(victim: usize) {
    let first = ProcessNode::start().await;
    let (second, arbiter) = (first.joined().await, first.joined_with(&["--arbiter"]).await);
    let client = arbiter.client().await;
    let members = eventually(async || {
        let members = client.status().await.unwrap().members;
        (members.len() == 3 && members.iter().all(|member| member.votes)).then_some(members)
    })
    .await;
    let roles: Vec<NodeRole> = members.iter().map(|member| member.role()).collect();
    assert_eq!(roles, [NodeRole::Data, NodeRole::Data, NodeRole::Arbiter]);
    all_have_copies(&client).await;
    let map = client.raw_map("m");
    for key in 0..50 {
        map.put(key.to_string(), "before").await.unwrap();
    }
    let mut nodes = vec![first, second];
    nodes.remove(victim).kill().await;
    // One copy is all that there can be.
    for key in 0..50 {
        assert_eq!(map.get(key.to_string()).await.unwrap().unwrap().value, "before");
        map.put(key.to_string(), "after").await.unwrap();
    }
    let survivor = nodes.remove(0);
    let at_survivor = survivor.client().await.raw_map("m");
    for key in 0..50 {
        assert_eq!(at_survivor.get(key.to_string()).await.unwrap().unwrap().value, "after");
    }
    let members = client.status().await.unwrap().members;
    let holds = |member: &wattle_client::api::Member| {
        let report = member.report.unwrap_or_default();
        (member.primary_partitions + member.backup_partitions, report.entries + report.backup_entries)
    };
    assert_eq!(holds(&members[2]), (0, 0), "{members:?}");
    survivor.stop().await;
    arbiter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_two_may_die_where_a_third_votes() {
    goes_on_without(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_may_die_where_a_third_votes() {
    goes_on_without(1).await;
}
