//! A node that has not heard yet what is decided.

use std::time::Duration;

use tokio::time::timeout;

use crate::harness::grid::{all_have_copies, free_addresses};
use crate::harness::holding::Holding;
use crate::harness::process::ProcessNode;
use crate::harness::run;
use crate::harness::wire::eventually;

/// All partitions are lost, and a node that only follows is asked while the news is held up on its way there.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_behind_does_not_say_that_nothing_is_lost() {
    let first = ProcessNode::start().await;
    let (second, third) = (first.joined().await, first.joined_with(&["--arbiter", "--zone", "a"]).await);
    let client = third.client().await;
    eventually(async || {
        let members = client.status().await.unwrap().members;
        (members.len() == 3 && members.iter().all(|member| member.votes)).then_some(())
    })
    .await;
    all_have_copies(&client).await;
    let listens = free_addresses(1).remove(0);
    let news = Holding::before(&listens).await;
    // It has no vote, for one in its zone has: who has one and hears nothing wants to lead.
    let arguments =
        ["--arbiter", "--zone", "a", "--peer-listen", &listens, "--peer-advertise", news.address()];
    let fourth = first.joined_with(&arguments).await;
    let follower = fourth.client().await;
    // The only one that holds everything dies.
    second.pause();
    eventually(async || {
        let partitions = client.partitions().await.ok()?.partitions;
        partitions.iter().all(|partition| partition.in_sync == [1]).then_some(())
    })
    .await;
    first.kill().await;
    second.resume();
    eventually(async || follower.status().await.ok()?.leader.filter(|leader| [2, 3].contains(leader))).await;
    news.hold();
    eventually(async || client.forget_node(1).await.ok()).await;
    let known = follower.status().await.unwrap();
    assert_eq!((known.outdated, known.partitions.unwrap().lost), (true, 0), "it says that it may be behind");
    assert!(follower.partitions().await.unwrap().outdated);
    let status = run(&["grid", "status", "--endpoint", &format!("http://{}", fourth.address())]).await;
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("warning: who leads the control group does not answer this node"), "{status}");
    let mut asked = std::pin::pin!(follower.copies(Vec::new()));
    let early = timeout(Duration::from_millis(500), &mut asked).await;
    assert!(early.is_err(), "{early:?}");
    news.release();
    assert_eq!(asked.await.unwrap().partitions.len(), 271);
    let known = follower.status().await.unwrap();
    assert_eq!((known.outdated, known.partitions.unwrap().lost), (false, 271));
    // It is wanted where nobody is left who could give it anything.
    let fifth = second.joined().await;
    let endpoint = format!("http://{}", fourth.address());
    let command = ["grid", "drain", "2", "--endpoint", &endpoint, "--yes"];
    let unasked = run(&command[..5]).await;
    assert_eq!(unasked.status.code(), Some(2), "nobody has said that it is meant");
    let drained = timeout(Duration::from_secs(30), run(&command)).await.expect("it does not wait for that");
    assert_eq!(String::from_utf8(drained.stdout).unwrap(), "node 2 has left the grid\n");
    let warning = String::from_utf8(drained.stderr).unwrap();
    assert!(warning.starts_with("warning: 271 partitions are lost"), "{warning}");
    second.has_ended().await;
    // Nobody has anything of any partition any more: the grid starts empty.
    all_have_copies(&follower).await;
    third.stop().await;
    fourth.stop().await;
    fifth.stop().await;
}
