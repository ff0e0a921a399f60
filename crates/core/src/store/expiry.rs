//! Which entries of a map are due: an exact order of deadlines, and lazy checks for idleness.
//!
//! Deadlines change by writes only, so their order is kept exactly. The end of an idle entry moves with every read; each slot
//! instead has at most one check, by a tick in which its entry was used: a check that comes too early is set again. The
//! check of an entry that is gone stays until it is due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::entry::Tick;
use crate::ids::{GridTime, Slot};

#[derive(Debug, Default)]
pub(super) struct Expiry {
    deadlines: BTreeSet<(GridTime, Slot)>,
    checks: BTreeMap<Tick, Vec<Slot>>,
    /// One bit a slot: whether it has a check.
    checked: Vec<u64>,
    /// Checks that are set.
    set: usize,
}

/// What the checks of one tick take, in bytes: a place in the tree, and the smallest list.
const TICK_BYTES: usize = 64;
/// What a check takes, in bytes, in a list that has grown to twice what is in it.
const CHECK_BYTES: usize = 2 * size_of::<Slot>();

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

    /// Checks a slot that was used in a tick when it would be idle, unless an earlier check is set.
    pub(super) fn check_idle(&mut self, slot: Slot, used: Tick) {
        let (word, bit) = (slot.index() / 64, 1 << (slot.index() % 64));
        if word >= self.checked.len() {
            self.checked.resize(word + 1, 0);
        }
        if self.checked[word] & bit == 0 {
            self.checked[word] |= bit;
            self.checks.entry(used).or_default().push(slot);
            self.set += 1;
        }
    }

    /// The entry whose deadline passed first.
    pub(super) fn due(&self, now: GridTime) -> Option<Slot> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, slot)| *slot)
    }

    /// Takes an idle check that is due; the caller sets another if the entry is not idle after all. Without a longest idle time,
    /// every check is due.
    pub(super) fn take_check(&mut self, now: GridTime, max_idle: Option<Duration>) -> Option<Slot> {
        let mut first = self.checks.first_entry()?;
        if max_idle.is_some_and(|max_idle| first.key().idle_deadline(max_idle) > now) {
            return None;
        }
        let slot = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        let slot = slot.expect("the list of a tick has a slot");
        self.checked[slot.index() / 64] &= !(1 << (slot.index() % 64));
        self.set -= 1;
        if self.set == 0 {
            self.checked = Vec::new();
        }
        Some(slot)
    }

    /// What the checks take, in bytes. Deadlines are counted with their entries.
    pub(super) fn bytes(&self) -> usize {
        self.checks.len() * TICK_BYTES + self.set * CHECK_BYTES + size_of_val(&self.checked[..])
    }

    /// Frees a part of it; whether none is left. It is not to be used any more.
    pub(super) fn free_some(&mut self, slots: usize) -> bool {
        let slots =
            (0..slots).all(|_| self.deadlines.pop_first().is_some() || self.checks.pop_first().is_some());
        !slots
    }

    pub(super) fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether a slot has a check.
    pub(super) fn is_checked(&self, slot: Slot) -> bool {
        self.checked.get(slot.index() / 64).is_some_and(|word| word & (1 << (slot.index() % 64)) != 0)
    }
}
