//! The double held against what clients of the real server expect: kubectl, and the kube crate.

mod client;
mod custom;
mod faults;
mod kubectl;
mod rights;
mod server;
