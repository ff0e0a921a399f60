//! A node of Wattle: what the binary `wattle serve` runs, as a library so that tests can run it too.

pub mod config;
mod connection;
mod content;
mod control;
mod entrance;
mod failure;
mod follower;
mod functions;
mod grid;
mod grid_clock;
mod in_flight;
mod maps;
mod membership;
pub mod node;
pub mod observability;
mod partition;
mod peering;
mod replication;
mod request;
mod routing;
mod rpc;
mod server;
