//! Messages as they travel. What comes in is hostile until it has been checked: whatever does not read as what a sound node sends is an
//! error that says what is wrong with it.

mod calls;

use std::time::Duration;

use wattle_core::ids::{Epoch, MemberId, NodeId, PartitionId, ReplicationClass, Version};
use wattle_core::limits::LEASE_TERM;
use wattle_core::partition::{MutationError, Mutations};
use wattle_core::replication::{
    Body, Grant, LocalTime, Mark, Message, PartitionMessage, Reckoning, Record, Wish,
};
use wattle_proto::internal as wire;
use wire::partition_message::Body as WireBody;

use crate::message::PeerMessage;

pub(crate) use calls::{check_answer, decode_answer, decode_call, encode_answer, encode_call};

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A number is larger than there is any of what it counts.
    #[error("{field} is {value}: too large")]
    TooLarge {
        /// Its name.
        field: &'static str,
        /// The number.
        value: u64,
    },
    /// A piece of a snapshot that is none of it.
    #[error("{bytes} bytes at {offset} are no piece of {total}")]
    Piece {
        /// So many bytes come before.
        offset: u64,
        /// Its length.
        bytes: usize,
        /// Of the snapshot.
        total: u64,
    },
    /// Records of a log that do not follow one another.
    #[error("a record of epoch {}.{} at {} does not follow", .mark.epoch.generation, .mark.epoch.number, .mark.position.0)]
    Disorder {
        /// Of the first that does not.
        mark: Mark,
    },
    /// A payload that cannot be read.
    #[error("in what a partition has changed: {0}")]
    Mutations(#[from] MutationError),
}

fn required<T>(value: Option<T>, field: &'static str) -> Result<T, CodecError> {
    value.ok_or(CodecError::Missing { field })
}

pub(crate) fn encode(message: PeerMessage) -> wire::PeerMessage {
    use wire::peer_message::Body as Kind;
    let body = match message {
        PeerMessage::Partition(partition, message) => Kind::Partition(encode_partition(partition, message)),
        PeerMessage::LeaseWish(wish) => Kind::LeaseWish(encode_wish(wish)),
        PeerMessage::LeaseGrant(grant) => Kind::LeaseGrant(encode_grant(grant)),
    };
    wire::PeerMessage { body: Some(body) }
}

/// Reads a message; `None` is one of a kind that is not known here, of a newer node.
pub(crate) fn decode(message: wire::PeerMessage) -> Result<Option<PeerMessage>, CodecError> {
    use wire::peer_message::Body as Kind;
    Ok(match message.body {
        None => None,
        Some(Kind::Partition(message)) => decode_partition(message)?,
        Some(Kind::LeaseWish(wish)) => Some(PeerMessage::LeaseWish(decode_wish(wish))),
        Some(Kind::LeaseGrant(grant)) => Some(PeerMessage::LeaseGrant(decode_grant(grant))),
    })
}

fn encode_wish(wish: Wish) -> wire::LeaseWish {
    wire::LeaseWish { asked: wish.asked.0, heeds_term: wish.reckoning == Reckoning::Granted }
}

fn decode_wish(wish: wire::LeaseWish) -> Wish {
    let reckoning = if wish.heeds_term { Reckoning::Granted } else { Reckoning::Default };
    Wish { asked: LocalTime(wish.asked), reckoning }
}

fn encode_grant(grant: Grant) -> wire::LeaseGrant {
    let term = u32::try_from(grant.term.as_millis()).unwrap_or(u32::MAX);
    wire::LeaseGrant { asked: grant.asked.0, table: grant.table, term: Some(term) }
}

/// One that names no term is of a version in which all leases had this one.
fn decode_grant(grant: wire::LeaseGrant) -> Grant {
    let term = grant.term.map_or(LEASE_TERM, |term| Duration::from_millis(term.into()));
    Grant { asked: LocalTime(grant.asked), table: grant.table, term }
}

