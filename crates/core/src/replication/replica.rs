//! [`Replica`]: one copy of a partition.

use std::collections::BTreeMap;

use super::assignment::{Assignment, Proposal};
use super::backup::Backup;
use super::lease::{GrantedLeases, LocalTime};
use super::log::{Log, Mark, Record};
use super::message::{Body, Message};
use super::primary::{Primary, Progress};
use crate::ids::{Epoch, MemberId, Version};

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<P, C> {
    /// Send this.
    Send {
        /// To whom.
        to: MemberId,
        /// What.
        message: Message<P, C>,
    },
    /// Change the store by this record. Keep what undoes it until its position is committed.
    Apply(Record<P>),
    /// Everything up to here is committed: what undoes it is not needed any more.
    Committed(Version),
    /// Writes up to here may be acknowledged.
    Answer(Version),
    /// Take back what was applied behind this position.
    Undo(Version),
    /// Begin with an empty store. The one before is to be kept until the last chunk has come.
    Begin {
        /// Where the log of the one before ended.
        last: Mark,
        /// What it did not show of that log: nobody has said that it is committed.
        unapplied: Vec<Record<P>>,
    },
    /// Put the entries of a chunk in place of those in its range.
    Replace {
        /// The entries.
        content: C,
        /// The store is complete.
        last: bool,
    },
    /// Read the next chunk for a replica and hand it to [`Replica::chunk_read`], in the same step of the store.
    ReadChunk {
        /// For whom.
        to: MemberId,
        /// From 0; each is asked for once.
        number: u32,
        /// The expansion.
        attempt: u32,
    },
    /// Ask the control group for this. It may be asked more than once.
    Propose(Proposal),
    /// Call [`Replica::wake`] then, or earlier.
    WakeAt(LocalTime),
}

/// What a replica is at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Role<C> {
    /// It follows a primary, or waits for one.
    Backup(Backup),
    /// It decides.
    Primary(Box<Primary<C>>),
}

/// One copy of a partition: it is told what happened, and says what is to be done.
///
/// `P` is what a record carries, `C` what a chunk does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Replica<P, C> {
    pub(super) me: MemberId,
    /// Of the replication class.
    pub(super) min_in_sync: usize,
    /// The newest that has been learned.
    pub(super) assignment: Assignment,
    /// The highest epoch that was seen, in an assignment or a message.
    pub(super) epoch: Epoch,
    pub(super) log: Log<P>,
    /// Everything up to here is committed and in the store.
    pub(super) commit: Version,
    /// Primaries of this epoch or earlier ones to whose reign this replica has agreed, each with its last such reign.
    pub(super) followed: BTreeMap<MemberId, Epoch>,
    pub(super) role: Role<C>,
}

impl<P: Clone, C: Clone> Replica<P, C> {
    /// A copy with an empty store, which nobody counts on yet.
    #[must_use]
    pub fn new(me: MemberId, min_in_sync: usize, assignment: Assignment) -> Self {
        Self {
            me,
            min_in_sync,
            epoch: Epoch::default(),
            log: Log::new(Mark::default()),
            commit: Version::NONE,
            followed: BTreeMap::new(),
            role: Role::Backup(Backup::default()),
            assignment,
        }
    }

    /// The control group has decided. `granted` must have been stamped with the tables of before until this node's table said
    /// so too.
    pub fn assign(
        &mut self,
        now: LocalTime,
        assignment: Assignment,
        granted: &GrantedLeases,
        out: &mut Vec<Effect<P, C>>,
    ) {
        if assignment.version <= self.assignment.version {
            return;
        }
        self.assignment = assignment;
        if self.assignment.epoch > self.epoch {
            self.raise_epoch(self.assignment.epoch, out);
        }
        let named = self.assignment.primary == Some(self.me) && self.assignment.epoch == self.epoch;
        match self.role {
            // It may have heard of its own reign already, from one who was told earlier.
            Role::Backup(_) if named => self.take_over(granted, out),
            Role::Primary(_) if !named => self.step_down(out),
            Role::Backup(_) | Role::Primary(_) => {}
        }
        if let Role::Primary(_) = self.role {
            self.set_changed(now, out);
        }
    }

