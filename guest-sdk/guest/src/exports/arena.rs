//! Memory for what the host passes in. Nothing is freed one by one: all of it goes at the first allocation after an
//! export has finished.

use std::mem;
use std::ptr;

/// The least that is asked of the global allocator at once.
const MIN_BLOCK_BYTES: usize = 4096;

pub(crate) struct Arena {
    /// The block in use, and the largest. Only its capacity is used.
    block: Vec<u8>,
    /// How much of it is taken.
    used: usize,
    /// Blocks that were too small in the course of this call; what was allocated in them is still in use.
    outgrown: Vec<Vec<u8>>,
    /// What was handed out belongs to a call that is over.
    finished: bool,
}

impl Arena {
    pub(crate) const fn new() -> Self {
        Self { block: Vec::new(), used: 0, outgrown: Vec::new(), finished: false }
    }

    /// The call is over: what was allocated for it may be used again.
    pub(crate) fn finish_call(&mut self) {
        self.finished = true;
    }

    /// Memory of a size and an alignment (a power of two), for the rest of the call.
    pub(crate) fn allocate(&mut self, align: usize, size: usize) -> *mut u8 {
        if self.finished {
            self.finished = false;
            self.used = 0;
            self.outgrown.clear();
        }
        if size == 0 {
            return ptr::without_provenance_mut(align);
        }
        if self.end(align, size) > self.block.capacity() {
            let capacity = (self.block.capacity() * 2).max(MIN_BLOCK_BYTES).max(size.saturating_add(align));
            let outgrown = mem::replace(&mut self.block, Vec::with_capacity(capacity));
            self.outgrown.push(outgrown);
            self.used = 0;
        }
        self.used = self.end(align, size);
        self.block.as_mut_ptr().wrapping_add(self.used - size)
    }

    /// Where in the block the next allocation would end.
    fn end(&self, align: usize, size: usize) -> usize {
        let free = self.block.as_ptr().addr() + self.used;
        let padding = free.wrapping_neg() & (align - 1);
        self.used.saturating_add(padding).saturating_add(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_of_a_call_do_not_overlap() {
        let mut arena = Arena::new();
        let sizes = [1, 7, 100, 5000, 3, 70_000, 0, 16];
        let taken: Vec<(usize, usize)> =
            sizes.iter().map(|&size| (arena.allocate(1, size).addr(), size)).collect();
        for (place, &(start, size)) in taken.iter().enumerate() {
            for &(other, other_size) in &taken[place + 1..] {
                assert!(start + size <= other || other + other_size <= start);
            }
        }
    }

    #[test]
    fn alignment_is_kept() {
        let mut arena = Arena::new();
        for align in [1, 2, 4, 8, 16] {
            arena.allocate(1, 3);
            assert_eq!(arena.allocate(align, 5).addr() % align, 0);
        }
    }

    #[test]
    fn finished_calls_memory_is_used_again() {
        let mut arena = Arena::new();
        let first = arena.allocate(1, 100);
        arena.finish_call();
        assert_eq!(arena.allocate(1, 200), first);
        assert_ne!(arena.allocate(1, 200), first);
    }

    #[test]
    fn one_large_call_leaves_one_block() {
        let mut arena = Arena::new();
        arena.allocate(1, 10);
        arena.allocate(1, 10_000);
        let large = arena.allocate(1, 1_000_000);
        assert!(!arena.outgrown.is_empty());
        arena.finish_call();
        assert_eq!(arena.allocate(1, 1_000_000), large);
        assert!(arena.outgrown.is_empty());
    }
}
