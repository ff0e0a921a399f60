//! The result of one operation, and the slot that it is packed into.

use core::str;

use super::facts::Facts;
use crate::bytes::{Arena, Span, set_span, set_u32, set_u64, span_at, u32_at, u64_at};
use crate::error::{Field, FrameError};

pub(super) const SLOT: usize = 40;

/// A slot that no result was written into.
pub(super) const UNWRITTEN: u8 = 0;
const GET: u8 = 1;
const PUT: u8 = 2;
const REMOVE: u8 = 3;
const INCREMENT: u8 = 4;
const TOUCH: u8 = 5;
const INVOKE: u8 = 6;
const FAILED: u8 = 7;

const HAS_VALUE: u8 = 1;
const FOUND: u8 = 2;
const HAS_TTL: u8 = 4;

/// What became of an operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The node doesn't say.
    Unspecified,
    /// It took effect, once.
    Applied,
    /// It changed nothing and never will.
    NotApplied,
    /// Nobody can say any more.
    InDoubt,
}

/// Why an operation failed: the same facts as a gRPC status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<'a> {
    /// A `google.rpc.Code`.
    pub code: u32,
    /// Stable and for programs.
    pub reason: &'a str,
    /// For people.
    pub message: &'a str,
    /// What became of the operation.
    pub outcome: Outcome,
    /// For programs, beside the reason.
    pub facts: Facts<'a>,
}

/// The result of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationResult<'a> {
    /// Of a get.
    Get {
        /// `None` when there is no such entry.
        value: Option<&'a [u8]>,
        /// 0 when there is no such entry.
        version: u64,
    },
    /// Of a put.
    Put {
        /// The entry's new version.
        version: u64,
        /// The value that was there, if it was asked for.
        previous: Option<&'a [u8]>,
    },
    /// Of a remove.
    Remove {
        /// Whether there was an entry.
        removed: bool,
        /// The value that was there, if it was asked for.
        previous: Option<&'a [u8]>,
    },
    /// Of an increment.
    Increment {
        /// The sum.
        value: i64,
        /// The entry's new version.
        version: u64,
    },
    /// Of a touch.
    Touch {
        /// Whether there is an entry.
        found: bool,
        /// What is left to live, in milliseconds; `None`: for ever.
        ttl_ms: Option<u64>,
        /// The entry's version.
        version: u64,
    },
    /// Of an invocation.
    Invoke {
        /// The function's response.
        response: &'a [u8],
    },
    /// Of an operation that failed.
    Failed(Failure<'a>),
}

impl<'a> OperationResult<'a> {
    /// What goes into the arena: a value, response or message; a reason and its facts.
    pub(super) fn payload(&self) -> (&'a [u8], [&'a [u8]; 2]) {
        match *self {
            OperationResult::Get { value, .. } => (value.unwrap_or(&[]), [&[]; 2]),
            OperationResult::Put { previous, .. } | OperationResult::Remove { previous, .. } => {
                (previous.unwrap_or(&[]), [&[]; 2])
            }
            OperationResult::Increment { .. } | OperationResult::Touch { .. } => (&[], [&[]; 2]),
            OperationResult::Invoke { response } => (response, [&[]; 2]),
            OperationResult::Failed(failure) => {
                (failure.message.as_bytes(), [failure.reason.as_bytes(), failure.facts.bytes()])
            }
        }
    }
}

/// A slot of 40 bytes: `u8 kind (0 not written, 1 get, 2 put, 3 remove, 4 increment, 5 touch, 6 invoke, 7 failed) |
/// u8 flags (1 has a value, 2 found or removed, 4 has a time to live) | u8 outcome (0 unspecified, 1 applied,
/// 2 not applied, 3 in doubt) | u8 reserved | u32 code | u32 value_offset, value_length (of a failure: its message) |
/// u32 reason_offset, reason_length (the facts lie behind the reason) | u64 version | u64 number (increment: the sum's
/// bits; touch: ttl_ms; failure: how much of that range is the reason)`.
pub(super) struct Slot {
    kind: u8,
    flags: u8,
    outcome: u8,
    code: u32,
    pub(super) value: Span,
    pub(super) reason: Span,
    version: u64,
    number: u64,
}

impl Slot {
    #[inline]
    pub(super) fn read(block: &[u8; SLOT]) -> Slot {
        Slot {
            kind: block[0],
            flags: block[1],
            outcome: block[2],
            code: u32_at::<4, SLOT>(block),
            value: span_at::<8, SLOT>(block),
            reason: span_at::<16, SLOT>(block),
            version: u64_at::<24, SLOT>(block),
            number: u64_at::<32, SLOT>(block),
        }
    }

    #[inline]
    pub(super) fn write(&self) -> [u8; SLOT] {
        let mut block = [0; SLOT];
        block[0] = self.kind;
        block[1] = self.flags;
        block[2] = self.outcome;
        set_u32::<4, SLOT>(&mut block, self.code);
        set_span::<8, SLOT>(&mut block, self.value);
        set_span::<16, SLOT>(&mut block, self.reason);
        set_u64::<24, SLOT>(&mut block, self.version);
        set_u64::<32, SLOT>(&mut block, self.number);
        block
    }

