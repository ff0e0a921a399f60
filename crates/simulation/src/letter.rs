//! What travels between machines, and between clients and machines.

use wattle_core::control::grid::{Delta, GridCommand, GridRefusal, JoinNonce, Joining};
use wattle_core::ids::{Epoch, GridTime, MemberId, PartitionId, RequestId, Version};
use wattle_core::replication::{Grant, LocalTime, PartitionMessage, Wish};

/// Where a letter is from, or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Address {
    Machine(usize),
    Client(usize),
}

#[derive(Debug, Clone)]
pub(crate) enum Letter {
    /// Between copies.
    Replica {
        from: MemberId,
        to: MemberId,
        partition: PartitionId,
        message: PartitionMessage,
    },
    /// A wish for a lease, with the asker's clock.
    AskLease {
        from: MemberId,
        to: MemberId,
        wish: Wish,
    },
    Lease {
        from: MemberId,
        to: MemberId,
        grant: Grant,
    },
    /// To the leader: who lives, and which table it has.
    Heartbeat {
        from: MemberId,
        table: u64,
        /// When, by the member's clock.
        said: LocalTime,
        /// Grid time, if it was told.
        time: Option<GridTime>,
    },
    /// The leader's answer: what has changed since that table, and how many partitions need the member still.
    Heard {
        to: MemberId,
        delta: Delta,
        needs: usize,
        /// When the heartbeat was said.
        said: LocalTime,
        /// Grid time, if the leader may say it.
        time: Option<GridTime>,
    },
    /// The leader wants a heartbeat at once.
    AskHeartbeat {
        to: MemberId,
    },
    /// What has changed in the grid.
    Changes {
        to: MemberId,
        delta: Delta,
    },
    /// To somebody who does not lead, or does not know that it does; with who may.
    NotLeader {
        leader: Option<usize>,
    },
    /// To the leader.
    Command(GridCommand),
    Join(Box<Joining>),
    Joined {
        nonce: JoinNonce,
        result: Result<MemberId, GridRefusal>,
    },
    Request(Request),
    Reply(Reply),
}

/// A client's attempt at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) id: RequestId,
    pub(crate) attempt: u32,
    pub(crate) key: Key,
    pub(crate) partition: PartitionId,
    pub(crate) action: Action,
}

/// A key by its number: even ones lie in the first class, odd ones in the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) u16);

/// What is done to a key. All values are integers, and those that are written differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Shows what is there.
    Get,
    /// Writes.
    Put(i64),
    /// Writes if the entry has a version; none stands for no entry.
    CompareAndSet {
        /// The version.
        expected: Version,
        /// What is written.
        value: i64,
    },
    /// Adds; no entry counts as zero.
    Increment(i64),
    /// Takes the entry away, if there is one.
    Remove,
}

/// What a client is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shown {
    /// By a get.
    Found(Option<(i64, Version)>),
    /// By a put, or by a compare-and-set that found what it expected.
    Written(Version),
    /// By another one.
    Mismatch(Version),
    /// By an increment.
    Sum(i64, Version),
    /// By one that is not told of versions.
    Counted(i64),
    /// By a remove: whether there was an entry.
    Removed(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Reply {
    pub(crate) sequence: u64,
    pub(crate) attempt: u32,
    pub(crate) verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    /// In this reign.
    Done { shown: Shown, epoch: Epoch },
    /// This attempt has done nothing: ask there.
    NotOwner { owner: Option<usize> },
    /// This attempt has done nothing.
    Unavailable,
    /// What becomes of this attempt is not known.
    Interrupted,
    /// What has become of the request is forgotten.
    Forgotten,
}
