//! Links: order, batches, bounds, and what becomes of them when the network or a node does not play along.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpListener;
use wattle_core::ids::{Epoch, MemberId, NodeId, PartitionId, ReplicationClass, Version};
use wattle_core::limits::{
    PEER_BATCH_BYTES, PEER_KEEP_ALIVE, PEER_KEEP_ALIVE_TIMEOUT, PEER_QUEUE_BYTES, PEER_RETRY_MIN,
};
use wattle_core::replication::{Body, Mark, Message, Record};

use super::codec::mutations;
use super::harness::{Node, Wire, in_time, member, wishes};
use crate::message::together;
use crate::{Event, Generation, LinkError, PeerMessage, Purpose, Refusal, SendError};

/// What a connection holds beside the queue: a batch that is encoded, HTTP/2 windows, buffers of the kernel.
const IN_FLIGHT: usize = 32 * 1024 * 1024;

async fn pair() -> (Node, Node) {
    let (a, b) = (Node::start(member(1, 1)).await, Node::start(member(2, 1)).await);
    a.knows(&[&b]);
    b.knows(&[&a]);
    (a, b)
}

fn append(index: u16, records: u64, bytes: usize) -> PeerMessage {
    let epoch = Epoch { generation: 1, number: 2 };
    let record =
        |position| Record { mark: Mark { epoch, position: Version(position) }, payload: mutations(bytes) };
    let previous = Mark { epoch, position: Version(10) };
    let records = (11..11 + records).map(record).collect();
    let body = Body::Append { attempt: 0, previous, records, commit: Version(10), probe: 1 };
    let partition = PartitionId { class: ReplicationClass(0), index };
    PeerMessage::Partition(partition, Message { epoch, body })
}

#[tokio::test]
async fn messages_arrive_in_order_and_in_both_directions() {
    let (mut a, mut b) = pair().await;
    let (there, back) = (wishes(0..10_000), wishes(20_000..30_000));
    for (there, back) in there.iter().zip(&back) {
        a.peers.send(b.member, there.clone()).unwrap();
        b.peers.send(a.member, back.clone()).unwrap();
    }
    assert_eq!(b.messages(10_000).await, there);
    assert_eq!(a.messages(10_000).await, back);
    let figures = a.peers.figures();
    assert_eq!((figures.sent_messages, figures.received_messages), (10_000, 10_000));
    assert!(figures.sent_batches < 100, "what waits goes together: {figures:?}");
    assert_eq!((figures.opened, figures.admitted, figures.dropped, figures.refused), (1, 1, 0, 0));
}

#[tokio::test]
async fn bytes_that_bring_copies_in_sync_are_counted_apart() {
    let (a, mut b) = pair().await;
    a.peers.send(b.member, append(1, 1, 5000)).unwrap();
    let body = Body::Chunk { attempt: 1, number: 0, at: Version(10), content: mutations(70_000), last: true };
    let message = Message { epoch: Epoch { generation: 1, number: 2 }, body };
    let partition = PartitionId { class: ReplicationClass(0), index: 2 };
    a.peers.send(b.member, PeerMessage::Partition(partition, message)).unwrap();
    b.messages(2).await;
    let figures = a.peers.figures();
    assert!((70_000..70_100).contains(&figures.sent_chunk_bytes), "{figures:?}");
    assert!((75_000..75_200).contains(&figures.sent_bytes), "{figures:?}");
    assert_eq!(b.peers.figures().received_bytes, figures.sent_bytes);
}

#[tokio::test]
async fn messages_of_two_hundred_partitions_share_a_batch() {
    let (a, mut b) = pair().await;
    let messages: Vec<_> = (0..200).map(|index| append(index, 1, 100)).collect();
    for message in &messages {
        a.peers.send(b.member, message.clone()).unwrap();
    }
    assert_eq!(b.batch().await, (a.member, messages));
}

/// So many of the records of [`append`], behind the first so many, and how far all is committed.
fn part(index: u16, (from, count): (usize, usize), commit: u64) -> PeerMessage {
    let PeerMessage::Partition(partition, Message { epoch, body }) = append(index, 10, 100) else {
        panic!("an append")
    };
    let Body::Append { attempt, mut previous, records, probe, .. } = body else { panic!("an append") };
    previous = from.checked_sub(1).map_or(previous, |before| records[before].mark);
    let records = records[from..from + count].to_vec();
    let body = Body::Append { attempt, previous, records, commit: Version(commit), probe };
    PeerMessage::Partition(partition, Message { epoch, body })
}

fn acknowledge(index: u16, attempt: u32, position: u64, missing: bool) -> PeerMessage {
    let (position, commit) = (Some(Version(position)), Version(position - 1));
    let body = Body::Acknowledge { attempt, position, commit, chunks: 0, probe: 1, missing };
    let partition = PartitionId { class: ReplicationClass(0), index };
    PeerMessage::Partition(partition, Message { epoch: Epoch { generation: 1, number: 2 }, body })
}

