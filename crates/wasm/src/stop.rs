//! Why a call gave no reply. A guest that is stopped has changed nothing.

use std::time::Duration;

use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;
use wattle_frame::FrameError;

use crate::budget::Overrun;
use crate::limits::{BACKTRACE_FRAMES, MESSAGE_BYTES};

/// Why a call gave no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The guest ran into something that WebAssembly forbids, or gave up.
    #[error("the function trapped: {kind}{}", in_frames(.frames))]
    Trap {
        /// What it ran into.
        kind: TrapKind,
        /// The guest's own functions, the innermost first.
        frames: Vec<String>,
    },
    /// One entry took more CPU time than it may.
    #[error("the function took {spent:?} of CPU time for one entry, {budget:?} are allowed")]
    CpuBudget {
        /// CPU time until it was stopped.
        spent: Duration,
        /// What one entry may take.
        budget: Duration,
    },
    /// One entry took longer than it may, although it did not use its CPU time.
    #[error("the function took {spent:?} for one entry, {cap:?} are allowed")]
    WallCap {
        /// Time until it was stopped.
        spent: Duration,
        /// What one entry may take.
        cap: Duration,
    },
    /// A batch took more than one entry may: run its entries one by one to find the one at fault, if any is.
    #[error("a batch of {entries} entries took more than one entry may")]
    OverBudgetInBatch {
        /// Entries of the batch.
        entries: usize,
    },
    /// It asked for more memory than it may have, and did not survive the refusal.
    #[error("the function needs {wanted} bytes of memory, {limit} are allowed")]
    Memory {
        /// What it asked for.
        wanted: usize,
        /// What it may have.
        limit: usize,
    },
    /// What it returned is not a value of its own interface.
    #[error("the function broke its interface: {message}")]
    Interface {
        /// In the words of the component model.
        message: String,
    },
    /// The reply frame is larger than a reply may be.
    #[error("the reply is larger than the {limit} bytes allowed")]
    ReplyTooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// The reply frame does not hold together, or does not answer each entry once.
    #[error("the reply is malformed: {0}")]
    BadFrame(FrameError),
    /// One of the values that it puts is too large.
    #[error("the value put for entry {entry} has {bytes} bytes, {limit} are allowed")]
    ValueTooLarge {
        /// The entry's place in the request.
        entry: usize,
        /// Bytes of the value.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// One of its responses is too large.
    #[error("the response to entry {entry} has {bytes} bytes, {limit} are allowed")]
    ResponseTooLarge {
        /// The entry's place in the request.
        entry: usize,
        /// Bytes of the response.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// It called itself read-only and changes an entry.
    #[error("the function calls itself read-only and changes entry {entry}")]
    ReadOnlyChange {
        /// The entry's place in the request.
        entry: usize,
    },
    /// An effect of a newer package than this node knows.
    #[error("the function answers with effect {code}, which this version does not know")]
    UnknownEffect {
        /// The effect's number.
        code: u32,
    },
    /// The function refused the whole batch in an orderly way.
    #[error("the function failed with code {code}: {message}")]
    GuestFailure {
        /// Up to the function's author.
        code: u32,
        /// For people.
        message: String,
    },
    /// All of the engine's instances are taken: the fault is not the guest's.
    #[error("no instance is free")]
    NoInstance,
    /// The request is not for this module: the fault is not the guest's.
    #[error("the request is not for this module: {0}")]
    BadRequest(RequestError),
}

/// What makes a request useless for a module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request frame is malformed.
    #[error("{0}")]
    Frame(FrameError),
    /// The module offers fewer functions.
    #[error("there is no function {function}")]
    NoSuchFunction {
        /// The function's place in the manifest.
        function: usize,
    },
}

/// What a guest ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TrapKind {
    /// It gave up: a panic, a failed assertion, an abort.
    #[error("it gave up (unreachable)")]
    Unreachable,
    /// It recursed too deep.
    #[error("its stack is exhausted")]
    StackOverflow,
    /// It read or wrote outside of its memory or tables.
    #[error("out of bounds")]
    OutOfBounds,
    /// An integer was divided by zero, overflowed or came from a wild float.
    #[error("bad arithmetic")]
    Arithmetic,
    /// It called something that is not there or has another signature.
    #[error("bad indirect call")]
    IndirectCall,
    /// It exited like a program.
    #[error("it exited with status {0}")]
    Exit(i32),
    /// It wanted to wait, which would hold up the entries of others.
    #[error("it wanted to wait")]
    Wait,
    /// It held more host resources than it may.
    #[error("it holds too many resources")]
    Resources,
    /// Anything else that WebAssembly forbids.
    #[error("a trap of another kind")]
    Other,
}

