//! A node's copies: what the table and other copies say to them, and what they say is to be done.

use std::collections::{BTreeSet, VecDeque};

use wattle_core::control::grid::{Duty, GridCommand, Row};
use wattle_core::ids::{Epoch, MemberId, PartitionId, Version};
use wattle_core::partition::Partition;
use wattle_core::replication::{Assignment, Credence, Deed, Now, PartitionMessage, ReplicatedPartition};

use super::{Copy, Node, Out, Timer};
use crate::letter::{Address, Letter};

impl Node {
    /// Steps a copy, if it is there, and carries out what it says.
    pub(super) fn step<R>(
        &mut self,
        now: Now,
        partition: PartitionId,
        out: &mut Out,
        step: impl FnOnce(&mut ReplicatedPartition, Now, &mut Vec<Deed>) -> R,
    ) -> Option<R> {
        let me = self.me?;
        let copy = self.copies.get_mut(&partition)?;
        let mut deeds = Vec::new();
        let result = step(&mut copy.replicated, now, &mut deeds);
        copy.replicated.check_invariants();
        let mut deeds: VecDeque<Deed> = deeds.into();
        while let Some(deed) = deeds.pop_front() {
            match deed {
                Deed::Copy(wanted) => {
                    let mut more = Vec::new();
                    if let Some(copy) = self.copies.get_mut(&partition) {
                        copy.replicated.copy_chunk(now, wanted, &mut more);
                        copy.replicated.check_invariants();
                    }
                    deeds.extend(more);
                }
                Deed::Send { to, message } => {
                    if let Some(machine) = self.table.machine(to) {
                        let letter = Letter::Replica { from: me, to, partition, message };
                        out.letters.push((Address::Machine(machine), letter));
                    }
                }
                Deed::Answer(_) => {}
                Deed::Deposed => {
                    out.events.push("deposed");
                    self.interrupt(partition, out);
                }
                Deed::Propose(proposal) => {
                    self.ask_leader(GridCommand::Propose { partition, proposal }, out);
                }
                Deed::WakeAt(at) => out.timers.push((at, Timer::Wake(partition))),
            }
        }
        out.stepped.push(partition);
        self.answer(now, partition, out);
        Some(result)
    }

    /// A partition hears of the table as it is now.
    pub(super) fn assign(&mut self, now: Now, partition: PartitionId, out: &mut Out) {
        let (Some(me), Some(row)) = (self.me, self.table.rows.get(&partition).cloned()) else { return };
        let named = row.assignment.in_sync.contains(&me) || row.assignment.wanted.contains(&me);
        if let Some(copy) = self.copies.get_mut(&partition) {
            // The partition began empty since: what is here is none of it.
            let void = row.began.is_some_and(|began| copy.replicated.epoch() < began);
            // What others have is complete, and the reign is over in which this copy was last of use. In that reign itself the
            // primary may know a newer table, and count on what it has sent here.
            let spare = !named && row.is_complete() && !row.is_lost() && copy.heard < row.assignment.epoch;
            if void || spare {
                out.events.push(if void { "void copy" } else { "dropped copy" });
                self.interrupt(partition, out);
                self.copies.remove(&partition);
            } else if named {
                copy.heard = copy.heard.max(row.assignment.epoch);
            }
        }
        // Who counts on what is not here has been misled; else this would be an empty primary some day.
        let begins = row.began == Some(row.assignment.epoch) && row.assignment.primary == Some(me);
        let is_missing = row.assignment.in_sync.contains(&me) && !self.copies.contains_key(&partition);
        assert!(begins || !is_missing, "{me:?} is in the set of {partition} and has no copy: {row:?}");
        if named || self.copies.contains_key(&partition) {
            self.make_copy(partition);
            let granted = self.granted.clone();
            self.step(now, partition, out, |copy, now, deeds| {
                copy.assign(now, row.assignment, &granted, deeds);
            });
        }
    }

    /// A copy that nobody counts on yet, unless there is one.
    fn make_copy(&mut self, partition: PartitionId) {
        let classes = (self.table.min_in_sync(partition), self.table.siblings(partition));
        let (Some(me), (Some(min_in_sync), Some(siblings))) = (self.me, classes) else { return };
        let seed = self.random.draw();
        self.copies.entry(partition).or_insert_with(|| {
            let unheard = Assignment {
                version: 0,
                epoch: Epoch::default(),
                primary: None,
                in_sync: BTreeSet::new(),
                wanted: BTreeSet::new(),
            };
            let empty = Partition::new(partition, siblings, seed, Version::NONE);
            let replicated = ReplicatedPartition::new(me, min_in_sync, unheard, empty);
            Copy { replicated, heard: Epoch::default(), waiting: Vec::new() }
        });
    }

    pub(super) fn receive_replica(
        &mut self,
        now: Now,
        from: MemberId,
        (partition, message): (PartitionId, PartitionMessage),
        out: &mut Out,
    ) {
        // Whose clock may be wrong holds nothing yet.
        if !self.time.slew.is_set() {
            return;
        }
        match self.table.reign(partition).judge(from, &message, self.time.contact(now.local)) {
            Credence::Believed => self.hear_replica(now, from, (partition, message), out),
            Credence::Early => {
                out.events.push("early message");
                drop(self.early.keep(now.local, (from, partition, message)));
            }
            Credence::Refused => {}
        }
    }

    pub(super) fn hear_replica(
        &mut self,
        now: Now,
        from: MemberId,
        (partition, message): (PartitionId, PartitionMessage),
        out: &mut Out,
    ) {
        if !self.copies.contains_key(&partition) {
            // It learns the reign that this node knows of first: one that was dropped may have followed it.
            self.assign(now, partition, out);
            self.make_copy(partition);
            self.assign(now, partition, out);
        }
        if let Some(copy) = self.copies.get_mut(&partition) {
            copy.heard = copy.heard.max(message.epoch);
        }
        self.step(now, partition, out, |copy, now, deeds| copy.receive(now, from, message, deeds));
    }

    /// Connections to a member are refused: it is to leave the sets of this node; and the leader takes it for dead.
    pub(crate) fn suspect(&mut self, now: Now, member: MemberId, out: &mut Out) {
        self.refused(now, member, out);
        self.remove(now, member, out);
    }

    /// Where this node is primary, a member is to leave the set.
    pub(super) fn remove(&mut self, now: Now, member: MemberId, out: &mut Out) {
        let mine = |(_, row): &(&PartitionId, &Row)| row.assignment.primary == self.me;
        let partitions: Vec<PartitionId> = self.table.rows.iter().filter(mine).map(|(id, _)| *id).collect();
        for partition in partitions {
            self.step(now, partition, out, |copy, now, deeds| copy.suspect(now, member, deeds));
        }
    }

    /// What this node owes to the plan as a partition's primary.
    pub(super) fn do_duty(&mut self, now: Now, partition: PartitionId, out: &mut Out) {
        let (Some(row), Some(min_in_sync)) =
            (self.table.rows.get(&partition), self.table.min_in_sync(partition))
        else {
            return;
        };
        if row.assignment.primary != self.me {
            return;
        }
        match row.duty(min_in_sync) {
            Duty::None => {}
            Duty::HandOver(to) => {
                out.events.push("hand-over");
                self.step(now, partition, out, |copy, now, deeds| copy.hand_over(now, to, deeds));
            }
            Duty::Retire(member) => {
                out.events.push("retirement");
                self.step(now, partition, out, |copy, now, deeds| copy.suspect(now, member, deeds));
            }
        }
    }
}
