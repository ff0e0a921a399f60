//! The request: a header with what the call has in common, then one slot per entry.

use alloc::vec::Vec;
use core::str;

use crate::bytes::{
    ABSENT, Arena, FORMAT, Span, append, blocks, check_length, check_total, header, overwrite, reserve,
    set_span, set_u16, set_u32, set_u64, span_at, u32_at, u64_at,
};
use crate::error::{Field, FrameError};

const HEADER: usize = 48;
const SLOT: usize = 40;

/// A time to live that never ends.
const FOR_EVER: u64 = u64::MAX;

/// What a call has in common for all of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// Which of the manifest's functions to run, by its place.
    pub function: u32,
    /// Grid time in milliseconds since 1970-01-01T00:00:00Z.
    pub now_ms: u64,
    /// The name of the map.
    pub map: &'a str,
    /// The argument of every entry that has none of its own.
    pub argument: &'a [u8],
    /// How many entries there will be at most: their slots lie before their bytes. Slots that stay unused are sent
    /// along as dead bytes.
    pub capacity: usize,
}

/// An entry to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntrySlot<'a> {
    /// The key.
    pub key: &'a [u8],
    /// `None` when the key has no entry.
    pub value: Option<&'a [u8]>,
    /// 0 when the key has no entry.
    pub version: u64,
    /// What is left to live, in milliseconds; `None`: for ever.
    pub ttl_ms: Option<u64>,
    /// `None`: the argument of the header.
    pub argument: Option<&'a [u8]>,
}

/// An entry as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryView<'a> {
    /// The key.
    pub key: &'a [u8],
    /// `None` when the key has no entry.
    pub value: Option<&'a [u8]>,
    /// 0 when the key has no entry.
    pub version: u64,
    /// What is left to live, in milliseconds; `None`: for ever.
    pub ttl_ms: Option<u64>,
    /// Its own argument or that of the header.
    pub argument: &'a [u8],
}

/// A slot of 40 bytes: `u32 key_offset, key_length | u32 value_offset (u32::MAX: absent), value_length |
/// u64 version | u64 ttl_ms (u64::MAX: for ever) | u32 argument_offset (u32::MAX: the header's), argument_length`.
struct Slot {
    key: Span,
    value: Span,
    version: u64,
    ttl_ms: u64,
    argument: Span,
}

impl Slot {
    #[inline]
    fn read(block: &[u8; SLOT]) -> Slot {
        Slot {
            key: span_at::<0, SLOT>(block),
            value: span_at::<8, SLOT>(block),
            version: u64_at::<16, SLOT>(block),
            ttl_ms: u64_at::<24, SLOT>(block),
            argument: span_at::<32, SLOT>(block),
        }
    }

    #[inline]
    fn write(&self) -> [u8; SLOT] {
        let mut block = [0; SLOT];
        set_span::<0, SLOT>(&mut block, self.key);
        set_span::<8, SLOT>(&mut block, self.value);
        set_u64::<16, SLOT>(&mut block, self.version);
        set_u64::<24, SLOT>(&mut block, self.ttl_ms);
        set_span::<32, SLOT>(&mut block, self.argument);
        block
    }
}

/// Writes a request into a buffer that is used again and again.
///
/// ```
/// use wattle_frame::guest::{EntrySlot, Request, RequestHeader, RequestWriter};
///
/// let mut buffer = Vec::new();
/// let header = RequestHeader { function: 0, now_ms: 1_700_000_000_000, map: "counters", argument: b"", capacity: 2 };
/// let mut writer = RequestWriter::new(&mut buffer, &header)?;
/// writer.push(&EntrySlot { key: b"a", value: Some(b"1"), version: 7, ttl_ms: None, argument: None })?;
/// writer.push(&EntrySlot { key: b"b", value: None, version: 0, ttl_ms: None, argument: Some(b"5") })?;
/// let request = Request::parse(writer.finish())?;
///
/// assert_eq!(request.map(), "counters");
/// assert_eq!(request.entry(0)?.value, Some(&b"1"[..]));
/// assert_eq!(request.entry(1)?.argument, b"5");
/// # Ok::<(), wattle_frame::FrameError>(())
/// ```
#[derive(Debug)]
pub struct RequestWriter<'b> {
    buffer: &'b mut Vec<u8>,
    capacity: u32,
    written: u32,
}

