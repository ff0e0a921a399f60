//! A right-sized buffer behind one pointer: the length lives in front of the bytes.
//!
//! An entry holds one of these in 8 bytes, where `Box<[u8]>` takes 16; over a million entries of 100 bytes that is the
//! difference between meeting the budget of 64 bytes over key and value and missing it.
#![allow(unsafe_code, reason = "a thin pointer with its length in the allocation cannot be written without")]

use std::alloc::{self, Layout};
use std::fmt;
use std::ptr::{self, NonNull};

use super::prefetch::prefetch_lines;

const HEADER: usize = size_of::<u32>();
/// Bytes worth asking for: how long the value is stands in what is asked for.
const PREFETCHED: usize = 112;

/// Owned bytes, at most `u32::MAX` of them.
pub(super) struct Block {
    /// Points to a `u32` length, followed by that many initialised bytes; allocated with `layout(length)`.
    start: NonNull<u8>,
}

// SAFETY: a block owns its allocation alone and has no interior mutability, like `Box<[u8]>`.
unsafe impl Send for Block {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Block {}

fn layout(length: usize) -> Layout {
    Layout::from_size_align(HEADER + length, align_of::<u32>())
        .expect("at most u32::MAX bytes and a header fit isize")
}

impl Block {
    /// A block of `head` followed by `tail`.
    pub(super) fn new(head: &[u8], tail: &[u8]) -> Self {
        let length = head.len() + tail.len();
        let stored =
            u32::try_from(length).expect("keys and values are far below 4 GiB: limits::{KEY,VALUE}_BYTES");
        let layout = layout(length);
        // SAFETY: the layout has at least the header's size. The writes stay inside the allocation: 4 bytes of header, which
        // the layout aligns, then `head.len() + tail.len()` bytes; the sources are other allocations.
        unsafe {
            let Some(start) = NonNull::new(alloc::alloc(layout)) else { alloc::handle_alloc_error(layout) };
            start.cast::<u32>().write(stored);
            let bytes = start.as_ptr().add(HEADER);
            ptr::copy_nonoverlapping(head.as_ptr(), bytes, head.len());
            ptr::copy_nonoverlapping(tail.as_ptr(), bytes.add(head.len()), tail.len());
            Self { start }
        }
    }

    /// Asks for its first bytes.
    pub(super) fn prefetch(&self) {
        prefetch_lines(self.start.as_ptr(), PREFETCHED);
    }

    #[inline]
    fn length(&self) -> usize {
        // SAFETY: `start` points to an aligned, initialised u32 for as long as the block lives.
        unsafe { self.start.cast::<u32>().read() as usize }
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `length` initialised bytes follow the header, and the borrow of self keeps them alive and unchanged.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(HEADER), self.length()) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and the exclusive borrow of self makes this the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(HEADER), self.length()) }
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        Self::new(self.bytes(), &[])
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with the layout of the same length, which never changes, and not freed before.
        unsafe { alloc::dealloc(self.start.as_ptr(), layout(self.length())) }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.length())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_head_then_tail() {
        for (head, tail) in [(&b""[..], &b""[..]), (b"a", b""), (b"", b"b"), (b"abc", b"defghijk")] {
            assert_eq!(Block::new(head, tail).bytes(), [head, tail].concat());
        }
    }

    #[test]
    fn a_block_can_be_written_in_place() {
        let mut block = Block::new(b"", b"abc");
        block.bytes_mut().copy_from_slice(b"xyz");
        assert_eq!(block.bytes(), b"xyz");
    }

    #[test]
    fn an_absent_block_costs_nothing() {
        assert_eq!(size_of::<Option<Block>>(), 8);
    }
}
