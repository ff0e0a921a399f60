//! [`Partitions`]: strands, the pool, and how work gets to them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use wattle_core::control::grid::{self, ClassOptions, CopyDuty, Duty, Row};
use wattle_core::ids::{MapId, MemberId, PartitionId, ReplicationClass, Version};
use wattle_core::limits::{CLASSES, INBOX_BYTES, INBOX_OPERATIONS, PREFETCHED_KEYS};
use wattle_core::partition::{Partition, partition_of};
use wattle_core::replication::{
    Addressed, Assignment, LocalTime, Offer, PartitionMessage, ReplicatedPartition,
};
use wattle_strand::{Bounds, ComputePool, Cost, Group, Refused, Strand, Turn};

use super::gate::Gate;
use super::memory::{Memory, Moment};
use super::message::View;
use super::positions::Positions;
use super::shard::{OfNode, Shard};
use super::slow::{OwnedResults, SlowPart};
use super::ticket::{NoReply, ticket};
use crate::functions::{Catalog, GuestThread, RunBy};
use crate::grid_clock::GridClock;
use crate::maps::Map;
use crate::replication::{Replication, Table};

/// What a thread that runs guests keeps for itself.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) guests: GuestThread,
    /// The request frame, used again and again.
    pub(crate) frame: Vec<u8>,
}

impl Worker {
    pub(super) fn new(catalog: &Arc<Catalog>, run_by: RunBy) -> Self {
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
    /// By number. A class that came is there for good.
    classes: [OnceLock<Class>; CLASSES],
    of_node: OfNode,
    seed: u64,
    /// Copies that hold something and were not wanted by a table. Held to look or to change it.
    spare: Arc<Mutex<BTreeSet<PartitionId>>>,
    catalog: Arc<Catalog>,
    // Behind the strands: they are gone before the pool ends.
    pool: ComputePool<Shard, Worker>,
}

/// The partitions of a replication class.
#[derive(Debug)]
struct Class {
    strands: Box<[Arc<Strand<Shard, Worker>>]>,
    min_in_sync: usize,
}

/// Whether a partition may have begun before as far as is known here, and has begun once more.
fn begins_anew(partition: PartitionId, row: &Row, before: Option<&grid::Grid>) -> bool {
    let had_not_begun = |before: &Row| before.began.is_none();
    row.began == Some(row.assignment.epoch)
        && !before.and_then(|before| before.row(partition)).is_some_and(had_not_begun)
}

/// A piece of work that was done, and what its answer waits for; or why it was not.
type Served<T> = Result<(T, Option<Gate>), NoReply>;

impl Partitions {
    /// No classes yet, and a pool with a thread for each core. The seed must be random.
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        (memory, replication): (Arc<Memory>, Arc<Replication>),
        seed: u64,
    ) -> io::Result<Self> {
        let clock = GridClock::start();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let of_pool = Arc::clone(&catalog);
        let worker = move || Worker::new(&of_pool, RunBy::Compute);
        let of_node = OfNode { clock, memory, positions: Arc::default(), replication };
        let pool = ComputePool::new(threads, worker)?;
        Ok(Self { classes: Default::default(), of_node, seed, spare: Arc::default(), catalog, pool })
    }

    /// Empty partitions, which nobody has decided about yet, of the classes of a grid that are not there. Before that nothing of a class
    /// may be asked for.
    pub(crate) fn add_classes(&self, grid: &grid::Grid) {
        grid.classes().for_each(|(number, options)| self.add_class(number, options));
    }

    pub(super) fn add_class(&self, number: ReplicationClass, options: &ClassOptions) {
        self.classes[usize::from(number.0)].get_or_init(|| self.empty_class(number, options));
    }

