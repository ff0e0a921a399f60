//! The exports of the world `entry-processor`, written by hand.
//!
//! They follow the canonical ABI of the component model, with two turns that generated bindings don't take: what the
//! host passes in lies in an arena that needs no freeing, and a reply stays where it is until the next call, so that
//! there is no `post-return` and the host can read it in place.

mod arena;
#[cfg(target_arch = "wasm32")]
mod canonical;
#[cfg(any(test, all(target_os = "unknown", feature = "allocator")))]
mod heap;
#[cfg(target_arch = "wasm32")]
mod panics;

#[cfg(target_arch = "wasm32")]
pub use canonical::{FunctionInfo, Manifest, process, reallocate};

/// The world in binary form, for the custom section that makes a component of the module. Kept in step with
/// `wit/wattle.wit` by a test of this crate.
#[cfg(target_arch = "wasm32")]
pub const COMPONENT_TYPE: &[u8; include_bytes!("../component-types/entry-processor.bin").len()] =
    include_bytes!("../component-types/entry-processor.bin");
