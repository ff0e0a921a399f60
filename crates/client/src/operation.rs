//! Operations on entries, and what they answer.

use std::time::Duration;

use bytes::Bytes;
use wattle_proto::v1;

use crate::wire::{from_wire, to_wire};

/// A value and the version of the entry that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versioned<V> {
    /// What the entry holds.
    pub value: V,
    /// The entry's last change. Never reused; a write may ask for it with [`PutOptions::if_version`].
    pub version: u64,
}

/// How a value is written. Without options: in any case, and with the map's time to live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutOptions {
    pub(crate) ttl: Option<Duration>,
    pub(crate) condition: Condition,
}

/// When a write happens at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Condition {
    #[default]
    Always,
    IfAbsent,
    IfVersion(u64),
}

impl PutOptions {
    /// In any case, and with the map's time to live.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the entry lives, instead of the map's time to live.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The entry lives for ever, whatever the map's time to live is.
    #[must_use]
    pub fn keep_for_ever(mut self) -> Self {
        self.ttl = Some(Duration::ZERO);
        self
    }

    /// Only when there is no entry; otherwise [`Error::AlreadyExists`](crate::Error::AlreadyExists).
    #[must_use]
    pub fn if_absent(mut self) -> Self {
        self.condition = Condition::IfAbsent;
        self
    }

    /// Only when the entry has this version; otherwise [`Error::VersionMismatch`](crate::Error::VersionMismatch).
    #[must_use]
    pub fn if_version(mut self, version: u64) -> Self {
        self.condition = Condition::IfVersion(version);
        self
    }
}

/// What a put answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<V> {
    /// The entry's new version.
    pub version: u64,
    /// The value that was there, if the operation asked for it.
    pub previous: Option<V>,
}

/// What a remove answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed<V> {
    /// Whether there was an entry.
    pub found: bool,
    /// The value that was there, if the operation asked for it.
    pub previous: Option<V>,
}

/// What an increment answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incremented {
    /// The sum.
    pub value: i64,
    /// The entry's new version.
    pub version: u64,
}

/// How long an entry will live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// What is left; `None` is for ever.
    pub ttl: Option<Duration>,
    /// The entry's version.
    pub version: u64,
}

/// What to do about an entry's time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TtlChange {
    /// Only read it.
    Read,
    /// The entry lives this much longer from now.
    Set(Duration),
    /// The entry lives for ever.
    Clear,
}

/// One operation of a batch: see [`RawMap::batch`](crate::RawMap::batch).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Reads a value.
    Get {
        /// Of which entry.
        key: Bytes,
    },
    /// Writes a value.
    Put {
        /// Of which entry.
        key: Bytes,
        /// What to write.
        value: Bytes,
        /// How to write it.
        options: PutOptions,
    },
    /// Writes a value and answers the one that was there.
    GetAndPut {
        /// Of which entry.
        key: Bytes,
        /// What to write.
        value: Bytes,
        /// How to write it.
        options: PutOptions,
    },
    /// Removes an entry.
    Remove {
        /// Which entry.
        key: Bytes,
    },
    /// Removes an entry that has this version.
    RemoveIfVersion {
        /// Which entry.
        key: Bytes,
        /// The version that it must have.
        version: u64,
    },
    /// Removes an entry and answers its value.
    GetAndRemove {
        /// Which entry.
        key: Bytes,
    },
    /// Adds to an integer; an absent entry counts as 0.
    Increment {
        /// Of which entry.
        key: Bytes,
        /// How much.
        delta: i64,
    },
    /// Reads, sets or clears a time to live.
    Touch {
        /// Of which entry.
        key: Bytes,
        /// What to do.
        change: TtlChange,
    },
    /// Runs an entry processor.
    Invoke {
        /// On which entry.
        key: Bytes,
        /// The function's name.
        function: String,
        /// What the function is given.
        argument: Bytes,
    },
}

