//! Knows what was ever committed and shown, and panics when a member contradicts it.

use std::collections::BTreeMap;

use super::machine::{Machine, Waiting};
use super::store::{Store, Write};
use crate::ids::{Epoch, MemberId, Version};
use crate::replication::Assignment;

#[derive(Debug, Default)]
pub(super) struct Judge {
    /// What is committed, by position.
    truth: BTreeMap<Version, Write>,
    /// The highest position that a client has seen the effect of.
    pub(super) shown: Version,
    /// Answers so far.
    pub(super) answers: u64,
    /// Of those, reads by lease alone while others might have been primary.
    pub(super) leased_reads: u64,
    /// How far those were who lost their memory.
    pub(super) crashed: Vec<Version>,
    epochs: BTreeMap<MemberId, Epoch>,
    primaries: BTreeMap<Epoch, MemberId>,
}

impl Judge {
    /// A member says that everything up to a position is committed.
    pub(super) fn committed(&mut self, machine: &Machine, position: Version) {
        for (at, write) in machine.applied.range(..=position) {
            let known = *self.truth.entry(*at).or_insert(*write);
            assert_eq!(known, *write, "{:?} has another record committed at {at:?}", machine.me);
        }
    }

    /// An answer has left.
    pub(super) fn answered(
        &mut self,
        by: MemberId,
        answer: Waiting,
        (machines, min_in_sync): (&[Machine], usize),
    ) {
        self.answers += 1;
        match answer {
            Waiting::Write { request, position } => {
                let known = self.truth.get(&position).map(|write| write.request);
                assert_eq!(known, Some(request), "{by:?} acknowledged what is not committed");
                let live = machines.iter().map(|machine| machine.replica.last().position);
                let held = live.chain(self.crashed.iter().copied()).filter(|last| *last >= position).count();
                assert!(held >= min_in_sync, "{by:?} acknowledged what {held} ever had");
                self.shown = self.shown.max(position);
            }
            Waiting::Read { shown, floor, not_after, confirmed, .. } => {
                self.leased_reads += u64::from(not_after.is_some() && confirmed.is_none());
                assert!(
                    shown.position >= floor,
                    "{by:?} shows {:?}, and {floor:?} was seen before",
                    shown.position
                );
                assert!(self.replayed(shown.position).same(&shown), "{by:?} shows what never was");
                self.shown = self.shown.max(shown.position);
            }
        }
    }

    /// The store as it was at a position.
    pub(super) fn replayed(&self, position: Version) -> Store {
        let mut store = Store::default();
        for (at, write) in self.truth.range(..=position) {
            store.apply(*write, *at);
        }
        store
    }

    /// Looks at all members.
    pub(super) fn look(&mut self, control: &Assignment, machines: &[Machine]) {
        for machine in machines {
            let epoch = machine.replica.epoch();
            let before = self.epochs.insert(machine.me, epoch).unwrap_or_default();
            assert!(before <= epoch, "epochs never go back");
            if machine.replica.may_write().is_ok() {
                let primary = *self.primaries.entry(epoch).or_insert(machine.me);
                assert_eq!(primary, machine.me, "an epoch has one primary");
                let newest = epoch == control.epoch;
                assert!(
                    !newest || machine.replica.commit() >= self.shown,
                    "{:?} serves too early",
                    machine.me
                );
            }
            if control.in_sync.contains(&machine.me) {
                self.check_member(machine);
            }
        }
    }

    /// A member of the set holds all that was shown.
    fn check_member(&self, machine: &Machine) {
        let last = machine.replica.last().position;
        assert!(
            last >= self.shown,
            "{:?} is in the set and ends at {last:?} before {:?}",
            machine.me,
            self.shown
        );
        let commit = machine.replica.commit();
        let seen = self.shown.max(commit);
        if self.truth.last_key_value().is_some_and(|(last, _)| *last >= seen) || seen == Version::NONE {
            let view = machine.view(seen);
            assert!(
                view.is_some_and(|view| view.same(&self.replayed(seen))),
                "{:?} holds something else",
                machine.me
            );
        }
    }
}
