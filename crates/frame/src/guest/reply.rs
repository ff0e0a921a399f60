//! The reply: one slot with an effect and a response for each entry of the request, in the same order.

use alloc::vec::Vec;
use core::mem;

use crate::bytes::{
    Arena, FORMAT, Span, append, blocks, check_length, check_total, header, overwrite, reserve, set_span,
    set_u16, set_u32, set_u64, span_at, u32_at, u64_at,
};
use crate::error::{Field, FrameError};

const HEADER: usize = 16;
const SLOT: usize = 32;

const KEEP: u8 = 0;
const PUT: u8 = 1;
const PUT_WITH_TTL: u8 = 2;
const REMOVE: u8 = 3;
const FAIL: u8 = 4;

/// What to do to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    /// Leave it as it is.
    Keep,
    /// Set the value; the map's time to live applies.
    Put(&'a [u8]),
    /// Set the value and the time to live, in milliseconds from now.
    PutWithTtl(&'a [u8], u64),
    /// Remove it.
    Remove,
    /// The function refuses this entry: nothing changes.
    Fail {
        /// For programs: up to the author.
        code: u32,
        /// For people; UTF-8, but not checked.
        message: &'a [u8],
    },
}

/// What a function says about one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// What to do to the entry.
    pub effect: Effect<'a>,
    /// For the caller; empty when the function refuses.
    pub response: &'a [u8],
}

/// What [`ReplyWriter::end`] makes of the value that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Leave the entry as it is.
    Keep,
    /// Set the value.
    Put,
    /// Set the value and the time to live, in milliseconds from now.
    PutWithTtl(u64),
    /// Remove the entry.
    Remove,
}

/// A slot of 32 bytes: `u8 action (0 keep, 1 put, 2 put with a time to live, 3 remove, 4 fail) | u8 flags |
/// u16 reserved | u32 code | u32 value_offset, value_length | u32 response_offset, response_length (of a failure:
/// its message) | u64 ttl_ms`.
#[derive(Default)]
struct Slot {
    action: u8,
    flags: u8,
    code: u32,
    value: Span,
    response: Span,
    ttl_ms: u64,
}

impl Slot {
    #[inline]
    fn read(block: &[u8; SLOT]) -> Slot {
        Slot {
            action: block[0],
            flags: block[1],
            code: u32_at::<4, SLOT>(block),
            value: span_at::<8, SLOT>(block),
            response: span_at::<16, SLOT>(block),
            ttl_ms: u64_at::<24, SLOT>(block),
        }
    }

    #[inline]
    fn pack(change: Change, value: Span, response: Span) -> Slot {
        let plain = Slot { action: KEEP, response, ..Slot::default() };
        match change {
            Change::Keep => plain,
            Change::Put => Slot { action: PUT, value, ..plain },
            Change::PutWithTtl(ttl_ms) => Slot { action: PUT_WITH_TTL, value, ttl_ms, ..plain },
            Change::Remove => Slot { action: REMOVE, ..plain },
        }
    }

    #[inline]
    fn write(&self) -> [u8; SLOT] {
        let mut block = [0; SLOT];
        block[0] = self.action;
        block[1] = self.flags;
        set_u32::<4, SLOT>(&mut block, self.code);
        set_span::<8, SLOT>(&mut block, self.value);
        set_span::<16, SLOT>(&mut block, self.response);
        set_u64::<24, SLOT>(&mut block, self.ttl_ms);
        block
    }
}

/// A part of an answer that is written through a sink.
#[derive(Clone, Copy, Debug, Default)]
struct Draft {
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum Open {
    #[default]
    Nothing,
    Value,
    Response,
}

/// Writes a reply into a buffer that is used again and again, one answer after the other.
///
/// ```
/// use wattle_frame::guest::{Change, Effect, Reply, ReplyWriter};
///
/// let mut buffer = Vec::new();
/// let mut writer = ReplyWriter::new(&mut buffer, 3)?;
/// writer.put(b"42", b"was 41")?;
/// writer.fail(7, "no such account")?;
/// // Straight into the frame, as a serializer would:
/// writer.begin_value().extend_from_slice(b"[1,2]");
/// writer.begin_response().extend_from_slice(b"2");
/// writer.end(Change::PutWithTtl(60_000))?;
/// let reply = Reply::parse(writer.finish()?, 3)?;
///
/// assert_eq!(reply.answer(0).effect, Effect::Put(b"42"));
/// assert_eq!(reply.answer(1).effect, Effect::Fail { code: 7, message: b"no such account" });
/// assert_eq!(reply.answer(2).effect, Effect::PutWithTtl(b"[1,2]", 60_000));
/// assert_eq!(reply.answer(2).response, b"2");
/// # Ok::<(), wattle_frame::FrameError>(())
/// ```
#[derive(Debug)]
pub struct ReplyWriter<'b> {
    buffer: &'b mut Vec<u8>,
    capacity: u32,
    written: u32,
    /// Where the bytes of the answers that are complete end.
    settled: usize,
    value: Draft,
    response: Draft,
    open: Open,
}

