//! What a replica does that decides: it appends, sends, counts acknowledgements, and says what is committed and what may be read.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::assignment::{Assignment, Proposal};
use super::lease::{GrantedLeases, HeldLeases, LocalTime};
use super::log::{Mark, Record};
use super::replica::{Effect, Replica, Role};
use crate::ids::{Epoch, MemberId, Version};
use crate::limits::{REPLICA_PATIENCE, RESEND_TIME};

/// A reign.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Primary<C> {
    /// Older primaries, each of which may read until then.
    pub(super) fences: BTreeMap<MemberId, LocalTime>,
    /// The last record that it began with: it may be known to a client, so nothing is served before it is committed.
    pub(super) inherited: Version,
    /// Writes up to here may be acknowledged.
    pub(super) answered: Version,
    /// It has taken over.
    pub(super) serving: bool,
    /// Who is to be primary next: nothing is served any more.
    pub(super) successor: Option<MemberId>,
    /// Every other member of the set, who is to become one, and who is being brought in sync.
    pub(super) peers: BTreeMap<MemberId, Peer<C>>,
    /// What the control group was asked for, and when: it may have been granted.
    pub(super) proposed: Option<(Proposal, LocalTime)>,
    /// Who is taken for dead.
    pub(super) suspects: BTreeSet<MemberId>,
    /// Expansions so far.
    pub(super) attempts: u32,
    /// The highest that was given out.
    pub(super) probe: u64,
    /// When it will be woken.
    pub(super) wake_at: Option<LocalTime>,
}

/// What a primary knows of another replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Peer<C> {
    pub(super) attempt: u32,
    /// It has answered in this reign.
    pub(super) answered: bool,
    /// It holds everything up to here. What is behind is not dropped.
    pub(super) held: Version,
    /// What has been sent to it.
    pub(super) sent: Version,
    /// The commit point that it has heard of.
    pub(super) told: Version,
    /// The highest that was sent to it, and that has come back.
    pub(super) probes: (u64, u64),
    /// Since when it owes an answer.
    pub(super) owes_since: Option<LocalTime>,
    /// When it was sent something last.
    pub(super) sent_at: LocalTime,
    /// It is to be sent something, if only how things stand.
    pub(super) due: bool,
    /// It is, or was, in the set.
    pub(super) member: bool,
    /// It is not complete yet.
    pub(super) expansion: Option<Expansion<C>>,
}

/// How far a replica says that it is; see [`super::Body::Acknowledge`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    pub(super) position: Option<Version>,
    pub(super) commit: Version,
    pub(super) chunks: u32,
    pub(super) probe: u64,
    pub(super) missing: bool,
}

/// How far a replica has been brought in sync.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Expansion<C> {
    pub(super) start: Mark,
    /// Chunks that are in place there.
    pub(super) chunks: u32,
    /// The next is being read.
    pub(super) reading: bool,
    /// The one that is on its way, or waits until what it shows is committed: no record behind it goes out before it is there.
    pub(super) chunk: Option<Chunk<C>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Chunk<C> {
    pub(super) at: Version,
    pub(super) content: C,
    pub(super) last: bool,
    pub(super) sent: bool,
}

/// Why a partition does not serve here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unavailable {
    /// Another node decides about it.
    #[error("this node is not the partition's primary")]
    NotPrimary,
    /// It has been primary for too short a time.
    #[error("the partition has a new primary, which is taking over")]
    TakingOver,
    /// It hands the partition over.
    #[error("the partition is being handed over to another node")]
    HandingOver,
    /// Too few copies are in sync for a write.
    #[error("{in_sync} copies are in sync, and {min_in_sync} must be for a write")]
    TooFewInSync {
        /// Copies in sync.
        in_sync: usize,
        /// Of the replication class.
        min_in_sync: usize,
    },
}

/// When what was read may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadPermit {
    /// Once everything up to here is committed.
    pub committed: Version,
    /// And not later than this, by this node's clock; `None` is for ever. Later, only a [`Replica::confirm`] tells.
    pub not_after: Option<LocalTime>,
}

