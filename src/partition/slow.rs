//! The part of a message that is long work: invocations, and more keys than a caller's thread should wait for. The compute pool
//! takes turns at it: one batch of a guest a turn.

use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;
use wattle_core::ids::{RequestId, Version};
use wattle_core::limits::{SCAN_BYTES, SCAN_ENTRIES};
use wattle_core::partition::{Access, Admission, Answer, Completion, PartRefusal, Recorded};
use wattle_strand::Turn;

use super::message::{Action, Message, Placed, View};
use super::partitions::Worker;
use super::processor::{BatchError, Call, Target, run_batch};
use super::shard::Shard;
use super::short::OwnedResult;
use crate::failure::Failure;

/// A part of a message while turns are taken at it.
#[derive(Debug)]
pub(crate) struct SlowPart {
    message: Arc<Message>,
    /// The operations of this part.
    places: SmallVec<[u32; 4]>,
    /// One for each place, as they become known.
    results: SmallVec<[Option<OwnedResult>; 1]>,
    /// All operations before this one have results: a long part must not be searched anew for each.
    settled: usize,
    /// The partition's position before the first turn.
    start: Option<Version>,
    /// Invocations that run one by one because their batch was stopped.
    singly: usize,
}

/// What became of the operations of a part, by place.
pub(crate) type OwnedResults = Vec<(u32, OwnedResult)>;

/// Whether the part goes on in this turn.
enum Progress {
    Here,
    NextTurn,
}

impl SlowPart {
    pub(crate) fn new(message: Arc<Message>, operations: &[Placed]) -> Self {
        let places: SmallVec<_> = operations.iter().map(|operation| operation.place).collect();
        let results = places.iter().map(|_| None).collect();
        Self { message, places, results, settled: 0, start: None, singly: 0 }
    }

