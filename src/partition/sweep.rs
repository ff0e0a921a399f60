//! A whole-map call in one partition: a batch of entries a turn, from slot to slot. With a request id its progress is recorded
//! with the effects of each batch, so that a call that comes again goes on where it stood and runs no entry twice.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wattle_core::ids::{RequestId, Slot};
use wattle_core::limits::{SCAN_BYTES, SCAN_ENTRIES, TURN_TIME, TURNS_TIME};
use wattle_core::partition::{Admission, Completion, PartRefusal, ScanEnd, ScanRange};
use wattle_strand::Turn;

use super::message::ReadMode;
use super::partitions::Worker;
use super::processor::{BatchError, Call, Target, run_batch};
use super::shard::Shard;
use crate::failure::Failure;
use crate::functions::ActiveFunction;
use crate::maps::Map;

/// A whole-map call, as one partition takes part in it.
#[derive(Debug)]
pub(crate) struct Sweep {
    pub(crate) function: Arc<ActiveFunction>,
    pub(crate) map: Arc<Map>,
    pub(crate) argument: Bytes,
    pub(crate) id: Option<RequestId>,
    pub(crate) reads: ReadMode,
    pub(crate) value_bytes: usize,
    /// Whether responses are wanted, or only counts.
    pub(crate) responses: bool,
}

impl Sweep {
    fn begun_by_another(&self) -> Failure {
        let function = self.function.name().to_string();
        Failure::HalfWay(Box::new(Failure::AnotherExport { function }))
    }
}

/// Where it stands.
#[derive(Debug, Clone, Copy)]
struct State {
    range: ScanRange,
    processed: u64,
    failed: u64,
}

/// The part of a whole-map call that one reply tells of.
#[derive(Debug, Default)]
pub(crate) struct SweepProgress {
    /// Entries with a response or a failure.
    pub(crate) entries: Vec<(Bytes, Result<Bytes, Failure>)>,
    bytes: usize,
    pub(crate) processed: u64,
    pub(crate) failed: u64,
    /// Nothing is left to do in this partition.
    pub(crate) complete: bool,
    /// The rest was not done.
    pub(crate) failure: Option<Failure>,
}

/// Takes the turns of one partition.
#[derive(Debug)]
pub(crate) struct SweepTurns {
    sweep: Arc<Sweep>,
    state: Option<State>,
    /// Entries below this slot run one by one because their batch was stopped.
    singly_below: Slot,
    /// Entries of the next turn: as many as take about [`TURN_TIME`].
    limit: usize,
    /// When the turns began that follow one another.
    began: Option<Instant>,
    progress: SweepProgress,
}

/// Entries of the first turn: what they take is not known yet.
const FIRST_ENTRIES: usize = 32;
/// Bytes and entries of responses that are sent as soon as they are there.
const REPLY_ENTRIES: usize = 4 * SCAN_ENTRIES;

impl SweepTurns {
    pub(crate) fn new(sweep: Arc<Sweep>) -> Self {
        let (state, progress) = (None, SweepProgress::default());
        Self { sweep, state, singly_below: Slot(0), limit: FIRST_ENTRIES, began: None, progress }
    }

    /// Takes a turn. Done with a reply when there is enough to tell, or when other slow work has waited long enough; unless
    /// the reply is complete, turns are to be taken again.
    pub(crate) fn turn(&mut self, worker: &mut Worker, shard: &mut Shard) -> Turn<SweepProgress> {
        let start = Instant::now();
        shard.confirm_reads(self.sweep.reads);
        if let Err(failure) = self.advance(worker, shard) {
            self.keep_refusal(shard, &failure);
            self.progress.failure = Some(failure);
            self.progress.complete = true;
        }
        let longer = start.elapsed() > TURN_TIME;
        self.limit = if longer { self.limit / 2 } else { self.limit * 2 }.clamp(1, SCAN_ENTRIES);
        let progress = &self.progress;
        let enough = progress.bytes >= SCAN_BYTES || progress.entries.len() >= REPLY_ENTRIES;
        if progress.complete || enough || self.began.get_or_insert(start).elapsed() > TURNS_TIME {
            self.began = None;
            return Turn::Done(std::mem::take(&mut self.progress));
        }
        Turn::Again
    }

