//! Maps: of bytes, and typed over them.

mod raw;
mod typed;

pub use raw::RawMap;
pub use typed::{Map, TypedScan};
