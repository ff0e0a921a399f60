//! `wattle function promote|rollback|delete`.

use clap::Args;
use serde_json::json;
use wattle_client::api;

use super::list::function_as_json;
use crate::cli::output;
use crate::cli::remote::{Format, Remote};

#[derive(Debug, Args)]
pub(super) struct Promote {
    /// The function
    name: String,
    /// The version's number; the newest by default
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    version: Option<u32>,
}

impl Promote {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let functions = remote.connect().await?.functions();
        let function = match self.version {
            Some(version) => functions.promote(&self.name, version).await?,
            None => functions.promote_newest(&self.name).await?,
        };
        Ok(print(remote, &function)?)
    }
}

#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The function
    name: String,
}

impl Rollback {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let function = remote.connect().await?.functions().rollback(&self.name).await?;
        Ok(print(remote, &function)?)
    }
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The function
    name: String,
}

impl Delete {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        remote.connect().await?.functions().delete(&self.name).await?;
        match remote.output {
            Format::Json => output::json(&json!({ "deleted": self.name }))?,
            Format::Table => output::line(&format!("deleted {}", self.name))?,
        }
        Ok(())
    }
}

fn print(remote: &Remote, function: &api::Function) -> std::io::Result<()> {
    match remote.output {
        Format::Json => output::json(&function_as_json(function)),
        Format::Table => output::line(&format!("{} is now at version {}", function.name, function.active)),
    }
}
