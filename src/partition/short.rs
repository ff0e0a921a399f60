//! The part of a message that is short work: run where it arrives, or in its turn.

use bytes::Bytes;
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

/// Runs the operations, none of which is an invocation, and hands on each result.
pub(crate) fn run_short(
    shard: &mut Shard,
    moment: &mut Moment,
    (message, views): (&Message, &[View<'_>]),
    operations: &[Placed],
    set: &mut impl FnMut(usize, Result<Outcome<'_>, Failure>),
) {
    let place = |operation: &Placed| operation.place as usize;
    let maps = operations.iter().map(|operation| message.map(&views[place(operation)]));
    if let Some(map) = maps.into_iter().find(|map| map.is_deleted()) {
        let name = map.descriptor.name.as_str();
        return operations.iter().for_each(|operation| {
            set(place(operation), Err(Failure::MapNotFound { name: name.to_owned() }))
        });
    }
    shard.at(moment, |partition, moment| {
        let operation = |operation: &Placed| -> (Access<'_>, Operation<'_>) {
            let view = &views[place(operation)];
            match view.action {
                Action::Keyed(operation) => (moment.access(&message.map(view).descriptor), operation),
                Action::Invoke { .. } => unreachable!("invocations are slow work"),
            }
        };
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
            set(place(&operations[index]), result)
        };
        let refused: Result<(), PartRefusal> =
            partition.run_part(message.id.as_ref(), operations.iter().map(operation), answer);
        if let Err(refusal) = refused {
            operations.iter().for_each(|operation| set(place(operation), Err(refusal.into())));
        }
    });
}
