//! The part of a message that is short work: run where it arrives, or in its turn.

use bytes::Bytes;
use wattle_core::ids::Version;
use wattle_core::partition::{Access, Answer, Operation, Outcome, PartRefusal};
use wattle_core::store::EntryRef;

use super::message::{Action, Decoded, Message};
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

/// Runs the operations at `places`, none of which is an invocation, and hands on each result.
pub(crate) fn run_short(
    shard: &mut Shard,
    (message, decoded): (&Message, &Decoded<'_>),
    places: &[u32],
    set: &mut impl FnMut(u32, Result<Outcome<'_>, Failure>),
) {
    shard.with(|partition, moment| {
        let gone = |place: &&u32| message.map(&decoded.checked(**place)).is_deleted();
        if places.iter().any(|place| gone(&place)) {
            fail_deleted(message, decoded, places, set);
            return;
        }
        let operation = |place: &u32| -> (Access<'_>, Operation<'_>) {
            let view = decoded.checked(*place);
            match view.action {
                Action::Keyed(operation) => (moment.access(&message.map(&view).descriptor), operation),
                Action::Invoke { .. } => unreachable!("invocations are slow work"),
            }
        };
        let operations = places.iter().map(operation);
        let answer = |index: usize, result: Result<Outcome<'_>, _>| {
            set(places[index], result.map_err(Failure::Operation))
        };
        let refused: Result<(), PartRefusal> = partition.run_part(message.id.as_ref(), operations, answer);
        if let Err(refusal) = refused {
            places.iter().for_each(|place| set(*place, Err(refusal.into())));
        }
    });
}

/// Refuses a part one of whose maps was deleted since it was looked up.
pub(super) fn fail_deleted(
    message: &Message,
    decoded: &Decoded<'_>,
    places: &[u32],
    set: &mut impl FnMut(u32, Result<Outcome<'_>, Failure>),
) {
    let deleted =
        places.iter().map(|place| message.map(&decoded.checked(*place))).find(|map| map.is_deleted());
    let name = deleted.map_or_else(String::new, |map| map.descriptor.name.to_string());
    for place in places {
        set(*place, Err(Failure::MapNotFound { name: name.clone() }));
    }
}
