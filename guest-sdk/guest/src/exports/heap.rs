//! The allocator of a module: a list of free blocks for each class of sizes, and the end of memory for what no list has.
//!
//! A module is one thread, and its calls are short: neighbours need not be joined again. So this takes a sixth of the bytes
//! of Rust's own allocator for WebAssembly, which would be a third of the smallest module. (Segregated fits, as in Wilson
//! et al., "Dynamic Storage Allocation", 1995; the classes are those of jemalloc.)

use core::alloc::Layout;
use core::ptr;

/// What every block is a multiple of, and aligned to.
const UNIT: usize = 16;
/// Classes of all sizes that 32 bits can say.
const CLASSES: usize = 104;
/// What memory grows by.
pub(super) const PAGE: usize = 1 << 16;

/// Where memory comes from.
pub(super) trait Pages {
    /// Adds so many pages, and tells where they begin.
    fn grow(&mut self, pages: usize) -> Option<*mut u8>;
}

pub(super) struct Heap<P> {
    /// The first free block of each class. A free block begins with a pointer to the next.
    free: [*mut u8; CLASSES],
    /// Where memory begins that is not given out, or was given back at the end.
    top: *mut u8,
    /// Where it ends.
    end: *mut u8,
    pages: P,
}

/// Sizes that share a list: sixteen bytes apart up to 128, then four for each doubling.
#[derive(Clone, Copy, PartialEq)]
struct Class {
    place: usize,
    bytes: usize,
}

impl Class {
    #[inline]
    fn of(size: usize) -> Self {
        let units = size.div_ceil(UNIT).max(1);
        let spacing = (usize::BITS - (units - 1).leading_zeros()).saturating_sub(3);
        let steps = units.div_ceil(1 << spacing);
        Self { place: spacing as usize * 4 + steps - 1, bytes: (steps << spacing) * UNIT }
    }
}

impl<P: Pages> Heap<P> {
    pub(super) const fn new(pages: P) -> Self {
        Self { free: [ptr::null_mut(); CLASSES], top: ptr::null_mut(), end: ptr::null_mut(), pages }
    }

    /// Memory for a layout; null when there is no more.
    #[inline]
    pub(super) fn allocate(&mut self, layout: Layout) -> *mut u8 {
        if layout.align() <= UNIT { self.take(layout.size()) } else { self.take_aligned(layout) }
    }

    /// Gives memory back.
    ///
    /// # Safety
    /// This heap gave it for this layout, and nobody uses it any more.
    #[inline]
    pub(super) unsafe fn free(&mut self, block: *mut u8, layout: Layout) {
        if layout.align() <= UNIT {
            // SAFETY: the caller's promise.
            unsafe { self.give(block, layout.size()) };
        } else {
            // SAFETY: `take_aligned` put the block's own address before it, and asked for this size.
            unsafe {
                let whole = block.cast::<*mut u8>().sub(1).read();
                self.give(whole, layout.size() + layout.align());
            }
        }
    }

    /// Memory of another size with the same content, as much of it as fits; null, and nothing happened, when there is no more.
    ///
    /// # Safety
    /// As [`Heap::free`]; `layout` with the new size is a layout.
    pub(super) unsafe fn resize(&mut self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (old, new) = (Class::of(layout.size()), Class::of(size));
        let ordinary = layout.align() <= UNIT;
        if ordinary && old == new {
            return block;
        }
        let last = ordinary && block.wrapping_add(old.bytes) == self.top;
        let moved = if last {
            self.top = block;
            self.carve(new.bytes)
        } else {
            // SAFETY: the caller's promise.
            self.allocate(unsafe { Layout::from_size_align_unchecked(size, layout.align()) })
        };
        if moved.is_null() {
            if last {
                self.top = block.wrapping_add(old.bytes);
            }
        } else if moved != block {
            // SAFETY: both are as long as what is copied, and the old one is not given out again yet.
            unsafe { ptr::copy_nonoverlapping(block, moved, layout.size().min(size)) };
            // The last block has left its memory already: its end of memory is not that which goes on.
            if !last {
                // SAFETY: the caller's promise.
                unsafe { self.free(block, layout) };
            }
        }
        moved
    }

    #[inline]
    fn take(&mut self, size: usize) -> *mut u8 {
        let class = Class::of(size);
        let Some(first) = self.free.get_mut(class.place) else { return ptr::null_mut() };
        if first.is_null() {
            return self.carve(class.bytes);
        }
        let block = *first;
        // SAFETY: a free block has room for the pointer that `give` wrote there.
        *first = unsafe { block.cast::<*mut u8>().read() };
        block
    }