impl Operation {
    /// Which entry it is about.
    pub(crate) fn key(&self) -> &Bytes {
        match self {
            Self::Get { key }
            | Self::Put { key, .. }
            | Self::GetAndPut { key, .. }
            | Self::Remove { key }
            | Self::RemoveIfVersion { key, .. }
            | Self::GetAndRemove { key }
            | Self::Increment { key, .. }
            | Self::Touch { key, .. }
            | Self::Invoke { key, .. } => key,
        }
    }
}

/// What an [`Operation`] answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Of a get; `None` when there is no such entry.
    Value(Option<Versioned<Bytes>>),
    /// Of a put.
    Written(Written<Bytes>),
    /// Of a remove.
    Removed(Removed<Bytes>),
    /// Of an increment.
    Incremented(Incremented),
    /// Of a touch; `None` when there is no such entry.
    Lifetime(Option<Lifetime>),
    /// Of an invocation: the function's response.
    Response(Bytes),
}

impl Operation {
    pub(crate) fn into_wire(self, map: &str) -> v1::Operation {
        use v1::operation::Operation as Wire;
        let map = map.to_owned();
        let operation = match self {
            Self::Get { key } => Wire::Get(v1::GetRequest { map, key }),
            Self::Put { key, value, options } => Wire::Put(put(map, key, value, options)),
            Self::GetAndPut { key, value, options } => {
                Wire::Put(v1::PutRequest { return_previous: true, ..put(map, key, value, options) })
            }
            Self::Remove { key } => Wire::Remove(v1::RemoveRequest { map, key, ..Default::default() }),
            Self::RemoveIfVersion { key, version } => {
                Wire::Remove(v1::RemoveRequest { map, key, if_version: Some(version), ..Default::default() })
            }
            Self::GetAndRemove { key } => {
                Wire::Remove(v1::RemoveRequest { map, key, return_previous: true, ..Default::default() })
            }
            Self::Increment { key, delta } => {
                Wire::Increment(v1::IncrementRequest { map, key, delta, request_id: None })
            }
            Self::Touch { key, change } => {
                Wire::Touch(v1::TouchRequest { map, key, request_id: None, change: touch(change) })
            }
            Self::Invoke { key, function, argument } => {
                Wire::Invoke(v1::OperationInvoke { map, key, function, argument })
            }
        };
        v1::Operation { operation: Some(operation) }
    }
}

pub(crate) fn put(map: String, key: Bytes, value: Bytes, options: PutOptions) -> v1::PutRequest {
    use v1::put_request::Condition as Wire;
    let condition = match options.condition {
        Condition::Always => None,
        Condition::IfAbsent => Some(Wire::IfAbsent(true)),
        Condition::IfVersion(version) => Some(Wire::IfVersion(version)),
    };
    let ttl = options.ttl.map(to_wire);
    v1::PutRequest { map, key, value, request_id: None, ttl, condition, return_previous: false }
}

pub(crate) fn touch(change: TtlChange) -> Option<v1::touch_request::Change> {
    match change {
        TtlChange::Read => None,
        TtlChange::Set(ttl) => Some(v1::touch_request::Change::SetTtl(to_wire(ttl))),
        TtlChange::Clear => Some(v1::touch_request::Change::ClearTtl(true)),
    }
}

pub(crate) fn found(answer: v1::GetResponse) -> Option<Versioned<Bytes>> {
    answer.value.map(|value| Versioned { value, version: answer.version })
}

pub(crate) fn lifetime(answer: v1::TouchResponse) -> Option<Lifetime> {
    answer.found.then(|| Lifetime { ttl: answer.ttl.map(from_wire), version: answer.version })
}

impl From<v1::PutResponse> for Written<Bytes> {
    fn from(answer: v1::PutResponse) -> Self {
        Self { version: answer.version, previous: answer.previous }
    }
}

impl From<v1::RemoveResponse> for Removed<Bytes> {
    fn from(answer: v1::RemoveResponse) -> Self {
        Self { found: answer.removed, previous: answer.previous }
    }
}

impl From<v1::IncrementResponse> for Incremented {
    fn from(answer: v1::IncrementResponse) -> Self {
        Self { value: answer.value, version: answer.version }
    }
}
