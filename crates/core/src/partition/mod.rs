//! A partition of the grid: the share of every map that lies in it, its log position, and the results it keeps for retries.
//!
//! Operations come in with the time and what they may use, and are decided and applied in one step: a refusal has changed
//! nothing. A node runs each partition on at most one thread at a time.

mod completions;
mod mutation;
mod operation;
mod part;
#[allow(clippy::module_inception, reason = "the type is the subject")]
mod partition;
mod placement;
mod plan;
mod prefetch;
mod sweep;
#[cfg(test)]
mod tests;

pub use completions::{Admission, Completion, Recorded};
pub use mutation::{MutationError, Mutations};
pub use operation::{
    Access, Answer, Condition, Effect, Explanation, Operation, Outcome, PartRefusal, Previous, Put, Refusal,
    Remove, Room, TtlChange, TtlChoice,
};
pub use part::Asked;
pub use partition::{CopyCursor, Partition, Statistics};
pub use placement::{partition_of, placed_part};
pub use plan::{Site, plan};
pub use prefetch::prefetch;
pub use sweep::{ScanEnd, ScanRange, Swept, Wanted};
