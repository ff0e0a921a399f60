//! [`PeerMessage`]: what nodes tell each other without waiting for an answer, and how much room it takes.

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
