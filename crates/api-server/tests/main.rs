//! The double held against what clients of the real server expect: kubectl, and the kube crate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod client;
mod custom;
mod faults;
mod kubectl;
mod kubelet;
mod rights;
mod server;
mod termination;
