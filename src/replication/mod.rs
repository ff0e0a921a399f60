//! What the copies of partitions on this node share: the leases between nodes, the table that this node has seen, and the ways to
//! other nodes and to the control group.

mod outside;
mod pace;
mod table;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tracing::warn;
use wattle_core::ids::{MemberId, PartitionId};
use wattle_core::limits::{
    COPY_BYTES_PER_SECOND, FENCE_TIME, LEASE_TERM, REPLICA_PATIENCE, REPLICATION_BYTES,
};
use wattle_core::replication::{
    Addressed, Contact, Credence, EarlyMessages, Grant, GrantedLeases, HeldLeases, LocalTime,
    PartitionMessage, Proposal, ReplicatedPartition, Wish,
};

use crate::partition::NoReply;

#[cfg(test)]
pub(crate) use outside::Nobody;
pub(crate) use outside::Outside;
use pace::Pace;
pub(crate) use table::Table;

/// How a node is configured to do its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// What it sends in a second of what other copies lack, in bytes.
    pub(crate) copy_rate: u64,
    /// For how long it grants leases.
    pub(crate) lease_term: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { copy_rate: COPY_BYTES_PER_SECOND, lease_term: LEASE_TERM }
    }
}

/// What is said about reigns that this node does not know of.
#[derive(Debug, Default)]
struct Early {
    messages: EarlyMessages,
    /// When it was last noted that such a reign has not become known.
    noted: LocalTime,
}

/// What the copies on this node share.
#[derive(Debug)]
pub(crate) struct Replication {
    me: MemberId,
    /// Held to look at it or to change it, and never across a step.
    table: RwLock<Table>,
    held: RwLock<HeldLeases>,
    granted: Mutex<GrantedLeases>,
    /// Held to look whether a message must wait, and to keep it; or to take what waits no more.
    early: Mutex<Early>,
    outside: Box<dyn Outside>,
    /// What the records take that some copy may still miss, in bytes.
    in_flight: AtomicI64,
    /// When this member last said that it lives, and the control group's leader heard it.
    proven: AtomicU64,
    /// Held to ask it or to tell it something.
    pace: Mutex<Pace>,
}

impl Replication {
    /// Of a member that has seen no table yet.
    pub(crate) fn new(me: MemberId, outside: Box<dyn Outside>, settings: Settings) -> Self {
        Self {
            me,
            table: RwLock::default(),
            held: RwLock::default(),
            early: Mutex::default(),
            granted: Mutex::new(GrantedLeases::of_term(settings.lease_term)),
            outside,
            in_flight: AtomicI64::new(0),
            proven: AtomicU64::new(0),
            pace: Mutex::new(Pace::new(settings.copy_rate)),
        }
    }

    pub(crate) fn me(&self) -> MemberId {
        self.me
    }

    /// This node has seen a table. What changes for its copies is to be told to them after that: who computes for how long an older
    /// primary may still read must find all that was granted while an older table was seen.
    pub(crate) fn follow(&self, table: Table) {
        *self.table.write() = table;
    }

    /// Sends a message to another copy; it may be lost.
    pub(crate) fn send(&self, to: MemberId, partition: PartitionId, message: PartitionMessage) {
        self.outside.send(to, partition, message);
    }

    /// Asks the control group for a change; that may be lost, too: copies ask again.
    pub(crate) fn propose(&self, partition: PartitionId, proposal: Proposal) {
        self.outside.propose(partition, proposal);
    }

    /// The records that some copy may still miss have become so many bytes more.
    pub(crate) fn count_in_flight(&self, more: i64) {
        self.in_flight.fetch_add(more, Ordering::Relaxed);
    }

    /// Whether a write may add to them.
    pub(crate) fn check_room(&self) -> Result<(), NoReply> {
        let held = usize::try_from(self.in_flight.load(Ordering::Relaxed)).unwrap_or(0);
        if held < REPLICATION_BYTES { Ok(()) } else { Err(NoReply::Behind { bytes: held }) }
    }

    /// Whether this node may send more of what other copies lack.
    pub(crate) fn may_copy(&self, now: LocalTime) -> bool {
        self.pace.lock().allows(now)
    }

