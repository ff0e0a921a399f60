//! Tests with real threads. They wait for conditions with a deadline, and hold a strand where they need it
//! busy. What each of them catches is listed in `tests/loom.rs`.
#![cfg(not(wattle_loom))]

mod harness;
mod panics;
mod pool;
mod property;
mod strand;
