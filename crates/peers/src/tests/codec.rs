//! What travels: the same bytes as ever, read back as it was, and refused when it is nonsense.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use wattle_core::ids::{Epoch, PartitionId, ReplicationClass, Version};
use wattle_core::limits::LEASE_TERM;
use wattle_core::partition::{MutationError, Mutations};
use wattle_core::replication::{Body, Grant, LocalTime, Mark, Message, Reckoning, Record, Wish};
use wattle_proto::internal as wire;

use crate::PeerMessage;
use crate::codec::{CodecError, decode, encode};

/// A put of a value of that many bytes, as a partition writes it.
pub(super) fn mutations(value: usize) -> Mutations {
    // Format 1; put into map 5, slot 3, of key "k".
    let mut bytes = vec![1, 0, 5, 3, 1, b'k'];
    prost::encoding::encode_varint(value as u64, &mut bytes);
    bytes.extend(std::iter::repeat_n(b'v', value));
    // Version 7, no deadline.
    bytes.extend([7, 0]);
    Mutations::parse(bytes.into()).unwrap()
}

fn mark(number: u64, position: u64) -> Mark {
    Mark { epoch: Epoch { generation: 2, number }, position: Version(position) }
}

fn partition(body: Body<Mutations, Mutations>) -> PeerMessage {
    let partition = PartitionId { class: ReplicationClass(1), index: 270 };
    PeerMessage::Partition(partition, Message { epoch: Epoch { generation: 2, number: 9 }, body })
}

/// One of each kind.
fn examples() -> Vec<PeerMessage> {
    let record = |number, position| Record { mark: mark(number, position), payload: mutations(2) };
    vec![
        partition(Body::Begin { attempt: 3, start: mark(8, 300) }),
        partition(Body::Append {
            attempt: 3,
            previous: mark(8, 300),
            records: vec![record(8, 301), record(9, 310)],
            commit: Version(300),
            probe: 4,
        }),
        partition(Body::Chunk { attempt: 3, number: 1, at: Version(310), content: mutations(1), last: true }),
        partition(Body::Acknowledge {
            attempt: 3,
            position: Some(Version(310)),
            commit: Version(301),
            chunks: 2,
            probe: 4,
            missing: true,
        }),
        partition(Body::Acknowledge {
            attempt: 0,
            position: None,
            commit: Version(0),
            chunks: 0,
            probe: 0,
            missing: false,
        }),
        partition(Body::Released),
        partition(Body::Deposed),
        wish(Reckoning::Granted),
        grant(Duration::from_millis(500)),
    ]
}

fn wish(reckoning: Reckoning) -> PeerMessage {
    PeerMessage::LeaseWish(Wish { asked: LocalTime(1000), reckoning })
}

fn grant(term: Duration) -> PeerMessage {
    PeerMessage::LeaseGrant(Grant { asked: LocalTime(1000), table: 77, term })
}

/// As version 1 wrote them.
const GOLDEN: [&str; 9] = [
    "0a1a0801108e021a0408021009220d080312090a040802100810ac02",
    concat!(
        "0a530801108e021a04080210092a46080312090a040802100810ac021a180a090a040802100810ad02120b0100050301",
        "6b02767607001a180a090a040802100910b602120b01000503016b027676070020ac022804",
    ),
    "0a220801108e021a040802100932150803100118b602220a01000503016b017607002801",
    "0a1b0801108e021a04080210093a0e080310b60218ad02200228043001",
    "0a0d0801108e021a04080210093a00",
    "0a0d0801108e021a04080210094200",
    "0a0d0801108e021a04080210094a00",
    "120508e8071001",
    "1a0808e807104d18f403",
];

