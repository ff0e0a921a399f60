//! One call and its attempts: a deadline over all of them, one request id, and an honest answer about what happened
//! when the time ends.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Response, Status};
use wattle_proto::v1;
use wattle_proto::v1::compute_service_client::ComputeServiceClient;
use wattle_proto::v1::function_service_client::FunctionServiceClient;
use wattle_proto::v1::grid_service_client::GridServiceClient;
use wattle_proto::v1::map_service_client::MapServiceClient;

use crate::connection::{Connections, Course, Way};
use crate::error::Error;
use crate::failure::{Failure, Outcome};
use crate::options::Options;
use crate::request_ids::{AwaitedRequest, IssuedId, RequestIds};
use crate::retry::{RetryPolicy, random};
use crate::routes::{Member, Routes};

/// Larger than any message the grid sends: a batch of 8 MiB and what it answers.
const MAX_MESSAGE_BYTES: usize = 32 << 20;
/// How to make sure of what is read: part of the API.
const READ_MODE: &str = "wattle-read-mode";

/// What all calls of a client share.
#[derive(Debug)]
pub(crate) struct Caller {
    connections: Connections,
    request_ids: RequestIds,
    retry: RetryPolicy,
    timeout: Duration,
    confirm_reads: bool,
}

/// What an attempt may assume about the one before it.
#[derive(Debug)]
enum Repeat<'a> {
    /// Changes nothing.
    Read,
    /// Has a request id: takes effect once however often it is sent.
    Identified(&'a AwaitedRequest),
    /// Has no request id, but does the same when it is done twice.
    Idempotent,
    /// Is sent again only when it certainly changed nothing.
    Unidentified,
}

/// One attempt: the connection to take and what to send along.
#[derive(Debug)]
pub(crate) struct Attempt {
    channel: Channel,
    remaining: Option<Duration>,
    confirm_reads: bool,
    pub(crate) request_id: Option<v1::RequestId>,
}