impl<C> Primary<C> {
    /// Who must hold a record before it is committed, but this one: also who may just have come into the set, and who may just
    /// have gone.
    pub(super) fn maximal<'a>(
        &'a self,
        assignment: &'a Assignment,
        me: MemberId,
    ) -> impl Iterator<Item = MemberId> + 'a {
        let added = self.proposed.as_ref().and_then(|(proposal, _)| proposal.change.add);
        let added = if cfg!(mutant = "rule-2-maximal") { None } else { added };
        let early = self.proposed.as_ref().and_then(|(proposal, _)| proposal.change.remove);
        let early = early.filter(|_| cfg!(mutant = "rule-2-early-removal"));
        let members = assignment.in_sync.iter().copied().chain(added);
        members.filter(move |member| *member != me && Some(*member) != early)
    }

    pub(super) fn check_invariants(&self, assignment: &Assignment) {
        for (member, peer) in &self.peers {
            let complete = peer.expansion.is_none() && peer.member;
            assert!(complete || !assignment.in_sync.contains(member), "who is in the set is complete");
            assert!(peer.held <= peer.sent, "only what was sent comes back");
        }
    }
}

impl<C> Peer<C> {
    pub(super) fn new(attempt: u32, from: Version, now: LocalTime, expansion: Option<Expansion<C>>) -> Self {
        Self {
            attempt,
            answered: false,
            held: from,
            sent: from,
            told: Version::NONE,
            probes: (0, 0),
            owes_since: None,
            sent_at: now,
            due: true,
            member: expansion.is_none(),
            expansion,
        }
    }

    /// Whether it has not answered all that it was sent.
    pub(super) fn owes(&self) -> bool {
        let chunk = self.expansion.as_ref().and_then(|expansion| expansion.chunk.as_ref());
        !self.answered
            || self.held < self.sent
            || self.probes.1 < self.probes.0
            || chunk.is_some_and(|chunk| chunk.sent)
    }

    /// Whether it has owed an answer for too long.
    fn is_late(&self, now: LocalTime) -> bool {
        self.owes_since.is_some_and(|since| since + REPLICA_PATIENCE <= now)
    }

    /// What was sent to it without an answer is sent again.
    fn go_back(&mut self) {
        self.sent = self.held;
        self.due = true;
        if let Some(chunk) = self.expansion.as_mut().and_then(|expansion| expansion.chunk.as_mut()) {
            chunk.sent = false;
        }
    }

    /// Whether it has everything that a member of the set must have.
    pub(super) fn may_join(&self, commit: Version) -> bool {
        let caught_up = self.held >= commit || cfg!(mutant = "rule-7-caught-up");
        !self.member && self.expansion.is_none() && caught_up
    }
}

impl<P: Clone, C: Clone> Replica<P, C> {
    /// The reign of this replica begins.
    pub(super) fn take_over(&mut self, granted: &GrantedLeases, out: &mut Vec<Effect<P, C>>) {
        let fence = |member: &MemberId| Some((*member, granted.until(*member)?));
        let fences = self.followed.keys().filter_map(fence);
        let fences = fences.filter(|_| !cfg!(mutant = "rule-5-leases")).collect();
        out.extend(self.log.after(self.commit).cloned().map(Effect::Apply));
        self.role = Role::Primary(Box::new(Primary {
            fences,
            inherited: self.log.last().position,
            answered: Version::NONE,
            serving: false,
            successor: None,
            peers: BTreeMap::new(),
            proposed: None,
            suspects: BTreeSet::new(),
            attempts: 0,
            probe: 0,
            wake_at: None,
        }));
    }

    /// The set has changed, or the wish for it.
    pub(super) fn set_changed(&mut self, now: LocalTime, out: &mut Vec<Effect<P, C>>) {
        let base = self.log.base().position;
        let Role::Primary(primary) = &mut self.role else { return };
        let Assignment { version, in_sync, wanted, .. } = &self.assignment;
        // A newer assignment has the change in it, or has made it void.
        primary.proposed.take_if(|(proposal, _)| proposal.version < *version);
        primary.peers.retain(|member, peer| {
            peer.member |= in_sync.contains(member);
            // Who has left the set begins anew, also if it is wanted back.
            in_sync.contains(member) || wanted.contains(member) && !peer.member
        });
        primary.suspects.retain(|member| in_sync.contains(member));
        if primary.successor.is_some_and(|to| !in_sync.contains(&to)) {
            // It may have been told that nobody waits for leases of this reign, so this one is over: the next is this replica's own.
            primary.successor = Some(self.me);
        }
        for member in in_sync.iter().filter(|member| **member != self.me) {
            primary.peers.entry(*member).or_insert_with(|| Peer::new(0, base, now, None));
        }
        self.go_on(now, out);
    }

