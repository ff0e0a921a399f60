//! The grid: its nodes, its replication classes, and the table that says for every partition who decides about it, who holds
//! everything that was acknowledged, and who should.
//!
//! - [`Grid`] and [`GridCommand`]: the state and its changes; those of a partition are conditional on its version.
//! - [`Reconciler`]: what the control group's leader should propose next, given who is alive.
//! - [`Grid::duties_of`]: what the copies of a member that follows the table have to do; [`Grid::health`]: which are missing.
//! - [`desired_voters`]: who should vote; [`Newcomer`]: whether a process that starts joins a grid, founds one, or waits.
//!
//! A partition's row carries the [`Assignment`](crate::replication::Assignment) of replication, and beside it when the partition
//! last began empty and who should be primary.

mod class;
mod command;
mod decide;
mod follow;
mod health;
mod newcomer;
mod node;
mod rebuild;
mod reconcile;
mod row;
mod state;
#[cfg(test)]
mod tests;
mod view;
mod voters;

#[cfg(test)]
pub(in crate::control) use tests::fixture;

pub use class::{ClassOptions, InvalidClass};
pub use command::{
    Decision, DecisionError, GridApplied, GridCommand, GridRefusal, OnFullLoss, Order, Recovery,
};
pub use follow::CopyDuty;
pub use health::PartitionState;
pub use newcomer::{Found, Newcomer, Step, Told, Waiting};
pub use node::{
    Formats, GridId, JoinNonce, Joining, Node, NodeDescription, NodeState, NodeText, Role, TextTooLong,
};
pub use reconcile::Reconciler;
pub use row::{Duty, Row};
pub use state::{Grid, NewGrid};
pub use view::{Delta, Members};
pub use voters::desired_voters;
