//! What entries may take of this node's memory.

use std::sync::atomic::{AtomicU64, Ordering};

use wattle_core::ids::GridTime;
use wattle_core::map::MapDescriptor;
use wattle_core::partition::Access;

/// Bytes held by all partitions, and the limit past which writes are refused.
#[derive(Debug)]
pub(crate) struct Memory {
    held: AtomicU64,
    limit: u64,
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Self {
        Self { held: AtomicU64::new(0), limit }
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// What writes may still add. Partitions that ask at the same time get the same answer: the limit is passed by a write of
    /// each at the most.
    pub(crate) fn headroom(&self) -> u64 {
        self.limit.saturating_sub(self.held())
    }

    /// What partitions gained and lost at a moment.
    pub(crate) fn settle(&self, moment: &Moment) {
        if moment.gained != 0 {
            self.held.fetch_add(moment.gained, Ordering::Relaxed);
        }
    }
}

/// What holds for the steps that one caller takes on partitions, one after the other: read and charged once for all.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) now: GridTime,
    headroom: u64,
    /// Wrapping: a loss is the complement of a gain.
    gained: u64,
}

impl Moment {
    pub(super) fn new(now: GridTime, memory: &Memory) -> Self {
        Self { now, headroom: memory.headroom(), gained: 0 }
    }

    /// Access to a map at this moment.
    pub(crate) fn access<'a>(&self, map: &'a MapDescriptor) -> Access<'a> {
        Access { map, now: self.now, headroom: self.headroom }
    }

    /// A partition that held `before` now holds `after`.
    pub(super) fn charge(&mut self, before: u64, after: u64) {
        self.gained = self.gained.wrapping_add(after.wrapping_sub(before));
        self.headroom = (self.headroom.saturating_add(before)).saturating_sub(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_settle_gains_and_losses() {
        let memory = Memory::new(100);
        let settle = |before, after| {
            let mut moment = Moment::new(GridTime(0), &memory);
            moment.charge(before, after);
            memory.settle(&moment);
        };
        settle(0, 80);
        settle(0, 50);
        assert_eq!((memory.held(), memory.headroom()), (130, 0));
        settle(80, 10);
        assert_eq!((memory.held(), memory.headroom()), (60, 40));
    }

    #[test]
    fn what_one_step_takes_the_next_does_not_get() {
        let memory = Memory::new(100);
        let mut moment = Moment::new(GridTime(0), &memory);
        moment.charge(0, 70);
        assert_eq!((moment.headroom, memory.held()), (30, 0));
        moment.charge(70, 20);
        assert_eq!(moment.headroom, 80);
        memory.settle(&moment);
        assert_eq!(memory.held(), 20);
    }
}
