//! What entries may take of this node's memory.

use std::sync::atomic::{AtomicU64, Ordering};

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

    /// A partition that held `before` now holds `after`.
    pub(crate) fn settle(&self, before: u64, after: u64) {
        if after != before {
            // Wrapping: a loss is added as its complement.
            self.held.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_settle_gains_and_losses() {
        let memory = Memory::new(100);
        memory.settle(0, 80);
        memory.settle(0, 50);
        assert_eq!((memory.held(), memory.headroom()), (130, 0));
        memory.settle(80, 10);
        assert_eq!((memory.held(), memory.headroom()), (60, 40));
    }
}
