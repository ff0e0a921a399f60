//! `wattle grid forget`.

use clap::Args;
use serde_json::json;

use super::confirm::is_meant;
use crate::cli::exit::Usage;
use crate::cli::output;
use crate::cli::remote::{Format, Remote};

/// Take a node out for good whose process is dead; what it alone held is lost
#[derive(Debug, Args)]
pub(super) struct Forget {
    /// Its number, as `wattle grid members` shows it
    node: u64,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Forget {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let question =
            format!("Is the process of node {} dead, and is it to be forgotten for good?", self.node);
        if !self.yes && !is_meant(&question)? {
            return Err(Usage("nothing was forgotten".to_owned()).into());
        }
        // It may wait for others, and be no member yet.
        let lost = remote.prepare()?.forget_node(self.node).await?;
        match remote.output {
            Format::Json => output::json(&json!({ "node": self.node, "lost_partitions": lost })),
            Format::Table if lost == 0 => output::line(&format!("node {} is forgotten", self.node)),
            Format::Table => output::line(&format!(
                "node {} is forgotten; {lost} partitions are lost that only it held",
                self.node
            )),
        }?;
        Ok(())
    }
}
