//! The part of a message that is short work: run where it arrives, or in its turn.

use bytes::Bytes;
use wattle_core::ids::Version;
use wattle_core::limits::SHORT_KEYS;
use wattle_core::partition::{Answer, Asked, Outcome, PartRefusal, Refusal};
use wattle_core::store::EntryRef;

use super::memory::Moment;
use super::message::{Action, Message, Placed, View};
use super::shard::Shard;
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

    /// Bytes of values, responses and words of functions that it carries.
    pub(super) fn payload(&self) -> usize {
        match self {
            Self::Entry(entry) => entry.as_ref().map_or(0, |(value, _)| value.len()),
            Self::Answer(answer) => answer.payload(),
            Self::Failed(failure) => failure.payload(),
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

const _: () = assert!(SHORT_KEYS <= u64::BITS as usize, "which are answered fits a word");

/// Runs the operations, none of which is an invocation, and hands on each result.
pub(crate) fn run_short(
    shard: &mut Shard,
    moment: &mut Moment,
    (message, views): (&Message, &[View<'_>]),
    operations: &[Placed],
    set: &mut impl FnMut(usize, Result<Outcome<'_>, Failure>),
) {
    let view = |operation: &Placed| &views[operation.place as usize];
    shard.confirm_reads(message.reads());
    let repeated = message.id.is_some_and(|id| id.repeated);
    let kept = |failure: &Failure| if repeated { failure.kept() } else { None };
    shard.at(moment, |partition, moment| {
        // Asked for each operation just before it runs: those before it may have filled the answer.
        let operation = |operation: &Placed| -> Asked<'_> {
            let view = view(operation);
            may_run(message, (operation.place, view)).map_err(|failure| kept(&failure))?;
            match view.action {
                Action::Keyed(operation) => Ok((moment.access(&message.map(view).descriptor), operation)),
                Action::Invoke { .. } => unreachable!("invocations are slow work"),
            }
        };
        let mut answered = 0_u64;
        let answer = |index: usize, result: Result<Outcome<'_>, Refusal>| {
            message.answered(match &result {
                Ok(Outcome::Entry(entry)) => entry.map_or(0, |entry| entry.value.len()),
                Ok(Outcome::Answer(answer)) => answer.payload(),
                Err(refusal) => refusal.payload(),
            });
            answered |= 1 << index;
            set(operations[index].place as usize, result.map_err(Failure::Operation));
        };
        let request = message.id.as_ref().map(|id| (id, moment.room()));
        let ran: Result<(), PartRefusal> =
            partition.run_part(request, operations.iter().map(operation), answer);
        for (index, operation) in
            operations.iter().enumerate().filter(|(index, _)| answered & 1 << index == 0)
        {
            let asked = |()| may_run(message, (operation.place, view(operation)));
            let refused = ran.map_err(Failure::from).and_then(asked);
            // What is said for good was kept before.
            let refusal = refused.err().filter(|failure| kept(failure).is_none());
            let unknown = Failure::Internal { what: "an operation had no result" };
            set(operations[index].place as usize, Err(refusal.unwrap_or(unknown)));
        }
    });
}

fn may_run(message: &Message, (place, view): (u32, &View<'_>)) -> Result<(), Failure> {
    message.may_run(place, view)?;
    match view.action {
        Action::Keyed(operation) if operation.answers_with_value() => message.may_answer(),
        Action::Keyed(_) | Action::Invoke { .. } => Ok(()),
    }
}
