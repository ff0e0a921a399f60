//! What entries may take of this node's memory.

use std::sync::atomic::{AtomicI64, Ordering};

use wattle_core::ids::GridTime;
use wattle_core::map::MapDescriptor;
use wattle_core::partition::{Access, Room};

/// Bytes held by all partitions, and the limit past which writes are refused.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Below zero for a moment, when a loss is settled before the gain of what was lost.
    held: AtomicI64,
    limit: u64,
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Self {
        Self { held: AtomicI64::new(0), limit }
    }

    pub(crate) fn held(&self) -> u64 {
        u64::try_from(self.held.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// What partitions gained and lost at a moment.
    pub(crate) fn settle(&self, moment: &Moment) {
        self.add(moment.gained);
    }

    /// A partition that held `before` holds `after`, whether there is room for it or not.
    pub(super) fn charge(&self, before: u64, after: u64) {
        self.add(after.cast_signed() - before.cast_signed());
    }

    fn add(&self, gained: i64) {
        if gained != 0 {
            self.held.fetch_add(gained, Ordering::Relaxed);
        }
    }
}

/// What holds for the steps that one caller takes on partitions, one after the other: read and charged once for all. Callers
/// at the same time know nothing of each other's gains: each may take what is left.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) now: GridTime,
    /// What all partitions held when it began.
    held: u64,
    limit: u64,
    gained: i64,
    /// What the partition held that is at work.
    before: u64,
}

impl Moment {
    pub(super) fn new(now: GridTime, memory: &Memory) -> Self {
        Self { now, held: memory.held(), limit: memory.limit, gained: 0, before: 0 }
    }

    /// Access to a map at this moment, in the partition that is at work.
    pub(crate) fn access<'a>(&self, map: &'a MapDescriptor) -> Access<'a> {
        Access { map, now: self.now, room: self.room(), record: 0 }
    }

    /// The memory as the partition sees it that is at work.
    pub(crate) fn room(&self) -> Room {
        let held = self.held.saturating_add_signed(self.gained);
        Room { others: held.saturating_sub(self.before), limit: self.limit }
    }

    /// A partition that holds so much begins to work.
    pub(super) fn enter(&mut self, bytes: u64) {
        self.before = bytes;
    }

    /// It has done its work, and now holds so much.
    pub(super) fn leave(&mut self, bytes: u64) {
        self.gained += bytes.cast_signed() - self.before.cast_signed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition that held `before` now holds `after`.
    fn work(moment: &mut Moment, before: u64, after: u64) {
        moment.enter(before);
        moment.leave(after);
    }

    fn settle(memory: &Memory, before: u64, after: u64) {
        let mut moment = Moment::new(GridTime(0), memory);
        work(&mut moment, before, after);
        memory.settle(&moment);
    }

    #[test]
    fn partitions_settle_gains_and_losses() {
        let memory = Memory::new(100);
        settle(&memory, 0, 80);
        settle(&memory, 0, 50);
        assert_eq!(memory.held(), 130);
        settle(&memory, 80, 10);
        assert_eq!(memory.held(), 60);
    }

    #[test]
    fn what_one_step_takes_the_next_does_not_get() {
        let memory = Memory::new(100);
        settle(&memory, 0, 25);
        let mut moment = Moment::new(GridTime(0), &memory);
        work(&mut moment, 0, 70);
        moment.enter(25);
        assert_eq!((moment.room(), memory.held()), (Room { others: 70, limit: 100 }, 25));
        moment.leave(0);
        moment.enter(70);
        assert_eq!(moment.room(), Room { others: 0, limit: 100 });
        moment.leave(20);
        memory.settle(&moment);
        assert_eq!(memory.held(), 20);
    }

    #[test]
    fn a_loss_that_is_settled_before_its_gain_fills_no_node() {
        let memory = Memory::new(100);
        let mut late = Moment::new(GridTime(0), &memory);
        work(&mut late, 0, 30);
        settle(&memory, 30, 0);
        assert_eq!(memory.held(), 0);
        assert_eq!(Moment::new(GridTime(0), &memory).room(), Room { others: 0, limit: 100 });
        memory.settle(&late);
        assert_eq!(memory.held(), 0);
        settle(&memory, 0, 1);
        assert_eq!(memory.held(), 1);
    }
}
