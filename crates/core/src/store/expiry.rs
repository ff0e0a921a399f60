//! Which entries of a map are due: an exact order of deadlines, and lazy checks for idleness.
//!
//! Deadlines change by writes only, so their order is kept exactly. The end of an idle entry moves with every read; each slot
//! instead has at most one check, set no later than its end, and a check that comes too early is set again.

use std::collections::BTreeSet;

use crate::ids::{GridTime, Slot};

#[derive(Debug, Default)]
pub(super) struct Expiry {
    deadlines: BTreeSet<(GridTime, Slot)>,
    checks: BTreeSet<(GridTime, Slot)>,
    /// One bit a slot: whether it has a check.
    checked: Vec<u64>,
}

impl Expiry {
    /// Moves a slot from one deadline to another.
    pub(super) fn reschedule(&mut self, slot: Slot, from: Option<GridTime>, to: Option<GridTime>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            let known = self.deadlines.remove(&(from, slot));
            debug_assert!(known, "every deadline of an entry is in the order");
        }
        if let Some(to) = to {
            self.deadlines.insert((to, slot));
        }
    }

    /// Checks a slot for idleness at `time`, unless an earlier check is set: the end of an entry only moves back.
    pub(super) fn check_idle(&mut self, slot: Slot, time: GridTime) {
        let (word, bit) = (slot.0 as usize / 64, 1 << (slot.0 % 64));
        if word >= self.checked.len() {
            self.checked.resize(word + 1, 0);
        }
        if self.checked[word] & bit == 0 {
            self.checked[word] |= bit;
            self.checks.insert((time, slot));
        }
    }

    /// Forgets all idle checks.
    pub(super) fn forget_checks(&mut self) {
        self.checks.clear();
        self.checked.clear();
    }

    /// The entry whose deadline passed first.
    pub(super) fn due(&self, now: GridTime) -> Option<Slot> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, slot)| *slot)
    }

    /// Takes the first idle check that is due; the caller sets another if the entry is not idle after all.
    pub(super) fn take_check(&mut self, now: GridTime) -> Option<Slot> {
        let (_, slot) = *self.checks.first().filter(|(time, _)| *time <= now)?;
        self.checks.pop_first();
        self.checked[slot.0 as usize / 64] &= !(1 << (slot.0 % 64));
        Some(slot)
    }

    pub(super) fn deadlines(&self) -> usize {
        self.deadlines.len()
    }
}
