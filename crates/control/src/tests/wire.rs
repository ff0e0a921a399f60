//! The bytes between voters.

use super::*;
use crate::raft::{
    AppendRequest, AppendResponse, Entry, LogId, SnapshotMeta, Vote, VoteRequest, VoteResponse,
};
use crate::wire::*;
use bytes::Bytes;
use openraft::{CommittedLeaderId, EntryPayload};

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(2, voter(1)), index)
}

fn envelope() -> Envelope {
    Envelope { group: GROUP, from: voter(1), to: voter(2) }
}

const HEAD: &str = r#"[{"group":{"grid":65261,"generation":1},"from":"1.1","to":"2.1"},"#;

/// A message as the first version has sent it.
fn golden(kind: u8, head: &str, tail: &[u8]) -> Vec<u8> {
    let length = u32::try_from(head.len()).unwrap().to_le_bytes();
    [&[1, kind], length.as_slice(), head.as_bytes(), tail].concat()
}

fn check_request(request: &Request, kind: u8, body: &str, tail: &[u8]) {
    let golden = golden(kind, &format!("{HEAD}{body}]"), tail);
    let bytes = encode_request(envelope(), request);
    assert_eq!(bytes, golden, "{}", String::from_utf8_lossy(&bytes));
    let (found, decoded) = decode_request(&Bytes::from(golden)).unwrap();
    assert_eq!((found, format!("{decoded:?}")), (envelope(), format!("{request:?}")));
}

fn check_answer(answer: &Answer, kind: u8, body: &str) {
    let golden = golden(kind, body, &[]);
    let bytes = encode_answer(answer);
    assert_eq!(bytes, golden, "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(format!("{:?}", decode_answer(&Bytes::from(golden)).unwrap()), format!("{answer:?}"));
}

#[test]
fn requests_are_these_bytes() {
    let vote = VoteRequest::new(Vote::new(2, voter(1)), Some(id(4)));
    let log_id = r#"{"leader_id":{"term":2,"node_id":"1.1"},"index":4}"#;
    let body = format!(
        r#"{{"vote":{{"leader_id":{{"term":2,"node_id":"1.1"}},"committed":false}},"last_log_id":{log_id}}}"#
    );
    check_request(&Request::Vote(vote), 1, &body, &[]);

    let vote = Vote::new_committed(2, voter(1));
    let entry = Entry { log_id: id(5), payload: EntryPayload::Blank };
    let append = AppendRequest { vote, prev_log_id: Some(id(4)), entries: vec![entry], leader_commit: None };
    let leader = r#"{"leader_id":{"term":2,"node_id":"1.1"},"committed":true}"#;
    let entry = r#"{"log_id":{"leader_id":{"term":2,"node_id":"1.1"},"index":5},"payload":"Blank"}"#;
    let body =
        format!(r#"{{"vote":{leader},"prev_log_id":{log_id},"entries":[{entry}],"leader_commit":null}}"#);
    check_request(&Request::Append(append), 2, &body, &[]);

    let piece = Piece { vote, meta: SnapshotMeta::default(), offset: 3, total: 5 };
    let meta = r#"{"last_log_id":null,"last_membership":{"log_id":null,"membership":{"configs":[],"nodes":{}}},"snapshot_id":""}"#;
    let body = format!(r#"{{"vote":{leader},"meta":{meta},"offset":3,"total":5}}"#);
    check_request(&Request::Piece(piece, Bytes::from_static(b"{}")), 3, &body, b"{}");
}

#[test]
fn answers_are_these_bytes() {
    let vote = Vote::new_committed(2, voter(1));
    let json = r#"{"leader_id":{"term":2,"node_id":"1.1"},"committed":true}"#;
    let granted = VoteResponse::new(vote, None, false);
    check_answer(
        &Answer::Vote(granted),
        1,
        &format!(r#"{{"vote":{json},"vote_granted":false,"last_log_id":null}}"#),
    );
    check_answer(&Answer::Append(AppendResponse::Success), 2, r#""Success""#);
    check_answer(&Answer::Append(AppendResponse::Conflict), 2, r#""Conflict""#);
    check_answer(
        &Answer::Append(AppendResponse::HigherVote(vote)),
        2,
        &format!(r#"{{"HigherVote":{json}}}"#),
    );
    check_answer(&Answer::Piece(PieceAnswer::Next(7)), 3, r#"{"Next":7}"#);
    check_answer(&Answer::Piece(PieceAnswer::Done(vote)), 3, &format!(r#"{{"Done":{json}}}"#));
    check_answer(&Answer::Refused(PeerRefusal::Impostor), 255, r#""Impostor""#);
    let other = PeerRefusal::OtherVoter { here: voter(3) };
    check_answer(&Answer::Refused(other), 255, r#"{"OtherVoter":{"here":"3.1"}}"#);
}
