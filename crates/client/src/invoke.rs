//! Answers of functions that ran on one key, on many, on all.

use bytes::Bytes;
use futures_util::{Stream, stream};
use tonic::Streaming;
use wattle_proto::v1;

use crate::call::Doubt;
use crate::error::Error;
use crate::failure::Failure;
use crate::request_ids::AwaitedRequest;

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
    /// Answers of single entries. Entries without a response are only counted.
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

/// The parts of a function that runs on many entries, in the order they are ready.
///
/// ```no_run
/// # async fn example(client: wattle_client::Client) -> Result<(), wattle_client::Error> {
/// use wattle_client::Responses;
///
/// let parts = client.raw_map("flights").invoke_all("delays", "{}", Responses::Discard).await?;
/// let summary = parts.finish().await?;
/// println!("{} entries, {} failed, {} partitions in trouble", summary.processed, summary.failed, summary.errors.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct InvokeStream {
    parts: Streaming<v1::InvokePart>,
    /// Awaited as long as somebody reads.
    _request: AwaitedRequest,
}

impl InvokeStream {
    pub(crate) fn new((parts, request): (Streaming<v1::InvokePart>, AwaitedRequest)) -> Self {
        Self { parts, _request: request }
    }

    /// The next part; `None` when all have come.
    ///
    /// # Errors
    /// When the call as a whole was refused, or [`Error::InDoubt`] when the connection broke: partitions that had not
    /// completed may have been processed, or not, or in part.
    pub async fn next(&mut self) -> Result<Option<InvokePart>, Error> {
        match self.parts.message().await {
            Ok(part) => Ok(part.map(InvokePart::from)),
            Err(status) => {
                let failure = Failure::from(&status);
                let mut doubt = Doubt::of_a_change();
                doubt.note(&failure);
                Err(doubt.settle(failure).into())
            }
        }
    }

    /// Reads to the end and counts.
    pub async fn finish(mut self) -> Result<InvokeSummary, Error> {
        let mut summary = InvokeSummary::default();
        while let Some(part) = self.next().await? {
            summary.add(part);
        }
        Ok(summary)
    }

    /// The parts as a stream; it ends with the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<InvokePart, Error>> + Send {
        stream::try_unfold(self, async |mut parts: Self| Ok(parts.next().await?.map(|part| (part, parts))))
    }
}

impl From<v1::InvokePart> for InvokePart {
    fn from(part: v1::InvokePart) -> Self {
        Self {
            partition: part.partition,
            entries: part.entries.into_iter().map(EntryAnswer::from).collect(),
            processed: part.processed,
            failed: part.failed,
            complete: part.complete,
            error: part.error.map(|error| Failure::from(error).into()),
            partitions: part.partitions,
        }
    }
}

impl From<v1::EntryResult> for EntryAnswer {
    fn from(result: v1::EntryResult) -> Self {
        let response = match result.error {
            Some(error) => Err(Failure::from(error).into()),
            None => Ok(result.response),
        };
        Self { key: result.key, response }
    }
}