    /// # Safety
    /// `take` gave it for this size, and nobody uses it any more.
    #[inline]
    unsafe fn give(&mut self, block: *mut u8, size: usize) {
        let class = Class::of(size);
        if block.wrapping_add(class.bytes) == self.top {
            self.top = block;
        } else if let Some(first) = self.free.get_mut(class.place) {
            // SAFETY: a block is at least a unit long and aligned to it, which is enough for a pointer.
            unsafe { block.cast::<*mut u8>().write(*first) };
            *first = block;
        }
    }

    /// A block with the memory for a layout somewhere in it, and the block's own address before that.
    #[cold]
    fn take_aligned(&mut self, layout: Layout) -> *mut u8 {
        let Some(size) = layout.size().checked_add(layout.align()) else { return ptr::null_mut() };
        let block = self.take(size);
        if block.is_null() {
            return block;
        }
        // Blocks are aligned to a unit, so at least one of them lies between.
        let aligned = block.map_addr(|address| (address + layout.align()) & !(layout.align() - 1));
        // SAFETY: it is within the block, and a unit has room for a pointer.
        unsafe { aligned.cast::<*mut u8>().sub(1).write(block) };
        aligned
    }

    /// A block off the end.
    fn carve(&mut self, bytes: usize) -> *mut u8 {
        loop {
            let left = self.end.addr() - self.top.addr();
            if bytes <= left {
                let block = self.top;
                self.top = block.wrapping_add(bytes);
                return block;
            }
            let pages = (bytes - left).div_ceil(PAGE);
            let Some(start) = self.pages.grow(pages) else { return ptr::null_mut() };
            // Somebody else may have grown memory meanwhile: then what was left is lost, and this goes round once more.
            if start != self.end {
                self.top = start;
            }
            self.end = start.wrapping_add(pages * PAGE);
        }
    }
}

#[cfg(all(target_arch = "wasm32", target_os = "unknown", feature = "allocator"))]
mod global {
    use core::alloc::{GlobalAlloc, Layout};
    use core::arch::wasm32::memory_grow;
    use core::cell::UnsafeCell;
    use core::ptr;

    use super::{Heap, PAGE, Pages};

    struct Memory;

    impl Pages for Memory {
        fn grow(&mut self, pages: usize) -> Option<*mut u8> {
            let before = memory_grow::<0>(pages);
            (before != usize::MAX).then(|| ptr::with_exposed_provenance_mut(before * PAGE))
        }
    }

    struct OneThread(UnsafeCell<Heap<Memory>>);

    // SAFETY: a module of this target is one thread.
    unsafe impl Sync for OneThread {}

    #[global_allocator]
    static HEAP: OneThread = OneThread(UnsafeCell::new(Heap::new(Memory)));

    // SAFETY: the heap keeps the contract of an allocator. There is one thread, and nothing in it calls back, so the
    // reference to it is the only one.
    unsafe impl GlobalAlloc for OneThread {
        #[inline(never)]
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: see above.
            unsafe { &mut *self.0.get() }.allocate(layout)
        }

