//! The entries of one map in one partition: slots, an index of slots by key, expiry, eviction and the tail of changes.
//!
//! It applies changes and answers lookups; which changes to make is decided by [`crate::partition`]. An entry keeps its slot
//! for life, so that a scan by slot numbers sees what is there throughout exactly once.

mod block;
mod entry;
mod eviction;
mod expiry;
mod index;
mod map_store;
mod pieces;
mod prefetch;
mod slots;
mod tail;

pub use entry::{DEADLINE_OVERHEAD, ENTRY_OVERHEAD, EntryRef};
pub(crate) use entry::{Entry, entry_cost};
pub(crate) use map_store::{Doomed, Located, MapStore, Write};
pub use tail::{Change, ChangeKind, TailRead};
