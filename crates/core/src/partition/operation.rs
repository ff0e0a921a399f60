//! What a partition is asked, what it answers and why it refuses.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{GridTime, ModuleExport, Version};
use crate::limits::RECORD_RESERVE_BYTES;
use crate::map::MapDescriptor;
use crate::store::EntryRef;

/// What every operation needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// The map, as the node knows it at the time of the call.
    pub map: &'a MapDescriptor,
    /// Grid time.
    pub now: GridTime,
    /// What the node may hold.
    pub room: Room,
    /// What the completion record of the request takes, in bytes; 0 if none is kept. A full node refuses what leaves one.
    pub record: u64,
}

impl Access<'_> {
    /// The same with `bytes` more that are kept for a retry, if anything is.
    pub(super) fn keeping(&self, bytes: usize) -> Self {
        let record = if self.record == 0 { 0 } else { self.record + bytes as u64 };
        Self { record, ..*self }
    }
}

/// The memory of a node, as one of its partitions sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What its other partitions hold, in bytes.
    pub others: u64,
    /// What all of them may hold, in bytes.
    pub limit: u64,
}

impl Room {
    /// Of a node without a limit.
    pub const UNLIMITED: Self = Self { others: 0, limit: u64::MAX };

    /// What is left for a partition that holds so much, in bytes.
    pub(super) fn left(self, held: u64) -> u64 {
        self.limit.saturating_sub(self.others).saturating_sub(held)
    }

    /// The room for the records of what takes entries away: it goes on when the node is full, within a bound.
    pub(super) fn for_records(self) -> Self {
        Self { limit: self.limit.saturating_add(RECORD_RESERVE_BYTES as u64), ..self }
    }
}

/// Which time to live a write gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TtlChoice {
    /// The map's.
    #[default]
    OfMap,
    /// This one.
    Of(Duration),
    /// None: the entry lives until it is removed.
    ForEver,
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    Always,
    /// The key has no entry.
    IfAbsent,
    /// The entry has this version; [`Version::NONE`] stands for no entry.
    IfVersion(Version),
}

/// Whether the answer carries the value that was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Previous {
    /// It does not.
    #[default]
    Ignore,
    /// It does.
    Return,
}

/// Writes a value.
#[derive(Debug, Clone, Copy)]
pub struct Put<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// How long it lives.
    pub ttl: TtlChoice,
    /// When to write at all.
    pub condition: Condition,
    /// What to answer.
    pub previous: Previous,
}

/// Removes an entry.
#[derive(Debug, Clone, Copy)]
pub struct Remove<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The version that the entry must have.
    pub if_version: Option<Version>,
    /// What to answer.
    pub previous: Previous,
}

/// What to do about the time to live of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TtlChange {
    /// Only read it.
    Read,
    /// It lives this long from now.
    Set(Duration),
    /// It lives until it is removed.
    Clear,
}

/// What an entry processor asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect<'a> {
    /// Nothing.
    Keep,
    /// Write a value.
    Put {
        /// The value.
        value: &'a [u8],
        /// How long it lives.
        ttl: TtlChoice,
    },
    /// Remove the entry.
    Remove,
}

/// The answer of an operation that may change something: what a retry gets again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Of a put.
    Put {
        /// The new version.
        version: Version,
        /// What was there, if it was asked for.
        #[serde(with = "serde_bytes")]
        previous: Option<Box<[u8]>>,
    },
    /// Of a removal.
    Removed {
        /// Whether there was an entry.
        removed: bool,
        /// What was there, if it was asked for.
        #[serde(with = "serde_bytes")]
        previous: Option<Box<[u8]>>,
    },
    /// Of an increment.
    Incremented {
        /// The sum.
        value: i64,
        /// The new version.
        version: Version,
    },
    /// Of a touch.
    Touched {
        /// Whether there is an entry.
        found: bool,
        /// What is left to live; `None` is for ever.
        ttl: Option<Duration>,
        /// The entry's version.
        version: Version,
    },
    /// Of an entry processor.
    Processed {
        /// What it returned.
        #[serde(with = "serde_bytes")]
        response: Box<[u8]>,
        /// What ran. Shared: a client may leave thousands of answers unacknowledged.
        export: Arc<ModuleExport>,
    },
    /// Of a clear.
    Cleared {
        /// How many entries there were.
        removed: u64,
    },
}

impl Answer {
    /// Bytes of values and responses that it carries.
    #[must_use]
    pub fn payload(&self) -> usize {
        match self {
            Self::Put { previous, .. } | Self::Removed { previous, .. } => {
                previous.as_ref().map_or(0, |value| value.len())
            }
            Self::Processed { response, .. } => response.len(),
            Self::Incremented { .. } | Self::Touched { .. } | Self::Cleared { .. } => 0,
        }
    }
}

