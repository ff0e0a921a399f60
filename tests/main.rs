//! Whole nodes, from the outside: each test starts its own and talks to it over gRPC.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod bad_input;
mod functions;
mod grid;
mod harness;
mod nodes;
mod operator;