    /// Takes a turn; `view` reads an operation by its place.
    pub(crate) fn turn<'v>(
        &mut self,
        (worker, shard): (&mut Worker, &mut Shard),
        view: &impl Fn(u32) -> View<'v>,
    ) -> Turn<OwnedResults> {
        let message = Arc::clone(&self.message);
        shard.confirm_reads(message.reads());
        if self.start.is_none() {
            self.start = Some(shard.with(|partition, _| partition.position()));
            if let Err(failure) = self.begin(view, shard) {
                self.results =
                    failure.into_iter().map(|failure| Some(OwnedResult::Failed(failure))).collect();
            }
        }
        for _ in 0..SCAN_ENTRIES {
            let Some(index) = self.next_open() else { return self.end(view, shard) };
            let place = self.places[index];
            let next = view(place);
            if let Err(failure) = message.may_run(place, &next).and_then(|()| message.may_answer()) {
                self.results[index] = Some(OwnedResult::Failed(failure));
                continue;
            }
            let progress = match next.action {
                Action::Keyed(operation) => {
                    let result = shard.with(|partition, moment| {
                        let at = moment.access(&message.map(&next).descriptor);
                        let at = Access { record: self.record(), ..at };
                        OwnedResult::new(partition.execute(&at, &operation).map_err(Failure::Operation))
                    });
                    message.answered(result.payload());
                    self.results[index] = Some(result);
                    Progress::Here
                }
                Action::Invoke { .. } => self.invoke((worker, shard), view, index),
            };
            match progress {
                Progress::Here => {}
                Progress::NextTurn if self.next_open().is_none() => return self.end(view, shard),
                Progress::NextTurn => return self.pause(shard),
            }
        }
        self.pause(shard)
    }

    /// Other copies take over turn by turn: each must say what the request has done by then. Also on a node that is alone: another may
    /// have joined it and taken over before the next turn.
    fn pause(&mut self, shard: &mut Shard) -> Turn<OwnedResults> {
        let position = shard.partition().position();
        if let Some(id) = self.message.id.filter(|_| self.start < Some(position)) {
            let recorded = |result: &Option<OwnedResult>| {
                result.as_ref().map_or(Recorded::Again, |result| record(result, &id))
            };
            let completion = Completion::Results(self.results.iter().map(recorded).collect());
            shard.with(|partition, _| partition.complete(&id, completion));
        }
        Turn::Again
    }

    /// What the results take that are kept for a retry, in bytes, over the values and responses in them.
    fn record(&self) -> u64 {
        self.message.id.map_or(0, |_| Completion::bytes(self.places.len()))
    }

    /// The first operation without a result.
    fn next_open(&mut self) -> Option<usize> {
        while self.results.get(self.settled)?.is_some() {
            self.settled += 1;
        }
        Some(self.settled)
    }

    /// Looks for results of an earlier run, and whether this one may run. On failure: one for each operation.
    fn begin<'v>(&mut self, view: &impl Fn(u32) -> View<'v>, shard: &mut Shard) -> Result<(), Vec<Failure>> {
        let all = |failure: &dyn Fn() -> Failure| self.places.iter().map(|_| failure()).collect::<Vec<_>>();
        let Some(id) = self.message.id else { return Ok(()) };
        let fits = |place: &&u32, answer: &Answer| match view(**place).action {
            Action::Keyed(operation) => operation.is_answered_by(answer),
            Action::Invoke { .. } => matches!(answer, Answer::Processed { .. }),
        };
        let known = shard.with(|partition, moment| {
            let known = partition.known_results(&id, &self.places, fits)?;
            if known.is_none() {
                partition.reserve(&id, moment.room(), self.record())?;
            }
            Ok::<_, PartRefusal>(known)
        });
        let known = match known {
            Ok(None) => {
                shard.begin_turns(&self.message);
                return Ok(());
            }
            Ok(Some(known)) => known,
            Err(refusal) => return Err(all(&|| refusal.into())),
        };
        for (result, recorded) in self.results.iter_mut().zip(known) {
            *result = match recorded {
                Recorded::Applied(answer) => {
                    self.message.answered(answer.payload());
                    Some(OwnedResult::Answer(answer))
                }
                Recorded::Refused(refusal) => Some(OwnedResult::Failed(refusal.into())),
                Recorded::Again => None,
            };
        }
        Ok(())
    }

    /// Runs the invocation at `index` and those behind it that go into the same batch.
    fn invoke<'v>(
        &mut self,
        (worker, shard): (&mut Worker, &mut Shard),
        view: &impl Fn(u32) -> View<'v>,
        index: usize,
    ) -> Progress {
        let message = Arc::clone(&self.message);
        let first = view(self.places[index]);
        let function = message.function(&first);
        if let Some(refusal) = function.refusal() {
            self.results[index] = Some(OwnedResult::Failed(refusal.into()));
            return Progress::Here;
        }
        let limit = if self.singly > 0 { 1 } else { SCAN_ENTRIES };
        let batch = self.batch((view, shard), index, limit);
        let targets: SmallVec<[Target<'_>; 4]> = batch.iter().map(|(_, target)| *target).collect();
        let call = Call {
            function,
            map: message.map(&first),
            argument: &[],
            value_bytes: message.value_bytes,
            record: self.record(),
        };
        let results = &mut self.results;
        let ran = run_batch(worker, shard, &call, &targets, |processed| {
            let result = match processed.result {
                Ok(response) => {
                    let export = Arc::clone(function.export());
                    OwnedResult::Answer(Answer::Processed { response: response.into(), export })
                }
                Err(failure) => OwnedResult::Failed(failure),
            };
            message.answered(result.payload());
            results[batch[processed.place].0] = Some(result);
        });
        self.singly = self.singly.saturating_sub(1);
        match ran {
            Ok(()) => {}
            Err(BatchError::Stopped(stopped)) if batch.len() > 1 && stopped.may_be_one_entry() => {
                self.singly = batch.len();
            }
            Err(BatchError::Stopped(stopped)) => {
                function.meters().not_applied.inc_by(batch.len() as u64);
                for (index, _) in &batch {
                    let result = OwnedResult::Failed(stopped.stop.clone().into());
                    message.answered(result.payload());
                    self.results[*index] = Some(result);
                }
            }
            Err(BatchError::Host) => {
                for (index, _) in &batch {
                    let failure = Failure::Internal { what: "the host failed while it ran the function" };
                    self.results[*index] = Some(OwnedResult::Failed(failure));
                }
            }
        }
        Progress::NextTurn
    }

    /// Invocations from `index` on, of the same function on the same map and no key twice, until their arguments and values are a
    /// turn's bytes.
    fn batch<'v>(
        &self,
        (view, shard): (&impl Fn(u32) -> View<'v>, &mut Shard),
        index: usize,
        limit: usize,
    ) -> SmallVec<[(usize, Target<'v>); 4]> {
        let first = view(self.places[index]);
        let alone = self.places.len() == 1;
        let mut batch = SmallVec::new();
        let mut keys = HashSet::new();
        let mut bytes = 0;
        shard.with(|partition, moment| {
            let at = moment.access(&self.message.map(&first).descriptor);
            for (index, place) in self.places.iter().enumerate().skip(index) {
                if self.results[index].is_some() {
                    continue;
                }
                let next = view(*place);
                let Action::Invoke { key, argument } = next.action else { break };
                let same = next.map == first.map && next.function == first.function;
                if batch.len() == limit || bytes >= SCAN_BYTES || !same || !(alone || keys.insert(key)) {
                    break;
                }
                if !alone {
                    let value = partition.get(&at, key).map_or(0, |entry| entry.value.len());
                    bytes += key.len() + argument.len() + value;
                }
                batch.push((index, Target::Key { key, argument }));
            }
        });
        batch
    }

    fn end<'v>(&mut self, view: &impl Fn(u32) -> View<'v>, shard: &mut Shard) -> Turn<OwnedResults> {
        let results =
            self.results.drain(..).map(|result| result.expect("every operation has its result at the end"));
        let results: Vec<(u32, OwnedResult)> = self.places.iter().copied().zip(results).collect();
        if let Some(id) = self.message.id {
            shard.end_turns(&self.message);
            let recorded: SmallVec<[Recorded; 1]> =
                results.iter().map(|(_, result)| record(result, &id)).collect();
            let any = recorded.iter().any(|recorded| matches!(recorded, Recorded::Applied(_)));
            // The attempt before it may still come, and must not change what was told.
            let told = id.repeated
                && recorded.iter().any(|recorded| *recorded != Recorded::Again)
                && self.places.iter().any(|place| self.may_change(&view(*place)));
            shard.with(|partition, _| {
                let changed = any && Some(partition.position()) > self.start;
                let completion = Completion::Results(recorded);
                // In the same turn as the last change: who asks again finds either nothing or all of it.
                if changed || told && partition.admit(&id) != Admission::Known(&completion) {
                    partition.complete(&id, completion);
                }
            });
        }
        Turn::Done(results)
    }

    /// Whether an operation does more than read, as far as is known.
    fn may_change(&self, view: &View<'_>) -> bool {
        match view.action {
            Action::Keyed(operation) => operation.may_change(),
            Action::Invoke { .. } => {
                !self.message.found_function(view).is_some_and(|found| found.is_read_only())
            }
        }
    }
}

fn record(result: &OwnedResult, id: &RequestId) -> Recorded {
    match result {
        OwnedResult::Answer(answer) => Recorded::Applied(answer.clone()),
        OwnedResult::Failed(Failure::Operation(refusal)) => Recorded::Refused(refusal.clone()),
        OwnedResult::Failed(failure) if id.repeated => {
            failure.kept().map_or(Recorded::Again, Recorded::Refused)
        }
        OwnedResult::Entry(_) | OwnedResult::Failed(_) => Recorded::Again,
    }
}