    /// Whether a write may run.
    ///
    /// # Errors
    /// It must not: nobody has changed anything.
    pub fn may_write(&self) -> Result<(), Unavailable> {
        self.serving()?;
        let (in_sync, min_in_sync) = (self.assignment.in_sync.len(), self.min_in_sync);
        if in_sync < min_in_sync && !cfg!(mutant = "min-in-sync") {
            return Err(Unavailable::TooFewInSync { in_sync, min_in_sync });
        }
        Ok(())
    }

    /// Whether this replica serves, and as what.
    fn serving(&self) -> Result<&Primary<C>, Unavailable> {
        match &self.role {
            Role::Backup(_) => Err(Unavailable::NotPrimary),
            Role::Primary(primary) if primary.successor.is_some() && !cfg!(mutant = "rule-5-released") => {
                Err(Unavailable::HandingOver)
            }
            Role::Primary(primary) if primary.serving => Ok(primary),
            Role::Primary(_) => Err(Unavailable::TakingOver),
        }
    }

    /// A write has changed the store, which is at `position` now. It leaves with the next [`Self::flush`].
    pub fn append(&mut self, position: Version, payload: P) {
        debug_assert!(self.may_write().is_ok(), "asked before the store was changed");
        self.log.push(Record { mark: Mark { epoch: self.epoch, position }, payload });
    }

    /// The store is at `position` now, and there is nobody to be told: what has changed is committed. With too few copies for a
    /// write nothing has, and what was not answered while there were more is not answered now.
    pub(super) fn append_alone(&mut self, position: Version) {
        debug_assert!(!self.has_peers());
        if self.may_write().is_err() {
            return;
        }
        let Role::Primary(primary) = &mut self.role else { return };
        self.log.skip_to(Mark { epoch: self.epoch, position });
        (self.commit, primary.answered) = (position, position);
    }

    /// Sends what was appended.
    pub fn flush(&mut self, now: LocalTime, out: &mut Vec<Effect<P, C>>) {
        self.go_on(now, out);
    }

    /// When an answer may leave that shows the store as it is now. `table` is the version of this node's table, and `epoch` is
    /// the partition's in there.
    ///
    /// # Errors
    /// Somebody else may have decided more.
    pub fn may_read(
        &self,
        leases: &HeldLeases,
        (table, epoch): (u64, Epoch),
    ) -> Result<ReadPermit, Unavailable> {
        let primary = self.serving()?;
        if epoch != self.epoch && !cfg!(mutant = "rule-6-table-epoch") {
            return Err(Unavailable::NotPrimary);
        }
        let committed =
            if cfg!(mutant = "rule-6-committed") { Version::NONE } else { self.log.last().position };
        let members = primary.maximal(&self.assignment, self.me);
        let members = members.filter(|_| !cfg!(mutant = "rule-6-leases"));
        let not_after = members.map(|member| leases.until(member, table).unwrap_or_default()).min();
        Ok(ReadPermit { committed, not_after })
    }

    /// Asks every member whether this is still the primary; what was read before may leave once [`Self::confirmed`] is as high.
    ///
    /// # Errors
    /// It is not.
    pub fn confirm(&mut self, now: LocalTime, out: &mut Vec<Effect<P, C>>) -> Result<u64, Unavailable> {
        self.serving()?;
        let Role::Primary(primary) = &mut self.role else { return Err(Unavailable::NotPrimary) };
        primary.probe += 1;
        let probe = primary.probe;
        self.go_on(now, out);
        Ok(probe)
    }

