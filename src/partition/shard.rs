//! [`Shard`]: what a strand guards: this node's copy of a partition, and the answers that wait for other copies.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use smallvec::SmallVec;
use wattle_core::ids::{Epoch, MemberId, RequestId, Version};
use wattle_core::limits::FENCED_TIME;
use wattle_core::partition::Partition;
use wattle_core::replication::{
    Assignment, ChunkWanted, Deed, LocalTime, Now, Offer, PartitionMessage, ReplicatedPartition, Unavailable,
};

use super::gate::{Confirmed, Gate, WaitingAnswers};
use super::memory::{Memory, Moment};
use super::message::{Message, ReadMode};
use super::positions::Positions;
use super::ticket::NoReply;
use crate::grid_clock::GridClock;
use crate::replication::Replication;

/// Ticks in a row that a partition with much to do gets in one round; the rest waits for the next.
const TICKS_A_ROUND: u32 = 16;

/// What the shards of a node share.
#[derive(Debug, Clone)]
pub(super) struct OfNode {
    pub(super) clock: GridClock,
    pub(super) memory: Arc<Memory>,
    pub(super) positions: Arc<Positions>,
    pub(super) replication: Arc<Replication>,
}

/// What a strand guards.
#[derive(Debug)]
pub(crate) struct Shard {
    copy: ReplicatedPartition,
    of_node: OfNode,
    backups: u8,
    /// Until then somebody who held it before may serve it.
    fenced_until: Option<LocalTime>,
    waiting: WaitingAnswers,
    /// When the copy is to be woken.
    wake_at: Option<LocalTime>,
    /// When another copy has last said something.
    heard: Option<LocalTime>,
    /// Parts that other copies lack, and that wait until this node may send more.
    wanted: VecDeque<ChunkWanted>,
    /// Requests between two turns of their slow work here: what one of them may have changed is recorded with each. Who is gone has
    /// ended.
    taking_turns: SmallVec<[Weak<Message>; 2]>,
    /// Of the piece of work that is being done: the answer waits for the other copies also if it has changed nothing.
    confirms: bool,
    /// What a step has asked for. Empty between two steps.
    deeds: Vec<Deed>,
}

/// Where a copy stood when a piece of work began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    epoch: Epoch,
    /// Before this turn.
    position: Version,
    /// An earlier turn has changed something.
    changed: bool,
}

impl Shard {
    /// Of a class of so many backups.
    pub(super) fn new(copy: ReplicatedPartition, backups: u8, of_node: OfNode) -> Self {
        Self {
            copy,
            of_node,
            backups,
            fenced_until: None,
            waiting: WaitingAnswers::default(),
            wake_at: None,
            heard: None,
            wanted: VecDeque::new(),
            taking_turns: SmallVec::new(),
            confirms: false,
            deeds: Vec::new(),
        }
    }

    /// Whether a request with this id is between two turns of its slow work: who asks what is recorded of it asks too early.
    pub(super) fn is_taking_turns(&self, id: &RequestId) -> bool {
        let mut messages = self.taking_turns.iter().filter_map(Weak::upgrade);
        messages.any(|message| message.id.is_some_and(|other| other.is_same(id)))
    }

    /// A request takes its first turn.
    pub(super) fn begin_turns(&mut self, message: &Arc<Message>) {
        // Some end without a last turn: at a full link, behind a fence.
        self.taking_turns.retain(|other| other.strong_count() > 0);
        self.taking_turns.push(Arc::downgrade(message));
    }

    /// It has taken its last.
    pub(super) fn end_turns(&mut self, message: &Arc<Message>) {
        self.taking_turns.retain(|other| other.as_ptr() != Arc::as_ptr(message));
    }

    pub(crate) fn partition(&self) -> &Partition {
        self.copy.partition()
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
        Moment::new(self.of_node.clock.now(), &self.of_node.memory)
    }

    /// Charges what was gained and lost at a moment.
    pub(crate) fn settle(&self, moment: &Moment) {
        self.of_node.memory.settle(moment);
    }

    /// As [`Self::with`], at a moment that the caller settles.
    pub(crate) fn at<R>(
        &mut self,
        moment: &mut Moment,
        work: impl FnOnce(&mut Partition, &Moment) -> R,
    ) -> R {
        moment.enter(self.copy.bytes());
        let result = work(self.copy.partition_mut(), moment);
        moment.leave(self.copy.bytes());
        self.tell_watchers();
        result
    }

    fn tell_watchers(&mut self) {
        let partition = self.copy.partition_mut();
        let (index, committed) = (partition.id().index, partition.committed_position());
        let positions = &self.of_node.positions;
        partition.changed_maps().for_each(|map| positions.moved(map, index, committed));
    }