    /// It has sent so many bytes more.
    pub(crate) fn copied(&self, now: LocalTime, bytes: u64) {
        self.pace.lock().spend(now, bytes);
    }

    /// What another copy says, if it is to reach the copy now: it may speak of a reign before this node has heard of it.
    pub(crate) fn admit(&self, now: LocalTime, message: Addressed) -> Option<Addressed> {
        let judge = |contact| {
            let (from, partition, message) = &message;
            self.table.read().reign(*partition).judge(*from, message, contact)
        };
        let contact = self.contact(now);
        let mut credence = judge(contact);
        if credence == Credence::Early {
            let mut early = self.early.lock();
            // Who has followed a table since takes from here what that one knows.
            credence = judge(contact);
            if credence == Credence::Early {
                early.keep(now, message);
                return None;
            }
        }
        (credence == Credence::Believed).then_some(message)
    }

    /// Whether what is decided will be in the table: nobody is replaced who has been heard by the leader. Who was never heard has just
    /// begun, and knows nobody whom it could believe.
    fn contact(&self, now: LocalTime) -> Contact {
        let was_heard = self.proven.load(Ordering::Relaxed) > 0;
        if was_heard && !self.has_proven(FENCE_TIME, now) { Contact::Lost } else { Contact::Kept }
    }

    /// What other copies have said about reigns that the table knows of by now.
    pub(crate) fn take_early(&self, now: LocalTime) -> Vec<Addressed> {
        let mut early = self.early.lock();
        let table = self.table.read();
        early.messages.take(now, |partition| table.reign(partition))
    }

    /// Until when an answer may leave that was just read from a copy; `None` is for ever, and a time that is over says that the other
    /// copies must be asked.
    pub(crate) fn may_read(&self, copy: &ReplicatedPartition) -> Option<LocalTime> {
        let seen = self.table.read().seen(copy.partition().id());
        let permit = copy.may_read(&self.held.read(), seen);
        permit.map_or(Some(LocalTime::default()), |permit| permit.not_after)
    }

    /// What this member has granted to others by now.
    pub(crate) fn granted(&self) -> GrantedLeases {
        self.granted.lock().clone()
    }

    /// The control group's leader has heard what this member said at a time.
    pub(crate) fn prove(&self, said: LocalTime) {
        self.proven.fetch_max(said.0, Ordering::Relaxed);
    }

    /// Whether it has said so within a time, and for the leader: whether a majority has confirmed it since.
    pub(crate) fn has_proven(&self, within: Duration, now: LocalTime) -> bool {
        let proven = LocalTime(self.proven.load(Ordering::Relaxed));
        proven != LocalTime::default() && now < proven + within
    }

    /// Whether nobody can have begun anew what only this member holds.
    ///
    /// # Errors
    /// Somebody may have.
    pub(crate) fn check_fence(&self, now: LocalTime) -> Result<(), NoReply> {
        if self.has_proven(FENCE_TIME, now) { Ok(()) } else { Err(NoReply::Fenced) }
    }

    /// Another asks for a lease.
    pub(crate) fn grant(&self, to: MemberId, now: LocalTime, wish: Wish) -> Grant {
        let mut granted = self.granted.lock();
        // Who reads what was granted after it has seen a newer table waits for this.
        let table = self.table.read().version();
        granted.grant(to, now, wish, table)
    }

    /// Half a second has passed and a lease of another is wished for; whether it has been silent for too long.
    pub(crate) fn wish(&self, of: MemberId) -> bool {
        self.held.write().wish(of)
    }

    /// How often to wish for the leases of these members.
    pub(crate) fn renewal(&self, of: impl IntoIterator<Item = MemberId>) -> Duration {
        self.held.read().renewal(of)
    }

    /// Another has granted a lease.
    pub(crate) fn hold(&self, from: MemberId, grant: Grant) {
        self.held.write().receive(from, grant);
    }
}

impl Early {
    fn keep(&mut self, now: LocalTime, message: Addressed) {
        let Some((from, partition, message)) = self.messages.keep(now, message) else { return };
        if self.noted + REPLICA_PATIENCE <= now {
            self.noted = now;
            let (from, class, index) = (from.node.0, partition.class.0, partition.index);
            warn!(from, class, index, epoch = ?message.epoch, "a message of a reign that was not decided is dropped");
        }
    }
}