impl<'b> ReplyWriter<'b> {
    /// Clears the buffer and begins a reply to `count` entries in it.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when the slots don't fit into 4 GiB.
    pub fn new(buffer: &'b mut Vec<u8>, count: usize) -> Result<ReplyWriter<'b>, FrameError> {
        let capacity = reserve(buffer, HEADER, count, SLOT)?;
        let settled = buffer.len();
        let (value, response, open) = (Draft::default(), Draft::default(), Open::default());
        Ok(ReplyWriter { buffer, capacity, written: 0, settled, value, response, open })
    }

    /// Leaves the entry as it is.
    ///
    /// # Errors
    /// As [`ReplyWriter::end`].
    pub fn keep(&mut self, response: &[u8]) -> Result<(), FrameError> {
        self.answer(Change::Keep, &[], response)
    }

    /// Sets the value; the map's time to live applies.
    ///
    /// # Errors
    /// As [`ReplyWriter::end`].
    pub fn put(&mut self, value: &[u8], response: &[u8]) -> Result<(), FrameError> {
        self.answer(Change::Put, value, response)
    }

    /// Sets the value and the time to live, in milliseconds from now.
    ///
    /// # Errors
    /// As [`ReplyWriter::end`].
    pub fn put_with_ttl(&mut self, value: &[u8], ttl_ms: u64, response: &[u8]) -> Result<(), FrameError> {
        self.answer(Change::PutWithTtl(ttl_ms), value, response)
    }

    /// Removes the entry.
    ///
    /// # Errors
    /// As [`ReplyWriter::end`].
    pub fn remove(&mut self, response: &[u8]) -> Result<(), FrameError> {
        self.answer(Change::Remove, &[], response)
    }

    /// Refuses the entry: nothing changes. A value or response that was begun is dropped.
    ///
    /// # Errors
    /// As [`ReplyWriter::end`].
    pub fn fail(&mut self, code: u32, message: &str) -> Result<(), FrameError> {
        self.abandon();
        let response = self.append(message.as_bytes())?;
        self.settle(&Slot { action: FAIL, code, response, ..Slot::default() })
    }

    /// Begins the value of the next answer: what is appended to the sink, until the response is begun or the answer
    /// is ended, is the value. Begun a second time, it replaces the first.
    pub fn begin_value(&mut self) -> &mut Vec<u8> {
        self.close();
        self.value = Draft { start: self.buffer.len(), end: self.buffer.len() };
        self.open = Open::Value;
        self.buffer
    }

    /// Begins the response of the next answer, in the same way.
    pub fn begin_response(&mut self) -> &mut Vec<u8> {
        self.close();
        self.response = Draft { start: self.buffer.len(), end: self.buffer.len() };
        self.open = Open::Response;
        self.buffer
    }

    /// Ends the answer that was begun. A part that was not begun is empty.
    ///
    /// # Errors
    /// [`FrameError::Full`] past the number of entries, [`FrameError::TooLong`] past 4 GiB, after which the answer is
    /// dropped; [`FrameError::SinkShrunk`] when bytes were taken out of a sink, after which the reply is lost.
    pub fn end(&mut self, change: Change) -> Result<(), FrameError> {
        self.close();
        let slot = Slot::pack(change, span(self.value)?, span(self.response)?);
        self.settle(&slot)
    }

    /// Completes the frame.
    ///
    /// # Errors
    /// [`FrameError::CountMismatch`] when an entry has no answer, [`FrameError::SinkShrunk`] as for
    /// [`ReplyWriter::end`].
    pub fn finish(mut self) -> Result<&'b [u8], FrameError> {
        self.abandon();
        self.check_settled()?;
        if self.written != self.capacity {
            return Err(FrameError::CountMismatch { expected: self.capacity, found: self.written });
        }
        let mut block = [0; HEADER];
        set_u16::<0, HEADER>(&mut block, FORMAT);
        set_u32::<4, HEADER>(&mut block, self.written);
        set_u32::<8, HEADER>(&mut block, self.buffer.len() as u32);
        overwrite(self.buffer, 0, &block)?;
        Ok(self.buffer)
    }

    #[inline]
    fn answer(&mut self, change: Change, value: &[u8], response: &[u8]) -> Result<(), FrameError> {
        self.abandon();
        let value = self.append(value)?;
        let response = self.append(response)?;
        self.settle(&Slot::pack(change, value, response))
    }

    /// Appends a part of an answer that isn't settled yet: if the next part fails, the next answer drops this one.
    #[inline]
    fn append(&mut self, bytes: &[u8]) -> Result<Span, FrameError> {
        check_length(self.buffer.len() as u64 + bytes.len() as u64)?;
        Ok(append(self.buffer, bytes))
    }

