//! The packed frames of Wattle. A frame is a header, slots of a fixed size, and an arena of bytes that the slots
//! point into; everything is little-endian, and offsets count from the frame's first byte.
//!
//! It owns the formats and the checks that make any bytes safe to read: a reader returns an error, it never panics
//! and never reads outside the frame. It knows nothing of maps, functions or limits other than a frame's own.
//! Reserved fields are written as zero and not read; flags that a reader doesn't know are refused.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bytes;
mod error;
pub mod guest;
pub mod pipeline;

pub use error::{Field, FrameError};
