//! [`PeerMessage`]: what nodes tell each other without waiting for an answer, and how much room it takes.

use std::collections::HashMap;

use wattle_core::ids::PartitionId;
use wattle_core::limits::PEER_BATCH_BYTES;
use wattle_core::partition::Mutations;
use wattle_core::replication::{Body, Grant, Message, PartitionMessage, Record, Wish};

/// What a message takes beside its payloads, in bytes: in memory, where it is more than on the wire.
const MESSAGE_OVERHEAD: usize = 192;
/// What a record takes beside its payload.
const RECORD_OVERHEAD: usize = 64;

/// Something that a node tells another. It may be lost, doubled or late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    /// From a copy of a partition to another.
    Partition(PartitionId, PartitionMessage),
    /// The sender wishes for a lease.
    LeaseWish(Wish),
    /// The answer to such a wish.
    LeaseGrant(Grant),
}

impl PeerMessage {
    /// What it counts for in the queue of a link, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let payload = match self {
            Self::LeaseWish(_) | Self::LeaseGrant(_) => 0,
            Self::Partition(_, message) => match &message.body {
                Body::Append { records, .. } => records.iter().map(weight_of_record).sum(),
                Body::Chunk { content, .. } => content.as_bytes().len(),
                Body::Begin { .. } | Body::Acknowledge { .. } | Body::Released | Body::Deposed => 0,
            },
        };
        MESSAGE_OVERHEAD + payload
    }

    /// The message in pieces that fit a batch each, as far as single records do: a copy that was silent for long is sent all that
    /// it missed. Each piece is a message that the primary might have sent itself.
    pub(crate) fn into_pieces(self) -> Vec<Self> {
        if self.weight() <= PEER_BATCH_BYTES {
            return vec![self];
        }
        match self {
            Self::Partition(
                partition,
                Message { epoch, body: Body::Append { attempt, mut previous, records, commit, probe } },
            ) => {
                let mut pieces = Vec::new();
                for records in split_records(records) {
                    let last = records.last().map_or(previous, |record| record.mark);
                    let body = Body::Append { attempt, previous, records, commit, probe };
                    pieces.push(Self::Partition(partition, Message { epoch, body }));
                    previous = last;
                }
                pieces
            }
            whole @ (Self::Partition(..) | Self::LeaseWish(_) | Self::LeaseGrant(_)) => vec![whole],
        }
    }
}

/// The same messages in fewer: records that follow one another in one append, and of acknowledgements the last, which says what those
/// before it said. Each is one that the copy might have sent itself, or that follows one which was lost.
pub(crate) fn together(messages: Vec<PeerMessage>) -> Vec<PeerMessage> {
    let mut together: Vec<PeerMessage> = Vec::with_capacity(messages.len());
    // Where the last message of a partition is.
    let mut last: HashMap<PartitionId, usize> = HashMap::with_capacity(messages.len());
    for message in messages {
        let PeerMessage::Partition(partition, next) = message else {
            together.push(message);
            continue;
        };
        let before = last.get(&partition).map(|place| &mut together[*place]);
        let rest = match before {
            Some(PeerMessage::Partition(_, before)) => join(before, next),
            Some(PeerMessage::LeaseWish(_) | PeerMessage::LeaseGrant(_)) | None => Some(next),
        };
        if let Some(next) = rest {
            last.insert(partition, together.len());
            together.push(PeerMessage::Partition(partition, next));
        }
    }
    together
}

/// Adds a message to the one before it, or gives it back.
fn join(before: &mut PartitionMessage, next: PartitionMessage) -> Option<PartitionMessage> {
    if before.epoch != next.epoch {
        return Some(next);
    }
    match (&mut before.body, next.body) {
        (
            Body::Append { attempt, previous, records, commit, probe },
            Body::Append { attempt: of, previous: behind, records: mut more, commit: to, probe: last },
        ) if *attempt == of && records.last().map_or(*previous, |record| record.mark) == behind => {
            records.append(&mut more);
            (*commit, *probe) = (to.max(*commit), last.max(*probe));
            None
        }
        (
            Body::Acknowledge { attempt, position, commit, chunks, probe, missing },
            Body::Acknowledge {
                attempt: of,
                position: at,
                commit: to,
                chunks: placed,
                probe: last,
                missing: lacks,
            },
        ) if *attempt == of => {
            (*position, *commit, *chunks) = (at.max(*position), to.max(*commit), placed.max(*chunks));
            (*probe, *missing) = (last.max(*probe), lacks || *missing);
            None
        }
        (_, body) => Some(Message { epoch: next.epoch, body }),
    }
}

fn weight_of_record(record: &Record<Mutations>) -> usize {
    RECORD_OVERHEAD + record.payload.as_bytes().len()
}

fn split_records(records: Vec<Record<Mutations>>) -> Vec<Vec<Record<Mutations>>> {
    let mut pieces = vec![Vec::new()];
    let mut weight = MESSAGE_OVERHEAD;
    for record in records {
        weight += weight_of_record(&record);
        if weight > PEER_BATCH_BYTES && pieces.last().is_some_and(|piece: &Vec<_>| !piece.is_empty()) {
            pieces.push(Vec::new());
            weight = MESSAGE_OVERHEAD + weight_of_record(&record);
        }
        pieces.last_mut().expect("there is a first one").push(record);
    }
    pieces
}