        #[inline(never)]
        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: see above, and the caller's promise.
            unsafe { (*self.0.get()).free(block, layout) };
        }

        #[inline(never)]
        unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            // SAFETY: see above, and the caller's promise.
            unsafe { (*self.0.get()).resize(block, layout, size) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::{alloc, dealloc};

    use super::*;

    const PAGES: usize = 64;

    fn room() -> Layout {
        Layout::from_size_align(PAGES * PAGE, PAGE).unwrap()
    }

    /// Memory that ends, and that somebody else takes some of now and then.
    struct Memory {
        start: *mut u8,
        used: usize,
        skip_at: usize,
    }

    impl Memory {
        fn new(skip_at: usize) -> Self {
            // SAFETY: the layout is not empty.
            Self { start: unsafe { alloc(room()) }, used: 0, skip_at }
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: `new` allocated it.
            unsafe { dealloc(self.start, room()) };
        }
    }

    impl Pages for Memory {
        fn grow(&mut self, pages: usize) -> Option<*mut u8> {
            if self.used == self.skip_at {
                self.used += 1;
            }
            let start = self.start.wrapping_add(self.used * PAGE);
            self.used += pages;
            (self.used <= PAGES).then_some(start)
        }
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    /// Blocks that are in use, each filled with its own byte.
    #[derive(Default)]
    struct Live(Vec<(*mut u8, Layout, u8)>);

    impl Live {
        fn add(&mut self, block: *mut u8, layout: Layout, mark: u8) {
            assert_eq!(block.addr() % layout.align(), 0);
            // SAFETY: it is as long as the layout says.
            unsafe { block.write_bytes(mark, layout.size()) };
            self.0.push((block, layout, mark));
        }

        /// Takes a block out, which still holds what was written.
        fn take(&mut self, place: usize) -> (*mut u8, Layout, u8) {
            let (block, layout, mark) = self.0.swap_remove(place % self.0.len());
            check(block, layout.size(), mark);
            (block, layout, mark)
        }
    }

    fn check(block: *mut u8, size: usize, mark: u8) {
        // SAFETY: it is in use and that long.
        let bytes = unsafe { core::slice::from_raw_parts(block, size) };
        assert!(bytes.iter().all(|byte| *byte == mark), "{size} bytes of {mark} were written over");
    }

    /// Thousands of steps of one kind or another, by a generator that repeats itself in each run.
    #[test]
    fn blocks_in_use_keep_what_was_written_into_them() {
        for skip_at in [usize::MAX, 1, 7] {
            let mut heap = Heap::new(Memory::new(skip_at));
            let mut live = Live::default();
            let mut random = 1_u32;
            for step in 0..20_000_u32 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (choice, size) = (random >> 30, (random >> 8) as usize % (1 << (random >> 4 & 15)));
                let place = (random >> 12) as usize;
                let align = 1 << (random >> 20 & 7);
                match choice {
                    0 | 1 if live.0.len() < 100 => {
                        let layout = Layout::from_size_align(size.max(1), align).unwrap();
                        live.add(heap.allocate(layout), layout, step as u8);
                    }
                    2 if !live.0.is_empty() => {
                        let (block, old, mark) = live.take(place);
                        let new = Layout::from_size_align(size.max(1), old.align()).unwrap();
                        // SAFETY: it is in use with this layout.
                        let moved = unsafe { heap.resize(block, old, new.size()) };
                        check(moved, old.size().min(new.size()), mark);
                        live.add(moved, new, step as u8);
                    }
                    _ if !live.0.is_empty() => {
                        let (block, layout, _) = live.take(place);
                        // SAFETY: it is in use with this layout.
                        unsafe { heap.free(block, layout) };
                    }
                    _ => {}
                }
            }
            assert!(heap.pages.used < PAGES, "what was freed is used again");
        }
    }

    #[test]
    fn classes_follow_one_another_and_waste_at_most_a_quarter() {
        let mut last = Class { place: 0, bytes: UNIT };
        for size in 1..200_000_usize {
            let class = Class::of(size);
            assert!(class.bytes >= size && class.bytes.is_multiple_of(UNIT), "{size}");
            assert!(size <= 128 || class.bytes - size < size / 4 + UNIT, "{size} in {}", class.bytes);
            assert!(class == last || (class.place == last.place + 1 && size == last.bytes + 1), "{size}");
            last = class;
        }
        assert_eq!(Class::of(isize::MAX as usize >> 32).place, CLASSES - 1);
    }

    #[test]
    fn a_freed_block_is_given_out_again() {
        let mut heap = Heap::new(Memory::new(usize::MAX));
        let first = heap.allocate(layout(100));
        let second = heap.allocate(layout(100));
        // SAFETY: both are in use with this layout.
        unsafe {
            heap.free(first, layout(100));
            assert_eq!(heap.allocate(layout(97)), first, "by its list");
            heap.free(second, layout(100));
        }
        assert_eq!(heap.allocate(layout(5000)), second, "as the end of memory");
    }

    #[test]
    fn the_last_block_grows_and_shrinks_where_it_is() {
        let mut heap = Heap::new(Memory::new(usize::MAX));
        heap.allocate(layout(24));
        let block = heap.allocate(layout(10));
        // SAFETY: it is in use with these layouts.
        unsafe {
            assert_eq!(heap.resize(block, layout(10), 1_000_000), block);
            assert_eq!(heap.resize(block, layout(1_000_000), 20), block);
        }
        assert_eq!(heap.allocate(layout(1)), block.wrapping_add(32));
    }

    #[test]
    fn when_memory_ends_nothing_is_given_and_nothing_is_lost() {
        let mut heap = Heap::new(Memory::new(usize::MAX));
        let block = heap.allocate(layout(1000));
        assert!(heap.allocate(layout(PAGES * PAGE)).is_null());
        // SAFETY: it is in use with this layout.
        assert!(unsafe { heap.resize(block, layout(1000), PAGES * PAGE) }.is_null());
        assert!(heap.allocate(Layout::from_size_align(isize::MAX as usize - 63, 64).unwrap()).is_null());
        // SAFETY: as above.
        unsafe { heap.free(block, layout(1000)) };
        assert_eq!(heap.allocate(layout(1000)), block);
    }
}
