//! `wattle completions SHELL`.

use std::io;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

#[derive(Debug, Args)]
#[command(
    after_help = "For bash:  wattle completions bash > ~/.local/share/bash-completion/completions/wattle"
)]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        clap_complete::generate(self.shell, &mut Cli::command(), "wattle", &mut io::stdout());
        Ok(())
    }
}
