//! The partitions of this node as strands: short work runs where it arrives, long work on the compute pool.
//!
//! Owns the strands, the pool and the memory they are charged to. What an operation does is decided in `wattle_core`.

mod begun;
mod gate;
mod memory;
mod message;
mod partitions;
mod positions;
mod processor;
mod shard;
mod short;
mod slow;
mod sweep;
mod ticker;
mod ticket;

pub(crate) use begun::Begun;
pub(crate) use gate::Gate;
pub(crate) use memory::{Memory, Moment};
pub(crate) use message::{Action, Message, Placed, ReadMode, Resolved, Source, Step, StepKind, View};
pub(crate) use partitions::Partitions;
#[cfg(test)]
pub(crate) use partitions::tests;
pub(crate) use positions::Waiter;
pub(crate) use shard::Shard;
pub(crate) use short::{OwnedResult, run_short};
pub(crate) use slow::{OwnedResults, SlowPart};
pub(crate) use sweep::{Sweep, SweepProgress, SweepTurns};
pub(crate) use ticker::tick_partitions;
pub(crate) use ticket::NoReply;