    fn advance(&mut self, worker: &mut Worker, shard: &mut Shard) -> Result<(), Failure> {
        let sweep = Arc::clone(&self.sweep);
        // First of all: what is done is done, whatever has become of the map and the function.
        let Some(mut state) = self.standing(shard)? else { return Ok(()) };
        if sweep.map.is_deleted() {
            return Err(Failure::MapNotFound { name: sweep.map.descriptor.name.to_string() });
        }
        if let Some(refusal) = sweep.function.refusal() {
            return Err(refusal.into());
        }
        let limit = if state.range.next < self.singly_below { 1 } else { self.limit };
        let swept = shard.with(|partition, moment| {
            partition.sweep(&moment.access(&sweep.map.descriptor), state.range, limit)
        });
        let (processed, failed) = (self.progress.processed, self.progress.failed);
        if !swept.slots.is_empty() && !self.run(worker, shard, &swept.slots)? {
            // The same entries again, one by one; nothing has changed.
            self.state = Some(state);
            return Ok(());
        }
        state.processed += self.progress.processed - processed;
        state.failed += self.progress.failed - failed;
        match swept.end {
            ScanEnd::More(range) => state.range = range,
            ScanEnd::Complete => {
                state.range.next = state.range.end;
                self.progress.complete = true;
            }
        }
        self.state = Some(state);
        self.keep(shard, &state);
        Ok(())
    }

    /// Where the call stands in this partition; `None` if it has nothing left to do.
    fn standing(&mut self, shard: &mut Shard) -> Result<Option<State>, Failure> {
        let sweep = Arc::clone(&self.sweep);
        let start = |shard: &mut Shard| {
            let range =
                shard.with(|partition, moment| partition.scan_range(&moment.access(&sweep.map.descriptor)));
            State { range, processed: 0, failed: 0 }
        };
        let Some(id) = self.asked_by() else {
            return Ok(Some(self.state.unwrap_or_else(|| start(shard))));
        };
        let record = self.record();
        let known = shard.with(|partition, moment| match partition.admit(&id) {
            Admission::InDoubt => Err(PartRefusal::InDoubt),
            Admission::Known(Completion::Results(_)) => Err(PartRefusal::ReusedId),
            Admission::Known(Completion::Sweep { export, next, end, processed, failed, complete }) => {
                let range = ScanRange { next: *next, end: *end };
                let state = State { range, processed: *processed, failed: *failed };
                let is_stuck = !complete && export != sweep.function.export();
                Ok(Some((state, if is_stuck { Err(sweep.begun_by_another()) } else { Ok(*complete) })))
            }
            Admission::Known(Completion::Refused { processed, failed, refusal, .. }) => {
                let range = ScanRange { next: Slot(0), end: Slot(0) };
                let state = State { range, processed: *processed, failed: *failed };
                Ok(Some((state, Err(refusal.clone().into()))))
            }
            Admission::Fresh => partition.reserve(&id, moment.room(), record).map(|()| None),
        })?;
        match known {
            None => Ok(Some(self.state.unwrap_or_else(|| start(shard)))),
            Some((state, complete)) => {
                // An earlier call, or one in flight, has come this far; its responses were for its caller.
                let told = self.state.map_or((0, 0), |own| (own.processed, own.failed));
                self.progress.processed += state.processed - told.0;
                self.progress.failed += state.failed - told.1;
                self.state = Some(state);
                self.progress.complete = complete?;
                Ok((!self.progress.complete).then_some(state))
            }
        }
    }

