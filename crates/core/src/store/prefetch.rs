//! Asks the memory for what will be read soon. An operation on a key that nobody has used lately waits for the memory four times
//! in a row (index, entry, value); the operations of one message can wait together, if each asks before the first reads.
//! Group prefetching is that of Chen et al. (ICDE 2004).
#![allow(unsafe_code, reason = "the instruction has no safe form")]

/// The usual size of a cache line, in bytes.
const LINE: usize = 64;

/// Asks for the cache lines of the items, at most the first three of them.
pub(super) fn prefetch<T>(items: &[T]) {
    prefetch_lines(items.as_ptr().cast(), size_of_val(items).min(3 * LINE));
}

/// Asks for the cache lines from `start` on, `bytes` of them. Nothing is read: the place need not exist.
pub(super) fn prefetch_lines(start: *const u8, bytes: usize) {
    let misaligned = start.addr() % LINE;
    for line in (0..misaligned + bytes).step_by(LINE) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instruction is a hint: it reads nothing, and never faults, wherever it points.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(start.wrapping_sub(misaligned).wrapping_add(line).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}
