//! `wattle completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, output};

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
        // Not straight to the standard output: the generator panics where it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "wattle", &mut script);
        Ok(output::bytes(&script)?)
    }
}
