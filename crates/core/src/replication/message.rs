//! What replicas of a partition say to each other.

use super::log::{Mark, Record};
use crate::ids::{Epoch, Version};

/// A message between two replicas of a partition. Any of them may be lost, doubled or late.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message<P, C> {
    /// Under which it was sent.
    pub epoch: Epoch,
    /// What it says.
    pub body: Body<P, C>,
}

/// What a message says. An `attempt` counts the expansions of a primary in its epoch; 0 is a member of the set from the
/// epoch's beginning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Body<P, C> {
    /// Primary to replica: from here on the log and the entries will come; what was there is void.
    Begin {
        /// The expansion.
        attempt: u32,
        /// The record before the first that will come.
        start: Mark,
    },
    /// Primary to replica: records, or none, and how far all is committed.
    Append {
        /// The expansion.
        attempt: u32,
        /// The record before the first of these.
        previous: Mark,
        /// In order.
        records: Vec<Record<P>>,
        /// Everything up to here is committed.
        commit: Version,
        /// Comes back with the answer.
        probe: u64,
    },
    /// Primary to replica: the committed entries of a range of slots, as they are at a position of the log.
    Chunk {
        /// The expansion.
        attempt: u32,
        /// From 0, without gaps.
        number: u32,
        /// Every record up to this one is in it, and no other.
        at: Version,
        /// The entries.
        content: C,
        /// No chunk comes after it.
        last: bool,
    },
    /// Replica to primary: how far it is.
    Acknowledge {
        /// The expansion.
        attempt: u32,
        /// It holds what the primary holds up to here; `None` if nothing that came has followed what it has.
        position: Option<Version>,
        /// Everything up to here is in its store.
        commit: Version,
        /// So many chunks are in place.
        chunks: u32,
        /// The highest that has come.
        probe: u64,
        /// What has come last did not follow: send again from there.
        missing: bool,
    },
    /// Primary to its successor: it reads no more in this reign, so that nobody has to wait for its leases.
    Released,
    /// Replica to primary: there is a newer primary than you. The message's epoch is that one's.
    Deposed,
}
