//! [`Partitions`]: strands, the pool, and how work gets to them.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::oneshot;
use wattle_core::ids::{PartitionId, ReplicationClass, RequestId, Version};
use wattle_core::limits::{INBOX_BYTES, INBOX_OPERATIONS, PREFETCHED_KEYS};
use wattle_core::partition::{Partition, partition_of};
use wattle_strand::{Bounds, ComputePool, Cost, Group, Refused, Strand, Turn};

use super::memory::{Memory, Moment};
use super::message::View;
use super::positions::Positions;
use super::slow::{OwnedResults, SlowPart};
use super::ticket::{NoReply, ticket};
use crate::functions::{Catalog, GuestThread, RunBy};
use crate::grid_clock::GridClock;

/// What a strand guards.
#[derive(Debug)]
pub(crate) struct Shard {
    partition: Partition,
    clock: GridClock,
    memory: Arc<Memory>,
    positions: Arc<Positions>,
    /// Requests between two turns of their slow work here: what one of them may have changed is recorded with its last.
    taking_turns: SmallVec<[RequestId; 2]>,
}

impl Shard {
    /// Whether a request with this id is between two turns of its slow work: who asks what is recorded of it asks too early.
    pub(super) fn is_taking_turns(&self, id: &RequestId) -> bool {
        self.taking_turns.iter().any(|other| other.is_same(id))
    }

    /// A request takes its first turn.
    pub(super) fn begin_turns(&mut self, id: RequestId) {
        self.taking_turns.push(id);
    }

    /// It has taken its last.
    pub(super) fn end_turns(&mut self, id: &RequestId) {
        self.taking_turns.retain(|other| !other.is_same(id));
    }

    pub(crate) fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Works on the partition, and charges what it then holds.
    pub(crate) fn with<R>(&mut self, work: impl FnOnce(&mut Partition, &Moment) -> R) -> R {
        let mut moment = self.moment();
        let result = self.at(&mut moment, work);
        self.settle(&moment);
        result
    }

    /// The moment that it is now.
    pub(crate) fn moment(&self) -> Moment {
        Moment::new(self.clock.now(), &self.memory)
    }

    /// Charges what was gained and lost at a moment.
    pub(crate) fn settle(&self, moment: &Moment) {
        self.memory.settle(moment);
    }

    /// As [`Self::with`], at a moment that the caller settles.
    pub(crate) fn at<R>(
        &mut self,
        moment: &mut Moment,
        work: impl FnOnce(&mut Partition, &Moment) -> R,
    ) -> R {
        moment.enter(self.partition.bytes());
        let result = work(&mut self.partition, moment);
        moment.leave(self.partition.bytes());
        let (index, position) = (self.partition.id().index, self.partition.position());
        self.partition.changed_maps().for_each(|map| self.positions.moved(map, index, position));
        result
    }
}

/// What a thread that runs guests keeps for itself.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) guests: GuestThread,
    /// The request frame, used again and again.
    pub(crate) frame: Vec<u8>,
}

impl Worker {
    fn new(catalog: &Arc<Catalog>, run_by: RunBy) -> Self {
        Self { guests: GuestThread::new(Arc::clone(catalog), run_by), frame: Vec::new() }
    }
}

