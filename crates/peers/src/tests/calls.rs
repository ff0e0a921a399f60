//! Calls and their answers.

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::task::JoinSet;
use wattle_core::ids::{GridTime, NodeId};
use wattle_core::limits::{FOLLOW_CHANGES, PEER_CALL_BYTES, PEER_CALLS};

use super::harness::{Node, Wire, in_time, member};
use crate::{
    CallError, CallRefusal, ControlPosition, Decided, Event, Follow, Heartbeat, HeartbeatAnswer, SendError,
    SnapshotPiece, SnapshotRest,
};

async fn pair() -> (Node, Node) {
    let (a, b) = (Node::start(member(1, 1)).await, Node::start(member(2, 1)).await);
    a.knows(&[&b]);
    b.knows(&[&a]);
    (a, b)
}

#[tokio::test]
async fn every_call_has_its_own_answer() {
    let (a, b) = pair().await;
    let calls =
        (0..1000_u32).map(|number| a.peers.control(b.member.node, number.to_be_bytes().to_vec().into()));
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
    assert_eq!(in_time(a.peers.control(b.member.node, largest.clone())).await, Ok(largest));
    for figures in [a.peers.figures(), b.peers.figures()] {
        let counted = figures.sent_control_bytes - PEER_CALL_BYTES as u64;
        assert!(counted < 100, "the call and its answer: {figures:?}");
        assert_eq!((figures.sent_call_bytes, figures.sent_heartbeat_bytes), (0, 0));
    }
    let bytes = PEER_CALL_BYTES + 1;
    let refused = in_time(a.peers.control(b.member.node, vec![7; bytes].into())).await;
    assert_eq!(refused, Err(CallError::NotSent(SendError::TooLarge { bytes })));
}

#[tokio::test]
async fn calls_that_are_not_answered_do_not_hold_up_others() {
    let (a, b) = pair().await;
    let hanging = (1..PEER_CALLS).map(|_| a.peers.control(b.member.node, Bytes::from_static(b"hang")));
    let hanging = futures_util::future::join_all(hanging);
    let answer = async {
        while b.peers.figures().answers < PEER_CALLS as u64 - 1 {
            tokio::task::yield_now().await;
        }
        a.peers.control(b.member.node, Bytes::from_static(b"abc")).await
    };
    tokio::select! {
        _ = hanging => panic!("nobody answers them"),
        answer = in_time(answer) => assert_eq!(answer.as_deref(), Ok(&b"cba"[..])),
    }
}

#[tokio::test]
async fn calls_that_wait_do_not_hold_up_heartbeats() {
    let (a, b) = pair().await;
    let hanging = (0..2 * PEER_CALLS).map(|_| a.peers.control(b.member.node, Bytes::from_static(b"hang")));
    let hanging = futures_util::future::join_all(hanging);
    let answer = async {
        while b.peers.figures().answers < PEER_CALLS as u64 {
            tokio::task::yield_now().await;
        }
        a.peers.heartbeat(b.member, Heartbeat { position: position(1), time: None }).await
    };
    tokio::select! {
        _ = hanging => panic!("nobody answers them"),
        answer = in_time(answer) => assert_eq!(answer.map(|answer| answer.position), Ok(position(2))),
    }
    assert_eq!(b.peers.figures().answers, PEER_CALLS as u64 + 1);
}

#[tokio::test]
async fn calls_fail_when_their_link_breaks() {
    let (a, mut b) = pair().await;
    let wire = Wire::lay(b.address).await;
    a.peers.set_members([(b.member, wire.address.to_string())]);
    let broken = a.peers.control(b.member.node, Bytes::from_static(b"hang"));
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
    let to = member(2, 0);
    let refused = a.peers.control(to.node, Bytes::new()).await;
    assert_eq!(refused, Err(CallError::NotSent(SendError::UnknownMember { to })));
}

