//! The frame from client to node: names, then one slot per operation.

use alloc::vec::Vec;
use core::str;

use super::operation::{NameIndex, Operation, SLOT, Slot};
use crate::bytes::{
    Arena, FORMAT, append, blocks, check_length, check_total, header, overwrite, reserve, set_span, set_u16,
    set_u32, span_at, u32_at,
};
use crate::error::{Field, FrameError};

const HEADER: usize = 24;
const NAME: usize = 8;

/// How many names a frame can have: a node looks each of them up before it does anything else.
pub const MAX_NAMES: u32 = 1024;

/// Writes operations into a buffer that is used again and again.
///
/// ```
/// use wattle_frame::pipeline::{Condition, NameIndex, Operation, Operations, OperationsWriter};
///
/// let mut buffer = Vec::new();
/// let mut writer = OperationsWriter::new(&mut buffer, &["accounts", "debit"], 2)?;
/// let (accounts, debit) = (NameIndex(0), NameIndex(1));
/// writer.push(&Operation::Put {
///     map: accounts,
///     key: b"alice",
///     value: b"100",
///     ttl_ms: None,
///     condition: Condition::IfAbsent,
///     return_previous: false,
/// })?;
/// writer.push(&Operation::Invoke { map: accounts, function: debit, key: b"alice", argument: b"30" })?;
/// let operations = Operations::parse(writer.finish())?;
///
/// assert_eq!(operations.len(), 2);
/// assert_eq!(operations.name(debit)?, "debit");
/// assert_eq!(operations.operation(1)?.key(), b"alice");
/// # Ok::<(), wattle_frame::FrameError>(())
/// ```
#[derive(Debug)]
pub struct OperationsWriter<'b> {
    buffer: &'b mut Vec<u8>,
    names: u32,
    slots_start: usize,
    capacity: u32,
    written: u32,
}

impl<'b> OperationsWriter<'b> {
    /// Clears the buffer and begins a frame in it, with these names and room for `capacity` operations. Slots that
    /// stay unused are sent along as dead bytes.
    ///
    /// # Errors
    /// [`FrameError::TooManyNames`] past [`MAX_NAMES`], [`FrameError::TooLong`] past 4 GiB.
    pub fn new(
        buffer: &'b mut Vec<u8>,
        names: &[&str],
        capacity: usize,
    ) -> Result<OperationsWriter<'b>, FrameError> {
        let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
        if count > MAX_NAMES {
            return Err(FrameError::TooManyNames { limit: MAX_NAMES, found: count });
        }
        let slots_start = HEADER + names.len() * NAME;
        let capacity = reserve(buffer, slots_start, capacity, SLOT)?;
        for (place, name) in names.iter().enumerate() {
            check_length(buffer.len() as u64 + name.len() as u64)?;
            let mut block = [0; NAME];
            set_span::<0, NAME>(&mut block, append(buffer, name.as_bytes()));
            overwrite(buffer, HEADER + place * NAME, &block)?;
        }
        Ok(OperationsWriter { buffer, names: count, slots_start, capacity, written: 0 })
    }

    /// Adds an operation. After an error the frame is as it was before.
    ///
    /// # Errors
    /// [`FrameError::Full`] past the capacity, [`FrameError::NoSuchName`] when the frame doesn't have a name,
    /// [`FrameError::TooLong`] past 4 GiB.
    #[inline]
    pub fn push(&mut self, operation: &Operation<'_>) -> Result<(), FrameError> {
        if self.written == self.capacity {
            return Err(FrameError::Full { capacity: self.capacity });
        }
        check_names(operation, self.names)?;
        let (key, payload) = (operation.key(), operation.payload());
        check_length(self.buffer.len() as u64 + key.len() as u64 + payload.len() as u64)?;
        let key = append(self.buffer, key);
        let payload = append(self.buffer, payload);
        let block = Slot::pack(operation, key, payload).write();
        overwrite(self.buffer, self.slots_start + self.written as usize * SLOT, &block)?;
        self.written += 1;
        Ok(())
    }

    /// How many operations were added.
    pub fn len(&self) -> usize {
        self.written as usize
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }

    /// How long the frame is so far, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Completes the frame.
    pub fn finish(self) -> &'b [u8] {
        let total = self.buffer.len() as u32;
        // It is there: `new` reserved it.
        if let Some(header) = self.buffer.first_chunk_mut::<HEADER>() {
            set_u16::<0, HEADER>(header, FORMAT);
            set_u32::<4, HEADER>(header, self.written);
            set_u32::<8, HEADER>(header, self.names);
            set_u32::<12, HEADER>(header, total);
        }
        self.buffer
    }
}

