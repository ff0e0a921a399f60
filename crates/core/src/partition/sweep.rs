//! Passes over the entries of a map in one partition, a bounded turn at a time: scans and whole-map calls.

use std::ops::ControlFlow;

use super::operation::Access;
use super::partition::Partition;
use crate::ids::Slot;
use crate::limits::{SCAN_BYTES, SCAN_ENTRIES};
use crate::store::{EntryRef, MapStore};

/// The slots that a pass still has to visit. A pass ends at the slot count it started with: entries created since are not
/// promised to it, and it always ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanRange {
    /// The first slot to visit.
    pub next: Slot,
    /// One past the last.
    pub end: Slot,
}

impl ScanRange {
    /// Shows it the entries of the range, until it has had enough: that one is the next turn's first.
    fn visit<'a>(
        self,
        store: &'a MapStore,
        mut visit: impl FnMut(Slot, EntryRef<'a>) -> ControlFlow<()>,
    ) -> ScanEnd {
        // A fold, not a `for`: an iterator of pieces hands entries on through memory, which takes three times as long.
        let stopped = store.slots_from(self.next).try_for_each(|(slot, entry)| {
            if slot >= self.end {
                return ControlFlow::Break(ScanEnd::Complete);
            }
            visit(slot, entry).map_break(|()| ScanEnd::More(Self { next: slot, end: self.end }))
        });
        stopped.break_value().unwrap_or(ScanEnd::Complete)
    }
}

/// What a scan is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Only keys that begin with this.
    pub prefix: &'a [u8],
    /// At most this many entries in one turn.
    pub limit: u64,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanEnd {
    /// The bound of the turn was reached: go on with this range.
    More(ScanRange),
    /// Every slot of the range was visited.
    Complete,
}

/// What a turn of a whole-map call works on: the slots of live entries, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// The entries.
    pub slots: Vec<Slot>,
    /// What is left after them.
    pub end: ScanEnd,
}

impl Partition {
    /// The range of a pass that starts now.
    #[must_use]
    pub fn scan_range(&self, at: &Access<'_>) -> ScanRange {
        let end = self.maps.get(&at.map.id).map_or(Slot(0), |store| store.slot_count());
        ScanRange { next: Slot(0), end }
    }

    /// Visits live entries whose keys begin with the prefix, until the bound of a turn.
    pub fn scan(
        &mut self,
        at: &Access<'_>,
        range: ScanRange,
        wanted: Wanted<'_>,
        mut visit: impl FnMut(EntryRef<'_>),
    ) -> ScanEnd {
        let mut expired = Vec::new();
        let Some(store) = self.maps.get(&at.map.id) else { return ScanEnd::Complete };
        let (mut looked_at, mut visited, mut bytes) = (0, 0, 0);
        let end = range.visit(store, |slot, entry| {
            if looked_at >= SCAN_ENTRIES || visited >= wanted.limit || bytes >= SCAN_BYTES {
                return ControlFlow::Break(());
            }
            looked_at += 1;
            if !entry.key.starts_with(wanted.prefix) {
                return ControlFlow::Continue(());
            }
            if store.is_expired(slot, at.now) {
                expired.push(slot);
                return ControlFlow::Continue(());
            }
            visited += 1;
            bytes += entry.key.len() + entry.value.len();
            visit(entry);
            ControlFlow::Continue(())
        });
        for slot in expired {
            self.expire_if_due(at, slot);
        }
        end
    }

    /// The live entries of the next turn of a whole-map call, at most `limit`.
    pub fn sweep(&mut self, at: &Access<'_>, range: ScanRange, limit: usize) -> Swept {
        let limit = limit.clamp(1, SCAN_ENTRIES);
        let (mut slots, mut expired) = (Vec::with_capacity(limit), Vec::new());
        let Some(store) = self.maps.get(&at.map.id) else { return Swept { slots, end: ScanEnd::Complete } };
        let mut bytes = 0;
        let end = range.visit(store, |slot, entry| {
            if slots.len() + expired.len() >= limit || bytes >= SCAN_BYTES {
                return ControlFlow::Break(());
            }
            if store.is_expired(slot, at.now) {
                expired.push(slot);
            } else {
                bytes += entry.key.len() + entry.value.len();
                slots.push(slot);
            }
            ControlFlow::Continue(())
        });
        for slot in expired {
            self.expire_if_due(at, slot);
        }
        Swept { slots, end }
    }

    /// The entry in a slot.
    #[must_use]
    pub fn entry_at(&self, at: &Access<'_>, slot: Slot) -> Option<EntryRef<'_>> {
        self.maps.get(&at.map.id)?.view(slot)
    }
}
