//! `wattle grid …`.

mod confirm;
mod create;
mod drain;
mod forget;
mod members;
mod partitions;
mod recover_control;
mod recover_lost;
mod status;

use clap::{Args, Subcommand};

use super::remote::Remote;

/// What to do about unreachable partitions.
const UNREACHABLE: &str = "what only silent nodes hold is served again when one of them is back; if they are dead for good, `wattle grid forget` \
     them, then `wattle grid recover-lost`";

/// Of a report.
const OUTDATED: &str =
    "who leads the control group does not answer this node: more may be decided than it knows and shows";

#[derive(Debug, Args)]
pub(super) struct GridCommand {
    #[command(subcommand)]
    action: GridAction,
}

#[derive(Debug, Subcommand)]
enum GridAction {
    /// How it is with the grid, and what is not as it should be
    Status,
    /// Its nodes: where they are, what they hold, whether they answer
    Members,
    /// Partitions that lack copies or are out of reach, lost ones first
    Partitions(partitions::Partitions),
    /// Found a grid at a node that waits for one
    Create(create::Create),
    /// Have others take what a node holds; then it leaves, and its process ends
    Drain(drain::Drain),
    /// Take a node out for good whose process is dead; what it alone held is lost
    Forget(forget::Forget),
    /// Let lost partitions go on with the best copy that is left, or empty: what was written since is gone for good
    RecoverLost(recover_lost::RecoverLost),
    /// Build a lost control group anew from what the nodes know that are left: what it had decided beyond that is gone
    RecoverControl(recover_control::RecoverControl),
}

impl GridCommand {
    pub(super) fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        match &self.action {
            GridAction::Status => remote.block_on(status::run(remote)),
            GridAction::Members => remote.block_on(members::run(remote)),
            GridAction::Partitions(partitions) => remote.block_on(partitions.run(remote)),
            GridAction::Create(create) => remote.block_on(create.run(remote)),
            GridAction::Drain(drain) => remote.block_on(drain.run(remote)),
            GridAction::Forget(forget) => remote.block_on(forget.run(remote)),
            GridAction::RecoverLost(recover) => remote.block_on(recover.run(remote)),
            GridAction::RecoverControl(recover) => remote.block_on(recover.run(remote)),
        }
    }
}
