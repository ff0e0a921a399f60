//! The control group of a grid: one Raft group that decides commands about the grid, one after the other.
//!
//! It carries [`State`] without knowing what is in it: what a command means is decided in [`wattle_core::control`]. It knows no
//! network either: a [`Transport`] finds the node and delivers bytes. openraft is used here and nowhere else.
//!
//! What is promised: a command that was answered is durable on a majority of the voters and is decided exactly once, however
//! often its proposal was repeated; every voter decides the same commands in the same order.

mod candidacy;
mod check_quorum;
mod disk;
mod group;
mod identity;
mod incoming;
mod log_store;
mod machine;
mod membership;
mod network;
mod proposal;
mod proposer;
mod raft;
mod replicated;
mod runtime;
mod status;
mod successor;
mod wire;
mod writer;

pub use disk::{Disk, DiskError, Row};
pub use group::{ConfirmError, ControlGroup, CreateError, Options, StartError, Storage, Timing};
pub use identity::{GroupId, Identity, NoVoterId, VoterId};
pub use membership::ChangeError;
pub use network::{Transport, TransportError};
pub use proposal::{ControlVersion, Proposal, ProposalId, ProposeError};
pub use replicated::{Change, Decided, Observer, SnapshotError};
pub use status::{Role, Status};
/// What is replicated: the one place that says so.
pub use wattle_core::control::{
    GroupApplied as Applied, GroupCommand as Command, GroupRefusal as Refusal, GroupState as State,
};

#[cfg(test)]
mod tests;
