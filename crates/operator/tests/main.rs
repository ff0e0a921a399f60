//! The operator against the double of the API server, with a stand-in for pods: a scripted grid that answers as nodes do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod cluster;
mod definitions;
mod functions;
mod grids;
mod kubectl;
mod leading;
mod maps;
mod monitoring;
mod node;
#[path = "../../client/src/not_scripted.rs"]
mod not_scripted;
mod rights;
mod script;
