//! `wattle function …`.

mod list;
mod new;
mod point;
mod upload;

use clap::{Args, Subcommand};

use super::remote::Remote;

#[derive(Debug, Args)]
pub(super) struct FunctionCommand {
    #[command(subcommand)]
    action: FunctionAction,
}

#[derive(Debug, Subcommand)]
enum FunctionAction {
    /// Write the crate of a new function in Rust, ready to build and test
    New(new::New),
    /// Upload a module and point a function to it
    Upload(upload::Upload),
    /// List all functions
    List(list::List),
    /// Show a function's versions and figures
    Describe(list::Describe),
    /// Point a function to one of its versions, and lift a suspension
    Promote(point::Promote),
    /// Point a function back to the version that was active before
    Rollback(point::Rollback),
    /// Delete a function and its modules
    Delete(point::Delete),
}

impl FunctionCommand {
    pub(super) fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        match &self.action {
            FunctionAction::New(new) => new.run(remote),
            FunctionAction::Upload(upload) => remote.block_on(upload.run(remote)),
            FunctionAction::List(list) => remote.block_on(list.run(remote)),
            FunctionAction::Describe(describe) => remote.block_on(describe.run(remote)),
            FunctionAction::Promote(promote) => remote.block_on(promote.run(remote)),
            FunctionAction::Rollback(rollback) => remote.block_on(rollback.run(remote)),
            FunctionAction::Delete(delete) => remote.block_on(delete.run(remote)),
        }
    }
}
