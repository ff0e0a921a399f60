//! Uploaded WebAssembly: inspected, compiled in a process of its own, instantiated and run within its budget.
//! This is the only crate that knows the engine; it knows no network, no maps and no grid. A guest gets bytes and
//! returns bytes: what it does to an entry is an effect for the caller to apply, so a guest that is stopped at any
//! point has changed nothing.

mod budget;
pub mod compile;
mod engine;
mod guest_state;
mod inspect;
mod instance;
pub mod limits;
mod log;
mod module;
mod packed;
mod simple;
mod stop;
mod structure;
mod ticker;
mod warm;
mod wasi;

pub use budget::Budget;
pub use engine::{Runtime, RuntimeError};
pub use inspect::{Inspected, ModuleError, World, inspect};
pub use instance::{Call, Instance, Isolation};
pub use module::{FunctionFacts, LoadError, Module};
pub use stop::{RequestError, Stop, TrapKind};
pub use structure::Countable;
pub use warm::{Counters, Warm, WarmLimits};