    fn empty_class(&self, number: ReplicationClass, options: &ClassOptions) -> Class {
        let bound = Cost { operations: INBOX_OPERATIONS, bytes: INBOX_BYTES };
        let start = Version::at_start(self.of_node.clock.now());
        let min_in_sync = usize::from(options.min_in_sync);
        let strand = |index| {
            let id = PartitionId { class: number, index };
            let number = u64::from(number.0) << 16 | u64::from(index);
            let seed = self.seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93);
            let partition = Partition::new(id, options.partitions, seed, start);
            let me = self.of_node.replication.me();
            let copy = ReplicatedPartition::new(me, min_in_sync, Assignment::default(), partition);
            let shard = Shard::new(copy, options.backups, self.of_node.clone());
            self.pool.strand(shard, Bounds { keyed: bound, slow: bound })
        };
        Class { strands: (0..options.partitions).map(strand).collect(), min_in_sync }
    }

    /// Does what is decided about partitions, of which this node has followed `before`.
    pub(crate) fn follow(&self, before: Option<&grid::Grid>, grid: &grid::Grid) {
        let replication = &self.of_node.replication;
        // First the table: what is granted from now on says so.
        replication.follow(Table::of(grid));
        for (partition, duty) in grid.duties_of(replication.me(), before) {
            let Some(strand) = self.find(partition) else { continue };
            match duty {
                CopyDuty::Void(began) => strand.submit_urgent(move |shard| shard.void(began), drop),
                CopyDuty::Assign(row) => {
                    let (assignment, anew) = (row.assignment.clone(), begins_anew(partition, row, before));
                    let assign = if anew { Shard::assign_anew } else { Shard::assign };
                    strand.submit_urgent(move |shard| assign(shard, assignment), drop);
                }
                CopyDuty::Release => self.note_spare(strand, partition),
            }
        }
        let now = self.of_node.clock.local();
        replication.take_early(now).into_iter().for_each(|early| self.pass_on(early));
    }

    fn note_spare(&self, strand: &Arc<Strand<Shard, Worker>>, partition: PartitionId) {
        let spare = Arc::clone(&self.spare);
        let note = move |shard: &mut Shard| {
            if shard.holds_anything() {
                spare.lock().insert(partition);
            }
        };
        strand.submit_urgent(note, drop);
    }

    /// Copies that may not be wanted any more.
    pub(crate) fn spare(&self) -> BTreeSet<PartitionId> {
        self.spare.lock().clone()
    }

    /// Lets copies go that are not wanted by a table which was asked for at a time, and later than all that their primaries have sent.
    pub(crate) fn release(&self, spare: &BTreeSet<PartitionId>, table: &grid::Grid, asked: LocalTime) {
        let me = self.of_node.replication.me();
        for partition in spare {
            let Some(strand) = self.find(*partition) else { continue };
            let row = table.row(*partition).filter(|_| table.may_go(me, *partition));
            // What is wanted again is noted again when it is not.
            let Some(row) = row else {
                self.spare.lock().remove(partition);
                continue;
            };
            let (assignment, spare, partition) =
                (row.assignment.clone(), Arc::clone(&self.spare), *partition);
            let release = move |shard: &mut Shard| {
                if shard.release(asked, assignment) {
                    spare.lock().remove(&partition);
                }
            };
            strand.submit_urgent(release, drop);
        }
    }

    /// Another copy says something.
    pub(crate) fn receive(&self, from: MemberId, partition: PartitionId, message: PartitionMessage) {
        let now = self.of_node.clock.local();
        // Whose clock may be wrong must hold nothing yet that has a time to live: it is sent again.
        if !self.of_node.clock.is_set() {
            return;
        }
        if let Some(message) = self.of_node.replication.admit(now, (from, partition, message)) {
            self.pass_on(message);
        }
    }

    fn pass_on(&self, (from, partition, message): Addressed) {
        // Of a class that is not known here yet: it is sent again.
        let Some(strand) = self.find(partition) else { return };
        let receive = move |shard: &mut Shard| shard.receive(from, message);
        if let Err(receive) = strand.try_run(receive) {
            strand.submit_urgent(receive, drop);
        }
    }

    /// Does what this node owes as the primary of its partitions.
    pub(crate) fn do_duties(&self, grid: &grid::Grid) {
        let me = self.of_node.replication.me();
        for (partition, row) in grid.rows().filter(|(_, row)| row.assignment.primary == Some(me)) {
            let Some(strand) = self.find(partition) else { continue };
            let min_in_sync = self.class(partition.class).min_in_sync;
            match row.duty(min_in_sync) {
                Duty::None => {}
                Duty::HandOver(to) => strand.submit_urgent(move |shard| shard.hand_over(to), drop),
                Duty::Retire(member) => strand.submit_urgent(move |shard| shard.suspect(member), drop),
            }
        }
    }

    /// A member is dead: where this node decides, it is to leave the set.
    pub(crate) fn suspect(&self, member: MemberId) {
        for strand in self.strands() {
            strand.submit_urgent(move |shard| shard.suspect(member), drop);
        }
    }

    /// A map has other options.
    pub(crate) fn update_map(&self, map: &Arc<Map>) {
        for strand in self.strands() {
            let map = Arc::clone(map);
            let update =
                move |shard: &mut Shard| shard.maintain(|partition| partition.update_map(&map.descriptor));
            strand.submit_urgent(update, drop);
        }
    }

    /// A map is gone.
    pub(crate) fn drop_map(&self, map: MapId) {
        for strand in self.strands() {
            let forget = move |shard: &mut Shard| shard.maintain(|partition| partition.drop_map(map));
            strand.submit_urgent(forget, drop);
        }
    }

    /// How many partitions a class has.
    pub(crate) fn count(&self, class: ReplicationClass) -> u16 {
        u16::try_from(self.class(class).strands.len()).expect("made from a u16")
    }

    /// Where a key lies.
    pub(crate) fn of(&self, class: ReplicationClass, key: &[u8]) -> PartitionId {
        PartitionId { class, index: partition_of(key, self.count(class)) }
    }

    /// The partitions of a class.
    pub(crate) fn of_class(&self, class: ReplicationClass) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.count(class)).map(move |index| PartitionId { class, index })
    }

    /// The partitions of all classes.
    pub(crate) fn ids(&self) -> impl Iterator<Item = PartitionId> {
        (0..).map(ReplicationClass).take(self.count_classes()).flat_map(|class| self.of_class(class))
    }

    /// How many classes are known here.
    pub(crate) fn count_classes(&self) -> usize {
        self.classes.iter().filter_map(OnceLock::get).count()
    }

    fn class(&self, class: ReplicationClass) -> &Class {
        let class = self.classes.get(usize::from(class.0)).and_then(OnceLock::get);
        class.expect("maps are followed behind the classes that they belong to")
    }

    /// `None` for a partition of a class that is not known here yet.
    fn find(&self, partition: PartitionId) -> Option<&Arc<Strand<Shard, Worker>>> {
        let class = self.classes.get(usize::from(partition.class.0))?.get()?;
        class.strands.get(usize::from(partition.index))
    }

    pub(crate) fn clock(&self) -> &GridClock {
        &self.of_node.clock
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.of_node.memory
    }

    pub(crate) fn replication(&self) -> &Replication {
        &self.of_node.replication
    }

    pub(crate) fn positions(&self) -> &Arc<Positions> {
        &self.of_node.positions
    }

    pub(crate) fn strand(&self, partition: PartitionId) -> &Arc<Strand<Shard, Worker>> {
        &self.class(partition.class).strands[usize::from(partition.index)]
    }

    pub(crate) fn strands(&self) -> impl Iterator<Item = &Arc<Strand<Shard, Worker>>> {
        self.classes.iter().filter_map(OnceLock::get).flat_map(|class| class.strands.iter())
    }

    /// Partitions that wait for a compute thread.
    pub(crate) fn waiting_for_pool(&self) -> usize {
        self.pool.waiting()
    }

    /// The moment that it is now, for steps on many partitions.
    pub(crate) fn moment(&self) -> Moment {
        Moment::new(self.of_node.clock.now(), &self.of_node.memory)
    }

    /// Runs short work on several partitions together: on those that are idle.
    pub(crate) fn try_run_together<T>(
        &self,
        partitions: impl Iterator<Item = PartitionId>,
        work: impl FnOnce(&mut [Option<&mut Shard>]) -> T,
    ) -> T {
        let strands: SmallVec<[_; PREFETCHED_KEYS]> =
            partitions.map(|partition| self.strand(partition)).collect();
        Strand::try_run_together(&strands, work)
    }

    /// Runs invocations on this thread, if the partition is idle and no slow work waits there: then one that came before
    /// with the same request id has run to its end. `None` if they did not run.
    pub(crate) fn run_light(
        &self,
        partition: PartitionId,
        mut part: SlowPart,
        views: &[View<'_>],
    ) -> Option<Served<OwnedResults>> {
        WORKER.with_borrow_mut(|worker| {
            let worker = match worker {
                Some(worker) if worker.guests.runs_from(&self.catalog) => worker,
                _ => worker.insert(Worker::new(&self.catalog, RunBy::Io)),
            };
            let mut turns = |shard: &mut Shard| loop {
                // At most two turns for each of a few invocations.
                let turn = part.turn((&mut *worker, &mut *shard), &|place| views[place as usize]);
                if let Turn::Done(reply) = turn {
                    break reply;
                }
            };
            let run = |shard: &mut Shard| shard.serve(&mut turns);
            self.strand(partition).try_run_alone(run).ok()
        })
    }

    /// Runs short work on a partition: here if it is idle, else in its turn. Returns when its answer may leave.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        partition: PartitionId,
        bytes: usize,
        work: impl FnOnce(&mut Shard) -> T + Send + 'static,
    ) -> Result<T, NoReply> {
        let (reply, gate) = match self.strand(partition).try_run(|shard| shard.serve(work)) {
            Ok(served) => served?,
            Err(work) => self.submit(partition, Cost { operations: 1, bytes }, work).await??,
        };
        self.pass(partition, gate).await?;
        Ok(reply)
    }

    /// Queues short work on a partition that is busy. Returns when its answer may leave.
    pub(crate) async fn queue<T: Send + 'static>(
        &self,
        partition: PartitionId,
        cost: Cost,
        work: impl FnOnce(&mut Shard) -> T + Send + 'static,
    ) -> Result<T, NoReply> {
        let (reply, gate) = self.submit(partition, cost, |shard| shard.serve(work)).await??;
        self.pass(partition, gate).await?;
        Ok(reply)
    }

    /// Looks at what is here of a partition, whoever decides about it.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        partition: PartitionId,
        look: impl FnOnce(&Partition) -> T + Send + 'static,
    ) -> Result<T, NoReply> {
        self.look_at_shard(partition, |shard| look(shard.partition())).await
    }

    /// What is here of a partition, if there is one, that it could go on with if it was lost.
    pub(crate) async fn offer(&self, partition: PartitionId) -> Result<Option<Offer>, NoReply> {
        match self.find(partition) {
            Some(_) => self.look_at_shard(partition, |shard| shard.offer()).await,
            None => Ok(None),
        }
    }

    async fn look_at_shard<T: Send + 'static>(
        &self,
        partition: PartitionId,
        look: impl FnOnce(&mut Shard) -> T + Send + 'static,
    ) -> Result<T, NoReply> {
        match self.strand(partition).try_run(look) {
            Ok(seen) => Ok(seen),
            Err(look) => self.submit(partition, Cost { operations: 1, bytes: 0 }, look).await,
        }
    }

    async fn submit<T: Send + 'static>(
        &self,
        partition: PartitionId,
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
        self.strand(partition).submit(cost, step, deliver).map_err(Refused::from)?;
        ticket.reply(receiver).await
    }

    /// Queues long work on a partition: the compute pool takes turns at it until it is done. Returns when its answer may leave.
    pub(crate) async fn run_slow<T: Send + 'static>(
        &self,
        partition: PartitionId,
        (group, bytes): (Group, usize),
        mut turn: impl FnMut(&mut Worker, &mut Shard) -> Turn<T> + Send + 'static,
    ) -> Result<T, NoReply> {
        let (sender, receiver) = oneshot::channel();
        let (ticket, start) = ticket();
        let mut begun = None;
        let turns = move |worker: &mut Worker, shard: &mut Shard| -> Turn<Option<Served<T>>> {
            if !start.start() {
                return Turn::Done(None);
            }
            let begun = match shard.next_turn(&mut begun) {
                Ok(begun) => begun,
                Err(no_reply) => return Turn::Done(Some(Err(no_reply))),
            };
            match turn(worker, shard) {
                Turn::Done(reply) => Turn::Done(Some(shard.finish(begun).map(|gate| (reply, gate)))),
                Turn::Again => {
                    // The last turn's gate is behind this one.
                    drop(shard.seal(begun));
                    Turn::Again
                }
            }
        };
        let deliver = move |reply: Option<Served<T>>| {
            if let Some(reply) = reply {
                // The caller may have gone: then nobody wants the reply.
                drop(sender.send(reply));
            }
        };
        let cost = Cost { operations: 1, bytes };
        self.strand(partition).submit_slow(group, cost, turns, deliver)?;
        let (reply, gate) = ticket.reply(receiver).await??;
        self.pass(partition, gate).await?;
        Ok(reply)
    }
}

#[cfg(test)]
pub(crate) mod tests;