    /// The slot of a result whose value and reason lie at these ranges.
    #[inline]
    pub(super) fn pack(result: &OperationResult<'_>, value: Span, reason: Span) -> Slot {
        let plain = Slot { kind: GET, flags: 0, outcome: 0, code: 0, value, reason, version: 0, number: 0 };
        match *result {
            OperationResult::Get { value, version } => {
                Slot { flags: flag(value.is_some(), HAS_VALUE), version, ..plain }
            }
            OperationResult::Put { version, previous } => {
                Slot { kind: PUT, flags: flag(previous.is_some(), HAS_VALUE), version, ..plain }
            }
            OperationResult::Remove { removed, previous } => {
                let flags = flag(removed, FOUND) | flag(previous.is_some(), HAS_VALUE);
                Slot { kind: REMOVE, flags, ..plain }
            }
            OperationResult::Increment { value, version } => {
                Slot { kind: INCREMENT, version, number: value.cast_unsigned(), ..plain }
            }
            OperationResult::Touch { found, ttl_ms, version } => {
                let flags = flag(found, FOUND) | flag(ttl_ms.is_some(), HAS_TTL);
                Slot { kind: TOUCH, flags, version, number: ttl_ms.unwrap_or(0), ..plain }
            }
            OperationResult::Invoke { .. } => Slot { kind: INVOKE, ..plain },
            OperationResult::Failed(Failure { code, outcome, reason: text, .. }) => {
                let outcome = match outcome {
                    Outcome::Unspecified => 0,
                    Outcome::Applied => 1,
                    Outcome::NotApplied => 2,
                    Outcome::InDoubt => 3,
                };
                Slot { kind: FAILED, outcome, code, number: text.len() as u64, ..plain }
            }
        }
    }

    /// The result of a slot that points into this arena.
    #[inline]
    pub(super) fn unpack<'a>(
        &self,
        arena: &Arena<'a>,
        place: u32,
    ) -> Result<OperationResult<'a>, FrameError> {
        let bytes = arena.range(self.value, Field::Value, Some(place))?;
        let value = self.has(HAS_VALUE).then_some(bytes);
        let (version, number) = (self.version, self.number);
        match self.kind {
            GET => {
                self.allow_flags(HAS_VALUE, place)?;
                Ok(OperationResult::Get { value, version })
            }
            PUT => {
                self.allow_flags(HAS_VALUE, place)?;
                Ok(OperationResult::Put { version, previous: value })
            }
            REMOVE => {
                self.allow_flags(FOUND | HAS_VALUE, place)?;
                Ok(OperationResult::Remove { removed: self.has(FOUND), previous: value })
            }
            INCREMENT => {
                self.allow_flags(0, place)?;
                Ok(OperationResult::Increment { value: number.cast_signed(), version })
            }
            TOUCH => {
                self.allow_flags(FOUND | HAS_TTL, place)?;
                let ttl_ms = self.has(HAS_TTL).then_some(number);
                Ok(OperationResult::Touch { found: self.has(FOUND), ttl_ms, version })
            }
            INVOKE => {
                self.allow_flags(0, place)?;
                Ok(OperationResult::Invoke { response: bytes })
            }
            FAILED => {
                self.allow_flags(0, place)?;
                Ok(OperationResult::Failed(self.failure(bytes, arena, place)?))
            }
            found => Err(FrameError::UnknownKind { slot: place, found }),
        }
    }

    fn failure<'a>(
        &self,
        message: &'a [u8],
        arena: &Arena<'a>,
        place: u32,
    ) -> Result<Failure<'a>, FrameError> {
        let range = arena.range(self.reason, Field::Reason, Some(place))?;
        let length = usize::try_from(self.number).unwrap_or(usize::MAX);
        let parts = range.split_at_checked(length);
        let (reason, facts) = parts.ok_or(FrameError::MalformedFacts { slot: place })?;
        let outcome = match self.outcome {
            0 => Outcome::Unspecified,
            1 => Outcome::Applied,
            2 => Outcome::NotApplied,
            3 => Outcome::InDoubt,
            found => return Err(FrameError::UnknownOutcome { slot: place, found }),
        };
        Ok(Failure {
            code: self.code,
            reason: text(reason, Field::Reason, place)?,
            message: text(message, Field::Message, place)?,
            outcome,
            facts: Facts::read(facts, place)?,
        })
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn allow_flags(&self, allowed: u8, place: u32) -> Result<(), FrameError> {
        if self.flags & !allowed == 0 {
            Ok(())
        } else {
            Err(FrameError::SlotFlags { slot: place, found: self.flags })
        }
    }
}

fn text(bytes: &[u8], field: Field, place: u32) -> Result<&str, FrameError> {
    str::from_utf8(bytes).map_err(|_| FrameError::NotUtf8 { field, slot: Some(place) })
}

fn flag(set: bool, flag: u8) -> u8 {
    if set { flag } else { 0 }
}
