//! What can be wrong with a frame, and where.

use core::error::Error;
use core::fmt;

/// A range of bytes that a frame points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The name of the map in a request's header.
    Map,
    /// An argument: an entry's own, or the one in the header.
    Argument,
    /// A key.
    Key,
    /// A value.
    Value,
    /// What a function answers to its caller, or the message of a failure.
    Response,
    /// A name in a frame's list of names.
    Name,
    /// The message of an error.
    Message,
    /// The stable reason of an error.
    Reason,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Map => "map name",
            Field::Argument => "argument",
            Field::Key => "key",
            Field::Value => "value",
            Field::Response => "response",
            Field::Name => "name",
            Field::Message => "message",
            Field::Reason => "reason",
        })
    }
}

/// Why a frame can't be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes end before the header and the slots do.
    Truncated {
        /// How many bytes header and slots take.
        needed: u64,
        /// How many there are.
        found: usize,
    },
    /// A format that this reader doesn't know.
    Format {
        /// The format that it knows.
        expected: u16,
        /// The frame's.
        found: u16,
    },
    /// The header has flags that this reader doesn't know.
    HeaderFlags {
        /// The header's flags.
        found: u16,
    },
    /// A slot has flags that this reader doesn't know, or that exclude one another.
    SlotFlags {
        /// The slot's place.
        slot: u32,
        /// Its flags.
        found: u8,
    },
    /// The header's length isn't that of the bytes.
    LengthMismatch {
        /// What the header says.
        declared: u32,
        /// How many bytes there are.
        found: usize,
    },
    /// Not one slot for each slot of the request.
    CountMismatch {
        /// How many the request had.
        expected: u32,
        /// How many the frame has.
        found: u32,
    },
    /// A range that doesn't lie in the arena.
    OutOfBounds {
        /// What the range holds.
        field: Field,
        /// The place of the slot that has it; `None` in the header.
        slot: Option<u32>,
        /// Where the range begins.
        offset: u32,
        /// How long it is.
        length: u32,
        /// Where the arena begins.
        arena: u32,
        /// Where the frame ends.
        total: u32,
    },
    /// All ranges together are longer than the arena, so some share bytes: read one by one they would cost more
    /// memory than the frame does.
    RangesExceedArena {
        /// The lengths of all ranges.
        sum: u64,
        /// The length of the arena.
        arena: u64,
    },
    /// Text that isn't UTF-8.
    NotUtf8 {
        /// What the text is.
        field: Field,
        /// The place of the slot that has it; `None` in the header.
        slot: Option<u32>,
    },
    /// A kind of action, operation or result that this reader doesn't know.
    UnknownKind {
        /// The slot's place.
        slot: u32,
        /// The kind.
        found: u8,
    },
    /// An outcome that this reader doesn't know.
    UnknownOutcome {
        /// The slot's place.
        slot: u32,
        /// The outcome.
        found: u8,
    },
    /// The facts of a failure are cut short or not UTF-8.
    MalformedFacts {
        /// The slot's place.
        slot: u32,
    },
    /// No slot at this place.
    NoSuchSlot {
        /// The place.
        index: usize,
        /// How many slots there are.
        count: u32,
    },
    /// No name at this place.
    NoSuchName {
        /// The place.
        index: u16,
        /// How many names there are.
        names: u32,
    },
    /// More names than operations can point to.
    TooManyNames {
        /// How many there can be.
        limit: u32,
        /// How many there are.
        found: u32,
    },
    /// The frame would be longer than its format can say: 4 GiB.
    TooLong {
        /// The length that it would have.
        length: u64,
    },
    /// More slots than the writer was made for.
    Full {
        /// What it was made for.
        capacity: u32,
    },
    /// The slot was written before.
    AlreadyWritten {
        /// The slot's place.
        slot: u32,
    },
    /// Bytes that had been written were taken away through a sink.
    SinkShrunk {
        /// The length that the frame had when the sink was handed out.
        expected: usize,
        /// The length that it has.
        found: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            FrameError::Truncated { needed, found } => {
                write!(f, "header and slots take {needed} bytes, the frame has {found}")
            }
            FrameError::Format { expected, found } => {
                write!(f, "format {found} is unknown, expected {expected}")
            }
            FrameError::HeaderFlags { found } => write!(f, "unknown flags {found:#06x} in the header"),
            FrameError::SlotFlags { slot, found } => {
                write!(f, "unknown or conflicting flags {found:#04x} in slot {slot}")
            }
            FrameError::LengthMismatch { declared, found } => {
                write!(f, "the header says {declared} bytes, the frame has {found}")
            }
            FrameError::CountMismatch { expected, found } => {
                write!(f, "{found} slots, expected one for each of {expected}")
            }
            FrameError::OutOfBounds { field, slot, offset, length, arena, total } => {
                write!(f, "{field}{} at {offset} + {length} is outside {arena}..{total}", At(slot))
            }
            FrameError::RangesExceedArena { sum, arena } => {
                write!(f, "all ranges together are {sum} bytes, the arena has {arena}")
            }
            FrameError::NotUtf8 { field, slot } => write!(f, "{field}{} is not UTF-8", At(slot)),
            FrameError::UnknownKind { slot, found } => write!(f, "unknown kind {found} in slot {slot}"),
            FrameError::UnknownOutcome { slot, found } => write!(f, "unknown outcome {found} in slot {slot}"),
            FrameError::MalformedFacts { slot } => write!(f, "the facts of slot {slot} are malformed"),
            FrameError::NoSuchSlot { index, count } => write!(f, "no slot {index}, the frame has {count}"),
            FrameError::NoSuchName { index, names } => write!(f, "no name {index}, the frame has {names}"),
            FrameError::TooManyNames { limit, found } => {
                write!(f, "{found} names, at most {limit} can be used")
            }
            FrameError::TooLong { length } => write!(f, "a frame of {length} bytes is longer than 4 GiB"),
            FrameError::Full { capacity } => write!(f, "the writer has slots for {capacity} and no more"),
            FrameError::AlreadyWritten { slot } => write!(f, "slot {slot} was written before"),
            FrameError::SinkShrunk { expected, found } => {
                write!(f, "the sink had {expected} bytes and was cut to {found}")
            }
        }
    }
}

impl Error for FrameError {}

/// The place of a range, as the end of a noun.
struct At(Option<u32>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(slot) => write!(f, " of slot {slot}"),
            None => f.write_str(" of the header"),
        }
    }
}
