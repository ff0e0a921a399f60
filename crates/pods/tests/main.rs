//! Clusters with pods that are processes, asked through the API server's double.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod bench;
mod deployment;
mod disruption;
mod endpoint_slices;
mod kubectl;
mod logs;
mod nodes;
mod pods;
mod port_forward;
mod program;
mod stateful_set;
