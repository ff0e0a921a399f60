//! What a replica does that follows a primary: it takes the records in order, and changes its store by those that are committed.

use super::log::{Log, Mark, Record};
use super::message::Body;
use super::replica::{Effect, Replica, Role};
use crate::ids::{Epoch, MemberId, Version};

/// How far a replica has followed the primary of its epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Backup {
    /// The expansion that it is in, or has come from; 0 is a member of the set from the beginning.
    attempt: u32,
    /// It holds what the primary holds up to here; `None` before the first message.
    matched: Option<Version>,
    /// Chunks that are in place.
    chunks: u32,
    /// More of them will come.
    expanding: bool,
    /// The highest that has come.
    probe: u64,
    /// What has come last did not follow.
    missing: bool,
    /// Its primary reads no more in this reign, whatever else comes of it.
    pub(super) released: bool,
}

impl Backup {
    pub(super) fn check_invariants(&self, commit: Version, last: Mark) {
        assert!(self.matched.is_none_or(|matched| matched <= last.position), "what matches is there");
        assert!(commit <= last.position, "what is committed is there");
    }
}

impl<P: Clone, C: Clone> Replica<P, C> {
    /// An expansion begins.
    pub(super) fn begin(
        &mut self,
        (from, attempt): (MemberId, u32),
        start: Mark,
        out: &mut Vec<Effect<P, C>>,
    ) {
        let Role::Backup(backup) = &mut self.role else { return };
        if attempt > backup.attempt {
            let (matched, released) = (Some(start.position), backup.released);
            *backup = Backup { attempt, matched, expanding: true, released, ..Backup::default() };
            let before = std::mem::replace(&mut self.log, Log::new(start));
            let unapplied = before.after(self.commit).cloned().collect();
            self.commit = start.position;
            out.push(Effect::Begin { last: before.last(), unapplied });
        }
        if !backup.released {
            self.followed.insert(from, self.epoch);
        }
        self.acknowledge((from, attempt), out);
    }

    /// A primary reads no more in a reign: nobody waits for leases that it was granted, unless it has reigned again since.
    pub(super) fn release(&mut self, from: MemberId, epoch: Epoch) {
        let again = |last: &Epoch| *last > epoch && !cfg!(mutant = "rule-5-late-release");
        if self.followed.get(&from).is_some_and(again) {
            return;
        }
        self.followed.remove(&from);
        if let Role::Primary(primary) = &mut self.role {
            primary.fences.remove(&from);
        }
    }

    /// Records have come.
    pub(super) fn follow(
        &mut self,
        (from, attempt): (MemberId, u32),
        previous: Mark,
        records: Vec<Record<P>>,
        out: &mut Vec<Effect<P, C>>,
    ) {
        let Role::Backup(backup) = &mut self.role else { return };
        if attempt != backup.attempt {
            return;
        }
        if !backup.released {
            self.followed.insert(from, self.epoch);
        }
        // What is committed is the same everywhere.
        let known = previous.position <= self.commit || self.log.mark_at(previous.position) == Some(previous);
        backup.missing = !known && !cfg!(mutant = "rule-11-order");
        if backup.missing {
            return;
        }
        let mut end = previous.position;
        for record in records {
            let mark = record.mark;
            let held = mark.position <= self.commit || self.log.mark_at(mark.position) == Some(mark);
            let kept = cfg!(mutant = "rule-11-truncation") && self.log.last().position > end;
            if !held && !kept {
                // What an earlier reign has left here goes: it was never committed.
                self.log.truncate_after(end.max(self.commit));
                out.extend(cfg!(mutant = "rule-8-apply").then(|| Effect::Apply(record.clone())));
                self.log.push(record);
            }
            end = mark.position;
        }
        backup.matched = backup.matched.max(Some(end));
    }

    /// The primary says how far all is committed.
    pub(super) fn learn_commit(
        &mut self,
        (attempt, probe): (u32, u64),
        commit: Version,
        out: &mut Vec<Effect<P, C>>,
    ) {
        let Role::Backup(backup) = &mut self.role else { return };
        if attempt != backup.attempt {
            return;
        }
        backup.probe = backup.probe.max(probe);
        // Behind what matches there may be records of an earlier reign that were never committed.
        let matched = backup.matched.unwrap_or(self.commit);
        self.apply_through(commit.min(matched), out);
    }

    fn apply_through(&mut self, commit: Version, out: &mut Vec<Effect<P, C>>) {
        if commit <= self.commit {
            return;
        }
        if !cfg!(mutant = "rule-8-apply") {
            let committed = self.log.after(self.commit).take_while(|record| record.mark.position <= commit);
            out.extend(committed.cloned().map(Effect::Apply));
        }
        self.commit = commit;
        self.log.drop_through(commit);
        out.push(Effect::Committed(commit));
    }

