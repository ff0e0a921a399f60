//! [`ReplicatedPartition`]: a copy of a partition, the protocol and the entries that it is about.

use std::collections::{BTreeMap, VecDeque};

use super::assignment::{Assignment, Proposal};
use super::lease::{GrantedLeases, HeldLeases, LocalTime};
use super::log::{Mark, Record};
use super::message::Message;
use super::primary::{ReadPermit, Unavailable};
use super::replica::{Effect, Replica};
use crate::ids::{Epoch, GridTime, MemberId, Version};
use crate::limits::SCAN_ENTRIES;
use crate::partition::{CopyCursor, Mutations, Partition};

/// What copies of a partition say to each other.
pub type PartitionMessage = Message<Mutations, Mutations>;

/// When a step is taken.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// By the clock of this machine.
    pub local: LocalTime,
    /// By that of the grid.
    pub grid: GridTime,
}

/// What a node is to do about a copy, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Send this.
    Send {
        /// To whom.
        to: MemberId,
        /// What.
        message: PartitionMessage,
    },
    /// Answers may leave that wait for this position, or an earlier one.
    Answer(Version),
    /// Another decides now: nobody knows here what becomes of the writes whose answers still wait.
    Deposed,
    /// Ask the control group for this. It may be asked more than once.
    Propose(Proposal),
    /// Call [`ReplicatedPartition::wake`] then, or earlier.
    WakeAt(LocalTime),
    /// Call [`ReplicatedPartition::copy_chunk`], at once or when there is room for it.
    Copy(ChunkWanted),
}

/// The next part of what a copy lacks that is brought in sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkWanted {
    to: MemberId,
    number: u32,
    attempt: u32,
}

/// What a copy could go on with if the partition was lost: of two offers the one whose log ends later is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The last record of its log. What came behind that is missing.
    pub last: Mark,
    /// What it holds.
    pub entries: u64,
}

/// What a copy was before it began to be brought in sync.
#[derive(Debug)]
struct Aside {
    partition: Partition,
    /// Where its log ended.
    last: Mark,
}

/// A copy of a partition.
#[derive(Debug)]
pub struct ReplicatedPartition {
    replica: Replica<Mutations, Mutations>,
    partition: Partition,
    /// Until the copy is in sync, this is the better one.
    aside: Option<Box<Aside>>,
    /// The records that some copy may still miss: where they end, and their bytes.
    in_flight: VecDeque<(Version, u64)>,
    in_flight_bytes: u64,
    /// How far others have been brought in sync, and in which attempt.
    cursors: BTreeMap<MemberId, (u32, CopyCursor)>,
}

impl ReplicatedPartition {
    /// A copy that nobody counts on yet. The partition is empty.
    #[must_use]
    pub fn new(me: MemberId, min_in_sync: usize, assignment: Assignment, partition: Partition) -> Self {
        let replica = Replica::new(me, min_in_sync, assignment);
        let (in_flight, cursors) = (VecDeque::new(), BTreeMap::new());
        Self { replica, partition, aside: None, in_flight, in_flight_bytes: 0, cursors }
    }

    /// What it holds.
    #[must_use]
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Forgets everything, as a process that begins does. What was here counts for nobody.
    pub fn forget(&mut self) {
        let (me, min_in_sync) = (self.replica.me, self.replica.min_in_sync);
        let empty = self.partition.emptied(self.partition.position());
        let new = Self::new(me, min_in_sync, Assignment::default(), empty);
        let Self { partition, aside, .. } = std::mem::replace(self, new);
        let aside = aside.map(|aside| aside.partition);
        std::iter::once(partition).chain(aside).for_each(|gone| self.partition.bury(gone));
    }

    /// Who holds the partition, as far as is known here.
    #[must_use]
    pub fn assignment(&self) -> &Assignment {
        self.replica.assignment()
    }

