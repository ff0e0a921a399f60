//! One operation, and the slot that it is packed into.

use crate::bytes::{Span, set_span, set_u16, set_u64, span_at, u16_at, u64_at};
use crate::error::FrameError;

pub(super) const SLOT: usize = 40;

const GET: u8 = 1;
const PUT: u8 = 2;
const REMOVE: u8 = 3;
const INCREMENT: u8 = 4;
const TOUCH: u8 = 5;
const INVOKE: u8 = 6;

const IF_ABSENT: u8 = 1;
const IF_VERSION: u8 = 2;
const RETURN_PREVIOUS: u8 = 4;
const HAS_TTL: u8 = 8;
const CLEAR_TTL: u8 = 16;

/// The place of a name in a frame's list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameIndex(pub u16);

/// When a write is done at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// When the key has no entry.
    IfAbsent,
    /// When the entry has this version.
    IfVersion(u64),
}

/// What to do to an entry's time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlChange {
    /// Nothing: only read it.
    Read,
    /// Set it, in milliseconds from now.
    Set(u64),
    /// Let the entry live for ever.
    Clear,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Reads an entry.
    Get {
        /// Which map.
        map: NameIndex,
        /// Which entry.
        key: &'a [u8],
    },
    /// Writes an entry.
    Put {
        /// Which map.
        map: NameIndex,
        /// Which entry.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
        /// In milliseconds from now; 0: for ever; `None`: the map's.
        ttl_ms: Option<u64>,
        /// When to write.
        condition: Condition,
        /// Answer the value that was there.
        return_previous: bool,
    },
    /// Removes an entry.
    Remove {
        /// Which map.
        map: NameIndex,
        /// Which entry.
        key: &'a [u8],
        /// Remove this version only.
        if_version: Option<u64>,
        /// Answer the value that was there.
        return_previous: bool,
    },
    /// Adds to an integer.
    Increment {
        /// Which map.
        map: NameIndex,
        /// Which entry.
        key: &'a [u8],
        /// What to add.
        delta: i64,
    },
    /// Reads, sets or clears the time to live.
    Touch {
        /// Which map.
        map: NameIndex,
        /// Which entry.
        key: &'a [u8],
        /// What to do.
        change: TtlChange,
    },
    /// Runs an entry processor.
    Invoke {
        /// Which map.
        map: NameIndex,
        /// Which function.
        function: NameIndex,
        /// Which entry.
        key: &'a [u8],
        /// The function's argument.
        argument: &'a [u8],
    },
}

impl<'a> Operation<'a> {
    /// Which map it is about.
    pub fn map(&self) -> NameIndex {
        match *self {
            Operation::Get { map, .. }
            | Operation::Put { map, .. }
            | Operation::Remove { map, .. }
            | Operation::Increment { map, .. }
            | Operation::Touch { map, .. }
            | Operation::Invoke { map, .. } => map,
        }
    }

    /// Which key it is about.
    pub fn key(&self) -> &'a [u8] {
        match *self {
            Operation::Get { key, .. }
            | Operation::Put { key, .. }
            | Operation::Remove { key, .. }
            | Operation::Increment { key, .. }
            | Operation::Touch { key, .. }
            | Operation::Invoke { key, .. } => key,
        }
    }

    /// Which function it runs, if it does.
    pub fn function(&self) -> Option<NameIndex> {
        match *self {
            Operation::Invoke { function, .. } => Some(function),
            Operation::Get { .. }
            | Operation::Put { .. }
            | Operation::Remove { .. }
            | Operation::Increment { .. }
            | Operation::Touch { .. } => None,
        }
    }

    /// The value of a put, the argument of an invocation.
    pub(super) fn payload(&self) -> &'a [u8] {
        match *self {
            Operation::Put { value, .. } => value,
            Operation::Invoke { argument, .. } => argument,
            Operation::Get { .. }
            | Operation::Remove { .. }
            | Operation::Increment { .. }
            | Operation::Touch { .. } => &[],
        }
    }
}

/// A slot of 40 bytes: `u8 kind (1 get, 2 put, 3 remove, 4 increment, 5 touch, 6 invoke) | u8 flags (1 if-absent,
/// 2 if-version, 4 return-previous, 8 has-ttl, 16 clear-ttl) | u16 map | u16 function | u16 reserved |
/// u32 key_offset, key_length | u32 value_offset, value_length (of an invocation: its argument) | u64 ttl_ms |
/// u64 number (if-version: the version; increment: the delta's bits)`.
pub(super) struct Slot {
    kind: u8,
    flags: u8,
    map: u16,
    function: u16,
    pub(super) key: Span,
    pub(super) value: Span,
    ttl_ms: u64,
    number: u64,
}

impl Slot {
    #[inline]
    pub(super) fn read(block: &[u8; SLOT]) -> Slot {
        Slot {
            kind: block[0],
            flags: block[1],
            map: u16_at::<2, SLOT>(block),
            function: u16_at::<4, SLOT>(block),
            key: span_at::<8, SLOT>(block),
            value: span_at::<16, SLOT>(block),
            ttl_ms: u64_at::<24, SLOT>(block),
            number: u64_at::<32, SLOT>(block),
        }
    }

