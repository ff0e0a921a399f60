//! The fast path: many messages in flight on one stream, each performed as it arrives and answered when it is done.

use std::sync::{Arc, OnceLock};

use futures_util::stream::{self, Stream, StreamExt};
use tonic::Status;
use wattle_core::ids::RequestId;
use wattle_core::limits::{BATCH_OPERATIONS, PIPELINE_MESSAGES};
use wattle_core::partition::{Answer, Outcome};
use wattle_frame::pipeline::{Operations, ResultsWriter};
use wattle_proto::v1;
use wattle_proto::v1::operation_result::Result as WireResult;
use wattle_proto::v1::pipeline_request::Operations as Wire;
use wattle_proto::v1::pipeline_response::Results;

use super::compute::wire_export;
use super::convert::{Names, duration, operation_result, request_id, step};
use super::packed;
use super::status::operation_error;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::partition::{Message, ReadMode, Source};
use crate::request::{Forwarded, Request};

/// The answers to a stream of messages. It ends after the stream has ended and every message is answered; if it ended with a
/// message that cannot be read, then with that refusal.
pub(super) fn answers(
    grid: Arc<Grid>,
    reads: ReadMode,
    messages: impl Stream<Item = Result<v1::PipelineRequest, Status>>,
) -> impl Stream<Item = Result<v1::PipelineResponse, Status>> {
    let refusal = Arc::new(OnceLock::new());
    let refused = Arc::clone(&refusal);
    let read = move |message: Result<v1::PipelineRequest, Status>| {
        message.map_err(|status| refused.set(explained(status))).ok()
    };
    let answer = move |message: v1::PipelineRequest| {
        let grid = Arc::clone(&grid);
        async move {
            let tag = message.tag;
            let (results, counted) = match perform(&grid, reads, message).await {
                Ok((results, message)) => (results, Some(message)),
                Err(failure) => (Results::Error(operation_error(&failure)), None),
            };
            (v1::PipelineResponse { tag, results: Some(results) }, counted)
        }
    };
    let answers =
        tokio_stream::StreamExt::map_while(messages, read).map(answer).buffer_unordered(PIPELINE_MESSAGES);
    // From here on the body of the answer is counted.
    let answers = answers.map(|(response, _counted)| Ok(response));
    answers.chain(stream::once(async move { refusal.get().cloned().map(Err) }).flat_map(stream::iter))
}

/// A refusal that has its details, if it was made by this node.
fn explained(status: Status) -> Status {
    if status.details().is_empty() { Failure::from(&status).into() } else { status }
}

/// An answer, and what it is counted by.
type Performed<T> = Result<(T, Arc<Message>), Failure>;

async fn perform(grid: &Arc<Grid>, reads: ReadMode, message: v1::PipelineRequest) -> Performed<Results> {
    let id = request_id(message.request_id, grid.partitions.clock().now())?;
    let patience = message.timeout.map(|timeout| duration("timeout", timeout)).transpose()?;
    let problem = "a message carries a list or a frame";
    let operations = message.operations.ok_or(Failure::Argument { field: "operations", problem })?;
    let performed = async {
        match operations {
            Wire::List(list) => {
                let of = (Forwarded::No, reads);
                let (results, message) = perform_list(grid, (id, of), list.operations).await?;
                Ok((Results::List(results), message))
            }
            Wire::Frame(frame) => {
                let (results, message) = perform_frame(grid, (id, reads), frame).await?;
                Ok((Results::Frame(results), message))
            }
        }
    };
    match patience {
        None => performed.await,
        Some(patience) => tokio::time::timeout(patience, performed).await.unwrap_or(Err(Failure::TimedOut)),
    }
}

async fn perform_list(
    grid: &Arc<Grid>,
    (id, (forwarded, reads)): (Option<RequestId>, (Forwarded, ReadMode)),
    operations: Vec<v1::Operation>,
) -> Performed<v1::OperationResultList> {
    let size = operations.len();
    if size > BATCH_OPERATIONS {
        return Err(Failure::TooMany { what: "operations", size, limit: BATCH_OPERATIONS });
    }
    let mut names = Names::default();
    let mut steps = Vec::with_capacity(size);
    for operation in operations {
        steps.push(step(operation, &mut names)?);
    }
    let mut results: Vec<v1::OperationResult> = vec![v1::OperationResult::default(); steps.len()];
    let (names, source) = (names.into_inner(), Source::Steps(steps));
    let request = Request { id, names, function: None, source, forwarded, reads };
    let mut set = |place: usize, result: Result<Outcome<'_>, Failure>| {
        let ran = match &result {
            Ok(Outcome::Answer(Answer::Processed { export, .. })) if forwarded == Forwarded::Yes => {
                Some(wire_export(export))
            }
            _ => None,
        };
        results[place] = operation_result(result);
        if let Some(WireResult::Invoke(invoked)) = &mut results[place].result {
            invoked.export = ran;
        }
    };
    let message = grid.perform(request, &mut set).await?;
    Ok((v1::OperationResultList { results }, message))
}

async fn perform_frame(
    grid: &Arc<Grid>,
    (id, reads): (Option<RequestId>, ReadMode),
    frame: bytes::Bytes,
) -> Performed<bytes::Bytes> {
    let (names, count) = {
        let operations = Operations::parse(&frame)?;
        let names: Result<Vec<String>, _> = operations.names().map(|name| name.map(str::to_owned)).collect();
        (names?, operations.len())
    };
    let mut buffer = Vec::with_capacity(frame.len().min(64 << 10));
    let mut writer = ResultsWriter::new(&mut buffer, count)?;
    let mut problem = None;
    let (source, forwarded) = (Source::Packed(frame), Forwarded::No);
    let request = Request { id, names, function: None, source, forwarded, reads };
    let message = grid
        .perform(request, &mut |place, result| {
            if let Err(error) = packed::write(&mut writer, place, &result) {
                problem = Some(error);
            }
        })
        .await?;
    match problem.map_or_else(|| writer.finish().map(drop), Err) {
        Ok(()) => Ok((buffer.into(), message)),
        Err(error) => {
            tracing::error!(%error, "a reply frame cannot be written");
            Err(Failure::Internal { what: "the answer could not be written" })
        }
    }
}

/// A batch in one call.
pub(super) async fn batch(
    grid: &Arc<Grid>,
    request: v1::BatchRequest,
    of: (Forwarded, ReadMode),
) -> Result<v1::BatchResponse, Failure> {
    let id = request_id(request.request_id, grid.partitions.clock().now())?;
    let (list, _counted) = perform_list(grid, (id, of), request.operations).await?;
    Ok(v1::BatchResponse { results: list.results })
}