    /// A chunk has come. It follows the records up to `at`, all of which are committed.
    pub(super) fn place(
        &mut self,
        (attempt, number): (u32, u32),
        at: Version,
        (content, last): (C, bool),
        out: &mut Vec<Effect<P, C>>,
    ) {
        let Role::Backup(backup) = &mut self.role else { return };
        if attempt != backup.attempt || !backup.expanding || number != backup.chunks {
            return;
        }
        backup.missing = backup.matched != Some(at);
        if backup.missing {
            return;
        }
        backup.chunks += 1;
        backup.expanding = !last;
        self.apply_through(at, out);
        out.push(Effect::Replace { content, last });
    }

    /// Says how far it is.
    pub(super) fn acknowledge(&mut self, (to, attempt): (MemberId, u32), out: &mut Vec<Effect<P, C>>) {
        let Role::Backup(backup) = &mut self.role else { return };
        if attempt != backup.attempt {
            return;
        }
        let Backup { matched: position, chunks, probe, missing, .. } = *backup;
        backup.missing = false;
        let commit = self.commit;
        let body = Body::Acknowledge { attempt, position, commit, chunks, probe, missing };
        out.push(Effect::Send { to, message: self.message(body) });
    }
}

#[cfg(test)]
mod tests {
    use super::super::assignment::Assignment;
    use super::super::lease::{GrantedLeases, LocalTime, Reckoning, Wish};
    use super::super::message::Message;
    use super::*;
    use crate::ids::NodeId;

    #[test]
    fn what_a_primary_sends_that_reads_no_more_makes_nobody_wait_for_its_leases() {
        let member = |node| MemberId { node: NodeId(node), incarnation: 1 };
        let (first, me) = (member(1), member(2));
        let mut replica: Replica<(), ()> = Replica::new(me, 1, Assignment::default());
        let receive = |replica: &mut Replica<(), ()>, number, body| {
            let epoch = Epoch { generation: 1, number };
            replica.receive(LocalTime(7), first, Message { epoch, body }, &mut Vec::new());
        };
        let notice = || Body::Append {
            attempt: 0,
            previous: Mark::default(),
            records: Vec::new(),
            commit: Version::NONE,
            probe: 0,
        };
        receive(&mut replica, 1, notice());
        assert!(replica.followed.contains_key(&first));
        receive(&mut replica, 1, Body::Released);
        // The last notice of what is committed leaves behind it.
        receive(&mut replica, 1, notice());
        receive(&mut replica, 1, Body::Begin { attempt: 1, start: Mark::default() });
        assert!(replica.followed.is_empty());
        // In its next reign it reads again.
        receive(&mut replica, 2, notice());
        assert!(replica.followed.contains_key(&first));
    }

    #[test]
    fn a_release_that_comes_late_counts_for_its_reign_and_for_no_later_one() {
        let member = |node| MemberId { node: NodeId(node), incarnation: 1 };
        let epoch = |number| Epoch { generation: 1, number };
        let (first, me) = (member(1), member(2));
        let body = || Body::Append {
            attempt: 0,
            previous: Mark::default(),
            records: Vec::new(),
            commit: Version::NONE,
            probe: 0,
        };
        let succeeds = |reigns: &[u64], released| {
            let mut replica: Replica<(), ()> = Replica::new(me, 1, Assignment::default());
            for number in reigns.iter().copied() {
                let message = Message { epoch: epoch(number), body: body() };
                replica.receive(LocalTime(7), first, message, &mut Vec::new());
            }
            let mut granted = GrantedLeases::default();
            let wish = Wish { asked: LocalTime(7), reckoning: Reckoning::Granted };
            granted.grant(first, LocalTime(7), wish, 1);
            let in_sync = [me].into();
            let primary = Some(me);
            let assignment =
                Assignment { version: 9, epoch: epoch(9), primary, in_sync, ..Assignment::default() };
            replica.assign(LocalTime(8), assignment, &granted, &mut Vec::new());
            assert!(replica.may_write().is_err(), "it waits for the lease of the one before");
            let message = Message { epoch: epoch(released), body: Body::Released };
            replica.receive(LocalTime(9), first, message, &mut Vec::new());
            replica.may_write().is_ok()
        };
        assert!(succeeds(&[3], 3));
        assert!(!succeeds(&[3, 5], 3), "it may read in its second reign");
        // Who has agreed to a reign later than the last that is known of here agreed to none in between.
        assert!(succeeds(&[3], 5));
    }
}
