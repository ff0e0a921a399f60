//! Pods as processes of this machine, behind any API server. What there is, and what not:
//!
#![doc = include_str!("../README.md")]

mod address;
mod claims;
mod cluster;
mod controller;
mod deployment;
mod disruption;
mod endpoint_slices;
mod error;
mod kubelet;
mod machines;
mod nodes;
mod object;
mod power;
mod scheduler;
mod service_accounts;
mod stateful_set;

pub use crate::cluster::{Cluster, Settings};
pub use crate::error::Error;
pub use crate::nodes::NodeSettings;
