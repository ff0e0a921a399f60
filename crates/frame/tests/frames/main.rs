//! The frames from outside: what is written is read back, what is not a frame is refused, and the bytes stay what
//! they are.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod golden;
mod guest;
mod hostile;
mod pipeline;
mod samples;