fn encode_partition(partition: PartitionId, message: PartitionMessage) -> wire::PartitionMessage {
    let body = match message.body {
        Body::Begin { attempt, start } => {
            WireBody::Begin(wire::Begin { attempt, start: Some(encode_mark(start)) })
        }
        Body::Append { attempt, previous, records, commit, probe } => WireBody::Append(wire::Append {
            attempt,
            previous: Some(encode_mark(previous)),
            records: records.iter().map(encode_record).collect(),
            commit: commit.0,
            probe,
        }),
        Body::Chunk { attempt, number, at, content, last } => {
            let content = content.as_bytes().clone();
            WireBody::Chunk(wire::Chunk { attempt, number, at: at.0, content, last })
        }
        Body::Acknowledge { attempt, position, commit, chunks, probe, missing } => {
            let (position, commit) = (position.map(|position| position.0), commit.0);
            WireBody::Acknowledge(wire::Acknowledge { attempt, position, commit, chunks, probe, missing })
        }
        Body::Released => WireBody::Released(wire::Released {}),
        Body::Deposed => WireBody::Deposed(wire::Deposed {}),
    };
    wire::PartitionMessage {
        class: partition.class.0.into(),
        index: partition.index.into(),
        epoch: Some(encode_epoch(message.epoch)),
        body: Some(body),
        founder: None,
    }
}

fn decode_partition(message: wire::PartitionMessage) -> Result<Option<PeerMessage>, CodecError> {
    let class = u8::try_from(message.class)
        .map_err(|_| CodecError::TooLarge { field: "class", value: message.class.into() })?;
    let index = u16::try_from(message.index)
        .map_err(|_| CodecError::TooLarge { field: "index", value: message.index.into() })?;
    let partition = PartitionId { class: ReplicationClass(class), index };
    let epoch = decode_epoch(required(message.epoch, "epoch")?);
    let Some(body) = message.body else { return Ok(None) };
    let body = decode_body(body)?;
    Ok(Some(PeerMessage::Partition(partition, Message { epoch, body })))
}

fn decode_body(body: WireBody) -> Result<Body<Mutations, Mutations>, CodecError> {
    Ok(match body {
        WireBody::Begin(begin) => {
            Body::Begin { attempt: begin.attempt, start: decode_mark(begin.start, "start")? }
        }
        WireBody::Append(append) => {
            let previous = decode_mark(append.previous, "previous")?;
            Body::Append {
                attempt: append.attempt,
                previous,
                records: decode_records(previous, append.records)?,
                commit: Version(append.commit),
                probe: append.probe,
            }
        }
        WireBody::Chunk(chunk) => Body::Chunk {
            attempt: chunk.attempt,
            number: chunk.number,
            at: Version(chunk.at),
            content: Mutations::parse(chunk.content)?,
            last: chunk.last,
        },
        WireBody::Acknowledge(acknowledge) => Body::Acknowledge {
            attempt: acknowledge.attempt,
            position: acknowledge.position.map(Version),
            commit: Version(acknowledge.commit),
            chunks: acknowledge.chunks,
            probe: acknowledge.probe,
            missing: acknowledge.missing,
        },
        WireBody::Released(_) => Body::Released,
        WireBody::Deposed(_) => Body::Deposed,
    })
}

/// Reads records, each of which must follow the one before: a log stands on that.
fn decode_records(previous: Mark, records: Vec<wire::Record>) -> Result<Vec<Record<Mutations>>, CodecError> {
    let mut last = previous;
    let mut decoded = Vec::with_capacity(records.len());
    for record in records {
        let mark = decode_mark(record.mark, "mark")?;
        if mark.position <= last.position || mark.epoch < last.epoch {
            return Err(CodecError::Disorder { mark });
        }
        last = mark;
        decoded.push(Record { mark, payload: Mutations::parse(record.payload)? });
    }
    Ok(decoded)
}

fn encode_record(record: &Record<Mutations>) -> wire::Record {
    wire::Record { mark: Some(encode_mark(record.mark)), payload: record.payload.as_bytes().clone() }
}

fn encode_mark(mark: Mark) -> wire::Mark {
    wire::Mark { epoch: Some(encode_epoch(mark.epoch)), position: mark.position.0 }
}

fn decode_mark(mark: Option<wire::Mark>, field: &'static str) -> Result<Mark, CodecError> {
    let mark = required(mark, field)?;
    let epoch = decode_epoch(required(mark.epoch, "epoch")?);
    Ok(Mark { epoch, position: Version(mark.position) })
}

fn encode_epoch(epoch: Epoch) -> wire::Epoch {
    wire::Epoch { generation: epoch.generation, number: epoch.number }
}

fn decode_epoch(epoch: wire::Epoch) -> Epoch {
    Epoch { generation: epoch.generation, number: epoch.number }
}

pub(crate) fn encode_member(member: MemberId) -> wire::Member {
    wire::Member { node: member.node.0, incarnation: member.incarnation }
}

pub(crate) fn decode_member(member: wire::Member) -> MemberId {
    MemberId { node: NodeId(member.node), incarnation: member.incarnation }
}