    #[inline]
    pub(super) fn write(&self) -> [u8; SLOT] {
        let mut block = [0; SLOT];
        block[0] = self.kind;
        block[1] = self.flags;
        set_u16::<2, SLOT>(&mut block, self.map);
        set_u16::<4, SLOT>(&mut block, self.function);
        set_span::<8, SLOT>(&mut block, self.key);
        set_span::<16, SLOT>(&mut block, self.value);
        set_u64::<24, SLOT>(&mut block, self.ttl_ms);
        set_u64::<32, SLOT>(&mut block, self.number);
        block
    }

    /// The slot of an operation whose key and payload lie at these ranges.
    #[inline]
    pub(super) fn pack(operation: &Operation<'_>, key: Span, value: Span) -> Slot {
        let NameIndex(map) = operation.map();
        let plain = Slot { kind: GET, flags: 0, map, function: 0, key, value, ttl_ms: 0, number: 0 };
        match *operation {
            Operation::Get { .. } => plain,
            Operation::Put { ttl_ms, condition, return_previous, .. } => {
                let (condition, number) = match condition {
                    Condition::Always => (0, 0),
                    Condition::IfAbsent => (IF_ABSENT, 0),
                    Condition::IfVersion(version) => (IF_VERSION, version),
                };
                let flags =
                    condition | flag(ttl_ms.is_some(), HAS_TTL) | flag(return_previous, RETURN_PREVIOUS);
                Slot { kind: PUT, flags, ttl_ms: ttl_ms.unwrap_or(0), number, ..plain }
            }
            Operation::Remove { if_version, return_previous, .. } => {
                let flags = flag(if_version.is_some(), IF_VERSION) | flag(return_previous, RETURN_PREVIOUS);
                Slot { kind: REMOVE, flags, number: if_version.unwrap_or(0), ..plain }
            }
            Operation::Increment { delta, .. } => {
                Slot { kind: INCREMENT, number: delta.cast_unsigned(), ..plain }
            }
            Operation::Touch { change, .. } => {
                let (flags, ttl_ms) = match change {
                    TtlChange::Read => (0, 0),
                    TtlChange::Set(ttl_ms) => (HAS_TTL, ttl_ms),
                    TtlChange::Clear => (CLEAR_TTL, 0),
                };
                Slot { kind: TOUCH, flags, ttl_ms, ..plain }
            }
            Operation::Invoke { function: NameIndex(function), .. } => {
                Slot { kind: INVOKE, function, ..plain }
            }
        }
    }

    /// The operation of a slot whose ranges hold this key and payload.
    #[inline]
    pub(super) fn unpack<'a>(
        &self,
        place: u32,
        key: &'a [u8],
        payload: &'a [u8],
    ) -> Result<Operation<'a>, FrameError> {
        let map = NameIndex(self.map);
        match self.kind {
            GET => {
                self.allow_flags(0, place)?;
                Ok(Operation::Get { map, key })
            }
            PUT => {
                self.allow_flags(IF_ABSENT | IF_VERSION | RETURN_PREVIOUS | HAS_TTL, place)?;
                let ttl_ms = self.has(HAS_TTL).then_some(self.ttl_ms);
                let condition = self.condition(place)?;
                let return_previous = self.has(RETURN_PREVIOUS);
                Ok(Operation::Put { map, key, value: payload, ttl_ms, condition, return_previous })
            }
            REMOVE => {
                self.allow_flags(IF_VERSION | RETURN_PREVIOUS, place)?;
                let if_version = self.has(IF_VERSION).then_some(self.number);
                Ok(Operation::Remove { map, key, if_version, return_previous: self.has(RETURN_PREVIOUS) })
            }
            INCREMENT => {
                self.allow_flags(0, place)?;
                Ok(Operation::Increment { map, key, delta: self.number.cast_signed() })
            }
            TOUCH => {
                self.allow_flags(HAS_TTL | CLEAR_TTL, place)?;
                Ok(Operation::Touch { map, key, change: self.ttl_change(place)? })
            }
            INVOKE => {
                self.allow_flags(0, place)?;
                Ok(Operation::Invoke { map, function: NameIndex(self.function), key, argument: payload })
            }
            found => Err(FrameError::UnknownKind { slot: place, found }),
        }
    }

    fn condition(&self, place: u32) -> Result<Condition, FrameError> {
        match (self.has(IF_ABSENT), self.has(IF_VERSION)) {
            (false, false) => Ok(Condition::Always),
            (true, false) => Ok(Condition::IfAbsent),
            (false, true) => Ok(Condition::IfVersion(self.number)),
            (true, true) => Err(self.bad_flags(place)),
        }
    }

    fn ttl_change(&self, place: u32) -> Result<TtlChange, FrameError> {
        match (self.has(HAS_TTL), self.has(CLEAR_TTL)) {
            (false, false) => Ok(TtlChange::Read),
            (true, false) => Ok(TtlChange::Set(self.ttl_ms)),
            (false, true) => Ok(TtlChange::Clear),
            (true, true) => Err(self.bad_flags(place)),
        }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn allow_flags(&self, allowed: u8, place: u32) -> Result<(), FrameError> {
        if self.flags & !allowed == 0 { Ok(()) } else { Err(self.bad_flags(place)) }
    }

    fn bad_flags(&self, place: u32) -> FrameError {
        FrameError::SlotFlags { slot: place, found: self.flags }
    }
}

fn flag(set: bool, flag: u8) -> u8 {
    if set { flag } else { 0 }
}
