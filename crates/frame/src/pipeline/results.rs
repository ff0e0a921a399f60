//! The frame from node to client: one slot per operation, in the order of the operations.

use alloc::vec::Vec;

use super::result::{OperationResult, SLOT, Slot, UNWRITTEN};
use crate::bytes::{
    Arena, FORMAT, append, blocks, check_length, check_total, header, overwrite, reserve, set_u16, set_u32,
    u32_at,
};
use crate::error::FrameError;

const HEADER: usize = 16;

/// Writes results into a buffer that is used again and again, in the order in which they come.
///
/// ```
/// use wattle_frame::pipeline::{OperationResult, Results, ResultsWriter};
///
/// let mut buffer = Vec::new();
/// let mut writer = ResultsWriter::new(&mut buffer, 2)?;
/// writer.set(1, &OperationResult::Put { version: 8, previous: None })?;
/// writer.set(0, &OperationResult::Get { value: Some(b"100"), version: 7 })?;
/// let results = Results::parse(writer.finish()?, 2)?;
///
/// assert_eq!(results.result(0)?, OperationResult::Get { value: Some(b"100"), version: 7 });
/// # Ok::<(), wattle_frame::FrameError>(())
/// ```
#[derive(Debug)]
pub struct ResultsWriter<'b> {
    buffer: &'b mut Vec<u8>,
    count: u32,
    written: u32,
}

impl<'b> ResultsWriter<'b> {
    /// Clears the buffer and begins the results of `count` operations in it.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when the slots don't fit into 4 GiB.
    pub fn new(buffer: &'b mut Vec<u8>, count: usize) -> Result<ResultsWriter<'b>, FrameError> {
        let count = reserve(buffer, HEADER, count, SLOT)?;
        Ok(ResultsWriter { buffer, count, written: 0 })
    }

    /// Writes the result of the operation at a place. After an error the frame is as it was before.
    ///
    /// # Errors
    /// [`FrameError::NoSuchSlot`], [`FrameError::AlreadyWritten`], or [`FrameError::TooLong`] past 4 GiB.
    #[inline]
    pub fn set(&mut self, index: usize, result: &OperationResult<'_>) -> Result<(), FrameError> {
        if index >= self.count as usize {
            return Err(FrameError::NoSuchSlot { index, count: self.count });
        }
        let at = HEADER + index * SLOT;
        if self.buffer[at] != UNWRITTEN {
            return Err(FrameError::AlreadyWritten { slot: index as u32 });
        }
        let (value, [reason, facts]) = result.payload();
        let length = value.len() as u64 + reason.len() as u64 + facts.len() as u64;
        check_length(self.buffer.len() as u64 + length)?;
        let value = append(self.buffer, value);
        let mut reason = append(self.buffer, reason);
        if !facts.is_empty() {
            reason.length += append(self.buffer, facts).length;
        }
        overwrite(self.buffer, at, &Slot::pack(result, value, reason).write())?;
        self.written += 1;
        Ok(())
    }

    /// How long the frame is so far, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Completes the frame.
    ///
    /// # Errors
    /// [`FrameError::CountMismatch`] when an operation has no result.
    pub fn finish(self) -> Result<&'b [u8], FrameError> {
        if self.written != self.count {
            return Err(FrameError::CountMismatch { expected: self.count, found: self.written });
        }
        let mut block = [0; HEADER];
        set_u16::<0, HEADER>(&mut block, FORMAT);
        set_u32::<4, HEADER>(&mut block, self.count);
        set_u32::<8, HEADER>(&mut block, self.buffer.len() as u32);
        overwrite(self.buffer, 0, &block)?;
        Ok(self.buffer)
    }
}

/// Results that were read. The header and the sizes are checked; each result is when it is read.
///
/// The header's 16 bytes: `u16 format | u16 flags | u32 count | u32 total | u32 reserved`.
#[derive(Clone, Copy, Debug)]
pub struct Results<'a> {
    arena: Arena<'a>,
    slots: &'a [[u8; SLOT]],
}

impl<'a> Results<'a> {
    /// Reads the results of `expected` operations.
    ///
    /// # Errors
    /// [`FrameError::CountMismatch`] when there isn't one for each; what else is wrong with the header or the sizes.
    pub fn parse(frame: &'a [u8], expected: usize) -> Result<Results<'a>, FrameError> {
        let header = header::<HEADER>(frame)?;
        check_total(u32_at::<8, HEADER>(header), frame)?;
        let count = u32_at::<4, HEADER>(header);
        if count as usize != expected {
            let expected = u32::try_from(expected).unwrap_or(u32::MAX);
            return Err(FrameError::CountMismatch { expected, found: count });
        }
        let (slots, end) = blocks::<SLOT>(frame, HEADER, count)?;
        let arena = Arena::new(frame, end);
        let mut sum = 0;
        for block in slots {
            let slot = Slot::read(block);
            sum += u64::from(slot.value.length) + u64::from(slot.reason.length);
        }
        arena.check_sum(sum)?;
        Ok(Results { arena, slots })
    }

    /// How many results there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The result of the operation at a place.
    ///
    /// # Errors
    /// [`FrameError::NoSuchSlot`], or what is wrong with the slot.
    #[inline]
    pub fn result(&self, index: usize) -> Result<OperationResult<'a>, FrameError> {
        match self.slots.get(index) {
            Some(block) => Slot::read(block).unpack(&self.arena, index as u32),
            None => Err(FrameError::NoSuchSlot { index, count: self.slots.len() as u32 }),
        }
    }

    /// All results, in the order of the operations.
    pub fn results(
        &self,
    ) -> impl ExactSizeIterator<Item = Result<OperationResult<'a>, FrameError>> + use<'a> {
        let all = *self;
        (0..all.len()).map(move |index| all.result(index))
    }
}
