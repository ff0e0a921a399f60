//! The parts of a call on many entries. When the connection breaks, or partitions are refused for a moment, the call is repeated under
//! its request id where it is not complete: what is done stays done, the rest goes on.

use std::sync::Arc;

use futures_util::{Stream, stream};
use tonic::{Response, Status, Streaming};
use wattle_proto::v1;

use super::told::Told;
use super::{EntryAnswer, InvokePart, InvokeSummary};
use crate::breaks::Breaks;
use crate::call::{Attempt, Caller, Doubt};
use crate::error::Error;
use crate::failure::Failure;
use crate::request_ids::AwaitedRequest;

/// The call, without its request id.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Keys(v1::InvokeKeysRequest),
    All(v1::InvokeAllRequest),
}

type Parts = Streaming<v1::InvokePart>;

impl Call {
    async fn send(self, attempt: Attempt) -> Result<Response<Parts>, Status> {
        let request_id = attempt.request_id.clone();
        match self {
            Self::Keys(request) => {
                let request = attempt.request(v1::InvokeKeysRequest { request_id, ..request });
                attempt.compute().invoke_keys(request).await
            }
            Self::All(request) => {
                let request = attempt.request(v1::InvokeAllRequest { request_id, ..request });
                attempt.compute().invoke_all(request).await
            }
        }
    }

    /// What of a part its reader is told now.
    fn tell(&self, told: &mut Told, part: v1::InvokePart) -> Option<v1::InvokePart> {
        match self {
            Self::Keys(_) => told.whole(part),
            Self::All(_) => told.news(part),
        }
    }

    /// Goes on with what ran, and leaves out the partitions that are complete: what was refused there must not be done any more.
    fn go_on(&mut self, told: &Told) {
        match self {
            Self::Keys(request) => {
                request.answered_partitions = told.complete_ones().collect();
                request.export = told.export().cloned();
            }
            Self::All(request) => {
                request.partitions = told.open_ones().collect();
                request.export = told.export().cloned();
            }
        }
    }
}

/// The parts of a function that runs on many entries, in the order they are ready.
///
/// When the connection breaks, or some partitions are refused for a moment, as while another node takes them over, the call is
/// repeated under its request id, in the partitions that are not complete, until it has made no progress for the client's timeout: no
/// entry is processed twice, no part is counted twice, and what was told to have changed nothing changes nothing later. It goes on
/// with the version of the function that answered before, whatever the name stands for meanwhile.
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
    caller: Arc<Caller>,
    call: Call,
    /// Awaited as long as somebody reads.
    request: AwaitedRequest,
    parts: Option<Box<Parts>>,
    told: Told,
    /// About what was sent before the stream that is open.
    doubt: Doubt,
    breaks: Breaks,
    /// There was no time for another attempt where these were refused.
    given_up: Vec<v1::InvokePart>,
}

impl InvokeStream {
    pub(crate) async fn open(caller: Arc<Caller>, call: Call) -> Result<Self, Error> {
        let request = caller.begin_request().await?;
        let mut doubt = Doubt::of_a_change();
        let parts = Some(Box::new(send(&caller, &call, &request, &mut doubt).await?));
        let breaks = Breaks::new(&caller);
        let (told, given_up) = (Told::default(), Vec::new());
        Ok(Self { caller, call, request, parts, told, doubt, breaks, given_up })
    }

    /// The next part; `None` when all have come.
    ///
    /// # Errors
    /// [`Error::InDoubt`] when the connection broke and the call could not be repeated: partitions that had not completed
    /// may have been processed, or not, or in part. Asked again, it tries again. Partitions that were refused until the end are told as
    /// parts with an [`InvokePart::error`].
    pub async fn next(&mut self) -> Result<Option<InvokePart>, Error> {
        loop {
            if let Some(part) = self.given_up.pop() {
                return Ok(Some(self.read(part)));
            }
            let Some(parts) = &mut self.parts else {
                if self.told.is_complete() {
                    return Ok(None);
                }
                let sent = send(&self.caller, &self.call, &self.request, &mut self.doubt).await;
                self.parts = Some(Box::new(sent.map_err(in_doubt)?));
                continue;
            };
            let broken = match parts.message().await {
                Ok(Some(part)) => {
                    let Some(part) = self.call.tell(&mut self.told, part) else { continue };
                    self.breaks.healed();
                    return Ok(Some(self.read(part)));
                }
                Ok(None) | Err(_) if self.told.is_complete() => return Ok(None),
                // A call on no keys has no parts.
                Ok(None) if !self.told.has_begun() => return Ok(None),
                Ok(None) => None,
                Err(status) => Some(Failure::from(&status)),
            };
            self.repeat(broken).await?;
        }
    }

    /// The stream has ended where it was not complete.
    async fn repeat(&mut self, broken: Option<Failure>) -> Result<(), Error> {
        let refusals = if broken.is_none() { self.told.refusals() } else { Vec::new() };
        refusals.iter().for_each(|refusal| self.doubt.note(refusal));
        let is_refused = !refusals.is_empty();
        let too_early = || Failure::from(&Status::unavailable("the answers ended too early"));
        let failure = broken.or_else(|| refusals.into_iter().next()).unwrap_or_else(too_early);
        if !is_refused {
            // Whatever it ended with, some of the call may be done.
            self.doubt.note(&failure.clone().in_doubt());
        }
        self.parts = None;
        let refused = self.told.repeat();
        self.call.go_on(&self.told);
        match self.breaks.pause_after(failure).await {
            Err(_late) if is_refused => self.given_up = self.told.give_up(refused),
            paused => paused.map_err(in_doubt)?,
        }
        Ok(())
    }

    fn read(&self, part: v1::InvokePart) -> InvokePart {
        let may_lack = self.doubt.is_unsure() || self.told.is_resumed(part.partition);
        let resumed = may_lack && matches!(self.call, Call::All(_));
        InvokePart { resumed, ..InvokePart::read(part, &self.doubt) }
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

async fn send(
    caller: &Caller,
    call: &Call,
    request: &AwaitedRequest,
    doubt: &mut Doubt,
) -> Result<Parts, Error> {
    caller.open_write(request, doubt, |attempt| call.clone().send(attempt)).await
}

/// Whatever a repetition is refused for, it says nothing about what the call did before.
fn in_doubt(error: Error) -> Error {
    error.failure().cloned().map_or(error, |failure| failure.in_doubt().into())
}

impl InvokePart {
    fn read(part: v1::InvokePart, doubt: &Doubt) -> Self {
        let entries = part.entries.into_iter();
        Self {
            partition: part.partition,
            entries: entries.map(|result| EntryAnswer::read(result, doubt)).collect(),
            processed: part.processed,
            failed: part.failed,
            complete: part.complete,
            error: part.error.map(|error| doubt.settle(error.into()).into()),
            partitions: part.partitions,
            resumed: false,
        }
    }
}
