//! The part of a message that is short work: run where it arrives, or in its turn.

use bytes::Bytes;
use smallvec::SmallVec;
use wattle_core::ids::Version;
use wattle_core::partition::{Access, Answer, Operation, Outcome, PartRefusal};
use wattle_core::store::EntryRef;

use super::memory::Moment;
use super::message::{Action, Message, Placed, View};
use super::partitions::Shard;
use crate::failure::Failure;

/// A result that outlives the strand.
#[derive(Debug)]
pub(crate) enum OwnedResult {
    Entry(Option<(Bytes, Version)>),
    Answer(Answer),
    Failed(Failure),
}

impl OwnedResult {
    pub(crate) fn new(result: Result<Outcome<'_>, Failure>) -> Self {
        match result {
            Ok(Outcome::Entry(entry)) => {
                Self::Entry(entry.map(|entry| (Bytes::copy_from_slice(entry.value), entry.version)))
            }
            Ok(Outcome::Answer(answer)) => Self::Answer(answer),
            Err(failure) => Self::Failed(failure),
        }
    }

    /// Bytes of values and responses that it carries.
    pub(super) fn payload(&self) -> usize {
        match self {
            Self::Entry(entry) => entry.as_ref().map_or(0, |(value, _)| value.len()),
            Self::Answer(answer) => answer.payload(),
            Self::Failed(_) => 0,
        }
    }

    /// Hands the result on as it came from the strand.
    pub(crate) fn give(self, take: impl FnOnce(Result<Outcome<'_>, Failure>)) {
        match self {
            Self::Entry(None) => take(Ok(Outcome::Entry(None))),
            Self::Entry(Some((value, version))) => {
                take(Ok(Outcome::Entry(Some(EntryRef { key: &[], value: &value, version, deadline: None }))));
            }
            Self::Answer(answer) => take(Ok(Outcome::Answer(answer))),
            Self::Failed(failure) => take(Err(failure)),
        }
    }
}

/// Runs the operations and hands on each result; of invocations only those that are refused or were recorded are among them.
/// `false` if the same request has its turns at slow work there: then nothing has run, and this part goes behind it.
pub(crate) fn run_short(
    shard: &mut Shard,
    moment: &mut Moment,
    (message, views): (&Message, &[View<'_>]),
    operations: &[Placed],
    set: &mut impl FnMut(usize, Result<Outcome<'_>, Failure>),
) -> bool {
    if message.id.is_some_and(|id| shard.is_taking_turns(&id)) {
        return false;
    }
    let view = |operation: &Placed| &views[operation.place as usize];
    let mut refused: SmallVec<[(usize, Failure); 1]> = SmallVec::new();
    for (index, operation) in operations.iter().enumerate() {
        refused.extend(message.may_run(view(operation)).err().map(|failure| (index, failure)));
    }
    shard.at(moment, |partition, moment| {
        let operation = |operation: &Placed| -> Option<(Access<'_>, Operation<'_>)> {
            let view = view(operation);
            match view.action {
                _ if !refused.is_empty() && message.may_run(view).is_err() => None,
                Action::Keyed(operation) => Some((moment.access(&message.map(view).descriptor), operation)),
                Action::Invoke { .. } => unreachable!("invocations that may run are slow work"),
            }
        };
        let mut answered: SmallVec<[usize; 1]> = SmallVec::new();
        let answer = |index: usize, result: Result<Outcome<'_>, _>| {
            // A read that does not fit has changed nothing; what is refused here has no large answer.
            let result = result.map_err(Failure::Operation).and_then(|outcome| match &outcome {
                Outcome::Entry(Some(entry)) => {
                    message.may_answer()?;
                    message.answered(entry.value.len());
                    Ok(outcome)
                }
                Outcome::Entry(None) => Ok(outcome),
                Outcome::Answer(answer) => {
                    message.answered(answer.payload());
                    Ok(outcome)
                }
            });
            if !refused.is_empty() {
                answered.push(index);
            }
            set(operations[index].place as usize, result)
        };
        let ran: Result<(), PartRefusal> =
            partition.run_part(message.id.as_ref(), operations.iter().map(operation), answer);
        match ran {
            Err(refusal) => operations.iter().for_each(|operation| {
                set(operation.place as usize, Err(refusal.into()));
            }),
            // What was done before it was refused has its answer.
            Ok(()) => refused.into_iter().filter(|(index, _)| !answered.contains(index)).for_each(
                |(index, failure)| {
                    set(operations[index].place as usize, Err(failure));
                },
            ),
        }
    });
    true
}