/// Why an operation changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// A conditional write found another version.
    #[error("the entry's version is {found}, not {expected} (0 stands for no entry)", found = found.0, expected = expected.0)]
    VersionMismatch {
        /// Asked for.
        expected: Version,
        /// There.
        found: Version,
    },
    /// A put-if-absent found an entry.
    #[error("the key has an entry, of version {}", version.0)]
    AlreadyExists {
        /// The entry's version.
        version: Version,
    },
    /// An increment found something else than an integer.
    #[error("the value is not a 64-bit integer")]
    NotAnInteger,
    /// An increment would leave the range of 64 bits.
    #[error("the sum of {value} and {delta} is no 64-bit integer")]
    Overflow {
        /// There.
        value: i64,
        /// To be added.
        delta: i64,
    },
    /// The map is at its limit and evicts nothing, or not enough.
    #[error(
        "the map is full: this partition's share is {share} bytes; raise max_bytes, remove entries or choose an eviction policy"
    )]
    MapFull {
        /// Bytes that the partition may hold of this map.
        share: u64,
    },
    /// The node is at its memory limit.
    #[error(
        "the node is full: {needed} bytes more are needed and {headroom} left; remove entries or add memory"
    )]
    NodeFull {
        /// Bytes that the write would add, with what is kept of it for a retry.
        needed: u64,
        /// Bytes that are left.
        headroom: u64,
    },
    /// Not by the partition: the map or the function is gone, say, or the function failed.
    #[error("{}", .0.message)]
    Explained(Box<Explanation>),
}

/// A refusal in the words of who refused, kept so that all attempts of a request are told the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// A number of its kind, as the API has it.
    pub code: i32,
    /// Stable, for programs.
    pub reason: String,
    /// For people.
    pub message: String,
    /// What the reason is about, by name.
    pub facts: Vec<(String, String)>,
    /// The request's field that is wrong.
    pub field: Option<String>,
}

impl Refusal {
    /// Bytes that it takes beside its place.
    #[must_use]
    pub fn payload(&self) -> usize {
        match self {
            Self::Explained(explanation) => explanation.bytes(),
            Self::VersionMismatch { .. }
            | Self::AlreadyExists { .. }
            | Self::NotAnInteger
            | Self::Overflow { .. }
            | Self::MapFull { .. }
            | Self::NodeFull { .. } => 0,
        }
    }
}

impl Explanation {
    fn bytes(&self) -> usize {
        let facts = self.facts.iter().map(|(name, value)| name.len() + value.len());
        let facts = facts.sum::<usize>() + self.facts.len() * size_of::<(String, String)>();
        let field = self.field.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.reason.len() + self.message.len() + facts + field
    }
}

/// One operation on one key.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    /// Reads the entry.
    Get {
        /// The key.
        key: &'a [u8],
    },
    /// Writes a value.
    Put(Put<'a>),
    /// Removes the entry.
    Remove(Remove<'a>),
    /// Adds to an integer.
    Increment {
        /// The key.
        key: &'a [u8],
        /// What to add.
        delta: i64,
    },
    /// Reads, sets or clears the time to live.
    Touch {
        /// The key.
        key: &'a [u8],
        /// What to do about it.
        change: TtlChange,
    },
}

impl Operation<'_> {
    /// Whether a value is part of its answer.
    #[must_use]
    pub fn answers_with_value(&self) -> bool {
        match self {
            Self::Get { .. } => true,
            Self::Put(put) => put.previous == Previous::Return,
            Self::Remove(remove) => remove.previous == Previous::Return,
            Self::Increment { .. } | Self::Touch { .. } => false,
        }
    }

    /// Whether it may change something, and so needs a completion record.
    #[must_use]
    pub fn may_change(&self) -> bool {
        match self {
            Self::Get { .. } | Self::Touch { change: TtlChange::Read, .. } => false,
            Self::Put(_) | Self::Remove(_) | Self::Increment { .. } | Self::Touch { .. } => true,
        }
    }

    /// Whether an answer is of the kind that this operation has.
    #[must_use]
    pub fn is_answered_by(&self, answer: &Answer) -> bool {
        match self {
            Self::Get { .. } => false,
            Self::Put(_) => matches!(answer, Answer::Put { .. }),
            Self::Remove(_) => matches!(answer, Answer::Removed { .. }),
            Self::Increment { .. } => matches!(answer, Answer::Incremented { .. }),
            Self::Touch { .. } => matches!(answer, Answer::Touched { .. }),
        }
    }
}

/// What an operation found or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<'p> {
    /// The entry that a read found.
    Entry(Option<EntryRef<'p>>),
    /// The answer of an operation that may change something.
    Answer(Answer),
}

/// Why a whole request is refused in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartRefusal {
    /// It may have run: its result is forgotten.
    #[error("the result of this request is no longer kept: it may have taken effect")]
    InDoubt,
    /// The client leaves too many results unacknowledged.
    #[error("this client has too many unacknowledged results in one partition: let oldest_pending rise")]
    TooManyPending,
    /// The node has no memory left for the request's result.
    #[error(
        "the node is full: a result of {needed} bytes is to be kept and {headroom} are left; let oldest_pending rise, remove entries or add memory"
    )]
    NodeFull {
        /// Bytes that the result takes at the least.
        needed: u64,
        /// Bytes that are left.
        headroom: u64,
    },
    /// The node has no memory left to keep what a repetition is told for the attempts before it, which may still take effect.
    #[error(
        "the node is full: a result of {needed} bytes is to be kept for an earlier attempt and {headroom} are left; remove entries or add memory"
    )]
    NoRoomToRepeat {
        /// Bytes that the result takes at the least.
        needed: u64,
        /// Bytes that are left.
        headroom: u64,
    },
    /// The id was used for a request of another shape.
    #[error("this request id was used for another request")]
    ReusedId,
}
