//! What processes do that are told to end: before they serve, and all at once.

use rustix::process::Signal;
use wattle_client::Client;
use wattle_client::api::{Member, NodeState};

use crate::harness::grid::{free_addresses, is_shared_by_three};
use crate::harness::process::Starting;
use crate::harness::wire::eventually;

/// The first process of a container is not ended by the system: it has to listen by itself. Who does says so, and that it is no failure.
#[tokio::test]
async fn a_process_that_waits_for_a_grid_ends_when_it_is_told_to() {
    for signal in [Signal::TERM, Signal::INT] {
        let nobody = free_addresses(1).remove(0);
        let mut waiting = Starting::with(&["--join", &nobody]);
        waiting.says("waiting for a grid").await.expect("it waits");
        waiting.signal(signal);
        let stopping = "stopping before this node serves; a second signal ends at once";
        assert!(waiting.says(stopping).await.is_some(), "{signal:?}");
        assert!(waiting.says("stopped").await.is_some(), "{signal:?}");
        assert_eq!(waiting.exit_code().await, Some(0), "{signal:?}");
    }
}

async fn serving(arguments: &[&str]) -> (Starting, String) {
    // Shorter than anybody is waited for who is silent.
    let mut node = Starting::with(&[&["--stop-seconds", "9"], arguments].concat());
    let line = node.says("serving").await.expect("it serves before it ends");
    (node, line["address"].as_str().unwrap().to_owned())
}

/// None of them waits for another that waits, too, because whose vote was needed has ended.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_all_told_to_end_do_so_without_waiting_for_one_another() {
    for _ in 0..4 {
        let (first, address) = serving(&[]).await;
        let join = ["--join", &address];
        let ((second, _), (third, _)) = (serving(&join).await, serving(&join).await);
        let client = Client::connect(format!("http://{address}")).await.unwrap();
        is_shared_by_three(&client).await;
        let nodes = [first, second, third];
        nodes[1..].iter().for_each(|node| node.signal(Signal::TERM));
        // The last to be told has the votes by then.
        eventually(async || {
            let members = client.status().await.ok()?.members;
            let stays = |member: &&Member| member.state() != NodeState::Draining;
            (members.iter().filter(stays).count() == 1).then_some(())
        })
        .await;
        nodes[0].signal(Signal::TERM);
        let ended = nodes.map(async |mut node| {
            let late = "not everything has moved to others in time: the node stops all the same";
            assert_eq!(node.says(late).await, None);
            assert_eq!(node.exit_code().await, Some(0));
        });
        futures_util::future::join_all(ended).await;
    }
}
