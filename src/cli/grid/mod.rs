//! `wattle grid …`.

mod members;
mod partitions;
mod status;

use clap::{Args, Subcommand};

use super::remote::Remote;

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
    /// Partitions that lack copies, lost ones first
    Partitions(partitions::Partitions),
}

impl GridCommand {
    pub(super) fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        match &self.action {
            GridAction::Status => remote.block_on(status::run(remote)),
            GridAction::Members => remote.block_on(members::run(remote)),
            GridAction::Partitions(partitions) => remote.block_on(partitions.run(remote)),
        }
    }
}