/// As they were before leases had terms.
const WITHOUT_TERM: [&str; 2] = ["120308e807", "1a0508e807104d"];

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Bytes {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn read(bytes: Bytes) -> Result<Option<PeerMessage>, CodecError> {
    decode(wire::PeerMessage::decode(bytes).expect("it is protobuf"))
}

#[test]
fn messages_are_written_as_ever() {
    let written: Vec<_> =
        examples().into_iter().map(|message| hex(&encode(message).encode_to_vec())).collect();
    assert_eq!(written, GOLDEN);
}

#[test]
fn messages_of_version_1_are_understood() {
    for (text, message) in GOLDEN.iter().zip(examples()) {
        assert_eq!(read(unhex(text)), Ok(Some(message)));
    }
}

#[test]
fn leases_without_a_term_are_those_of_the_default() {
    let expected = [wish(Reckoning::Default), grant(LEASE_TERM)];
    for (text, message) in WITHOUT_TERM.iter().zip(expected) {
        assert_eq!(read(unhex(text)), Ok(Some(message)));
    }
}

#[test]
fn fields_that_newer_nodes_add_are_skipped() {
    // Field 100, three bytes.
    let newer = [0xa2, 0x06, 3, 1, 2, 3];
    let message = partition(Body::Released);
    let Some(wire::peer_message::Body::Partition(inner)) = encode(message.clone()).body else {
        unreachable!("it was of a partition")
    };
    let mut inner = inner.encode_to_vec();
    inner.extend(newer);
    let mut outer = vec![0x0a];
    prost::encoding::encode_varint(inner.len() as u64, &mut outer);
    outer.extend(inner);
    outer.extend(newer);
    assert_eq!(read(outer.into()), Ok(Some(message)));
}

#[test]
fn kinds_that_newer_nodes_add_are_skipped() {
    assert_eq!(read(Bytes::from_static(&[0xa2, 0x06, 3, 1, 2, 3])), Ok(None));
    let body = wire::PartitionMessage { epoch: Some(wire::Epoch::default()), ..Default::default() };
    let message = wire::PeerMessage { body: Some(wire::peer_message::Body::Partition(body)) };
    assert_eq!(decode(message), Ok(None));
}

/// Changes the second example, an append, and reads it.
fn check_append(change: impl FnOnce(&mut wire::PartitionMessage, &mut wire::Append), expected: CodecError) {
    use wire::partition_message::Body as Kind;
    let mut message = encode(examples().remove(1));
    let Some(wire::peer_message::Body::Partition(inner)) = &mut message.body else {
        unreachable!("it is of a partition")
    };
    let Some(Kind::Append(mut append)) = inner.body.take() else { unreachable!("it is an append") };
    change(inner, &mut append);
    inner.body = Some(Kind::Append(append));
    assert_eq!(decode(message), Err(expected));
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    check_append(|message, _| message.epoch = None, CodecError::Missing { field: "epoch" });
    check_append(|_, append| append.previous = None, CodecError::Missing { field: "previous" });
    check_append(|_, append| append.records[0].mark = None, CodecError::Missing { field: "mark" });
    check_append(|message, _| message.class = 256, CodecError::TooLarge { field: "class", value: 256 });
    check_append(|message, _| message.index = 65_536, CodecError::TooLarge { field: "index", value: 65_536 });
    let format = MutationError::Format { found: 2 };
    let newer = Bytes::from_static(&[2]);
    check_append(|_, append| append.records[1].payload = newer, CodecError::Mutations(format));
    let malformed = MutationError::Malformed { offset: 0 };
    check_append(|_, append| append.records[0].payload.clear(), CodecError::Mutations(malformed));
}

#[test]
fn records_that_do_not_follow_one_another_are_refused() {
    check_append(|_, append| append.records.swap(0, 1), CodecError::Disorder { mark: mark(8, 301) });
    check_append(
        |_, append| append.previous.as_mut().unwrap().position = 301,
        CodecError::Disorder { mark: mark(8, 301) },
    );
    let epoch = wire::Epoch { generation: 2, number: 7 };
    check_append(
        |_, append| append.records[1].mark.as_mut().unwrap().epoch = Some(epoch),
        CodecError::Disorder { mark: mark(7, 310) },
    );
}

proptest! {
    #[test]
    fn bytes_from_anywhere_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(batch) = wire::Batch::decode(&bytes[..]) {
            for message in batch.messages {
                drop(decode(message));
            }
        }
    }

    /// What was read from damaged bytes is a message like any other: it is written and read as it is.
    #[test]
    fn damaged_messages_are_read_or_refused(
        example in 0..9_usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode(examples().remove(example)).encode_to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(message) = wire::PeerMessage::decode(&bytes[..])
            && let Ok(Some(message)) = decode(message)
        {
            let again = encode(message.clone()).encode_to_vec();
            prop_assert_eq!(read(again.into()), Ok(Some(message)));
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was(
        (class, index, generation, number) in any::<(u8, u16, u32, u64)>(),
        (attempt, chunks, missing) in any::<(u32, u32, bool)>(),
        (position, commit, probe) in any::<(Option<u64>, u64, u64)>(),
    ) {
        let (position, commit) = (position.map(Version), Version(commit));
        let body = Body::Acknowledge { attempt, position, commit, chunks, probe, missing };
        let partition = PartitionId { class: ReplicationClass(class), index };
        let message = PeerMessage::Partition(partition, Message { epoch: Epoch { generation, number }, body });
        prop_assert_eq!(read(encode(message.clone()).encode_to_vec().into()), Ok(Some(message)));
    }
}
