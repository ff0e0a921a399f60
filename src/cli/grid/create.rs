//! `wattle grid create`.

use anyhow::Context;
use clap::Args;
use serde_json::json;
use wattle_client::Error;

use super::confirm::is_meant;
use crate::cli::exit::Usage;
use crate::cli::output;
use crate::cli::remote::{Format, Remote};

/// Found a grid at a node that waits for one, with the nodes that wait with it
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Do not ask if some of the addresses do not answer that the node was given
    #[arg(long)]
    yes: bool,
}

/// Of a refusal because of them.
const SILENT: &str = "ADDRESSES_SILENT";

impl Create {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let client = remote.prepare()?;
        let grid = match client.create_grid(self.yes).await {
            Err(Error::Refused(refusal)) if refusal.reason() == Some(SILENT) => {
                let problem = Error::Refused(refusal);
                let question =
                    format!("{problem}. With a grid there, there would be two. Create one all the same?");
                if !is_meant(&question).with_context(|| problem.to_string())? {
                    return Err(Usage("no grid was created".to_owned()).into());
                }
                client.create_grid(true).await?
            }
            created => created?,
        };
        let id: String = grid.grid_id.iter().map(|byte| format!("{byte:02x}")).collect();
        match remote.output {
            Format::Json => output::json(&json!({ "name": grid.name, "id": id })),
            Format::Table => output::line(&format!("grid {} ({id}) is created", grid.name)),
        }?;
        Ok(())
    }
}
