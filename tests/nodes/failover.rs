//! Nodes die, and nothing that was acknowledged is lost or done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wattle_client::api::Partition;
use wattle_client::{Client, UploadOptions};

use crate::harness::examples::example;
use crate::harness::grid::{all_have_copies, processes};
use crate::harness::wire::eventually;

const WRITERS: usize = 4;
const KEYS: usize = 16;

/// Increments of one key after the other, each acknowledged before the next; returns how often it was.
async fn increment(client: Client, writer: usize, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Vec<i64> {
    let map = client.raw_map("counters");
    let mut counts = vec![0; KEYS];
    while !stop.load(Ordering::Relaxed) {
        for (key, count) in counts.iter_mut().enumerate() {
            let value = map.increment(format!("{writer}-{key}"), 1).await.unwrap().value;
            *count += 1;
            assert_eq!(value, *count, "each took effect once");
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    counts
}

/// Writes while `fault` happens, and for a while after it.
pub(super) async fn written_through(client: &Client, fault: impl AsyncFnOnce()) -> Vec<Vec<i64>> {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let start =
        |writer| tokio::spawn(increment(client.clone(), writer, Arc::clone(&stop), Arc::clone(&done)));
    let writers: Vec<_> = (0..WRITERS).map(start).collect();
    let more = async |than: u64| {
        eventually(async || (done.load(Ordering::Relaxed) > than).then_some(())).await;
    };
    more(500).await;
    fault().await;
    more(done.load(Ordering::Relaxed) + 500).await;
    stop.store(true, Ordering::Relaxed);
    let mut counts = Vec::new();
    for writer in writers {
        counts.push(writer.await.unwrap());
    }
    counts
}

pub(super) async fn check(client: &Client, counts: &[Vec<i64>]) {
    let map = client.raw_map("counters");
    for (writer, counts) in counts.iter().enumerate() {
        for (key, count) in counts.iter().enumerate() {
            let found = map.get(format!("{writer}-{key}")).await.unwrap().unwrap().value;
            assert_eq!(found, count.to_string().as_str(), "{writer}-{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_leader_is_killed() {
    let [first, second, third] = processes().await;
    let client = second.client().await;
    let counts = written_through(&client, async || first.kill().await).await;
    for node in [&second, &third] {
        check(&node.client().await, &counts).await;
    }
    // The two that are left have a copy each.
    all_have_copies(&client).await;
    second.stop().await;
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_after_the_other_is_killed_as_soon_as_all_have_their_copies() {
    let [first, second, third] = processes().await;
    let client = first.client().await;
    let counts = written_through(&client, async || {
        second.kill().await;
        all_have_copies(&client).await;
    })
    .await;
    check(&client, &counts).await;
    // Of two voters that are left one alone decides nothing: a third comes first.
    let fourth = first.joined().await;
    all_have_copies(&client).await;
    third.kill().await;
    check(&fourth.client().await, &counts).await;
    first.stop().await;
    fourth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_forgotten_and_one_that_answers_is_not() {
    let [first, second, third] = processes().await;
    let client = first.client().await;
    client.raw_map("m").put("k", "v").await.unwrap();
    let refused = |error: wattle_client::Error| error.reason().map(str::to_owned);
    assert_eq!(refused(client.forget_node(3).await.unwrap_err()).as_deref(), Some("NODE_ANSWERS"));
    assert_eq!(refused(client.forget_node(1).await.unwrap_err()).as_deref(), Some("NODE_ANSWERS"), "itself");
    assert_eq!(refused(client.forget_node(9).await.unwrap_err()).as_deref(), Some("NODE_NOT_FOUND"));
    third.kill().await;
    all_have_copies(&client).await;
    assert_eq!(client.forget_node(3).await.unwrap(), 0, "nothing is lost");
    // Two are left, of which one votes.
    eventually(async || {
        let members = client.status().await.unwrap().members;
        let votes = members.iter().filter(|member| member.votes).count();
        (members.len() == 2 && votes == 1).then_some(())
    })
    .await;
    assert_eq!(second.client().await.raw_map("m").get("k").await.unwrap().unwrap().value, "v");
    first.stop().await;
    second.stop().await;
}

/// Or it would run what was replaced for calls that begin after the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_functions_waits_until_who_has_not_heard_of_it_decides_about_nothing() {
    let [first, second, third] = processes().await;
    let client = first.client().await;
    third.pause();
    let options = UploadOptions::new().export("add");
    client.functions().upload("add", example("counter"), &options).await.unwrap();
    let partitions = client.partitions().await.unwrap().partitions;
    let of_third = partitions.iter().filter(|partition| partition.primary == Some(3)).count();
    third.resume();
    assert_eq!(of_third, 0);
    all_have_copies(&client).await;
    for node in [first, second, third] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_grants_no_leases_leaves_the_set_although_nobody_writes() {
    let [first, second, third] = processes().await;
    let client = first.client().await;
    let partitions = async || client.partitions().await.unwrap().partitions;
    let backed = |partition: &Partition| partition.primary != Some(3) && partition.in_sync.contains(&3);
    let backed: Vec<u32> = partitions().await.iter().filter(|p| backed(p)).map(|p| p.index).collect();
    third.pause();
    // Before others are to hold what it held.
    let has_left = |partition: &Partition| {
        backed.contains(&partition.index) && partition.wanted.contains(&3) && !partition.in_sync.contains(&3)
    };
    eventually(async || partitions().await.iter().any(has_left).then_some(())).await;
    third.resume();
    all_have_copies(&client).await;
    for node in [first, second, third] {
        node.stop().await;
    }
}
