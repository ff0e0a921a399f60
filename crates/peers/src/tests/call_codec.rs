//! Calls as they travel: the same bytes as ever, read back as they were, and refused when they are nonsense.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use wattle_core::ids::{GridTime, MemberId, NodeId};
use wattle_core::limits::{
    CONTROL_PIECE_BYTES, CONTROL_SNAPSHOT_BYTES, FOLLOW_CHANGES, NODE_TEXT_BYTES, NODES, PEER_CALL_BYTES,
    VOTERS,
};
use wattle_proto::internal as wire;
use wire::answer::Body as WireAnswer;
use wire::call::Body as WireCall;

use super::codec::{hex, unhex};
use crate::call::{Answer, Call};
use crate::codec::{CodecError, decode_answer, decode_call, encode_answer, encode_call};
use crate::{
    Admission, Ask, CallRefusal, ControlPosition, Decided, Follow, Generation, Heartbeat, HeartbeatAnswer,
    Situation, SnapshotPiece, SnapshotRest,
};

fn position(version: u64) -> ControlPosition {
    ControlPosition { generation: 2, version }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// One of each kind.
fn calls() -> Vec<Call> {
    let rest = SnapshotRest { position: position(290), offset: 4096 };
    vec![
        Call::Control(bytes("vote")),
        Call::Propose(bytes("drain")),
        Call::Heartbeat(Heartbeat { position: position(300), time: None }),
        Call::AskHeartbeat,
        Call::Follow(Follow { after: position(300), rest_of: None }),
        Call::Follow(Follow { after: ControlPosition::default(), rest_of: Some(rest) }),
        Call::Ask(Ask { process: 0x1001, founds: false }),
        Call::Ask(Ask { process: 0x1001, founds: true }),
        Call::Join(bytes("join")),
        Call::Heartbeat(Heartbeat { position: position(300), time: Some(GridTime(1_700_000_000_000)) }),
        Call::AskPosition,
    ]
}

/// As version 1 wrote them, with id 7.
const CALLS: [&str; 11] = [
    "08071204766f7465",
    "08071a05647261696e",
    "080722070a05080210ac02",
    "08072a00",
    "080732070a05080210ac02",
    "0807320e0a00120a0a05080210a202108020",
    "08073a120a1000000000000000000000000000001001",
    "08073a140a10000000000000000000000000000010011001",
    "080742046a6f696e",
    "0807220e0a05080210ac021080d095ffbc31",
    "08074a00",
];

/// One of each kind.
fn answers() -> Vec<Answer> {
    let piece = SnapshotPiece { position: position(290), offset: 4096, total: 4099, content: bytes("end") };
    let place = |node, address: &str| (MemberId { node: NodeId(node), incarnation: 2 }, address.to_owned());
    let alone =
        Situation { process: 0x1001, promised: Some(0x2002), leader: None, voters: vec![], generation: None };
    let voters = vec![place(3, "a:1"), place(4, "b:1")];
    let grid =
        Situation { process: 0x1001, promised: None, leader: Some(NodeId(3)), voters, generation: None };
    let generation = Some(Generation { number: 2, founder: NodeId(4) });
    let rebuilt = Situation { process: 0x1001, promised: None, leader: None, voters: vec![], generation };
    let admitted = Admission::Admitted { member: place(5, "").0, members: vec![place(5, "c:1")] };
    vec![
        Answer::Control(bytes("yes")),
        Answer::Propose(bytes("done")),
        Answer::Heartbeat(HeartbeatAnswer { position: position(301), time: GridTime(1_700_000_000_000) }),
        Answer::AskHeartbeat(Heartbeat { position: position(300), time: None }),
        Answer::Follow(Decided::Changes { position: position(302), changes: vec![bytes("a"), bytes("bc")] }),
        Answer::Follow(Decided::Changes { position: position(300), changes: vec![] }),
        Answer::Follow(Decided::Piece(piece)),
        Answer::Refused(CallRefusal::NotLeader { leader: Some(NodeId(3)) }),
        Answer::Refused(CallRefusal::NotLeader { leader: None }),
        Answer::Refused(CallRefusal::NoPart),
        Answer::Refused(CallRefusal::TooLarge { bytes: 300 }),
        Answer::Refused(CallRefusal::Unknown),
        Answer::Ask(alone),
        Answer::Ask(grid),
        Answer::Join(admitted),
        Answer::Join(Admission::Refused(bytes("no"))),
        Answer::Refused(CallRefusal::Late),
        Answer::Refused(CallRefusal::Unrecognised),
        Answer::Ask(rebuilt),
        Answer::AskPosition(position(301)),
    ]
}

/// As version 1 wrote them, with id 7.
const ANSWERS: [&str; 20] = [
    "08071203796573",
    "08071a04646f6e65",
    "0807220e0a05080210ad021080d095ffbc31",
    "08072a070a05080210ac02",
    "080732100a05080210ae0212070a01610a026263",
    "080732090a05080210ac021200",
    "080732140a05080210a2021a0b0880201083201a03656e64",
    "08077a040a020803",
    "08077a020a00",
    "08077a021200",
    "08077a051a0308ac02",
    "08077a022200",
    "08073a240a1000000000000000000000000000001001121000000000000000000000000000002002",
    "08073a2e0a10000000000000000000000000000010011803220b0a04080310021203613a31220b0a04080410021203623a31",
    "080742150a130a0408051002120b0a04080510021203633a31",
    "0807420412026e6f",
    "08077a022a00",
    "08077a00",
    "08073a180a10000000000000000000000000000010012a0408021004",
    "08074a05080210ad02",
];

fn read_call(bytes: &[u8]) -> Result<Option<Call>, CodecError> {
    decode_call(wire::Call::decode(bytes).expect("it is protobuf").body)
}

fn read_answer(bytes: &[u8]) -> Result<Answer, CodecError> {
    decode_answer(wire::Answer::decode(bytes).expect("it is protobuf").body)
}

#[test]
fn calls_are_written_as_ever() {
    let written = calls().into_iter().map(|call| hex(&encode_call(7, call).encode_to_vec()));
    assert_eq!(written.collect::<Vec<_>>(), CALLS);
    let written = answers().into_iter().map(|answer| hex(&encode_answer(7, answer).encode_to_vec()));
    assert_eq!(written.collect::<Vec<_>>(), ANSWERS);
}

#[test]
fn calls_of_version_1_are_understood() {
    for (text, call) in CALLS.iter().zip(calls()) {
        assert_eq!(read_call(&unhex(text)), Ok(Some(call)));
    }
    for (text, answer) in ANSWERS.iter().zip(answers()) {
        assert_eq!(read_answer(&unhex(text)), Ok(answer));
    }
}

/// Field 100, three bytes.
const NEWER: [u8; 6] = [0xa2, 0x06, 3, 1, 2, 3];

#[test]
fn what_newer_nodes_add_to_a_call_is_skipped() {
    for call in calls() {
        let mut written = encode_call(7, call.clone()).encode_to_vec();
        written.extend(NEWER);
        assert_eq!(read_call(&written), Ok(Some(call)));
    }
    for answer in answers() {
        let mut written = encode_answer(7, answer.clone()).encode_to_vec();
        written.extend(NEWER);
        assert_eq!(read_answer(&written), Ok(answer));
    }
    assert_eq!(read_call(&NEWER), Ok(None));
}

fn missing(field: &'static str) -> CodecError {
    CodecError::Missing { field }
}

#[test]
fn calls_that_make_no_sense_are_refused_by_name() {
    let check = |body, expected| assert_eq!(decode_call(Some(body)), Err(expected));
    check(WireCall::Heartbeat(wire::Heartbeat::default()), missing("position"));
    check(WireCall::Follow(wire::Follow::default()), missing("after"));
    let after = Some(wire::ControlPosition::default());
    let rest_of = Some(wire::SnapshotRest::default());
    check(WireCall::Follow(wire::Follow { after, rest_of }), missing("position"));
    let largest = Bytes::from(vec![0; PEER_CALL_BYTES]);
    assert_eq!(decode_call(Some(WireCall::Control(largest.clone()))), Ok(Some(Call::Control(largest))));
    let value = PEER_CALL_BYTES as u64 + 1;
    let too_large = CodecError::TooLarge { field: "bytes of a call", value };
    check(WireCall::Control(vec![0; PEER_CALL_BYTES + 1].into()), too_large);
    check(WireCall::Propose(vec![0; PEER_CALL_BYTES + 1].into()), too_large);
}

fn decided(content: wire::decided::Content) -> Option<WireAnswer> {
    let position = Some(wire::ControlPosition::default());
    Some(WireAnswer::Follow(wire::Decided { position, content: Some(content) }))
}

fn piece(offset: u64, bytes: usize, total: u64) -> Result<Answer, CodecError> {
    let piece = wire::SnapshotPiece { offset, total, content: vec![0; bytes].into() };
    decode_answer(decided(wire::decided::Content::Piece(piece)))
}

fn changes(count: usize, bytes: usize) -> Result<Answer, CodecError> {
    let changes = wire::Changes { changes: vec![vec![0; bytes].into(); count] };
    decode_answer(decided(wire::decided::Content::Changes(changes)))
}

#[test]
fn answers_that_make_no_sense_are_refused_by_name() {
    assert_eq!(decode_answer(None), Err(missing("answer")));
    let check = |body, expected| assert_eq!(decode_answer(Some(body)), Err(expected));
    check(WireAnswer::Heartbeat(wire::HeartbeatAnswer::default()), missing("position"));
    check(WireAnswer::AskHeartbeat(wire::Heartbeat::default()), missing("position"));
    check(WireAnswer::Follow(wire::Decided::default()), missing("position"));
    let position = Some(wire::ControlPosition::default());
    check(WireAnswer::Follow(wire::Decided { position, content: None }), missing("content"));
    let field = "bytes of an answer";
    let too_large = CodecError::TooLarge { field, value: PEER_CALL_BYTES as u64 + 1 };
    check(WireAnswer::Propose(vec![0; PEER_CALL_BYTES + 1].into()), too_large);
}

#[test]
fn pieces_lie_in_their_snapshot_and_bring_something() {
    for (offset, bytes, total) in
        [(0, 10, 10), (5, 5, 10), (0, CONTROL_PIECE_BYTES, CONTROL_SNAPSHOT_BYTES as u64)]
    {
        assert!(matches!(piece(offset, bytes, total), Ok(Answer::Follow(Decided::Piece(_)))));
    }
    for (offset, bytes, total) in [(0, 11, 10), (6, 5, 10), (u64::MAX, 1, 10), (10, 0, 10), (0, 0, 0)] {
        assert_eq!(piece(offset, bytes, total), Err(CodecError::Piece { offset, bytes, total }));
    }
    let (bytes, total) = (CONTROL_PIECE_BYTES + 1, CONTROL_SNAPSHOT_BYTES as u64);
    let too_large = |field, value| Err(CodecError::TooLarge { field, value });
    assert_eq!(piece(0, bytes, total), too_large("bytes of a piece", bytes as u64));
    piece(total - 1, 1, total).unwrap();
    assert_eq!(piece(total, 1, total + 1), too_large("bytes of a snapshot", total + 1));
}

#[test]
fn changes_are_bounded_in_number_and_bytes() {
    assert!(matches!(changes(FOLLOW_CHANGES, 1), Ok(Answer::Follow(Decided::Changes { .. }))));
    let too_large = |field, value| Err(CodecError::TooLarge { field, value });
    assert_eq!(changes(FOLLOW_CHANGES + 1, 1), too_large("changes", FOLLOW_CHANGES as u64 + 1));
    let half = PEER_CALL_BYTES / 2;
    assert!(matches!(changes(2, half - 8), Ok(Answer::Follow(Decided::Changes { .. }))));
    assert_eq!(changes(2, half), too_large("bytes of an answer", PEER_CALL_BYTES as u64 + 16));
}

fn places(count: usize, bytes: usize) -> Vec<wire::Place> {
    vec![wire::Place { member: Some(wire::Member::default()), address: "x".repeat(bytes) }; count]
}

fn admitted(count: usize, bytes: usize) -> Result<Answer, CodecError> {
    let admitted = wire::Admitted { member: Some(wire::Member::default()), members: places(count, bytes) };
    let outcome = Some(wire::admission::Outcome::Admitted(admitted));
    decode_answer(Some(WireAnswer::Join(wire::Admission { outcome })))
}

fn situation(process: usize, promised: usize, voters: usize) -> Result<Answer, CodecError> {
    let (process, promised) = (vec![0; process].into(), vec![0; promised].into());
    let situation =
        wire::Situation { process, promised, leader: None, voters: places(voters, 1), generation: None };
    decode_answer(Some(WireAnswer::Ask(situation)))
}

#[test]
fn what_strangers_say_and_hear_is_bounded_and_named() {
    let ask = |bytes: usize| {
        let ask = wire::Ask { process: vec![0; bytes].into(), founds: true };
        decode_call(Some(WireCall::Ask(ask)))
    };
    assert_eq!(ask(16), Ok(Some(Call::Ask(Ask { process: 0, founds: true }))));
    assert_eq!([ask(15), ask(17)], [Err(missing("process")), Err(missing("process"))]);
    situation(16, 0, 2 * VOTERS).unwrap();
    situation(16, 16, 0).unwrap();
    assert_eq!(situation(0, 0, 0), Err(missing("process")));
    assert_eq!(situation(16, 15, 0), Err(missing("process")));
    let too_large = |field, value: usize| Err(CodecError::TooLarge { field, value: value as u64 });
    assert_eq!(situation(16, 0, 2 * VOTERS + 1), too_large("voters", 2 * VOTERS + 1));
    admitted(NODES, NODE_TEXT_BYTES).unwrap();
    assert_eq!(admitted(NODES + 1, 1), too_large("members", NODES + 1));
    assert_eq!(admitted(1, NODE_TEXT_BYTES + 1), too_large("bytes of an address", NODE_TEXT_BYTES + 1));
    let nothing = decode_answer(Some(WireAnswer::Join(wire::Admission { outcome: None })));
    assert_eq!(nothing, Err(missing("outcome")));
    let nobody = wire::admission::Outcome::Admitted(wire::Admitted::default());
    let nobody = decode_answer(Some(WireAnswer::Join(wire::Admission { outcome: Some(nobody) })));
    assert_eq!(nobody, Err(missing("member")));
}

proptest! {
    #[test]
    fn bytes_from_anywhere_are_no_call_or_a_sound_one(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(call) = wire::Call::decode(&bytes[..]) {
            drop(decode_call(call.body));
        }
        if let Ok(answer) = wire::Answer::decode(&bytes[..]) {
            drop(decode_answer(answer.body));
        }
    }

    /// What was read from damaged bytes is a call or an answer like any other: it is written and read as it is.
    #[test]
    fn damaged_calls_are_read_or_refused(
        (call, answer) in (0..CALLS.len(), 0..ANSWERS.len()),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut written = unhex(CALLS[call]).to_vec();
        damage.iter().for_each(|(at, byte)| written[at.index(CALLS[call].len() / 2)] = *byte);
        if let Ok(read) = wire::Call::decode(&written[..])
            && let Ok(Some(call)) = decode_call(read.body)
        {
            prop_assert_eq!(read_call(&encode_call(7, call.clone()).encode_to_vec()), Ok(Some(call)));
        }
        let mut written = unhex(ANSWERS[answer]).to_vec();
        damage.iter().for_each(|(at, byte)| written[at.index(ANSWERS[answer].len() / 2)] = *byte);
        if let Ok(read) = wire::Answer::decode(&written[..])
            && let Ok(answer) = decode_answer(read.body)
        {
            prop_assert_eq!(read_answer(&encode_answer(7, answer.clone()).encode_to_vec()), Ok(answer));
        }
    }
}