    /// A message has come.
    pub fn receive(
        &mut self,
        now: LocalTime,
        from: MemberId,
        message: Message<P, C>,
        out: &mut Vec<Effect<P, C>>,
    ) {
        let Message { epoch, body } = message;
        if epoch < self.epoch && !cfg!(mutant = "rule-3-fencing") {
            if matches!(body, Body::Released) {
                // Its reign is over, and it says so late: whoever waits for its leases waits no more.
                self.release(from, epoch);
                self.go_on(now, out);
            } else if !matches!(body, Body::Acknowledge { .. } | Body::Deposed) {
                out.push(Effect::Send { to: from, message: self.message(Body::Deposed) });
            }
            return;
        }
        if epoch > self.epoch {
            self.raise_epoch(epoch, out);
        }
        match body {
            Body::Begin { attempt, start } => self.begin((from, attempt), start, out),
            Body::Append { attempt, previous, records, commit, probe } => {
                self.follow((from, attempt), previous, records, out);
                self.learn_commit((attempt, probe), commit, out);
                self.acknowledge((from, attempt), out);
            }
            Body::Chunk { attempt, number, at, content, last } => {
                self.place((attempt, number), at, (content, last), out);
                self.acknowledge((from, attempt), out);
            }
            Body::Acknowledge { attempt, position, commit, chunks, probe, missing } => {
                let progress = Progress { position, commit, chunks, probe, missing };
                self.acknowledged(now, (from, attempt), progress, out);
            }
            Body::Released => {
                if let Role::Backup(backup) = &mut self.role {
                    backup.released = true;
                }
                self.release(from, epoch);
            }
            Body::Deposed => {}
        }
    }

    /// Follows a newer reign from now on.
    fn raise_epoch(&mut self, epoch: Epoch, out: &mut Vec<Effect<P, C>>) {
        self.step_down(out);
        self.epoch = epoch;
        self.role = Role::Backup(Backup::default());
    }

    /// Stops being primary. What was not committed leaves the store, and stays in the log: the new primary may have it too.
    fn step_down(&mut self, out: &mut Vec<Effect<P, C>>) {
        if let Role::Primary(_) = self.role {
            self.role = Role::Backup(Backup::default());
            if !cfg!(mutant = "rule-8-undo") {
                out.push(Effect::Undo(self.commit));
            }
        }
    }

    /// Its store is one that was kept from before, up to this record: the log goes on behind that.
    pub(super) fn go_back(&mut self, last: Mark) {
        debug_assert!(self.reign().is_none(), "who decides has a complete store");
        self.log = Log::new(last);
        self.commit = last.position;
        self.role = Role::Backup(Backup::default());
    }

    pub(super) fn message(&self, body: Body<P, C>) -> Message<P, C> {
        Message { epoch: self.epoch, body }
    }

    /// The newest assignment that it has learned.
    #[must_use]
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// The highest epoch that it has seen.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Everything up to here is committed.
    #[must_use]
    pub fn commit(&self) -> Version {
        self.commit
    }

    /// The epoch in which it decides, or is about to.
    pub(super) fn reign(&self) -> Option<Epoch> {
        matches!(self.role, Role::Primary(_)).then_some(self.epoch)
    }

    /// Whether it decides and there are others to be told.
    pub(super) fn has_peers(&self) -> bool {
        matches!(&self.role, Role::Primary(primary) if !primary.peers.is_empty())
    }

    /// Writes up to here may be acknowledged.
    pub(super) fn answerable(&self) -> Version {
        match &self.role {
            Role::Primary(primary) => primary.answered,
            Role::Backup(_) => Version::NONE,
        }
    }

    /// The last record that it holds.
    #[must_use]
    pub fn last(&self) -> Mark {
        self.log.last()
    }

    /// Records up to here are not kept any more: whoever is to have them has them.
    pub(super) fn dropped(&self) -> Version {
        self.log.base().position
    }

    /// The records that it holds behind a position.
    pub fn records_after(&self, position: Version) -> impl Iterator<Item = &Record<P>> {
        self.log.after(position)
    }

    /// Panics if the parts do not fit together.
    pub fn check_invariants(&self) {
        assert!(self.log.base().position <= self.log.last().position);
        assert!(self.assignment.epoch <= self.epoch, "no assignment is newer than what was seen");
        match &self.role {
            Role::Backup(backup) => backup.check_invariants(self.commit, self.log.last()),
            Role::Primary(primary) => {
                assert_eq!(self.assignment.primary, Some(self.me), "who reigns was named");
                assert_eq!(self.assignment.epoch, self.epoch, "who reigns has seen no newer reign");
                assert!(self.commit <= self.log.last().position);
                primary.check_invariants(&self.assignment);
            }
        }
    }
}