    /// Runs a batch; whether it ran. Otherwise its entries are to be run one by one.
    fn run(&mut self, worker: &mut Worker, shard: &mut Shard, slots: &[Slot]) -> Result<bool, Failure> {
        let sweep = Arc::clone(&self.sweep);
        let targets: Vec<Target<'_>> = slots.iter().copied().map(Target::Slot).collect();
        let call = Call {
            function: &sweep.function,
            map: &sweep.map,
            argument: &sweep.argument,
            value_bytes: sweep.value_bytes,
            record: self.record(),
        };
        let progress = &mut self.progress;
        let ran = run_batch(worker, shard, &call, &targets, |processed| {
            progress.processed += 1;
            progress.failed += u64::from(processed.result.is_err());
            progress.tell(sweep.responses, processed.key, processed.result.map(Bytes::copy_from_slice));
        });
        match ran {
            Ok(()) => Ok(true),
            Err(BatchError::Stopped(stopped)) if slots.len() > 1 && stopped.may_be_one_entry() => {
                self.singly_below = slots.last().map_or(Slot(0), |slot| Slot(slot.0 + 1));
                Ok(false)
            }
            Err(BatchError::Stopped(stopped)) if slots.len() == 1 && stopped.may_be_one_entry() => {
                // This entry is at fault, and stays as it is.
                sweep.function.meters().not_applied.inc();
                let at = slots[0];
                let key = shard.with(|partition, moment| {
                    let entry = partition.entry_at(&moment.access(&sweep.map.descriptor), at);
                    entry.map_or_else(Bytes::new, |entry| Bytes::copy_from_slice(entry.key))
                });
                progress.processed += 1;
                progress.failed += 1;
                progress.tell(true, &key, Err(stopped.stop.into()));
                Ok(true)
            }
            Err(BatchError::Stopped(stopped)) => Err(stopped.stop.into()),
            Err(BatchError::Host) => {
                Err(Failure::Internal { what: "the host failed while it ran the function" })
            }
        }
    }

    /// What is kept of the call for a retry, in bytes.
    fn record(&self) -> u64 {
        self.recorded_by().map_or(0, |_| Completion::bytes(0))
    }

    /// Whose records are asked. What only reads needs none, and so goes on when its client id is too old for them; but an earlier attempt
    /// may have run what writes.
    fn asked_by(&self) -> Option<RequestId> {
        let reads = self.sweep.function.is_read_only();
        self.sweep.id.filter(|id| !reads || id.repeated && self.state.is_none())
    }

    /// What the progress is recorded by: what only reads is done again.
    fn recorded_by(&self) -> Option<RequestId> {
        self.sweep.id.filter(|_| !self.sweep.function.is_read_only())
    }

    fn keep(&self, shard: &mut Shard, state: &State) {
        let Some(id) = self.recorded_by() else { return };
        let completion = Completion::Sweep {
            export: Arc::clone(self.sweep.function.export()),
            next: state.range.next,
            end: state.range.end,
            processed: state.processed,
            failed: state.failed,
            complete: self.progress.complete,
        };
        shard.with(|partition, _| partition.complete(&id, completion));
    }

    /// The rest is not done, nor by an earlier attempt that may still come.
    fn keep_refusal(&self, shard: &mut Shard, failure: &Failure) {
        let Some(id) = self.recorded_by().filter(|id| id.repeated) else { return };
        let Some(refusal) = failure.kept() else { return };
        shard.with(|partition, _| {
            let (export, processed, failed) = match partition.admit(&id) {
                Admission::Fresh => (None, 0, 0),
                Admission::Known(Completion::Sweep { export, processed, failed, .. }) => {
                    (Some(Arc::clone(export)), *processed, *failed)
                }
                Admission::Known(Completion::Results(_) | Completion::Refused { .. })
                | Admission::InDoubt => return,
            };
            partition.complete(&id, Completion::Refused { export, processed, failed, refusal });
        });
    }
}

impl SweepProgress {
    /// The call did not get its turn.
    pub(crate) fn failed(failure: Failure) -> Self {
        Self { complete: true, failure: Some(failure), ..Self::default() }
    }

    /// Failures are always told, as long as there is room; responses only where they are wanted.
    fn tell(&mut self, responses: bool, key: &[u8], result: Result<Bytes, Failure>) {
        let bytes = match &result {
            Ok(response) if !responses || response.is_empty() => return,
            Ok(response) => key.len() + response.len(),
            Err(failure) => key.len() + failure.payload(),
        };
        self.bytes += bytes;
        self.entries.push((Bytes::copy_from_slice(key), result));
    }
}