    /// The highest confirmation that every member has answered.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        let Role::Primary(primary) = &self.role else { return 0 };
        let members = primary.maximal(&self.assignment, self.me);
        let probes = members.map(|member| primary.peers.get(&member).map_or(0, |peer| peer.probes.1));
        probes.min().unwrap_or(primary.probe)
    }

    /// Whether this is the chunk that is to be read next.
    #[must_use]
    pub fn wants_chunk(&self, to: MemberId, number: u32, attempt: u32) -> bool {
        let Role::Primary(primary) = &self.role else { return false };
        let peer = primary.peers.get(&to).filter(|peer| peer.attempt == attempt);
        let expansion = peer.and_then(|peer| peer.expansion.as_ref());
        expansion.is_some_and(|expansion| expansion.reading && expansion.chunks == number)
    }

    /// A chunk was read: the entries as they are now.
    pub fn chunk_read(
        &mut self,
        now: LocalTime,
        (to, attempt): (MemberId, u32),
        (content, last): (C, bool),
        out: &mut Vec<Effect<P, C>>,
    ) {
        let at = self.log.last().position;
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(peer) = primary.peers.get_mut(&to).filter(|peer| peer.attempt == attempt) else { return };
        let Some(expansion) = &mut peer.expansion else { return };
        expansion.reading = false;
        expansion.chunk = Some(Chunk { at, content, last, sent: false });
        self.go_on(now, out);
    }

    /// Makes another member primary, as soon as everything is committed. From now on nothing is served in this reign.
    pub fn hand_over(&mut self, now: LocalTime, to: MemberId, out: &mut Vec<Effect<P, C>>) {
        let Role::Primary(primary) = &mut self.role else { return };
        if primary.serving && self.assignment.in_sync.contains(&to) && to != self.me {
            primary.successor = Some(to);
            self.go_on(now, out);
        }
    }

    /// This member does not answer: it is to leave the set.
    pub fn suspect(&mut self, now: LocalTime, member: MemberId, out: &mut Vec<Effect<P, C>>) {
        let Role::Primary(primary) = &mut self.role else { return };
        primary.suspects.insert(member);
        self.go_on(now, out);
    }

    /// The time has come that was asked for.
    pub fn wake(&mut self, now: LocalTime, out: &mut Vec<Effect<P, C>>) {
        let Role::Primary(primary) = &mut self.role else { return };
        primary.wake_at = None;
        for (member, peer) in &mut primary.peers {
            if (peer.owes() || peer.told < self.commit) && peer.sent_at + RESEND_TIME <= now {
                peer.go_back();
            }
            if peer.is_late(now) {
                primary.suspects.insert(*member);
            }
        }
        // Who is no member begins anew, so that the records that it misses are not kept for ever.
        let added = primary.proposed.as_ref().and_then(|(proposal, _)| proposal.change.add);
        primary.peers.retain(|member, peer| peer.member || Some(*member) == added || !peer.is_late(now));
        self.go_on(now, out);
    }

    /// A replica says how far it is.
    pub(super) fn acknowledged(
        &mut self,
        now: LocalTime,
        (from, attempt): (MemberId, u32),
        Progress { position, commit, chunks, probe, missing }: Progress,
        out: &mut Vec<Effect<P, C>>,
    ) {
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(peer) = primary.peers.get_mut(&from).filter(|peer| peer.attempt == attempt) else { return };
        let before = (peer.answered, peer.held, peer.probes.1);
        if let Some(position) = position {
            peer.answered = true;
            // What it holds from an earlier reign may be more than was sent to it in this one.
            let held = position.min(peer.sent);
            // Nobody holds half a record: who says so is not to make this node look for what comes behind it.
            if self.log.mark_at(held).is_some() {
                peer.held = peer.held.max(held);
            }
        }
        peer.told = peer.told.max(commit);
        peer.probes.1 = peer.probes.1.max(probe);
        let mut progress = before != (peer.answered, peer.held, peer.probes.1);
        // One is sent at a time.
        let placed =
            |expansion: &&mut Expansion<C>| expansion.chunk.is_some() && chunks == expansion.chunks + 1;
        if let Some(expansion) = peer.expansion.as_mut().filter(placed) {
            progress = true;
            expansion.chunks = chunks;
            if expansion.chunk.take().is_some_and(|chunk| chunk.last) {
                peer.expansion = None;
            }
        }
        if missing {
            peer.go_back();
        }
        // Who answers and gets no further is of no more use than who is silent.
        if !peer.owes() {
            peer.owes_since = None;
        } else if progress {
            peer.owes_since = Some(now);
        }
        if progress || peer.owes_since.is_none() {
            primary.suspects.remove(&from);
        }
        self.go_on(now, out);
    }
}
