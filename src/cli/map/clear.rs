//! `wattle map size|clear`.

use clap::Args;
use serde_json::json;

use crate::cli::output;
use crate::cli::remote::{Format, Remote};

#[derive(Debug, Args)]
pub(super) struct Size {
    /// The map
    name: String,
}

impl Size {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let entries = remote.connect().await?.raw_map(&self.name).size().await?;
        match remote.output {
            Format::Json => output::json(&json!({ "entries": entries }))?,
            Format::Table => output::line(&entries.to_string())?,
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(super) struct Clear {
    /// The map
    name: String,
}

impl Clear {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let removed = remote.connect().await?.raw_map(&self.name).clear().await?;
        match remote.output {
            Format::Json => output::json(&json!({ "removed": removed }))?,
            Format::Table => output::line(&format!("removed {removed} entries"))?,
        }
        Ok(())
    }
}
