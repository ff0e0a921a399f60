//! Peers that speak garbage or lie.

use super::*;
use crate::raft::{AppendRequest, Entry, LogId, SnapshotMeta, Vote, VoteRequest};
use crate::wire::*;
use bytes::Bytes;
use openraft::{CommittedLeaderId, EntryPayload};

async fn refusal(group: &ControlGroup, peer: u64, request: &Bytes) -> PeerRefusal {
    match decode_answer(&group.handle(NodeId(peer), request).await).unwrap() {
        Answer::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn vote_of(candidate: VoterId) -> Request {
    Request::Vote(VoteRequest::new(Vote::new(99, candidate), None))
}

#[tokio::test(start_paused = true)]
async fn garbage_is_refused_and_changes_nothing() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let term = groups[0].status().term;
    let sound = encode_request(Envelope { group: GROUP, from: voter(2), to: voter(1) }, &vote_of(voter(2)));
    for length in 0..sound.len() {
        assert_eq!(refusal(&groups[0], 2, &sound.slice(..length)).await, PeerRefusal::Malformed, "{length}");
    }
    let mut version = sound.to_vec();
    version[0] = 2;
    assert_eq!(refusal(&groups[0], 2, &version.into()).await, PeerRefusal::Malformed);
    let mut kind = sound.to_vec();
    kind[1] = 77;
    assert_eq!(refusal(&groups[0], 2, &kind.into()).await, PeerRefusal::Malformed);
    let huge = vec![1; wattle_core::limits::CONTROL_MESSAGE_BYTES + 1];
    assert_eq!(refusal(&groups[0], 2, &huge.into()).await, PeerRefusal::Malformed);
    assert_eq!(groups[0].status().term, term);
    decide(&groups, &groups[0].proposal(create("m"))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_lies_about_itself_is_refused() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let envelope = Envelope { group: GROUP, from: voter(2), to: voter(1) };
    let other = Envelope { group: GroupId { generation: 2, ..GROUP }, ..envelope };
    let reborn = Envelope { to: VoterId { incarnation: 2, ..voter(1) }, ..envelope };
    let here = voter(1);
    for (envelope, peer, request, expected) in [
        (other, 2, vote_of(voter(2)), PeerRefusal::OtherGroup { here: GROUP }),
        (reborn, 2, vote_of(voter(2)), PeerRefusal::OtherVoter { here }),
        (envelope, 3, vote_of(voter(2)), PeerRefusal::Impostor),
        (envelope, 2, vote_of(voter(3)), PeerRefusal::Impostor),
    ] {
        assert_eq!(refusal(&groups[0], peer, &encode_request(envelope, &request)).await, expected);
    }
    assert!(groups[0].status().term < 99);
}

#[tokio::test(start_paused = true)]
async fn requests_that_openraft_would_fall_over_are_refused() {
    let network = TestNetwork::default();
    let group = start(&network, voter(1), Storage::Memory).await;
    let envelope = Envelope { group: GROUP, from: voter(2), to: voter(1) };
    let vote = Vote::new_committed(9, voter(2));
    let entry = |index| Entry {
        log_id: LogId::new(CommittedLeaderId::new(9, voter(2)), index),
        payload: EntryPayload::Blank,
    };
    let append = |vote, entries| {
        Request::Append(AppendRequest { vote, prev_log_id: None, entries, leader_commit: None })
    };
    let piece = |offset, total| Piece { vote, meta: Default::default(), offset, total };
    let bytes = Bytes::from_static(b"not a state");
    let too_large = wattle_core::limits::CONTROL_SNAPSHOT_BYTES as u64 + 1;
    for request in [
        append(vote, vec![entry(1)]),
        append(vote, vec![entry(0), entry(2)]),
        append(Vote::new(9, voter(2)), vec![]),
        Request::Vote(VoteRequest::new(vote, None)),
        Request::Piece(piece(0, 3), bytes.clone()),
        Request::Piece(piece(u64::MAX, 3), bytes.clone()),
        Request::Piece(piece(0, too_large), bytes.clone()),
        Request::Piece(piece(0, bytes.len() as u64), bytes.clone()),
    ] {
        let refused = refusal(&group, 2, &encode_request(envelope, &request)).await;
        assert_eq!(refused, PeerRefusal::Malformed, "{request:?}");
    }
    assert_eq!(group.status().role, Role::Learner);
    group.create(first()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pieces_of_two_snapshots_are_not_put_together() {
    let network = TestNetwork::default();
    let group = start(&network, voter(1), Storage::Memory).await;
    let envelope = Envelope { group: GROUP, from: voter(2), to: voter(1) };
    let vote = Vote::new_committed(9, voter(2));
    let meta = |id: &str| SnapshotMeta { snapshot_id: id.into(), ..SnapshotMeta::default() };
    let bytes = Bytes::from_static(b"half");
    for (id, offset, next) in [("a", 0, 4), ("b", 4, 0), ("b", 0, 4), ("b", 2, 4), ("b", 0, 4)] {
        let piece = Piece { vote, meta: meta(id), offset, total: 100 };
        let request = encode_request(envelope, &Request::Piece(piece, bytes.clone()));
        let answer = decode_answer(&group.handle(NodeId(2), &request).await).unwrap();
        assert!(
            matches!(answer, Answer::Piece(PieceAnswer::Next(found)) if found == next),
            "{id} {offset}: {answer:?}"
        );
    }
}
