//! The serial executor of a partition ([`Strand`]) and the threads for long work ([`ComputePool`]).
//! A strand guards a state `P` that at most one thread works on at a time; nobody ever blocks for it.
//! Knows no runtime, map or partition; `W` is what each compute thread keeps for itself.
//!
//! Invariants, checked by the models in `tests/loom.rs`:
//! - I1: `running` ⇔ exactly one thread works on the state, or is being handed it.
//! - I2: short work queued ⇒ running or posted; slow work queued ⇒ slow-posted.
//! - I3: nothing waits inside a strand: work submitted from inside one is left for later on the same thread.

mod inbox;
mod inside;
mod pool;
mod queue;
mod strand;
mod sync;
mod work;

pub use inbox::{Bounds, Cost, Depth, Full, Lane, Refused};
pub use pool::ComputePool;
pub use strand::Strand;
pub use work::{Group, Turn};

/// Operations of short work that one run takes from the queue before it gives the strand back. A model needs
/// few of them to go past the share, and every further one multiplies its schedules.
pub const RUN_OPERATIONS: usize = if cfg!(wattle_loom) { 1 } else { 64 };

/// Strands that a thread runs after its own because of work submitted from inside a strand; past it they go
/// to the compute pool, so that a chain of submissions cannot hold an IO thread.
pub const DEFERRED_STRANDS: usize = 64;