#[tokio::test]
async fn a_call_that_is_given_up_before_it_was_sent_is_not_sent() {
    let (a, b) = pair().await;
    let given_up = a.peers.control(b.member.node, Bytes::from_static(b"abc")).now_or_never();
    assert_eq!(given_up, None);
    in_time(a.peers.control(b.member.node, Bytes::from_static(b"def"))).await.unwrap();
    assert_eq!((a.peers.figures().calls, b.peers.figures().answers), (1, 1));
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_nothing_behind() {
    let (a, b) = pair().await;
    let (a, to) = (std::sync::Arc::new(a), b.member.node);
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let a = std::sync::Arc::clone(&a);
        calls.spawn(async move { a.peers.control(to, Bytes::from_static(b"hang")).await });
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

fn position(version: u64) -> ControlPosition {
    ControlPosition { generation: 3, version }
}

#[tokio::test]
async fn a_proposal_is_answered_or_refused_with_who_leads() {
    let (a, b) = pair().await;
    let answer = in_time(a.peers.propose(b.member, Bytes::from_static(b"drain"))).await;
    assert_eq!(answer.as_deref(), Ok(&b"drain"[..]));
    let refused = in_time(a.peers.propose(b.member, Bytes::new())).await;
    assert_eq!(refused, Err(CallError::Refused(CallRefusal::NotLeader { leader: Some(NodeId(9)) })));
}

#[tokio::test]
async fn heartbeats_go_both_ways() {
    let (a, b) = pair().await;
    let heartbeat = Heartbeat { position: position(7), time: None };
    let expected = HeartbeatAnswer { position: position(8), time: GridTime(a.member.node.0) };
    assert_eq!(in_time(a.peers.heartbeat(b.member, heartbeat)).await, Ok(expected));
    let position = ControlPosition { generation: 1, version: b.member.node.0 };
    let expected = Heartbeat { position, time: None };
    assert_eq!(in_time(b.peers.ask_heartbeat(a.member)).await, Ok(expected));
}

#[tokio::test]
async fn who_leads_says_how_far_what_is_decided_is() {
    let (a, b) = pair().await;
    let expected = ControlPosition { generation: 3, version: a.member.node.0 };
    assert_eq!(in_time(a.peers.decided_position(b.member)).await, Ok(expected));
}

#[tokio::test]
async fn who_follows_is_told_changes_or_the_rest_of_a_snapshot() {
    let (a, b) = pair().await;
    for count in [0, 2] {
        let follow = Follow { after: position(count as u64), rest_of: None };
        let changes = vec![Bytes::from_static(b"change"); count];
        let expected = Decided::Changes { position: follow.after, changes };
        assert_eq!(in_time(a.peers.follow(b.member, follow)).await, Ok(expected));
    }
    let rest_of = Some(SnapshotRest { position: position(5), offset: 4 });
    let expected =
        SnapshotPiece { position: position(5), offset: 4, total: 8, content: Bytes::from_static(b"shot") };
    let told = in_time(a.peers.follow(b.member, Follow { after: position(1), rest_of })).await;
    assert_eq!(told, Ok(Decided::Piece(expected)));
}

#[tokio::test]
async fn an_answer_past_its_bounds_is_not_sent() {
    let (a, b) = pair().await;
    let most = FOLLOW_CHANGES as u64;
    let follow = |count| Follow { after: position(count), rest_of: None };
    let told = in_time(a.peers.follow(b.member, follow(most))).await;
    assert!(matches!(told, Ok(Decided::Changes { changes, .. }) if changes.len() == FOLLOW_CHANGES));
    let bytes = (most + 1) * 14;
    let refused = in_time(a.peers.follow(b.member, follow(most + 1))).await;
    assert_eq!(refused, Err(CallError::Refused(CallRefusal::TooLarge { bytes })));
    assert_eq!(a.peers.figures().opened, 1, "and the link is as before");
}

#[tokio::test]
async fn a_node_is_known_by_its_newest_life() {
    let (a, b) = pair().await;
    assert_eq!(a.peers.member(b.member.node), Some(b.member));
    a.peers.set_members([(b.member.reborn(), b.address.to_string()), (b.member, b.address.to_string())]);
    assert_eq!(a.peers.member(b.member.node), Some(b.member.reborn()));
    assert_eq!(a.peers.member(NodeId(9)), None);
}