    /// The highest epoch that was seen.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.replica.epoch()
    }

    /// What it holds, to be changed in a step that ends with [`Self::seal`]. Asked before must be [`Self::may_write`].
    pub fn partition_mut(&mut self) -> &mut Partition {
        &mut self.partition
    }

    /// Changes what is of this node alone, in all that it holds.
    pub fn maintain(&mut self, work: impl Fn(&mut Partition)) {
        let aside = self.aside.as_mut().map(|aside| &mut aside.partition);
        std::iter::once(&mut self.partition).chain(aside).for_each(work);
    }

    /// What it could go on with if the partition was lost. Nothing if it was never given anything.
    #[must_use]
    pub fn offer(&self) -> Option<Offer> {
        let (partition, last) = match &self.aside {
            Some(aside) => (&aside.partition, aside.last),
            None => (&self.partition, self.replica.last()),
        };
        (last.position > Version::NONE).then(|| Offer { last, entries: partition.entries() })
    }

    /// Ends a step: what it has changed is one record, which leaves now. Returns the position that must be answerable before
    /// anything is told of what was found or done.
    pub fn seal(&mut self, now: impl FnOnce() -> Now, deeds: &mut Vec<Deed>) -> Version {
        if !self.replica.has_peers() {
            self.replica.append_alone(self.partition.position());
        } else if let Some(record) = self.partition.take_record() {
            let now = now();
            let position = self.partition.position();
            self.in_flight.push_back((position, record.as_bytes().len() as u64));
            self.in_flight_bytes += record.as_bytes().len() as u64;
            self.replica.append(position, record);
            self.step(now, deeds, |replica, out| replica.flush(now.local, out));
        }
        self.replica.last().position
    }

    /// The position that a step begins behind.
    #[must_use]
    pub fn last(&self) -> Version {
        self.replica.last().position
    }

    /// Whether there are others that must hold what changes here.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        self.replica.has_peers()
    }

    /// What the records take that it has written and some other copy may still miss, in bytes.
    #[must_use]
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// What all of it takes, in bytes: also what is kept until this copy is in sync.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let aside = self.aside.as_ref().map_or(0, |aside| aside.partition.bytes());
        self.partition.bytes() + aside + self.in_flight_bytes
    }

    /// Whether what changes the partition up to a position may be told.
    #[must_use]
    pub fn is_answerable(&self, position: Version) -> bool {
        position <= self.replica.answerable()
    }

    /// Whether a write may run.
    ///
    /// # Errors
    /// It must not: nobody has changed anything.
    pub fn may_write(&self) -> Result<(), Unavailable> {
        self.replica.may_write()
    }

    /// When an answer may leave that shows the partition as it is now. See [`Replica::may_read`].
    ///
    /// # Errors
    /// Somebody else may have decided more.
    pub fn may_read(&self, leases: &HeldLeases, table: (u64, Epoch)) -> Result<ReadPermit, Unavailable> {
        self.replica.may_read(leases, table)
    }

    /// Asks every member whether this is still the primary. See [`Replica::confirm`].
    ///
    /// # Errors
    /// It is not.
    pub fn confirm(&mut self, now: Now, deeds: &mut Vec<Deed>) -> Result<u64, Unavailable> {
        self.step(now, deeds, |replica, out| replica.confirm(now.local, out))
    }

    /// The highest confirmation that every member has answered.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.replica.confirmed()
    }

    /// The control group has decided. See [`Replica::assign`]. Who is to decide while it is brought in sync is to recover the partition
    /// from what it had before: nobody else is to do so as long as others hold everything.
    pub fn assign(
        &mut self,
        now: Now,
        assignment: Assignment,
        granted: &GrantedLeases,
        deeds: &mut Vec<Deed>,
    ) {
        let is_newer = assignment.version > self.replica.assignment().version;
        if is_newer
            && assignment.primary == Some(self.replica.me)
            && let Some(aside) = self.aside.take()
        {
            let incomplete = std::mem::replace(&mut self.partition, aside.partition);
            self.partition.bury(incomplete);
            self.replica.go_back(aside.last);
        }
        self.step(now, deeds, |replica, out| replica.assign(now.local, assignment, granted, out));
    }

    /// A message has come.
    pub fn receive(&mut self, now: Now, from: MemberId, message: PartitionMessage, deeds: &mut Vec<Deed>) {
        self.step(now, deeds, |replica, out| replica.receive(now.local, from, message, out));
    }

    /// Makes another member primary. See [`Replica::hand_over`].
    pub fn hand_over(&mut self, now: Now, to: MemberId, deeds: &mut Vec<Deed>) {
        self.step(now, deeds, |replica, out| replica.hand_over(now.local, to, out));
    }

    /// This member does not answer: it is to leave the set.
    pub fn suspect(&mut self, now: Now, member: MemberId, deeds: &mut Vec<Deed>) {
        self.step(now, deeds, |replica, out| replica.suspect(now.local, member, out));
    }

    /// The time has come that was asked for.
    pub fn wake(&mut self, now: Now, deeds: &mut Vec<Deed>) {
        self.step(now, deeds, |replica, out| replica.wake(now.local, out));
    }

    /// Does what is due by time; whether to call again soon because more is due.
    pub fn tick(&mut self, now: Now, deeds: &mut Vec<Deed>) -> bool {
        if self.may_write().is_ok() {
            let more = self.partition.tick(now.grid);
            self.seal(|| now, deeds);
            more
        } else {
            !self.partition.free_some()
        }
    }

    /// Steps the protocol, and does what it says to the partition.
    fn step<R>(
        &mut self,
        now: Now,
        deeds: &mut Vec<Deed>,
        step: impl FnOnce(&mut Replica<Mutations, Mutations>, &mut Vec<Effect<Mutations, Mutations>>) -> R,
    ) -> R {
        let before = self.replica.reign();
        let mut effects = Vec::new();
        let result = step(&mut self.replica, &mut effects);
        for effect in effects {
            deeds.extend(self.carry_out(now, effect));
        }
        let reign = self.replica.reign();
        if reign.is_some() && reign != before {
            self.partition.begin_reign(now.grid);
        }
        let dropped = if reign.is_some() { self.replica.dropped() } else { Version(u64::MAX) };
        while let Some((_, bytes)) = self.in_flight.pop_front_if(|(end, _)| *end <= dropped) {
            self.in_flight_bytes -= bytes;
        }
        // Who is alone has nobody to tell.
        self.partition.record_changes(self.replica.has_peers());
        result
    }

    fn carry_out(&mut self, now: Now, effect: Effect<Mutations, Mutations>) -> Option<Deed> {
        match effect {
            Effect::Send { to, message } => return Some(Deed::Send { to, message }),
            Effect::Answer(position) => return Some(Deed::Answer(position)),
            Effect::Propose(proposal) => return Some(Deed::Propose(proposal)),
            Effect::WakeAt(at) => return Some(Deed::WakeAt(at)),
            Effect::Apply(Record { mark, payload }) => {
                self.partition.apply_record(mark.position, &payload, now.grid);
            }
            Effect::Committed(position) => self.partition.committed(position),
            Effect::Undo(position) => {
                self.partition.undo_after(position, now.grid);
                self.cursors.clear();
                return Some(Deed::Deposed);
            }
            Effect::Begin { last, unapplied } => {
                if !cfg!(mutant = "rule-7-replace") {
                    self.begin_anew(now, last, unapplied);
                }
            }
            Effect::Replace { content, last } => {
                self.partition.place_chunk(&content, now.grid);
                if let Some(aside) = self.aside.take_if(|_| last) {
                    self.partition.bury(aside.partition);
                }
            }
            Effect::ReadChunk { to, number, attempt } => {
                return Some(Deed::Copy(ChunkWanted { to, number, attempt }));
            }
        }
        None
    }

    fn begin_anew(&mut self, now: Now, last: Mark, unapplied: Vec<Record<Mutations>>) {
        let empty = self.partition.emptied(self.replica.last().position);
        let mut partition = std::mem::replace(&mut self.partition, empty);
        if self.aside.is_some() {
            self.partition.bury(partition);
            return;
        }
        // All that it has may have been acknowledged.
        for Record { mark, payload } in unapplied {
            partition.apply_record(mark.position, &payload, now.grid);
        }
        partition.committed(last.position);
        self.aside = Some(Box::new(Aside { partition, last }));
    }

    /// Reads a chunk and sends it; how long it is, in bytes. Nothing if it is not wanted any more.
    pub fn copy_chunk(&mut self, now: Now, wanted: ChunkWanted, deeds: &mut Vec<Deed>) -> u64 {
        if !self.replica.wants_chunk(wanted.to, wanted.number, wanted.attempt) {
            return 0;
        }
        let chunk = self.read_chunk(wanted);
        let bytes = chunk.0.as_bytes().len() as u64;
        self.step(now, deeds, |replica, out| {
            replica.chunk_read(now.local, (wanted.to, wanted.attempt), chunk, out);
        });
        bytes
    }

    fn read_chunk(&mut self, ChunkWanted { to, number, attempt }: ChunkWanted) -> (Mutations, bool) {
        if number == 0 {
            self.cursors.insert(to, (attempt, self.partition.copy_cursor()));
        }
        let cursor = self.cursors.get_mut(&to).filter(|(of, _)| *of == attempt);
        let (_, cursor) = cursor.expect("chunks are asked for in their order");
        let (chunk, last) = self.partition.copy_chunk(cursor, SCAN_ENTRIES);
        if last {
            self.cursors.remove(&to);
        }
        (chunk, last)
    }

    /// Panics if the parts do not fit together.
    pub fn check_invariants(&self) {
        self.replica.check_invariants();
        self.partition.check_invariants();
        assert!(self.partition.position() >= self.replica.commit(), "what is committed is in the partition");
    }
}

#[cfg(test)]
mod tests;
