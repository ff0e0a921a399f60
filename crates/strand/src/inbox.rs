//! The lanes of a strand, their bounds, and the four flags that say who serves them. Pure bookkeeping: every
//! method is a short step under the strand's inbox lock, and no closure of a caller runs or is dropped in it.

use std::{collections::VecDeque, fmt, mem, time::Duration};

use crate::work::{Group, ShortWork, SlowWork, Turn};

/// An estimate of one queued operation, for the hint when to try again.
const KEYED_OPERATION: Duration = Duration::from_micros(2);
/// An estimate of one queued item of slow work: the default budget of a guest's turn.
const SLOW_OPERATION: Duration = Duration::from_millis(10);
const RETRY_AT_LEAST: Duration = Duration::from_millis(1);
const RETRY_AT_MOST: Duration = Duration::from_secs(1);

/// What queued work counts for against the bounds of its lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Operations on single keys; for slow work, items.
    pub operations: usize,
    /// Bytes that the work keeps alive while it waits.
    pub bytes: usize,
}

impl Cost {
    fn plus(self, other: Self) -> Self {
        Self {
            operations: self.operations.saturating_add(other.operations),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn minus(self, other: Self) -> Self {
        debug_assert!(other.fits(self), "{other:?} was never added to {self:?}");
        Self { operations: self.operations - other.operations, bytes: self.bytes - other.bytes }
    }

    fn fits(self, bound: Self) -> bool {
        self.operations <= bound.operations && self.bytes <= bound.bytes
    }
}

/// How much the bounded lanes of a strand hold at most. An item that is over a bound by itself is never queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of queued keyed work.
    pub keyed: Cost,
    /// Of slow work, the item that has its turn included.
    pub slow: Cost,
}

/// What waits in a strand at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Items in the urgent lane.
    pub urgent: usize,
    /// In the keyed lane.
    pub keyed: Cost,
    /// In the slow lane, the item that has its turn included.
    pub slow: Cost,
}

/// A lane with a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Short work, by arrival.
    Keyed,
    /// Long work, on the compute pool.
    Slow,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyed => "keyed",
            Self::Slow => "slow",
        })
    }
}

/// The lane is full; the work was dropped without having run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {lane} lane holds {} of {} operations and {} of {} bytes; try again in {:?}",
    waiting.operations, bound.operations, waiting.bytes, bound.bytes, self.retry_after()
)]
pub struct Full {
    /// The lane that refused.
    pub lane: Lane,
    /// What it held.
    pub waiting: Cost,
    /// What it may hold.
    pub bound: Cost,
}

impl Full {
    /// When the lane should have drained: an estimate, between 1 ms and 1 s.
    pub fn retry_after(&self) -> Duration {
        let operation = match self.lane {
            Lane::Keyed => KEYED_OPERATION,
            Lane::Slow => SLOW_OPERATION,
        };
        let operations = u32::try_from(self.waiting.operations).unwrap_or(u32::MAX);
        operation.saturating_mul(operations).clamp(RETRY_AT_LEAST, RETRY_AT_MOST)
    }
}

/// Why slow work was not accepted; it was dropped without having run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The slow lane is at its bound.
    #[error(transparent)]
    Full(#[from] Full),
    /// The compute pool has shut down.
    #[error("the compute pool has shut down")]
    Closed,
}

/// What the submitter of short work owes the strand.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Whoever runs the strand, or is posted to, takes the work.
    Nothing,
    /// The strand was idle and is the submitter's now.
    Run,
    /// The strand is idle, but the submitter is inside one.
    Defer,
}

pub(crate) struct SlowItem<P, W> {
    pub(crate) group: Group,
    pub(crate) cost: Cost,
    pub(crate) work: Box<dyn SlowWork<P, W>>,
}

pub(crate) struct Inbox<P, W> {
    urgent: VecDeque<Box<dyn ShortWork<P>>>,
    keyed: VecDeque<(Cost, Box<dyn ShortWork<P>>)>,
    slow: VecDeque<SlowItem<P, W>>,
    keyed_load: Cost,
    slow_load: Cost,
    bounds: Bounds,
    /// I1.
    running: bool,
    /// The strand is in the pool's short queue or on a thread's deferred list.
    posted: bool,
    /// The strand is among the pool's slow strands, or has its slow turn.
    slow_posted: bool,
    /// A compute thread waits to be handed the strand.
    worker_waits: bool,
}