thread_local! {
    /// Of threads that are not the pool's: for invocations that run where they arrive.
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// All partitions of this node.
#[derive(Debug)]
pub(crate) struct Partitions {
    strands: Box<[Arc<Strand<Shard, Worker>>]>,
    memory: Arc<Memory>,
    clock: GridClock,
    positions: Arc<Positions>,
    catalog: Arc<Catalog>,
    // Behind the strands: they are gone before the pool ends.
    pool: ComputePool<Shard, Worker>,
}

impl Partitions {
    /// `count` empty partitions and a pool with a thread for each core. The seed must be random.
    pub(crate) fn new(count: u16, catalog: Arc<Catalog>, memory: Arc<Memory>, seed: u64) -> io::Result<Self> {
        let clock = GridClock::start();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let of_pool = Arc::clone(&catalog);
        let worker = move || Worker::new(&of_pool, RunBy::Compute);
        let positions = Arc::new(Positions::new(count));
        let pool = ComputePool::new(threads, worker)?;
        let bound = Cost { operations: INBOX_OPERATIONS, bytes: INBOX_BYTES };
        let start = Version::at_start(clock.now());
        let strand = |index| {
            let id = PartitionId { class: ReplicationClass(0), index };
            let seed = seed ^ u64::from(index).wrapping_mul(0xd6e8_feb8_6659_fd93);
            let partition = Partition::new(id, count, seed, start);
            let (memory, positions) = (Arc::clone(&memory), Arc::clone(&positions));
            let shard = Shard { partition, clock, memory, positions, taking_turns: SmallVec::new() };
            pool.strand(shard, Bounds { keyed: bound, slow: bound })
        };
        let strands = (0..count).map(strand).collect();
        Ok(Self { strands, memory, clock, positions, catalog, pool })
    }

    pub(crate) fn count(&self) -> u16 {
        u16::try_from(self.strands.len()).expect("made from a u16")
    }

    pub(crate) fn of(&self, key: &[u8]) -> u16 {
        partition_of(key, self.count())
    }

    pub(crate) fn clock(&self) -> GridClock {
        self.clock
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn positions(&self) -> &Arc<Positions> {
        &self.positions
    }

    pub(crate) fn strand(&self, index: u16) -> &Arc<Strand<Shard, Worker>> {
        &self.strands[usize::from(index)]
    }

    pub(crate) fn strands(&self) -> impl ExactSizeIterator<Item = &Arc<Strand<Shard, Worker>>> {
        self.strands.iter()
    }

    /// Partitions that wait for a compute thread.
    pub(crate) fn waiting_for_pool(&self) -> usize {
        self.pool.waiting()
    }

    /// The moment that it is now, for steps on many partitions.
    pub(crate) fn moment(&self) -> Moment {
        Moment::new(self.clock.now(), &self.memory)
    }

    /// Runs short work on several partitions together: on those that are idle.
    pub(crate) fn try_run_together<T>(
        &self,
        partitions: impl Iterator<Item = u16>,
        work: impl FnOnce(&mut [Option<&mut Shard>]) -> T,
    ) -> T {
        let strands: SmallVec<[_; PREFETCHED_KEYS]> = partitions.map(|index| self.strand(index)).collect();
        Strand::try_run_together(&strands, work)
    }

    /// Runs invocations on this thread, if the partition is idle and no slow work waits there: then one that came before
    /// with the same request id has run to its end. `None` if they did not run.
    pub(crate) fn run_light(
        &self,
        index: u16,
        mut part: SlowPart,
        views: &[View<'_>],
    ) -> Option<OwnedResults> {
        WORKER.with_borrow_mut(|worker| {
            let worker = match worker {
                Some(worker) if worker.guests.runs_from(&self.catalog) => worker,
                _ => worker.insert(Worker::new(&self.catalog, RunBy::Io)),
            };
            let run = |shard: &mut Shard| loop {
                // At most two turns for each of a few invocations.
                let turn = part.turn((&mut *worker, shard), &|place| views[place as usize]);
                if let Turn::Done(reply) = turn {
                    break reply;
                }
            };
            self.strand(index).try_run_alone(run).ok()
        })
    }

    /// Runs short work on a partition: here if it is idle, else in its turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        index: u16,
        bytes: usize,
        work: impl FnOnce(&mut Shard) -> T + Send + 'static,
    ) -> Result<T, NoReply> {
        match self.strand(index).try_run(work) {
            Ok(reply) => Ok(reply),
            Err(work) => self.queue(index, Cost { operations: 1, bytes }, work).await,
        }
    }

    /// Queues short work on a partition that is busy.
    pub(crate) async fn queue<T: Send + 'static>(
        &self,
        index: u16,
        cost: Cost,
        work: impl FnOnce(&mut Shard) -> T + Send + 'static,
    ) -> Result<T, NoReply> {
        let (sender, receiver) = oneshot::channel();
        let (ticket, start) = ticket();
        let step = move |shard: &mut Shard| start.start().then(|| work(shard));
        let deliver = move |reply: Option<T>| {
            if let Some(reply) = reply {
                // The caller may have gone: then nobody wants the reply.
                drop(sender.send(reply));
            }
        };
        self.strand(index).submit(cost, step, deliver).map_err(Refused::from)?;
        ticket.reply(receiver).await
    }

    /// Queues long work on a partition: the compute pool takes turns at it until it is done.
    pub(crate) async fn run_slow<T: Send + 'static>(
        &self,
        index: u16,
        (group, bytes): (Group, usize),
        mut turn: impl FnMut(&mut Worker, &mut Shard) -> Turn<T> + Send + 'static,
    ) -> Result<T, NoReply> {
        let (sender, receiver) = oneshot::channel();
        let (ticket, start) = ticket();
        let turns = move |worker: &mut Worker, shard: &mut Shard| {
            if !start.start() {
                return Turn::Done(None);
            }
            match turn(worker, shard) {
                Turn::Done(reply) => Turn::Done(Some(reply)),
                Turn::Again => Turn::Again,
            }
        };
        let deliver = move |reply: Option<T>| {
            if let Some(reply) = reply {
                // The caller may have gone: then nobody wants the reply.
                drop(sender.send(reply));
            }
        };
        let cost = Cost { operations: 1, bytes };
        self.strand(index).submit_slow(group, cost, turns, deliver)?;
        ticket.reply(receiver).await
    }
}