/// Operations that were read. The header and the sizes are checked; each name and operation is when it is read.
///
/// The header's 24 bytes: `u16 format | u16 flags | u32 count | u32 names | u32 total | u64 reserved`. Then the names,
/// of 8 bytes each: `u32 offset, length`.
#[derive(Clone, Copy, Debug)]
pub struct Operations<'a> {
    arena: Arena<'a>,
    names: &'a [[u8; NAME]],
    slots: &'a [[u8; SLOT]],
}

impl<'a> Operations<'a> {
    /// Reads the header, and checks that all ranges together are no longer than the frame: so the operations never
    /// cost more memory than what was received.
    ///
    /// # Errors
    /// What is wrong with the header or the sizes.
    pub fn parse(frame: &'a [u8]) -> Result<Operations<'a>, FrameError> {
        let header = header::<HEADER>(frame)?;
        check_total(u32_at::<12, HEADER>(header), frame)?;
        let names = u32_at::<8, HEADER>(header);
        if names > MAX_NAMES {
            return Err(FrameError::TooManyNames { limit: MAX_NAMES, found: names });
        }
        let (names, end) = blocks::<NAME>(frame, HEADER, names)?;
        let (slots, end) = blocks::<SLOT>(frame, end, u32_at::<4, HEADER>(header))?;
        let arena = Arena::new(frame, end);
        let mut sum = 0;
        for block in names {
            sum += u64::from(span_at::<0, NAME>(block).length);
        }
        for block in slots {
            let slot = Slot::read(block);
            sum += u64::from(slot.key.length) + u64::from(slot.value.length);
        }
        arena.check_sum(sum)?;
        Ok(Operations { arena, names, slots })
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The operation at a place. The names that it points to exist.
    ///
    /// # Errors
    /// [`FrameError::NoSuchSlot`], or what is wrong with the slot.
    #[inline]
    pub fn operation(&self, index: usize) -> Result<Operation<'a>, FrameError> {
        let Some(block) = self.slots.get(index) else {
            return Err(FrameError::NoSuchSlot { index, count: self.slots.len() as u32 });
        };
        let place = index as u32;
        let slot = Slot::read(block);
        let key = self.arena.range(slot.key, Field::Key, Some(place))?;
        let payload = self.arena.range(slot.value, Field::Value, Some(place))?;
        let operation = slot.unpack(place, key, payload)?;
        check_names(&operation, self.names.len() as u32)?;
        Ok(operation)
    }

    /// All operations, in the order of their slots.
    pub fn operations(&self) -> impl ExactSizeIterator<Item = Result<Operation<'a>, FrameError>> + use<'a> {
        let all = *self;
        (0..all.len()).map(move |index| all.operation(index))
    }

    /// A name. It is checked each time it is asked for, so ask once per frame.
    ///
    /// # Errors
    /// [`FrameError::NoSuchName`], or what is wrong with the name.
    pub fn name(&self, index: NameIndex) -> Result<&'a str, FrameError> {
        let NameIndex(index) = index;
        let Some(block) = self.names.get(usize::from(index)) else {
            return Err(FrameError::NoSuchName { index, names: self.names.len() as u32 });
        };
        let bytes = self.arena.range(span_at::<0, NAME>(block), Field::Name, None)?;
        str::from_utf8(bytes).map_err(|_| FrameError::NotUtf8 { field: Field::Name, slot: None })
    }

    /// All names, in the order that the operations count them in.
    pub fn names(&self) -> impl ExactSizeIterator<Item = Result<&'a str, FrameError>> + use<'a> {
        let all = *self;
        // No more than `MAX_NAMES`, so the place of the last is a u16.
        (0..all.names.len()).map(move |place| all.name(NameIndex(place as u16)))
    }
}

fn check_names(operation: &Operation<'_>, names: u32) -> Result<(), FrameError> {
    let NameIndex(map) = operation.map();
    let NameIndex(function) = operation.function().unwrap_or(operation.map());
    let index = map.max(function);
    if u32::from(index) < names { Ok(()) } else { Err(FrameError::NoSuchName { index, names }) }
}