impl Stop {
    /// A stable word for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trap { kind, .. } => kind.name(),
            Self::CpuBudget { .. } => "cpu_budget",
            Self::WallCap { .. } => "wall_cap",
            Self::OverBudgetInBatch { .. } => "over_budget_in_batch",
            Self::Memory { .. } => "memory",
            Self::Interface { .. } => "interface",
            Self::ReplyTooLarge { .. } => "reply_too_large",
            Self::BadFrame(_) => "bad_frame",
            Self::ValueTooLarge { .. } => "value_too_large",
            Self::ResponseTooLarge { .. } => "response_too_large",
            Self::ReadOnlyChange { .. } => "read_only_change",
            Self::UnknownEffect { .. } => "unknown_effect",
            Self::GuestFailure { .. } => "guest_failure",
            Self::NoInstance => "no_instance",
            Self::BadRequest(_) => "bad_request",
        }
    }

    /// Whether the function is to blame, so that its circuit breaker counts it. An orderly failure is an
    /// answer, and a batch over its budget says nothing about its entries yet.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::OverBudgetInBatch { .. }
            | Self::GuestFailure { .. }
            | Self::NoInstance
            | Self::BadRequest(_) => false,
            Self::Trap { .. }
            | Self::CpuBudget { .. }
            | Self::WallCap { .. }
            | Self::Memory { .. }
            | Self::Interface { .. }
            | Self::ReplyTooLarge { .. }
            | Self::BadFrame(_)
            | Self::ValueTooLarge { .. }
            | Self::ResponseTooLarge { .. }
            | Self::ReadOnlyChange { .. }
            | Self::UnknownEffect { .. } => true,
        }
    }

    /// Whether the instance that gave this can still be trusted with another call.
    pub(crate) fn leaves_instance_sound(&self) -> bool {
        matches!(self, Self::GuestFailure { .. } | Self::BadRequest(_))
    }

    /// What a failed call into the engine means.
    pub(crate) fn from_engine(error: &wasmtime::Error, reply_limit: usize) -> Self {
        if let Some(&overrun) = error.downcast_ref::<Overrun>() {
            return match overrun {
                Overrun::Cpu { spent, budget } => Self::CpuBudget { spent, budget },
                Overrun::Wall { spent, cap } => Self::WallCap { spent, cap },
            };
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Self::NoInstance;
        }
        if let Some(kind) = trap_kind(error) {
            return Self::Trap { kind, frames: frames(error) };
        }
        let message = cut(&format!("{:#}", error.root_cause()), MESSAGE_BYTES);
        // The engine keeps this error's type to itself.
        if message.contains("fuel allocated for hostcalls") {
            return Self::ReplyTooLarge { limit: reply_limit };
        }
        Self::Interface { message }
    }
}

impl TrapKind {
    fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::StackOverflow => "stack_overflow",
            Self::OutOfBounds => "out_of_bounds",
            Self::Arithmetic => "arithmetic",
            Self::IndirectCall => "indirect_call",
            Self::Exit(_) => "exit",
            Self::Wait => "wait",
            Self::Resources => "resources",
            Self::Other => "trap",
        }
    }

    fn of(trap: Trap) -> Self {
        match trap {
            Trap::UnreachableCodeReached => Self::Unreachable,
            Trap::StackOverflow => Self::StackOverflow,
            Trap::MemoryOutOfBounds | Trap::TableOutOfBounds => Self::OutOfBounds,
            Trap::IntegerOverflow | Trap::IntegerDivisionByZero | Trap::BadConversionToInteger => {
                Self::Arithmetic
            }
            Trap::IndirectCallToNull | Trap::BadSignature => Self::IndirectCall,
            // The engine's enum is open, and most of its traps need features that are off.
            _ => Self::Other,
        }
    }
}

/// A guest called something that would make it wait.
#[derive(Debug, thiserror::Error)]
#[error("a function may not wait: it would hold up the entries of others")]
pub(crate) struct WouldWait;

/// The first `limit` bytes of a text, cut where a character ends.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    text[..text.floor_char_boundary(limit)].to_owned()
}

fn trap_kind(error: &wasmtime::Error) -> Option<TrapKind> {
    if let Some(&trap) = error.downcast_ref::<Trap>() {
        return Some(TrapKind::of(trap));
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Some(TrapKind::Exit(exit.0));
    }
    if error.is::<WouldWait>() {
        return Some(TrapKind::Wait);
    }
    if error.is::<wasmtime_wasi::ResourceTableError>() {
        return Some(TrapKind::Resources);
    }
    None
}

/// Where the names begin of what Rust runs between a panic and its trap.
const PANICKING: [&str; 4] = ["__rustc::", "core::panicking::", "std::panicking::", "std::sys::backtrace::"];

fn frames(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let names = backtrace.frames().iter().map(|frame| match frame.func_name() {
        Some(name) => cut(&format!("{:#}", rustc_demangle::demangle(name)), crate::limits::NAME_BYTES),
        None => format!("function {}", frame.func_index()),
    });
    own(names).take(BACKTRACE_FRAMES).collect()
}

/// From the guest's own innermost function on: how it gave up says nothing.
fn own(names: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    names.skip_while(|name| PANICKING.iter().any(|panicking| name.starts_with(panicking)))
}

fn in_frames(frames: &[String]) -> String {
    if frames.is_empty() { String::new() } else { format!(", in {}", frames.join(" ← ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_runs_is_left_out_of_a_trap() {
        let names = ["__rustc::rust_panic", "std::panicking::panic_with_hook", "core::panicking::panic_fmt"];
        let guests = ["debit::take", "core::panicking::not_the_first", "process"];
        let names = names.iter().chain(&guests).map(|&name| name.to_owned());
        assert_eq!(own(names).collect::<Vec<_>>(), guests);
    }
}
