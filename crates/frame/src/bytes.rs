//! Numbers at fixed places of blocks, and ranges of the arena: the only code that turns offsets into bytes.
//!
//! A block is an array, so a place outside it does not compile, and reading a slot costs no checks.

use alloc::vec::Vec;

use crate::error::{Field, FrameError};

// Every u32 of a frame is an offset or a length, and must fit the machine's.
const _: () = assert!(size_of::<usize>() >= size_of::<u32>());

/// The only format there is.
pub(crate) const FORMAT: u16 = 1;

/// An offset that says "absent".
pub(crate) const ABSENT: u32 = u32::MAX;

/// A range of a frame, as a slot writes it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Span {
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

impl Span {
    pub(crate) const ABSENT: Span = Span { offset: ABSENT, length: 0 };

    #[inline]
    pub(crate) fn is_absent(self) -> bool {
        self.offset == ABSENT
    }
}

#[inline]
fn take<const AT: usize, const WIDTH: usize, const N: usize>(block: &[u8; N]) -> [u8; WIDTH] {
    const { assert!(AT + WIDTH <= N) };
    let mut out = [0; WIDTH];
    out.copy_from_slice(&block[AT..AT + WIDTH]);
    out
}

#[inline]
fn set<const AT: usize, const WIDTH: usize, const N: usize>(block: &mut [u8; N], bytes: [u8; WIDTH]) {
    const { assert!(AT + WIDTH <= N) };
    block[AT..AT + WIDTH].copy_from_slice(&bytes);
}

#[inline]
pub(crate) fn u16_at<const AT: usize, const N: usize>(block: &[u8; N]) -> u16 {
    u16::from_le_bytes(take::<AT, 2, N>(block))
}

#[inline]
pub(crate) fn u32_at<const AT: usize, const N: usize>(block: &[u8; N]) -> u32 {
    u32::from_le_bytes(take::<AT, 4, N>(block))
}

#[inline]
pub(crate) fn u64_at<const AT: usize, const N: usize>(block: &[u8; N]) -> u64 {
    u64::from_le_bytes(take::<AT, 8, N>(block))
}

#[inline]
pub(crate) fn span_at<const AT: usize, const N: usize>(block: &[u8; N]) -> Span {
    let [a, b, c, d, e, f, g, h] = take::<AT, 8, N>(block);
    Span { offset: u32::from_le_bytes([a, b, c, d]), length: u32::from_le_bytes([e, f, g, h]) }
}

#[inline]
pub(crate) fn set_u16<const AT: usize, const N: usize>(block: &mut [u8; N], number: u16) {
    set::<AT, 2, N>(block, number.to_le_bytes());
}

#[inline]
pub(crate) fn set_u32<const AT: usize, const N: usize>(block: &mut [u8; N], number: u32) {
    set::<AT, 4, N>(block, number.to_le_bytes());
}

#[inline]
pub(crate) fn set_u64<const AT: usize, const N: usize>(block: &mut [u8; N], number: u64) {
    set::<AT, 8, N>(block, number.to_le_bytes());
}

#[inline]
pub(crate) fn set_span<const AT: usize, const N: usize>(block: &mut [u8; N], span: Span) {
    let [a, b, c, d] = span.offset.to_le_bytes();
    let [e, f, g, h] = span.length.to_le_bytes();
    set::<AT, 8, N>(block, [a, b, c, d, e, f, g, h]);
}

/// The header of a frame: its first `N` bytes, of a format that is known.
pub(crate) fn header<const N: usize>(frame: &[u8]) -> Result<&[u8; N], FrameError> {
    let header =
        frame.first_chunk::<N>().ok_or(FrameError::Truncated { needed: N as u64, found: frame.len() })?;
    let format = u16_at::<0, N>(header);
    if format != FORMAT {
        return Err(FrameError::Format { expected: FORMAT, found: format });
    }
    let flags = u16_at::<2, N>(header);
    if flags != 0 {
        return Err(FrameError::HeaderFlags { found: flags });
    }
    Ok(header)
}

