//! Answers of functions that ran on one key, on many, on all.

mod stream;
mod told;

use bytes::Bytes;
pub(crate) use stream::Call;
pub use stream::InvokeStream;
use wattle_proto::v1;

use crate::call::Doubt;
use crate::error::Error;

/// What an invocation on one key answers. Its effect, if the function wanted one, is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoked {
    /// The function's response.
    pub response: Bytes,
    /// SHA-256 of the module that ran, in hexadecimal.
    pub module: String,
}

/// Whether the responses of single entries are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Responses {
    /// They are answered.
    Collect,
    /// Only counts are.
    Discard,
}

/// A message about a function that runs on many entries.
#[derive(Debug)]
pub struct InvokePart {
    /// Which partition it is about.
    pub partition: u32,
    /// Answers of single entries. Entries without a response are only counted. Of a call on keys, all those of a partition
    /// come together.
    pub entries: Vec<EntryAnswer>,
    /// How many entries the function ran on since the partition's last message.
    pub processed: u64,
    /// On how many of them it failed; nothing changed for those.
    pub failed: u64,
    /// No more messages come for this partition.
    pub complete: bool,
    /// The rest of this partition could not be processed.
    pub error: Option<Error>,
    /// How many partitions the whole call has.
    pub partitions: u32,
    /// The call on all entries was interrupted and went on: of this partition single answers may be missing, or come twice if the
    /// function only reads. The counts are right.
    pub resumed: bool,
}

/// What the function answered for one entry.
#[derive(Debug)]
pub struct EntryAnswer {
    /// The entry's key.
    pub key: Bytes,
    /// The function's response, or why it changed nothing.
    pub response: Result<Bytes, Error>,
}

/// What became of a function on many entries.
#[derive(Debug, Default)]
pub struct InvokeSummary {
    /// How many entries it ran on.
    pub processed: u64,
    /// On how many of them it failed.
    pub failed: u64,
    /// How many partitions are complete.
    pub complete: u32,
    /// How many there are.
    pub partitions: u32,
    /// Partitions whose rest could not be processed, and why.
    pub errors: Vec<(u32, Error)>,
}

impl InvokeSummary {
    /// Counts a part in.
    pub fn add(&mut self, part: InvokePart) {
        self.processed += part.processed;
        self.failed += part.failed;
        self.complete += u32::from(part.complete);
        self.partitions = self.partitions.max(part.partitions);
        self.errors.extend(part.error.map(|error| (part.partition, error)));
    }
}

impl EntryAnswer {
    fn read(result: v1::EntryResult, doubt: &Doubt) -> Self {
        let response = match result.error {
            Some(error) => Err(doubt.settle(error.into()).into()),
            None => Ok(result.response),
        };
        Self { key: result.key, response }
    }
}