#[test]
fn records_that_follow_one_another_travel_in_one_append() {
    let wish = wishes(7..8).pop().unwrap();
    let messages = vec![
        part(1, (0, 1), 10),
        part(2, (0, 2), 10),
        wish.clone(),
        part(1, (1, 2), 11),
        // How far all is committed, and no record.
        part(1, (3, 0), 12),
        part(2, (5, 1), 10),
        part(1, (3, 1), 12),
    ];
    let expected = vec![
        part(1, (0, 4), 12),
        part(2, (0, 2), 10),
        wish,
        // It does not follow.
        part(2, (5, 1), 10),
    ];
    assert_eq!(together(messages), expected);
}

#[test]
fn of_acknowledgements_the_last_is_sent_and_none_overtakes() {
    let released = |index| {
        let partition = PartitionId { class: ReplicationClass(0), index };
        let epoch = Epoch { generation: 1, number: 2 };
        PeerMessage::Partition(partition, Message { epoch, body: Body::Released })
    };
    let messages = vec![
        acknowledge(1, 0, 11, true),
        acknowledge(2, 0, 11, false),
        acknowledge(1, 0, 12, false),
        acknowledge(1, 1, 12, false),
        part(2, (0, 1), 10),
        released(2),
        part(2, (1, 1), 10),
    ];
    let expected = vec![
        // That something was missing is said all the same.
        acknowledge(1, 0, 12, true),
        acknowledge(2, 0, 11, false),
        acknowledge(1, 1, 12, false),
        part(2, (0, 1), 10),
        released(2),
        part(2, (1, 1), 10),
    ];
    assert_eq!(together(messages), expected);
}

#[tokio::test]
async fn a_long_append_travels_in_pieces_that_follow_one_another() {
    let (a, mut b) = pair().await;
    let whole = append(3, 100, PEER_BATCH_BYTES / 10);
    a.peers.send(b.member, whole.clone()).unwrap();
    let PeerMessage::Partition(_, Message { body: Body::Append { previous, records, .. }, .. }) = whole
    else {
        unreachable!("it is an append")
    };
    let (mut last, mut arrived, mut pieces) = (previous, Vec::new(), 0);
    while arrived.len() < records.len() {
        for piece in b.batch().await.1 {
            assert!(piece.weight() <= PEER_BATCH_BYTES);
            let PeerMessage::Partition(_, Message { body: Body::Append { previous, records, .. }, .. }) =
                piece
            else {
                panic!("{piece:?}")
            };
            assert_eq!(previous, last);
            last = records.last().unwrap().mark;
            arrived.extend(records);
            pieces += 1;
        }
    }
    assert_eq!((arrived, pieces), (records, 12));
}

/// What the first node sends in a reign of the second generation, and then in one of the first, as far as it counts at the second.
async fn heard_in_reigns(first: u64, second: Option<u64>) -> Vec<PeerMessage> {
    let (a, mut b) = pair().await;
    let group = |founder| Generation { number: 2, founder: NodeId(founder) };
    a.peers.set_generation(group(first));
    if let Some(second) = second {
        b.peers.set_generation(group(second));
        // It goes on from there, and forgets nothing.
        b.peers.set_generation(Generation { number: 3, founder: b.member.node });
    }
    let PeerMessage::Partition(partition, Message { body, .. }) = append(1, 1, 10) else { unreachable!() };
    let later = Message { epoch: Epoch { generation: 2, number: 3 }, body };
    a.peers.send(b.member, PeerMessage::Partition(partition, later)).unwrap();
    a.peers.send(b.member, wishes(0..1).remove(0)).unwrap();
    a.peers.send(b.member, append(2, 1, 10)).unwrap();
    let mut heard = Vec::new();
    while heard.last() != Some(&append(2, 1, 10)) {
        heard.extend(b.batch().await.1);
    }
    assert_eq!(heard.len() as u64 + b.peers.figures().skipped, 3);
    heard
}

#[tokio::test]
async fn what_is_said_in_a_reign_counts_only_in_the_control_group_that_has_named_it() {
    assert_eq!(heard_in_reigns(4, Some(4)).await.len(), 3);
    assert_eq!(heard_in_reigns(1, Some(1)).await.len(), 3);
    let other = [wishes(0..1).remove(0), append(2, 1, 10)];
    assert_eq!(heard_in_reigns(4, Some(5)).await, other, "of a group that another has built");
    assert_eq!(heard_in_reigns(4, None).await, other, "of one that is still to be heard of");
    assert_eq!(heard_in_reigns(1, Some(5)).await, other);
}

