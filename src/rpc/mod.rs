//! The public API: one file per service. Each call is decoded, handed to the grid, and its answer encoded; nothing is decided
//! here.

mod compute;
mod convert;
mod copies;
mod counted;
mod elsewhere;
mod explain;
mod function;
mod grid;
mod health;
mod lobby;
mod map;
mod packed;
mod pipeline;
mod recover;
mod reports;
mod scan;
mod status;
mod survivors;
mod table;
mod watch;

pub(crate) use compute::Compute;
pub(crate) use counted::{Answering, Counted};
pub(crate) use explain::Explain;
pub(crate) use function::Functions;
pub(crate) use grid::GridInfo;
pub(crate) use lobby::Lobby;
pub(crate) use map::MapCalls;
pub(crate) use watch::Watches;