/// Checks that a frame is as long as its header says.
pub(crate) fn check_total(declared: u32, frame: &[u8]) -> Result<(), FrameError> {
    if declared as usize == frame.len() {
        Ok(())
    } else {
        Err(FrameError::LengthMismatch { declared, found: frame.len() })
    }
}

/// The `count` blocks of `N` bytes that begin at `start`, and where they end.
pub(crate) fn blocks<const N: usize>(
    frame: &[u8],
    start: usize,
    count: u32,
) -> Result<(&[[u8; N]], usize), FrameError> {
    // At most 2^32 blocks of a few dozen bytes: no overflow.
    let needed = start as u64 + u64::from(count) * N as u64;
    let end = usize::try_from(needed).unwrap_or(usize::MAX);
    match frame.get(start..end) {
        Some(bytes) => Ok((bytes.as_chunks::<N>().0, end)),
        None => Err(FrameError::Truncated { needed, found: frame.len() }),
    }
}

/// A frame of which only the arena may be pointed into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arena<'a> {
    frame: &'a [u8],
    start: u32,
}

impl<'a> Arena<'a> {
    /// The part of `frame` that begins at `start`. The frame's length is that of its header, so both fit a `u32`.
    pub(crate) fn new(frame: &'a [u8], start: usize) -> Arena<'a> {
        debug_assert!(start <= frame.len() && u32::try_from(frame.len()).is_ok(), "unchecked frame");
        Arena { frame, start: start as u32 }
    }

    /// The bytes of a range. An empty one may lie anywhere: nothing is read.
    #[inline]
    pub(crate) fn range(&self, span: Span, field: Field, slot: Option<u32>) -> Result<&'a [u8], FrameError> {
        if span.length == 0 {
            return Ok(&[]);
        }
        if span.offset >= self.start
            && let Some(end) = span.offset.checked_add(span.length)
            && let Some(bytes) = self.frame.get(span.offset as usize..end as usize)
        {
            return Ok(bytes);
        }
        Err(self.out_of_bounds(span, field, slot))
    }

    /// Checks that ranges of `sum` bytes together can lie in the arena without sharing any.
    pub(crate) fn check_sum(&self, sum: u64) -> Result<(), FrameError> {
        let arena = self.frame.len() as u64 - u64::from(self.start);
        if sum <= arena { Ok(()) } else { Err(FrameError::RangesExceedArena { sum, arena }) }
    }

    #[cold]
    fn out_of_bounds(&self, span: Span, field: Field, slot: Option<u32>) -> FrameError {
        FrameError::OutOfBounds {
            field,
            slot,
            offset: span.offset,
            length: span.length,
            arena: self.start,
            total: self.frame.len() as u32,
        }
    }
}

/// Clears a buffer and reserves `fixed` bytes and `capacity` blocks of `block` bytes, all zero.
pub(crate) fn reserve(
    buffer: &mut Vec<u8>,
    fixed: usize,
    capacity: usize,
    block: usize,
) -> Result<u32, FrameError> {
    let length = (capacity as u64).saturating_mul(block as u64).saturating_add(fixed as u64);
    check_length(length)?;
    buffer.clear();
    buffer.resize(length as usize, 0);
    Ok(capacity as u32)
}

/// Checks that a frame of `length` bytes can say how long it is. The last offset is kept for "absent".
#[inline]
pub(crate) fn check_length(length: u64) -> Result<(), FrameError> {
    if length < u64::from(u32::MAX) { Ok(()) } else { Err(FrameError::TooLong { length }) }
}

/// Appends to the arena; [`check_length`] has been asked before.
#[inline]
pub(crate) fn append(buffer: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let span = Span { offset: buffer.len() as u32, length: bytes.len() as u32 };
    buffer.extend_from_slice(bytes);
    span
}

/// Overwrites a block that [`reserve`] made.
#[inline]
pub(crate) fn overwrite<const N: usize>(
    buffer: &mut [u8],
    at: usize,
    block: &[u8; N],
) -> Result<(), FrameError> {
    let found = buffer.len();
    match buffer.get_mut(at..at + N) {
        Some(place) => {
            place.copy_from_slice(block);
            Ok(())
        }
        None => Err(FrameError::SinkShrunk { expected: at + N, found }),
    }
}
