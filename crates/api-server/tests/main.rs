//! The double held against what clients of the real server expect: kubectl, and the kube crate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod applies;
mod client;
mod custom;
mod faults;
mod impersonation;
mod kubectl;
mod kubelet;
mod lists;
mod owners;
mod ownership;
mod paths;
mod raw;
mod refusals;
mod rights;
mod scales;
mod server;
mod termination;
mod writes;
mod yaml;