    /// Runs a piece of work that somebody waits for, as one step; with what its answer must wait for.
    pub(crate) fn serve<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> T,
    ) -> Result<(T, Option<Gate>), NoReply> {
        let mut begun = self.standing()?;
        let reply = work(self);
        let gate = self.finish(&mut begun)?;
        Ok((reply, gate))
    }

    /// Ends the last step of a piece of work, as [`Self::seal`] does; it may have taken so long that others were told to begin anew.
    pub(super) fn finish(&mut self, begun: &mut Standing) -> Result<Option<Gate>, NoReply> {
        let gate = self.seal(begun);
        match self.check_fence() {
            Ok(()) => Ok(gate),
            Err(_) if begun.changed => Err(NoReply::Deposed),
            Err(fenced) => Err(fenced),
        }
    }

    /// Where there is no backup nobody else has to agree that this copy is the one: the grid does.
    fn check_fence(&self) -> Result<(), NoReply> {
        if self.backups > 0 {
            return Ok(());
        }
        let now = self.of_node.clock.local();
        match self.fenced_until {
            Some(until) if now < until => Err(NoReply::Fenced),
            Some(_) | None => self.of_node.replication.check_fence(now),
        }
    }

    /// Whether the answer to work that was done here may have to wait, or not leave at all.
    pub(crate) fn may_withhold(&self) -> bool {
        self.copy.has_peers() || self.backups == 0
    }

    /// What is being done has only read, perhaps: this is how to make sure of what it saw.
    pub(crate) fn confirm_reads(&mut self, mode: ReadMode) {
        self.confirms |= mode == ReadMode::Confirm;
    }

    /// Where the copy stands before a piece of work.
    fn standing(&self) -> Result<Standing, NoReply> {
        self.copy.may_write()?;
        self.check_fence()?;
        if !self.of_node.clock.is_set() {
            return Err(NoReply::NoGridTime);
        }
        if self.copy.has_peers() {
            self.of_node.replication.check_room()?;
        }
        Ok(Standing { epoch: self.copy.epoch(), position: self.copy.last(), changed: false })
    }

    /// Begins the next turn of work that may take several.
    pub(super) fn next_turn<'b>(&self, begun: &'b mut Option<Standing>) -> Result<&'b mut Standing, NoReply> {
        let now = self.standing();
        let Some(before) = *begun else { return Ok(begun.insert(now?)) };
        match now {
            Ok(now) if now.epoch == before.epoch => {
                Ok(begun.insert(Standing { changed: before.changed, ..now }))
            }
            // What it has done may be committed, or taken back.
            Ok(_) | Err(_) if before.changed => Err(NoReply::Interrupted),
            Ok(_) => Err(Unavailable::NotPrimary.into()),
            Err(no_reply) => Err(no_reply),
        }
    }

    /// Ends a step, and says what the answer must wait for.
    pub(crate) fn seal(&mut self, begun: &mut Standing) -> Option<Gate> {
        let (clock, confirms) = (&self.of_node.clock, std::mem::take(&mut self.confirms));
        let (before, held) = (self.copy.in_flight_bytes(), self.copy.bytes());
        let position = self.copy.seal(|| clock.read(), &mut self.deeds);
        self.count_in_flight(before);
        // The record: the step that commits it gives back what it takes.
        self.of_node.memory.charge(held, self.copy.bytes());
        let changed = position > begun.position;
        begun.changed |= changed;
        if !self.copy.has_peers() {
            return None;
        }
        self.carry_out();
        // That all copies have taken a change proves that none of them had followed another before.
        let not_after = match (changed, confirms) {
            (true, _) => None,
            (false, true) => Some(LocalTime::default()),
            (false, false) => self.of_node.replication.may_read(&self.copy),
        };
        let committed = (!self.copy.is_answerable(position)).then(|| self.waiting.until(position));
        Some(Gate { epoch: begun.epoch, committed, changed: begun.changed, not_after })
    }
}

/// What comes from the protocol, not from callers.
impl Shard {
    /// Works on the copy whatever it is, primary or not: on what is of this node alone.
    pub(crate) fn maintain(&mut self, work: impl Fn(&mut Partition)) {
        self.step(|copy, _, _| copy.maintain(work));
    }

    /// What the copy could go on with if the partition was lost.
    pub(super) fn offer(&self) -> Option<Offer> {
        self.copy.offer()
    }

    /// The control group has decided who holds the partition.
    pub(crate) fn assign(&mut self, assignment: Assignment) {
        let granted = self.of_node.replication.granted();
        self.step(|copy, now, deeds| copy.assign(now, assignment, &granted, deeds));
    }

    /// As [`Self::assign`], of a partition that begins anew, while whoever held it before may not know that yet.
    pub(crate) fn assign_anew(&mut self, assignment: Assignment) {
        self.fenced_until = Some(self.of_node.clock.local() + FENCED_TIME);
        self.assign(assignment);
    }

    /// The partition began empty in a reign: a copy that has only seen earlier ones is worth nothing.
    pub(crate) fn void(&mut self, began: Epoch) {
        if self.copy.epoch() >= began {
            return;
        }
        self.forget();
    }

    /// Whether memory is taken for it.
    pub(super) fn holds_anything(&self) -> bool {
        self.copy.bytes() > 0
    }

