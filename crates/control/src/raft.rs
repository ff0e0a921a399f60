//! The types that openraft is used with.

use std::sync::Arc;

use bytes::Bytes;
use openraft::EmptyNode;
use serde::{Deserialize, Serialize};

use crate::State;
use crate::identity::VoterId;
use crate::proposal::{Outcome, Proposal};
use crate::replicated::Replicated;
use crate::runtime::Runtime;

openraft::declare_raft_types!(
    /// No addresses: the transport knows where a node is.
    pub(crate) Types:
        D = Payload,
        R = Vec<Outcome>,
        NodeId = VoterId,
        Node = EmptyNode,
        SnapshotData = Bytes,
        AsyncRuntime = Runtime,
);

pub(crate) type Raft = openraft::Raft<Types>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<VoterId>;
pub(crate) type Vote = openraft::Vote<VoterId>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<VoterId, EmptyNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<VoterId, EmptyNode>;
pub(crate) type StorageError = openraft::StorageError<VoterId>;
pub(crate) type StorageIoError = openraft::StorageIOError<VoterId>;
pub(crate) type Fatal = openraft::error::Fatal<VoterId>;
pub(crate) type Metrics = openraft::RaftMetrics<VoterId, EmptyNode>;
pub(crate) type AppendRequest = openraft::raft::AppendEntriesRequest<Types>;
pub(crate) type AppendResponse = openraft::raft::AppendEntriesResponse<VoterId>;
pub(crate) type VoteRequest = openraft::raft::VoteRequest<VoterId>;
pub(crate) type VoteResponse = openraft::raft::VoteResponse<VoterId>;

/// What an entry of the log carries.
///
/// JSON on disk and between voters: fields and variants can be added, and the log can be read by people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Payload {
    /// Proposals that came together, in their order. They share an entry, because openraft makes each entry durable by itself.
    Proposals(Arc<[Proposal]>),
    /// The first state of the group.
    Begin(Arc<Replicated>),
}

impl Payload {
    pub(crate) fn begin(state: State) -> Self {
        Self::Begin(Arc::new(Replicated::new(state)))
    }
}