/// Whether something leaves a full queue any more.
async fn makes_room(node: &Node, to: MemberId, bytes: usize) -> bool {
    let room = async {
        while !node.peers.queued(to).has_room(bytes) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_millis(500), room).await.is_ok()
}

#[tokio::test]
async fn a_peer_that_does_not_read_fills_its_queue_and_no_more() {
    let (mut a, mut b) = pair().await;
    let turn = std::sync::Arc::clone(&b.turns).acquire_owned().await.unwrap();
    a.peers.send(b.member, append(0, 1, 10)).unwrap();
    a.opened(b.member).await;
    let message = append(1, 1, 64 * 1024);
    let mut taken = 0;
    let full = loop {
        match a.peers.send(b.member, message.clone()) {
            Ok(()) => taken += 1,
            Err(_) if makes_room(&a, b.member, message.weight()).await => {}
            Err(full) => break full,
        }
    };
    let queued = a.peers.queued(b.member);
    assert_eq!(full, SendError::Full(queued));
    assert!(queued.bytes <= PEER_QUEUE_BYTES && queued.bytes + message.weight() > PEER_QUEUE_BYTES);
    let bytes = taken * message.weight();
    assert!(bytes <= PEER_QUEUE_BYTES + IN_FLIGHT, "{bytes} bytes are somewhere");
    drop(turn);
    assert_eq!(b.messages(taken + 1).await[1..], vec![message; taken]);
    assert_eq!(a.peers.queued(b.member).bytes, 0);
}

#[tokio::test]
async fn a_link_that_was_cut_is_opened_again() {
    let (mut a, mut b) = pair().await;
    let wire = Wire::lay(b.address).await;
    a.peers.set_members([(b.member, wire.address.to_string())]);
    a.peers.send(b.member, wishes(0..1).remove(0)).unwrap();
    assert_eq!(a.opened(b.member).await, Purpose::Replication);
    assert_eq!(b.messages(1).await, wishes(0..1));
    wire.turn(None);
    let cut = a.closed().await;
    assert!(matches!(cut, LinkError::Broken(_)), "{cut:?}");
    let failed = a.failed().await;
    assert!(!failed.is_nobody_there(), "{failed:?}");
    wire.turn(Some(b.address));
    a.opened(b.member).await;
    a.peers.send(b.member, wishes(1..2).remove(0)).unwrap();
    assert_eq!(b.messages(1).await, wishes(1..2));
    assert!(a.peers.figures().failed >= 1);
}