impl<P, W> Inbox<P, W> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            urgent: VecDeque::new(),
            keyed: VecDeque::new(),
            slow: VecDeque::new(),
            keyed_load: Cost::default(),
            slow_load: Cost::default(),
            bounds,
            running: false,
            posted: false,
            slow_posted: false,
            worker_waits: false,
        }
    }

    pub(crate) fn depth(&self) -> Depth {
        Depth { urgent: self.urgent.len(), keyed: self.keyed_load, slow: self.slow_load }
    }

    /// Takes the strand if it is idle and nothing would be overtaken.
    pub(crate) fn claim_idle(&mut self) -> bool {
        let idle = !self.running && self.short_is_empty();
        self.running |= idle;
        idle
    }

    /// Takes the strand if it is idle and neither short nor slow work would be overtaken.
    pub(crate) fn claim_alone(&mut self) -> bool {
        !self.slow_posted && self.claim_idle()
    }

    /// Takes the strand for the one it was posted to; false if it runs, for then its holder sees to the queue.
    pub(crate) fn claim_posted(&mut self) -> bool {
        debug_assert!(self.posted);
        self.posted = false;
        !mem::replace(&mut self.running, true)
    }

    /// Takes the strand for a slow turn, or books it: its holder hands it over within one run.
    pub(crate) fn claim_or_book(&mut self) {
        debug_assert!(self.slow_posted && !self.worker_waits);
        self.worker_waits = mem::replace(&mut self.running, true);
    }

    pub(crate) fn worker_waits(&self) -> bool {
        self.worker_waits
    }

    pub(crate) fn push_urgent(&mut self, work: Box<dyn ShortWork<P>>) {
        self.urgent.push_back(work);
    }

    /// Whether the keyed lane has room.
    pub(crate) fn admit_keyed(&self, cost: Cost) -> Result<(), Full> {
        admit(Lane::Keyed, self.keyed_load, cost, self.bounds.keyed)
    }

    /// Queues work that was admitted under the same lock.
    pub(crate) fn push_keyed(&mut self, cost: Cost, work: Box<dyn ShortWork<P>>) {
        self.keyed_load = self.keyed_load.plus(cost);
        self.keyed.push_back((cost, work));
    }

    /// What is to be done after a push of short work.
    pub(crate) fn duty(&mut self, outermost: bool) -> Duty {
        if self.running {
            return Duty::Nothing;
        }
        if outermost {
            self.running = true;
            return Duty::Run;
        }
        if mem::replace(&mut self.posted, true) { Duty::Nothing } else { Duty::Defer }
    }

    /// The next short work, urgent before keyed, while the run has a share left.
    pub(crate) fn pop_short(&mut self, share: &mut usize) -> Option<Box<dyn ShortWork<P>>> {
        if *share == 0 {
            return None;
        }
        if let Some(work) = self.urgent.pop_front() {
            *share -= 1;
            return Some(work);
        }
        let (cost, work) = self.keyed.pop_front()?;
        self.keyed_load = self.keyed_load.minus(cost);
        *share = share.saturating_sub(cost.operations.max(1));
        Some(work)
    }

    /// Whether the slow lane has room.
    pub(crate) fn admit_slow(&self, cost: Cost) -> Result<(), Full> {
        admit(Lane::Slow, self.slow_load, cost, self.bounds.slow)
    }

    /// Queues work that was admitted under the same lock; true if the strand must be posted for it.
    pub(crate) fn push_slow(&mut self, item: SlowItem<P, W>) -> bool {
        self.slow_load = self.slow_load.plus(item.cost);
        self.slow.push_back(item);
        !mem::replace(&mut self.slow_posted, true)
    }

    /// The item whose turn it is. It counts until it is done.
    pub(crate) fn begin_turn(&mut self) -> SlowItem<P, W> {
        self.slow.pop_front().expect("a strand is posted for slow work only while it has some (I2)")
    }

    /// Puts the item back in front, or returns it for delivery. The group is that of the next item, for which
    /// the caller posts the strand again.
    pub(crate) fn end_turn(
        &mut self,
        item: SlowItem<P, W>,
        turn: Turn<()>,
    ) -> (Option<SlowItem<P, W>>, Option<Group>) {
        let done = match turn {
            Turn::Done(()) => {
                self.slow_load = self.slow_load.minus(item.cost);
                Some(item)
            }
            Turn::Again => {
                self.slow.push_front(item);
                None
            }
        };
        let next = self.slow.front().map(|item| item.group);
        self.slow_posted = next.is_some();
        (done, next)
    }

    /// Empties the slow lane of a strand that the pool no longer takes.
    pub(crate) fn abandon_slow(&mut self) -> VecDeque<SlowItem<P, W>> {
        self.slow_posted = false;
        self.slow_load = Cost::default();
        mem::take(&mut self.slow)
    }

    /// Gives the strand up. A compute thread that waits for it becomes its holder at once: `running` stays, so
    /// that nobody gets in between.
    pub(crate) fn release(&mut self) -> Release {
        debug_assert!(self.running, "only its holder releases a strand (I1)");
        if mem::replace(&mut self.worker_waits, false) {
            return Release::HandedOver;
        }
        self.running = false;
        if self.short_is_empty() || mem::replace(&mut self.posted, true) {
            return Release::Idle;
        }
        Release::Post
    }

    fn short_is_empty(&self) -> bool {
        self.urgent.is_empty() && self.keyed.is_empty()
    }

    /// To be asked whenever the lock is given back; free in release builds.
    pub(crate) fn check_invariants(&self) {
        if cfg!(any(debug_assertions, wattle_loom)) {
            assert!(self.short_is_empty() || self.running || self.posted, "short work is forgotten (I2)");
            assert!(self.slow.is_empty() || self.slow_posted, "slow work is forgotten (I2)");
            assert!(!self.worker_waits || self.running, "nobody hands over an idle strand (I1)");
            assert!(self.keyed_load.fits(self.bounds.keyed) && self.slow_load.fits(self.bounds.slow));
        }
    }
}

/// What follows from giving a strand up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// A compute thread holds it now and is to be woken.
    HandedOver,
    /// Nothing is left, or it is posted already.
    Idle,
    /// Short work is left, for the pool.
    Post,
}

fn admit(lane: Lane, waiting: Cost, cost: Cost, bound: Cost) -> Result<(), Full> {
    if waiting.plus(cost).fits(bound) { Ok(()) } else { Err(Full { lane, waiting, bound }) }
}