impl Attempt {
    pub(crate) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(remaining) = self.remaining {
            request.set_timeout(remaining);
        }
        if self.confirm_reads {
            request.metadata_mut().insert(READ_MODE, MetadataValue::from_static("confirm"));
        }
        request
    }

    pub(crate) fn maps(&self) -> MapServiceClient<Channel> {
        MapServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn compute(&self) -> ComputeServiceClient<Channel> {
        ComputeServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn functions(&self) -> FunctionServiceClient<Channel> {
        FunctionServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn grid(&self) -> GridServiceClient<Channel> {
        GridServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

impl Caller {
    pub(crate) fn new(connections: Connections, options: Options) -> Self {
        let Options { retry, timeout, confirm_reads, .. } = options;
        Self { connections, request_ids: RequestIds::new(), retry, timeout, confirm_reads }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn retry(&self) -> &RetryPolicy {
        &self.retry
    }

    /// A call that changes nothing.
    pub(crate) async fn read<T, F>(&self, send: impl Fn(Attempt) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.run(&Repeat::Read, Course::default(), send).await
    }

    /// A call about one key of a map that changes nothing.
    pub(crate) async fn read_at<T, F>(
        &self,
        entry: (&str, &[u8]),
        send: impl Fn(Attempt) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.run(&Repeat::Read, Course::to(entry), send).await
    }

    /// A mutation: every attempt carries the same request id.
    pub(crate) async fn write<T, F>(&self, send: impl Fn(Attempt) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let request = self.begin_request().await?;
        self.run(&Repeat::Identified(&request), Course::default(), send).await
    }

    /// A mutation of one key of a map.
    pub(crate) async fn write_at<T, F>(
        &self,
        entry: (&str, &[u8]),
        send: impl Fn(Attempt) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let request = self.begin_request().await?;
        self.run(&Repeat::Identified(&request), Course::to(entry), send).await
    }

    /// A change that does the same when it is done twice.
    pub(crate) async fn repeat<T, F>(&self, send: impl Fn(Attempt) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.run(&Repeat::Idempotent, Course::default(), send).await
    }

    /// A change of the grid's definitions, which have no request ids.
    pub(crate) async fn define<T, F>(&self, send: impl Fn(Attempt) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.run(&Repeat::Unidentified, Course::default(), send).await
    }

    /// Opens a stream that reads; the timeout ends when it has begun.
    pub(crate) async fn open<T, F>(&self, send: impl Fn(Attempt) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let (repeat, bound) = (Repeat::Read, Bound::Opening(self.timeout));
        self.run_again(&mut Doubt::new(&repeat), (&repeat, Course::default()), bound, send).await
    }

    /// Opens a stream that changes entries; the request is to be awaited as long as it may have to be opened again.
    pub(crate) async fn open_write<T, F>(
        &self,
        request: &AwaitedRequest,
        doubt: &mut Doubt,
        send: impl Fn(Attempt) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let (repeat, bound) = (Repeat::Identified(request), Bound::Opening(self.timeout));
        self.run_again(doubt, (&repeat, Course::default()), bound, send).await
    }

    pub(crate) async fn begin_request(&self) -> Result<AwaitedRequest, Error> {
        self.begin_request_within(self.timeout).await
    }

    pub(crate) async fn begin_request_within(&self, timeout: Duration) -> Result<AwaitedRequest, Error> {
        self.request_ids.begin(|| self.issue_client_id(timeout)).await
    }

    /// What is known of the grid's members.
    pub(crate) fn routes(&self) -> &Routes {
        self.connections.routes()
    }

    /// For a stream that looks after its own deadlines and repetitions: to a member, if it is connected, or to any node.
    pub(crate) fn stream_attempt(&self, to: Option<&Member>) -> Option<(Attempt, Way)> {
        let way = match to {
            Some(member) => self.connections.to(member)?,
            None => self.connections.next(&Course::default()),
        };
        let confirm_reads = self.confirm_reads;
        Some((Attempt { channel: way.channel(), remaining: None, confirm_reads, request_id: None }, way))
    }

    /// For a call that looks after its own repetitions.
    pub(crate) fn identified_attempt(
        &self,
        course: &Course<'_>,
        request_id: v1::RequestId,
        deadline: Instant,
    ) -> (Attempt, Way) {
        let way = self.connections.next(course);
        let remaining = Some(deadline.saturating_duration_since(Instant::now()));
        let confirm_reads = self.confirm_reads;
        (Attempt { channel: way.channel(), remaining, confirm_reads, request_id: Some(request_id) }, way)
    }

    async fn issue_client_id(&self, timeout: Duration) -> Result<IssuedId, Error> {
        let send = |attempt: Attempt| async move {
            attempt.grid().issue_client_id(attempt.request(v1::IssueClientIdRequest {})).await
        };
        let (repeat, bound) = (Repeat::Read, Bound::Whole(timeout));
        let mut doubt = Doubt::new(&repeat);
        let answer = self.run_again(&mut doubt, (&repeat, Course::default()), bound, send).await?;
        let renew_after = answer.renew_after.and_then(|duration| Duration::try_from(duration).ok());
        let renew_after =
            renew_after.ok_or(Error::MalformedAnswer { what: "a client id has a time of renewal" })?;
        Ok(IssuedId { client_id: answer.client_id, renew_after })
    }

    async fn run<T, F>(
        &self,
        repeat: &Repeat<'_>,
        course: Course<'_>,
        send: impl Fn(Attempt) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.run_again(&mut Doubt::new(repeat), (repeat, course), Bound::Whole(self.timeout), send).await
    }

    fn attempt(
        &self,
        way: &Way,
        (repeat, doubt): (&Repeat<'_>, &Doubt),
        bound: Bound,
        deadline: Instant,
    ) -> Attempt {
        Attempt {
            channel: way.channel(),
            remaining: match bound {
                Bound::Whole(_) => Some(deadline.saturating_duration_since(Instant::now())),
                Bound::Opening(_) => None,
            },
            request_id: match repeat {
                Repeat::Identified(request) => Some(request.id(doubt.is_unsure())),
                Repeat::Read | Repeat::Idempotent | Repeat::Unidentified => None,
            },
            confirm_reads: self.confirm_reads,
        }
    }

    /// With what earlier attempts have left in doubt.
    async fn run_again<T, F>(
        &self,
        doubt: &mut Doubt,
        (repeat, mut course): (&Repeat<'_>, Course<'_>),
        bound: Bound,
        send: impl Fn(Attempt) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let timeout = bound.timeout();
        let deadline = Instant::now() + timeout;
        let mut backoff = self.retry.backoff();
        loop {
            let way = self.connections.next(&course);
            let attempt = self.attempt(&way, (repeat, doubt), bound, deadline);
            let failure = match timeout_at(deadline, send(attempt)).await {
                Ok(Ok(response)) => {
                    course.note(&way, None);
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => Failure::from(&status),
                Err(_) => Failure::timed_out(timeout),
            };
            course.note(&way, Some(&failure));
            let pause = backoff.pause(failure.retry_after(), random());
            let late = Instant::now() + pause + least_attempt(timeout) > deadline;
            if doubt.may_repeat(repeat, &failure) && !late {
                tokio::time::sleep(pause).await;
                continue;
            }
            return Err(doubt.settle(failure).into());
        }
    }
}

/// An attempt with next to no time left would only bring doubt.
pub(crate) fn least_attempt(timeout: Duration) -> Duration {
    (timeout / 10).min(Duration::from_millis(100))
}

/// What the deadline covers.
#[derive(Debug, Clone, Copy)]
enum Bound {
    Whole(Duration),
    /// A stream's deadline must not travel to the node, where it would end the stream.
    Opening(Duration),
}

impl Bound {
    fn timeout(self) -> Duration {
        match self {
            Self::Whole(timeout) | Self::Opening(timeout) => timeout,
        }
    }
}

/// Whether an earlier attempt may have changed something, or may do so yet: a later refusal says something about it only if the
/// grid keeps the refusal for it.
#[derive(Debug)]
pub(crate) struct Doubt {
    changes: bool,
    /// Attempts have a request id, with which those after an unanswered one say that they are.
    identified: bool,
    unsure: bool,
}

impl Doubt {
    fn new(repeat: &Repeat<'_>) -> Self {
        match repeat {
            Repeat::Read => Self { changes: false, ..Self::of_a_change() },
            Repeat::Identified(_) => Self::of_a_change(),
            Repeat::Idempotent | Repeat::Unidentified => Self::of_an_unidentified_change(),
        }
    }

    /// Of a change that has a request id.
    pub(crate) fn of_a_change() -> Self {
        Self { changes: true, identified: true, unsure: false }
    }

    /// Of a change that has none.
    pub(crate) fn of_an_unidentified_change() -> Self {
        Self { identified: false, ..Self::of_a_change() }
    }

    /// Whether the next attempt has to say that it is repeated.
    pub(crate) fn is_unsure(&self) -> bool {
        self.unsure
    }

    pub(crate) fn note(&mut self, failure: &Failure) {
        self.unsure |= self.changes && failure.outcome() != Some(Outcome::NotApplied);
    }

    fn may_repeat(&mut self, repeat: &Repeat<'_>, failure: &Failure) -> bool {
        self.note(failure);
        match repeat {
            Repeat::Read | Repeat::Identified(_) | Repeat::Idempotent => failure.is_transient(),
            Repeat::Unidentified => failure.is_transient() && !self.unsure,
        }
    }

    /// The failure that the caller sees. A definite refusal of the last attempt stands for all of them if it was the only one, or
    /// has said that it was not: the grid keeps the refusal for the others.
    pub(crate) fn settle(&self, failure: Failure) -> Failure {
        if !self.changes {
            return failure.of_a_read();
        }
        let is_of_this_attempt =
            failure.is_indefinite() || !self.identified && failure.outcome() == Some(Outcome::NotApplied);
        if self.unsure && is_of_this_attempt { failure.in_doubt() } else { failure }
    }
}
