//! A batch as lists of operations, a call for each member that decides about some of the keys. A call is repeated as a whole while any of
//! its operations is refused for a moment: what was done is answered from its record.

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};
use wattle_frame::pipeline::{Facts, Failure as PackedFailure, OperationResult, Outcome, ResultsWriter};
use wattle_proto::v1;

use crate::call::{Caller, least_attempt};
use crate::connection::Course;
use crate::deal::deal;
use crate::error::Error;
use crate::failure::Failure;
use crate::operation::{Answer, Operation, TtlChange};
use crate::pipeline::{Answered, Attempts, BatchAnswers, Progress, together};
use crate::retry::random;
use crate::wire::{from_wire, to_millis};

/// The answer of each operation.
pub(crate) async fn perform(
    caller: &Caller,
    map: &str,
    operations: Vec<Operation>,
) -> Result<Vec<Result<Answer, Error>>, Error> {
    let reads: Vec<bool> = operations.iter().map(only_reads).collect();
    match dealt(caller, map, operations).await {
        Ok(answers) => {
            let told = answers.answers().zip(&reads);
            Ok(told.map(|(answer, &reads)| if reads { answer.map_err(of_a_read) } else { answer }).collect())
        }
        Err(error) if reads.iter().all(|&reads| reads) => Err(of_a_read(error)),
        Err(error) => Err(error),
    }
}

/// Asks those who decide about the keys, each in a call of its own and for what is its. What goes to any node goes in one call.
async fn dealt(caller: &Caller, map: &str, operations: Vec<Operation>) -> Result<BatchAnswers, Error> {
    let table = caller.routes().table();
    let primaries = table.primaries(map);
    let entries = operations.iter().map(|operation| (primaries, operation.key().as_ref()));
    let shares: Vec<(bool, Vec<u32>)> = deal(entries, |member| member.is_connected())
        .into_iter()
        .map(|share| (share.owner.is_some(), share.places))
        .collect();
    let count = operations.len();
    if count == 0 {
        return answers(caller, Course::default(), Vec::new()).await;
    }
    let ask = |(is_straight, places): (bool, Vec<u32>)| {
        let those = places.iter().map(|place| &operations[*place as usize]);
        let wire: Vec<_> = those.clone().map(|operation| operation.clone().into_wire(map)).collect();
        let key = those.take(1).map(Operation::key).find(|_| is_straight);
        let course = key.map_or_else(Course::default, |key| Course::to((map, key)));
        async move { (places, answers(caller, course, wire).await) }
    };
    together(count, join_all(shares.into_iter().map(ask)).await)
}

async fn answers(
    caller: &Caller,
    mut course: Course<'_>,
    operations: Vec<v1::Operation>,
) -> Result<BatchAnswers, Error> {
    let count = operations.len();
    let request = caller.begin_request().await?;
    let deadline = Instant::now() + caller.timeout();
    let (mut attempts, mut backoff) = (Attempts::new(), caller.retry().backoff());
    loop {
        let request_id = request.id(attempts.are_open());
        let (attempt, way) = caller.identified_attempt(&course, request_id.clone(), deadline);
        let message = v1::BatchRequest { operations: operations.clone(), request_id: Some(request_id) };
        let mut maps = attempt.maps();
        let answered = match timeout_at(deadline, maps.batch(attempt.request(message))).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Failure::from(&status)),
            Err(_) => Err(Failure::timed_out(caller.timeout())),
        };
        course.note(&way, answered.as_ref().err());
        let answered = match answered {
            Ok(answer) => Answered::Each(packed(&answer.results, count)?),
            Err(failure) => Answered::Refused(failure),
        };
        let failure = match attempts.take(answered)? {
            Progress::Done(answers) => return Ok(answers),
            Progress::Transient(failure) => failure,
        };
        let pause = backoff.pause(failure.retry_after(), random());
        if Instant::now() + pause + least_attempt(caller.timeout()) > deadline {
            return attempts.give_up(failure);
        }
        tokio::time::sleep(pause).await;
    }
}

fn only_reads(operation: &Operation) -> bool {
    matches!(operation, Operation::Get { .. } | Operation::Touch { change: TtlChange::Read, .. })
}

/// There is nothing to be in doubt about.
fn of_a_read(error: Error) -> Error {
    match error {
        Error::InDoubt(failure) => failure.of_a_read().into(),
        error => error,
    }
}

/// The results as a pipeline has them.
fn packed(results: &[v1::OperationResult], count: usize) -> Result<BatchAnswers, Error> {
    let malformed = Error::MalformedAnswer { what: "every operation of a batch has a result" };
    if results.len() != count {
        return Err(malformed);
    }
    let (mut frame, mut facts) = (Vec::new(), Vec::new());
    let mut writer = ResultsWriter::new(&mut frame, count)?;
    for (place, result) in results.iter().enumerate() {
        let Some(result) = &result.result else { return Err(malformed) };
        writer.set(place, &pack(result, &mut facts)?)?;
    }
    writer.finish()?;
    Ok(BatchAnswers::parse(frame.into(), count)?)
}

fn pack<'a>(
    result: &'a v1::operation_result::Result,
    facts: &'a mut Vec<u8>,
) -> Result<OperationResult<'a>, Error> {
    use v1::operation_result::Result as Wire;
    Ok(match result {
        Wire::Error(error) => {
            let metadata = error.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            OperationResult::Failed(PackedFailure {
                code: u32::try_from(error.code).unwrap_or(u32::MAX),
                reason: &error.reason,
                message: &error.message,
                outcome: match error.outcome() {
                    v1::Outcome::Unspecified => Outcome::Unspecified,
                    v1::Outcome::Applied => Outcome::Applied,
                    v1::Outcome::NotApplied => Outcome::NotApplied,
                    v1::Outcome::InDoubt => Outcome::InDoubt,
                },
                facts: Facts::pack(facts, metadata)?,
            })
        }
        Wire::Get(get) => OperationResult::Get { value: get.value.as_deref(), version: get.version },
        Wire::Put(put) => OperationResult::Put { version: put.version, previous: put.previous.as_deref() },
        Wire::Remove(remove) => {
            OperationResult::Remove { removed: remove.removed, previous: remove.previous.as_deref() }
        }
        Wire::Increment(increment) => {
            OperationResult::Increment { value: increment.value, version: increment.version }
        }
        Wire::Touch(touch) => OperationResult::Touch {
            found: touch.found,
            ttl_ms: touch.ttl.map(|ttl| to_millis(from_wire(ttl))),
            version: touch.version,
        },
        Wire::Invoke(invoke) => OperationResult::Invoke { response: &invoke.response },
    })
}
