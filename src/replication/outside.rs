//! [`Outside`]: the ways from the copies on this node to other nodes and to the control group.

use std::fmt;

use wattle_core::ids::{MemberId, PartitionId};
use wattle_core::replication::{PartitionMessage, Proposal};

/// Where copies send what they have to say. It is called on their strands: it never waits.
pub(crate) trait Outside: fmt::Debug + Send + Sync {
    /// Sends a message to another copy, behind those before; it may be lost.
    fn send(&self, to: MemberId, partition: PartitionId, message: PartitionMessage);

    /// Asks the control group for a change; that may be lost, too: copies ask again.
    fn propose(&self, partition: PartitionId, proposal: Proposal);
}

/// Of a node that is alone.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Nobody;

#[cfg(test)]
impl Outside for Nobody {
    fn send(&self, to: MemberId, partition: PartitionId, _: PartitionMessage) {
        debug_assert!(false, "{partition:?} has no copy at {to:?}");
    }

    fn propose(&self, partition: PartitionId, proposal: Proposal) {
        debug_assert!(false, "{partition:?} of a node that is alone asks for {proposal:?}");
    }
}