impl<'b> RequestWriter<'b> {
    /// Clears the buffer and begins a request in it.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when the header and the slots don't fit into 4 GiB.
    pub fn new(buffer: &'b mut Vec<u8>, header: &RequestHeader<'_>) -> Result<RequestWriter<'b>, FrameError> {
        let capacity = reserve(buffer, HEADER, header.capacity, SLOT)?;
        check_length(buffer.len() as u64 + header.map.len() as u64 + header.argument.len() as u64)?;
        let mut block = [0; HEADER];
        set_u16::<0, HEADER>(&mut block, FORMAT);
        set_u32::<4, HEADER>(&mut block, header.function);
        set_u64::<16, HEADER>(&mut block, header.now_ms);
        set_span::<24, HEADER>(&mut block, append(buffer, header.map.as_bytes()));
        set_span::<32, HEADER>(&mut block, append(buffer, header.argument));
        overwrite(buffer, 0, &block)?;
        Ok(RequestWriter { buffer, capacity, written: 0 })
    }

    /// Adds an entry. After an error the request is as it was before.
    ///
    /// # Errors
    /// [`FrameError::Full`] past the header's capacity, [`FrameError::TooLong`] past 4 GiB.
    #[inline]
    pub fn push(&mut self, entry: &EntrySlot<'_>) -> Result<(), FrameError> {
        if self.written == self.capacity {
            return Err(FrameError::Full { capacity: self.capacity });
        }
        let value = entry.value.map_or(0, <[u8]>::len) as u64;
        let argument = entry.argument.map_or(0, <[u8]>::len) as u64;
        check_length(self.buffer.len() as u64 + entry.key.len() as u64 + value + argument)?;
        let slot = Slot {
            key: append(self.buffer, entry.key),
            value: entry.value.map_or(Span::ABSENT, |value| append(self.buffer, value)),
            version: entry.version,
            ttl_ms: entry.ttl_ms.unwrap_or(FOR_EVER),
            argument: entry.argument.map_or(Span::ABSENT, |argument| append(self.buffer, argument)),
        };
        overwrite(self.buffer, HEADER + self.written as usize * SLOT, &slot.write())?;
        self.written += 1;
        Ok(())
    }

    /// How many entries were added.
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
        // It is there: `new` wrote the rest of it.
        if let Some(header) = self.buffer.first_chunk_mut::<HEADER>() {
            set_u32::<8, HEADER>(header, self.written);
            set_u32::<12, HEADER>(header, total);
        }
        self.buffer
    }
}

/// A request that was read. Header and number of slots are checked; each entry is when it is read.
///
/// The header's 48 bytes: `u16 format | u16 flags | u32 function | u32 count | u32 total | u64 now_ms |
/// u32 map_offset, map_length | u32 argument_offset, argument_length | u64 reserved`.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    arena: Arena<'a>,
    slots: &'a [[u8; SLOT]],
    function: u32,
    now_ms: u64,
    map: &'a str,
    argument: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// What is wrong with the header, or that the slots don't fit into the frame.
    pub fn parse(frame: &'a [u8]) -> Result<Request<'a>, FrameError> {
        let header = header::<HEADER>(frame)?;
        check_total(u32_at::<12, HEADER>(header), frame)?;
        let (slots, end) = blocks::<SLOT>(frame, HEADER, u32_at::<8, HEADER>(header))?;
        let arena = Arena::new(frame, end);
        let map = arena.range(span_at::<24, HEADER>(header), Field::Map, None)?;
        Ok(Request {
            arena,
            slots,
            function: u32_at::<4, HEADER>(header),
            now_ms: u64_at::<16, HEADER>(header),
            map: str::from_utf8(map).map_err(|_| FrameError::NotUtf8 { field: Field::Map, slot: None })?,
            argument: arena.range(span_at::<32, HEADER>(header), Field::Argument, None)?,
        })
    }

    /// Which of the manifest's functions to run, by its place.
    pub fn function(&self) -> u32 {
        self.function
    }

    /// Grid time in milliseconds since 1970-01-01T00:00:00Z.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The name of the map.
    pub fn map(&self) -> &'a str {
        self.map
    }

    /// The argument that entries without one of their own have.
    pub fn argument(&self) -> &'a [u8] {
        self.argument
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The entry at a place.
    ///
    /// # Errors
    /// [`FrameError::NoSuchSlot`], or [`FrameError::OutOfBounds`] when the slot points outside the arena.
    #[inline]
    pub fn entry(&self, index: usize) -> Result<EntryView<'a>, FrameError> {
        match self.slots.get(index) {
            Some(block) => self.view(block, index as u32),
            None => Err(FrameError::NoSuchSlot { index, count: self.slots.len() as u32 }),
        }
    }

    /// All entries, in the order of their slots.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Result<EntryView<'a>, FrameError>> + use<'a> {
        let all = *self;
        all.slots.iter().enumerate().map(move |(place, block)| all.view(block, place as u32))
    }

    #[inline]
    fn view(&self, block: &[u8; SLOT], place: u32) -> Result<EntryView<'a>, FrameError> {
        let slot = Slot::read(block);
        let value = if slot.value.is_absent() {
            None
        } else {
            Some(self.arena.range(slot.value, Field::Value, Some(place))?)
        };
        let argument = if slot.argument.offset == ABSENT {
            self.argument
        } else {
            self.arena.range(slot.argument, Field::Argument, Some(place))?
        };
        Ok(EntryView {
            key: self.arena.range(slot.key, Field::Key, Some(place))?,
            value,
            version: slot.version,
            ttl_ms: (slot.ttl_ms != FOR_EVER).then_some(slot.ttl_ms),
            argument,
        })
    }
}
