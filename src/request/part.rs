//! The work of a request in one partition: how it is run, and what is left of it when it could not be done at once.

use smallvec::SmallVec;
use wattle_core::ids::{MapId, PartitionId};
use wattle_core::limits::{LIGHT_INVOCATIONS, PREFETCHED_KEYS, SHORT_BYTES, SHORT_KEYS};
use wattle_core::partition::{Outcome, Partition, prefetch};
use wattle_strand::Group;

use super::{SCANS, bytes_of, group_of};
use crate::failure::Failure;
use crate::partition::{
    Action, Gate, Message, Moment, NoReply, OwnedResult, OwnedResults, Placed, Shard, View, run_short,
};

/// The work of a request in one partition.
pub(super) struct Part<'o> {
    pub(super) partition: PartitionId,
    pub(super) operations: &'o [Placed],
    pub(super) kind: Kind,
    pub(super) bytes: usize,
}

/// How a part is run.
pub(super) enum Kind {
    /// On the caller's thread, or in its turn.
    Short,
    /// On the caller's thread if nothing slow waits there: invocations of functions that have proven quick, or are gone.
    Light(Group),
    /// On the compute pool.
    Slow(Group),
}

/// A part that could not run at once.
pub(super) struct Waiting {
    pub(super) partition: PartitionId,
    pub(super) operations: Vec<Placed>,
    /// Its slow work belongs to this group; short work to none.
    pub(super) slow: Option<Group>,
    pub(super) bytes: usize,
}

/// Results that must not leave yet.
pub(super) struct Gated {
    pub(super) partition: PartitionId,
    pub(super) results: OwnedResults,
    pub(super) gate: Gate,
}

/// What is left of a request after what could be done at once.
pub(super) struct AtOnce {
    pub(super) waiting: Vec<Waiting>,
    pub(super) gated: Vec<Gated>,
}

/// Runs operations whose results outlive the strand.
pub(super) fn run_owned(
    shard: &mut Shard,
    moment: &mut Moment,
    (message, views): (&Message, &[View<'_>]),
    operations: &[Placed],
) -> OwnedResults {
    let mut results = Vec::with_capacity(operations.len());
    let mut set = |place: usize, result: Result<Outcome<'_>, Failure>| {
        let place = u32::try_from(place).expect("it was one before");
        results.push((place, OwnedResult::new(result)));
    };
    run_short(shard, moment, (message, views), operations, &mut set);
    results
}

/// All operations have failed alike.
pub(super) fn failed(places: impl Iterator<Item = u32>, no_reply: &NoReply) -> OwnedResults {
    places.map(|place| (place, OwnedResult::Failed(Failure::from(no_reply.clone())))).collect()
}

pub(super) fn refuse(
    operations: &[Placed],
    no_reply: &NoReply,
    set: &mut impl FnMut(usize, Result<Outcome<'_>, Failure>),
) {
    operations.iter().for_each(|operation| set(operation.place as usize, Err(no_reply.clone().into())));
}

pub(super) fn give(results: OwnedResults, set: &mut impl FnMut(usize, Result<Outcome<'_>, Failure>)) {
    for (place, result) in results {
        result.give(|result| set(place as usize, result));
    }
}

/// Runs the parts whose shards are held, and returns the others.
pub(super) fn run_together<'p>(
    parts: &'p [Part<'p>],
    shards: &mut [Option<&mut Shard>],
    (message, views): (&Message, &[View<'_>]),
    run: &mut impl FnMut(&mut Shard, &Part<'_>),
) -> SmallVec<[&'p Part<'p>; 1]> {
    let held = parts.iter().zip(&*shards).filter_map(|(part, shard)| Some((part, shard.as_deref()?)));
    prefetch(held.flat_map(|(part, shard)| part.keys(shard, message, views)));
    let busy = parts
        .iter()
        .zip(shards)
        .filter_map(|(part, shard)| shard.as_mut().map(|shard| run(shard, part)).is_none().then_some(part));
    busy.collect()
}

/// How many of the first parts run together: their operations wait for the memory at the same time.
pub(super) fn count_together(parts: &[Part<'_>]) -> usize {
    let mut operations = 0;
    let fit = parts.iter().take_while(|part| {
        operations += part.operations.len();
        operations <= PREFETCHED_KEYS
    });
    fit.count().max(1)
}

impl<'o> Part<'o> {
    /// The lane that it waits in depends on what is asked alone, not on what the names stand for by now: so all attempts of a
    /// request wait in the same one, and none is refused while an earlier one may still take effect.
    pub(super) fn new(message: &Message, views: &[View<'_>], operations: &'o [Placed]) -> Self {
        let mut bytes = 0;
        let mut invokes = false;
        let mut function = None;
        let mut light = operations.len() <= LIGHT_INVOCATIONS;
        for operation in operations {
            let view = &views[operation.place as usize];
            bytes += bytes_of(view);
            match view.action {
                Action::Keyed(_) => light = false,
                Action::Invoke { .. } => {
                    invokes = true;
                    // What cannot run takes no time.
                    if message.may_run(operation.place, view).is_ok() {
                        let invoked = message.function(view);
                        light &= invoked.is_quick();
                        function = function.or(Some(invoked));
                    }
                }
            }
        }
        let group = function.map_or(SCANS, |function| group_of(function));
        let long = operations.len() > SHORT_KEYS || bytes > SHORT_BYTES;
        let kind = match (invokes, long) {
            (true, false) if light => Kind::Light(group),
            (true, _) | (false, true) => Kind::Slow(group),
            (false, false) => Kind::Short,
        };
        Self { partition: operations[0].partition, operations, kind, bytes }
    }

    /// Its keys, and where they are.
    fn keys<'a>(
        &'a self,
        shard: &'a Shard,
        message: &'a Message,
        views: &'a [View<'a>],
    ) -> impl Iterator<Item = (&'a Partition, MapId, &'a [u8])> {
        let views = self.operations.iter().map(|operation| &views[operation.place as usize]);
        views.filter_map(|view| Some((shard.partition(), message.found_map(view)?.descriptor.id, view.key)))
    }

    /// Runs it, as one step. Results that must wait for other copies are returned.
    pub(super) fn run(
        &self,
        shard: &mut Shard,
        moment: &mut Moment,
        (message, views): (&Message, &[View<'_>]),
        set: &mut impl FnMut(usize, Result<Outcome<'_>, Failure>),
    ) -> Option<Gated> {
        let served = if shard.may_withhold() {
            shard.serve(|shard| Some(run_owned(shard, moment, (message, views), self.operations)))
        } else {
            shard.serve(|shard| {
                run_short(shard, moment, (message, views), self.operations, set);
                None
            })
        };
        match served {
            Ok((Some(results), Some(gate))) => Some(Gated { partition: self.partition, results, gate }),
            Ok((results, _)) => {
                give(results.unwrap_or_default(), set);
                None
            }
            Err(no_reply) => {
                refuse(self.operations, &no_reply, set);
                None
            }
        }
    }

    pub(super) fn wait(&self) -> Waiting {
        let slow = match self.kind {
            Kind::Short => None,
            Kind::Light(group) | Kind::Slow(group) => Some(group),
        };
        let operations = self.operations.to_vec();
        Waiting { partition: self.partition, operations, slow, bytes: self.bytes }
    }
}
