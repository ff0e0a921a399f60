//! [`Mutations`]: what a step has changed, as its copies are told: the payload of log records, and of chunks.
//!
//! The encoding is a byte that names the format and then mutations one after the other, each as postcard writes it. Variants and fields
//! are only ever added at the end of [`Mutation`]: what an earlier version wrote is read as it was.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::completions::Completion;
use crate::ids::{ClientId, GridTime, MapId, RequestId, Slot, Version};
use crate::store::ChangeKind;

/// The format that is written.
const FORMAT: u8 = 1;

/// One thing that has changed in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mutation<'a> {
    /// This is in a slot now.
    Put {
        map: MapId,
        slot: Slot,
        #[serde(borrow, with = "serde_bytes")]
        key: &'a [u8],
        #[serde(borrow, with = "serde_bytes")]
        value: &'a [u8],
        version: Version,
        deadline: Option<GridTime>,
    },
    /// The entry of a slot ends then.
    Deadline { map: MapId, slot: Slot, version: Version, deadline: Option<GridTime> },
    /// The entry of a slot is gone.
    Remove { map: MapId, slot: Slot, version: Version, kind: ChangeKind },
    /// All entries of a map are gone.
    Clear { map: MapId, version: Version },
    /// A request has done this.
    Complete { request: RequestId, completion: Cow<'a, Completion> },
    /// Requests of clients whose ids were issued earlier are in doubt.
    RaiseHorizon { to: GridTime },
    /// Only in chunks: this is all that is known of a client.
    Client { id: ClientId, watermark: u64, results: Cow<'a, [(u64, Completion)]> },
}

/// What a record takes beside keys and values, mostly.
const USUAL_BYTES: usize = 96;

impl Mutation<'_> {
    /// What keys and values take.
    fn about_bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Deadline { .. }
            | Self::Remove { .. }
            | Self::Clear { .. }
            | Self::Complete { .. }
            | Self::RaiseHorizon { .. }
            | Self::Client { .. } => 0,
        }
    }
}

/// Why bytes are no mutations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MutationError {
    /// Nothing can be said about the rest.
    #[error("format {found} of changes is not known here, only up to {FORMAT}")]
    Format {
        /// What the bytes say.
        found: u8,
    },
    /// They end too early, or are none.
    #[error("the bytes from {offset} on are no change of a partition")]
    Malformed {
        /// Where reading stopped.
        offset: usize,
    },
}

/// Encoded mutations, known to be well-formed. Cloning shares them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mutations(Bytes);

impl Mutations {
    /// Checks what another copy has sent.
    ///
    /// # Errors
    /// It cannot be read to the end.
    pub fn parse(bytes: Bytes) -> Result<Self, MutationError> {
        match bytes.first() {
            Some(&FORMAT) => {}
            Some(&found) => return Err(MutationError::Format { found }),
            None => return Err(MutationError::Malformed { offset: 0 }),
        }
        let mut rest = &bytes[1..];
        while !rest.is_empty() {
            let malformed = MutationError::Malformed { offset: bytes.len() - rest.len() };
            let (_, left) = postcard::take_from_bytes::<Mutation<'_>>(rest).map_err(|_| malformed)?;
            rest = left;
        }
        Ok(Self(bytes))
    }

    /// As they travel.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Mutation<'_>> {
        let mut rest = &self.0[1..];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (mutation, left) = postcard::take_from_bytes(rest).expect("they were read when they came");
            rest = left;
            Some(mutation)
        })
    }
}

/// Mutations as they are gathered.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(super) fn push(&mut self, mutation: &Mutation<'_>) {
        if self.bytes.is_empty() {
            // Most records are an entry and the result of a request: they are not to grow by doubling.
            self.bytes.reserve(mutation.about_bytes() + USUAL_BYTES);
            self.bytes.push(FORMAT);
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes = postcard::to_extend(mutation, bytes).expect("memory takes whatever is written");
    }

    /// What they take so far, in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What was gathered, if anything was.
    pub(super) fn take(&mut self) -> Option<Mutations> {
        (!self.bytes.is_empty()).then(|| Mutations(std::mem::take(&mut self.bytes).into()))
    }

    /// What was gathered, and be it nothing.
    pub(super) fn finish(mut self) -> Mutations {
        self.take().unwrap_or_else(|| Mutations(Bytes::from_static(&[FORMAT])))
    }
}
