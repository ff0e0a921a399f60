//! Calls and their answers.

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::task::JoinSet;
use wattle_core::limits::{PEER_CALL_BYTES, PEER_CALLS};

use super::harness::{Node, Wire, in_time, member};
use crate::{CallError, Event, SendError};

async fn pair() -> (Node, Node) {
    let (a, b) = (Node::start(member(1, 1)).await, Node::start(member(2, 1)).await);
    a.knows(&[&b]);
    b.knows(&[&a]);
    (a, b)
}

#[tokio::test]
async fn every_call_has_its_own_answer() {
    let (a, b) = pair().await;
    let calls = (0..1000_u32).map(|number| a.peers.call(b.member, number.to_be_bytes().to_vec().into()));
    let answers = in_time(futures_util::future::join_all(calls)).await;
    for (number, answer) in (0..1000_u32).zip(answers) {
        assert_eq!(answer.as_deref(), Ok(&number.to_le_bytes()[..]));
    }
    assert_eq!((a.peers.figures().calls, b.peers.figures().answers), (1000, 1000));
}

#[tokio::test]
async fn a_call_may_be_as_large_as_the_limit_and_no_larger() {
    let (a, b) = pair().await;
    let largest = Bytes::from(vec![7; PEER_CALL_BYTES]);
    assert_eq!(in_time(a.peers.call(b.member, largest.clone())).await, Ok(largest));
    let bytes = PEER_CALL_BYTES + 1;
    let refused = in_time(a.peers.call(b.member, vec![7; bytes].into())).await;
    assert_eq!(refused, Err(CallError::NotSent(SendError::TooLarge { bytes })));
}

#[tokio::test]
async fn calls_that_are_not_answered_do_not_hold_up_others() {
    let (a, b) = pair().await;
    let hanging = (1..PEER_CALLS).map(|_| a.peers.call(b.member, Bytes::from_static(b"hang")));
    let hanging = futures_util::future::join_all(hanging);
    let answer = async {
        while b.peers.figures().answers < PEER_CALLS as u64 - 1 {
            tokio::task::yield_now().await;
        }
        a.peers.call(b.member, Bytes::from_static(b"abc")).await
    };
    tokio::select! {
        _ = hanging => panic!("nobody answers them"),
        answer = in_time(answer) => assert_eq!(answer.as_deref(), Ok(&b"cba"[..])),
    }
}

#[tokio::test]
async fn calls_fail_when_their_link_breaks() {
    let (a, mut b) = pair().await;
    let wire = Wire::lay(b.address).await;
    a.peers.set_members([(b.member, wire.address.to_string())]);
    let broken = a.peers.call(b.member, Bytes::from_static(b"hang"));
    let cut = async {
        b.event(|event| matches!(event, Event::Admitted { .. }).then_some(())).await;
        while b.peers.figures().answers == 0 {
            tokio::task::yield_now().await;
        }
        wire.turn(None);
    };
    let (broken, ()) = in_time(async { tokio::join!(broken, cut) }).await;
    assert_eq!(broken, Err(CallError::Broken));
}

#[tokio::test]
async fn a_call_to_nobody_is_not_sent() {
    let a = Node::start(member(1, 1)).await;
    let to = member(2, 1);
    let refused = a.peers.call(to, Bytes::new()).await;
    assert_eq!(refused, Err(CallError::NotSent(SendError::UnknownMember { to })));
}

#[tokio::test]
async fn a_call_that_is_given_up_before_it_was_sent_is_not_sent() {
    let (a, b) = pair().await;
    let given_up = a.peers.call(b.member, Bytes::from_static(b"abc")).now_or_never();
    assert_eq!(given_up, None);
    in_time(a.peers.call(b.member, Bytes::from_static(b"def"))).await.unwrap();
    assert_eq!((a.peers.figures().calls, b.peers.figures().answers), (1, 1));
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_nothing_behind() {
    let (a, b) = pair().await;
    let (a, to) = (std::sync::Arc::new(a), b.member);
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let a = std::sync::Arc::clone(&a);
        calls.spawn(async move { a.peers.call(to, Bytes::from_static(b"hang")).await });
    }
    let arrived = async {
        while b.peers.figures().answers < 10 {
            tokio::task::yield_now().await;
        }
    };
    in_time(arrived).await;
    assert_eq!(a.peers.unanswered(to), 10);
    calls.shutdown().await;
    assert_eq!(a.peers.unanswered(to), 0);
}