    #[inline]
    fn close(&mut self) {
        match mem::take(&mut self.open) {
            Open::Nothing => {}
            Open::Value => self.value.end = self.buffer.len(),
            Open::Response => self.response.end = self.buffer.len(),
        }
    }

    #[inline]
    fn abandon(&mut self) {
        self.buffer.truncate(self.settled);
        self.forget_drafts();
    }

    #[inline]
    fn forget_drafts(&mut self) {
        self.value = Draft::default();
        self.response = Draft::default();
        self.open = Open::Nothing;
    }

    #[inline]
    fn check_settled(&self) -> Result<(), FrameError> {
        let found = self.buffer.len();
        if found < self.settled {
            return Err(FrameError::SinkShrunk { expected: self.settled, found });
        }
        Ok(())
    }

    #[inline]
    fn settle(&mut self, slot: &Slot) -> Result<(), FrameError> {
        self.check_settled()?;
        if self.written == self.capacity {
            self.abandon();
            return Err(FrameError::Full { capacity: self.capacity });
        }
        if let Err(error) = check_length(self.buffer.len() as u64) {
            self.abandon();
            return Err(error);
        }
        overwrite(self.buffer, HEADER + self.written as usize * SLOT, &slot.write())?;
        self.written += 1;
        self.settled = self.buffer.len();
        self.forget_drafts();
        Ok(())
    }
}

/// The range of a part. That the whole frame can be addressed is checked when the answer is settled.
fn span(draft: Draft) -> Result<Span, FrameError> {
    match draft.end.checked_sub(draft.start) {
        Some(length) => Ok(Span { offset: draft.start as u32, length: length as u32 }),
        None => Err(FrameError::SinkShrunk { expected: draft.start, found: draft.end }),
    }
}

/// A reply of which every slot is checked, so that one that is bad in any place changes nothing.
///
/// The header's 16 bytes: `u16 format | u16 flags | u32 count | u32 total | u32 reserved`.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    arena: Arena<'a>,
    slots: &'a [[u8; SLOT]],
}

impl<'a> Reply<'a> {
    /// Reads the reply to a request of `expected` entries and checks all of it.
    ///
    /// # Errors
    /// [`FrameError::CountMismatch`] when it answers for an entry that it was not given, or leaves one out; what else
    /// is wrong, and where.
    pub fn parse(frame: &'a [u8], expected: usize) -> Result<Reply<'a>, FrameError> {
        let header = header::<HEADER>(frame)?;
        check_total(u32_at::<8, HEADER>(header), frame)?;
        let count = u32_at::<4, HEADER>(header);
        if count as usize != expected {
            let expected = u32::try_from(expected).unwrap_or(u32::MAX);
            return Err(FrameError::CountMismatch { expected, found: count });
        }
        let (slots, end) = blocks::<SLOT>(frame, HEADER, count)?;
        let reply = Reply { arena: Arena::new(frame, end), slots };
        let mut sum = 0;
        for (place, block) in slots.iter().enumerate() {
            let slot = Slot::read(block);
            reply.decode(&slot, place as u32)?;
            sum += u64::from(slot.value.length) + u64::from(slot.response.length);
        }
        reply.arena.check_sum(sum)?;
        Ok(reply)
    }

    /// How many answers there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The answer for the entry at a place.
    ///
    /// # Panics
    /// When there is no such place, as a slice does: a reply has as many answers as were expected.
    #[inline]
    pub fn answer(&self, index: usize) -> Answer<'a> {
        self.decode(&Slot::read(&self.slots[index]), index as u32).expect("every slot was checked by parse")
    }

    /// All answers, in the order of the request's entries.
    pub fn answers(&self) -> impl ExactSizeIterator<Item = Answer<'a>> + use<'a> {
        let all = *self;
        (0..all.len()).map(move |index| all.answer(index))
    }

    #[inline]
    fn decode(&self, slot: &Slot, place: u32) -> Result<Answer<'a>, FrameError> {
        if slot.flags != 0 {
            return Err(FrameError::SlotFlags { slot: place, found: slot.flags });
        }
        let value = self.arena.range(slot.value, Field::Value, Some(place))?;
        let response = self.arena.range(slot.response, Field::Response, Some(place))?;
        let effect = match slot.action {
            KEEP => Effect::Keep,
            PUT => Effect::Put(value),
            PUT_WITH_TTL => Effect::PutWithTtl(value, slot.ttl_ms),
            REMOVE => Effect::Remove,
            FAIL => {
                let effect = Effect::Fail { code: slot.code, message: response };
                return Ok(Answer { effect, response: &[] });
            }
            found => return Err(FrameError::UnknownKind { slot: place, found }),
        };
        Ok(Answer { effect, response })
    }
}