    /// By an assignment that was asked for at a time this copy is not wanted: it goes, unless something newer is known of it, or may be:
    /// a primary that has been heard since may count on it. Whether it is gone.
    pub(super) fn release(&mut self, asked: LocalTime, assignment: Assignment) -> bool {
        let known = self.copy.assignment();
        let is_newer =
            (known.epoch.generation, known.version) > (assignment.epoch.generation, assignment.version);
        if is_newer || self.heard.is_some_and(|heard| heard >= asked) {
            return false;
        }
        self.forget();
        self.assign(assignment);
        true
    }

    fn forget(&mut self) {
        self.waiting.depose();
        self.taking_turns.clear();
        self.wake_at = None;
        self.step(|copy, _, _| copy.forget());
    }

    /// Another copy says something.
    pub(crate) fn receive(&mut self, from: MemberId, message: PartitionMessage) {
        let now = self.of_node.clock.read();
        self.heard = Some(now.local);
        self.step_at(now, |copy, now, deeds| copy.receive(now, from, message, deeds));
    }

    /// Another copy is to decide. Nothing is served from then on until the control group has decided it, so it is not begun while that
    /// does not answer: it is asked for again.
    pub(super) fn hand_over(&mut self, to: MemberId) {
        if self.of_node.replication.check_fence(self.of_node.clock.local()).is_err() {
            return;
        }
        self.step(|copy, now, deeds| copy.hand_over(now, to, deeds));
    }

    /// Another copy is to leave the set, if this one decides.
    pub(super) fn suspect(&mut self, member: MemberId) {
        self.step(|copy, now, deeds| copy.suspect(now, member, deeds));
    }

    /// Asks all copies whether this one still decides, in the epoch in which something was read.
    pub(super) fn confirm(&mut self, epoch: Epoch) -> Result<Confirmed, Unavailable> {
        if self.copy.epoch() != epoch {
            return Err(Unavailable::NotPrimary);
        }
        let probe = self.step(|copy, now, deeds| copy.confirm(now, deeds))?;
        let confirmed = self.waiting.until_confirmed(probe);
        // Where nobody else counts, it is at once.
        self.waiting.confirm(|| self.copy.confirmed());
        Ok(confirmed)
    }

    /// Does what is due by time; whether more is due soon.
    pub(crate) fn tick(&mut self) -> bool {
        let now = self.of_node.clock.read();
        let more = self.step_at(now, |copy, now, deeds| (0..TICKS_A_ROUND).all(|_| copy.tick(now, deeds)));
        self.wake(now);
        more
    }

    /// Wakes the copy if it is time.
    pub(crate) fn wake(&mut self, now: Now) {
        if self.wake_at.take_if(|at| *at <= now.local).is_some() {
            self.step_at(now, |copy, now, deeds| copy.wake(now, deeds));
        }
        self.copy_more(now);
    }

    /// Sends what other copies lack, as far as this node may.
    fn copy_more(&mut self, now: Now) {
        while let Some(wanted) = self.wanted.pop_front() {
            let replication = Arc::clone(&self.of_node.replication);
            if !replication.may_copy(now.local) {
                self.wanted.push_front(wanted);
                return;
            }
            let bytes = self.step_at(now, |copy, now, deeds| copy.copy_chunk(now, wanted, deeds));
            replication.copied(now.local, bytes);
        }
    }

    fn step<R>(&mut self, step: impl FnOnce(&mut ReplicatedPartition, Now, &mut Vec<Deed>) -> R) -> R {
        self.step_at(self.of_node.clock.read(), step)
    }

    fn step_at<R>(
        &mut self,
        now: Now,
        step: impl FnOnce(&mut ReplicatedPartition, Now, &mut Vec<Deed>) -> R,
    ) -> R {
        let mut moment = Moment::new(now.grid, &self.of_node.memory);
        moment.enter(self.copy.bytes());
        let before = self.copy.in_flight_bytes();
        let result = step(&mut self.copy, now, &mut self.deeds);
        moment.leave(self.copy.bytes());
        self.settle(&moment);
        self.count_in_flight(before);
        self.carry_out();
        self.copy_more(now);
        result
    }

    fn count_in_flight(&self, before: u64) {
        let now = self.copy.in_flight_bytes();
        if now != before {
            self.of_node.replication.count_in_flight(now.cast_signed() - before.cast_signed());
        }
    }

    /// Does what a step has asked for. Records enter the links here, on the strand: so their order is the log's.
    fn carry_out(&mut self) {
        let id = self.copy.partition().id();
        let replication = &self.of_node.replication;
        for deed in self.deeds.drain(..) {
            match deed {
                Deed::Send { to, message } => replication.send(to, id, message),
                Deed::Answer(position) => self.waiting.answer(position),
                Deed::Deposed => {
                    self.waiting.depose();
                    // None of them takes another turn.
                    self.taking_turns.clear();
                }
                Deed::Propose(proposal) => replication.propose(id, proposal),
                Deed::Copy(wanted) => self.wanted.push_back(wanted),
                Deed::WakeAt(at) => self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at))),
            }
        }
        self.waiting.confirm(|| self.copy.confirmed());
        self.tell_watchers();
    }
}

#[cfg(test)]
mod tests;