#[tokio::test]
async fn a_link_that_is_down_takes_nothing_and_says_so() {
    let a = Node::start(member(1, 1)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut a = a;
    let other = member(2, 1);
    a.peers.set_members([(other, nobody)]);
    a.peers.send(other, wishes(0..1).remove(0)).unwrap();
    let failed = a.failed().await;
    assert!(failed.is_nobody_there(), "{failed:?}");
    assert_eq!(a.peers.figures().dropped, 1);
    let down = async {
        while a.peers.send(other, wishes(0..1).remove(0)) != Err(SendError::Down) {
            tokio::task::yield_now().await;
        }
    };
    in_time(down).await;
}

#[tokio::test]
async fn who_cannot_be_reached_is_tried_ever_less_often() {
    let mut a = Node::start(member(1, 1)).await;
    a.peers.set_members([(member(2, 1), "127.0.0.1:1".to_owned())]);
    let since = Instant::now();
    a.peers.send(member(2, 1), wishes(0..1).remove(0)).unwrap();
    let mut least = Duration::ZERO;
    for attempt in 0..5 {
        a.failed().await;
        assert!(since.elapsed() >= least, "attempt {attempt} after {:?}", since.elapsed());
        least += PEER_RETRY_MIN * (1 << attempt) / 2;
    }
}

#[tokio::test]
async fn a_member_that_moves_is_found_at_its_new_address() {
    let (mut a, mut b) = pair().await;
    a.peers.set_members([(b.member, "127.0.0.1:1".to_owned())]);
    a.peers.send(b.member, wishes(0..1).remove(0)).unwrap();
    a.failed().await;
    a.knows(&[&b]);
    a.opened(b.member).await;
    a.peers.send(b.member, wishes(1..2).remove(0)).unwrap();
    assert_eq!(b.messages(1).await, wishes(1..2));
}

#[tokio::test]
async fn a_new_life_of_a_node_at_the_same_address_is_another_member() {
    let (mut a, b) = pair().await;
    let wire = Wire::lay(b.address).await;
    a.peers.set_members([(b.member, wire.address.to_string())]);
    a.peers.send(b.member, wishes(0..1).remove(0)).unwrap();
    a.opened(b.member).await;
    let mut reborn = Node::start(b.member.reborn()).await;
    reborn.knows(&[&a]);
    wire.turn(Some(reborn.address));
    let refused = a.failed().await;
    let expected = Refusal::OtherMember { asked: b.member, here: reborn.member };
    assert!(matches!(&refused, LinkError::Refused(refusal) if *refusal == expected), "{refused:?}");
    a.peers.set_members([(reborn.member, wire.address.to_string())]);
    let old = a.peers.send(b.member, wishes(1..2).remove(0));
    assert_eq!(old, Err(SendError::UnknownMember { to: b.member }));
    a.peers.send(reborn.member, wishes(2..3).remove(0)).unwrap();
    assert_eq!(reborn.batch().await, (a.member, wishes(2..3)));
}

#[tokio::test]
async fn who_is_no_member_any_more_is_sent_away() {
    let (mut a, b) = pair().await;
    a.peers.send(b.member, wishes(0..1).remove(0)).unwrap();
    a.opened(b.member).await;
    b.peers.set_members([(a.member.reborn(), a.address.to_string())]);
    let closed = a.closed().await;
    let expected = Refusal::UnknownMember { asked: a.member, incarnation: Some(2) };
    assert!(matches!(&closed, LinkError::Refused(refusal) if *refusal == expected), "{closed:?}");
}

#[tokio::test]
async fn a_newer_link_of_a_member_takes_the_place_of_its_older_one() {
    let (mut a, mut b) = pair().await;
    a.peers.send(b.member, wishes(0..1).remove(0)).unwrap();
    a.opened(b.member).await;
    assert_eq!(b.messages(1).await, wishes(0..1));
    let twin = Node::start(a.member).await;
    twin.knows(&[&b]);
    twin.peers.send(b.member, wishes(1..2).remove(0)).unwrap();
    let closed = a.closed().await;
    assert!(matches!(&closed, LinkError::Refused(Refusal::Replaced)), "{closed:?}");
    assert_eq!(b.messages(1).await, wishes(1..2));
    let mut events = Vec::new();
    while events.len() < 3 {
        events.push(b.event(|event| Some(format!("{event:?}"))).await);
    }
    let (admitted, left) = ("Admitted { from:", "error: Denied(Replaced) }");
    assert!(events[0].starts_with(admitted), "{events:?}");
    assert!(events[1].starts_with("Left {") && events[1].ends_with(left), "{events:?}");
    assert!(events[2].starts_with(admitted), "{events:?}");
}

#[tokio::test]
async fn what_an_earlier_life_has_sent_is_not_heard_behind_a_later_one() {
    let (mut a, mut b) = pair().await;
    let turn = std::sync::Arc::clone(&b.turns).acquire_owned().await.unwrap();
    a.peers.send(b.member, wishes(0..1).remove(0)).unwrap();
    a.opened(b.member).await;
    let received = async {
        while b.peers.figures().received_batches == 0 {
            tokio::task::yield_now().await;
        }
    };
    in_time(received).await;
    let reborn = Node::start(a.member.reborn()).await;
    reborn.knows(&[&b]);
    b.knows(&[&reborn]);
    reborn.peers.send(b.member, wishes(1..2).remove(0)).unwrap();
    a.closed().await;
    drop(turn);
    assert_eq!(b.batch().await, (reborn.member, wishes(1..2)));
}

#[tokio::test]
async fn a_node_that_stops_says_so_and_ends_all_that_it_began() {
    let (mut a, b) = pair().await;
    a.peers.send(b.member, wishes(0..1).remove(0)).unwrap();
    a.opened(b.member).await;
    b.peers.control(a.member.node, Bytes::from_static(b"abc")).await.unwrap();
    in_time(b.peers.stop()).await;
    let closed = a.closed().await;
    assert!(matches!(&closed, LinkError::Refused(Refusal::Stopping)), "{closed:?}");
    let refused = b.peers.send(a.member, wishes(0..1).remove(0));
    assert_eq!(refused, Err(SendError::UnknownMember { to: a.member }));
}

#[tokio::test]
async fn both_ends_notice_that_the_other_has_vanished() {
    let (mut a, mut b) = pair().await;
    let wire = Wire::lay(b.address).await;
    a.peers.set_members([(b.member, wire.address.to_string())]);
    a.peers.send(b.member, wishes(0..1).remove(0)).unwrap();
    assert_eq!(b.messages(1).await, wishes(0..1));
    wire.freeze();
    let since = Instant::now();
    let left = b.event(|event| match event {
        Event::Left { from, error, .. } => Some((from, error)),
        _ => None,
    });
    let (from, error) = left.await;
    assert!(from == a.member && matches!(error, LinkError::Ended | LinkError::Broken(_)), "{error:?}");
    let cut = a.closed().await;
    assert!(matches!(cut, LinkError::Broken(_)), "{cut:?}");
    let most = PEER_KEEP_ALIVE + PEER_KEEP_ALIVE_TIMEOUT + Duration::from_secs(2);
    assert!(since.elapsed() < most, "{:?}", since.elapsed());
}
