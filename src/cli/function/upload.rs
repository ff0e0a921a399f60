//! `wattle function upload`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use wattle_client::UploadOptions;

use super::list::function_as_json;
use crate::cli::output;
use crate::cli::quantity::{bytes, duration};
use crate::cli::remote::{Format, Remote};

#[derive(Debug, Args)]
pub(super) struct Upload {
    /// The function's name in the grid
    name: String,
    /// A WebAssembly component, or a core module with a component type
    file: PathBuf,
    /// Which of the module's functions, when it has several
    #[arg(long)]
    export: Option<String>,
    /// Upload only: the function goes on pointing to what it points to
    #[arg(long)]
    stage: bool,
    /// CPU time for one entry, at most 100ms; 10ms by default
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    cpu_budget: Option<Duration>,
    /// Linear memory of an instance; 16MiB by default
    #[arg(long, value_parser = bytes, value_name = "SIZE")]
    memory: Option<u64>,
    /// A new instance for every call, instead of warm ones
    #[arg(long)]
    fresh: bool,
}

impl Upload {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let module = std::fs::read(&self.file);
        let module = module.with_context(|| format!("{} cannot be read", self.file.display()))?;
        let functions = remote.connect().await?.functions();
        let uploaded = functions.upload(&self.name, module, &self.options()).await?;
        let (function, version) = (&uploaded.function, uploaded.version);
        match remote.output {
            Format::Json => {
                output::json(&json!({ "version": version, "function": function_as_json(function) }))?;
            }
            Format::Table if function.active == version => {
                output::line(&format!("{} is now at version {version}", self.name))?;
            }
            Format::Table => {
                let how = format!("`wattle function promote {} {version}` activates it", self.name);
                output::line(&format!("{} has a version {version}; {how}", self.name))?;
            }
        }
        Ok(())
    }

    fn options(&self) -> UploadOptions {
        let mut options = UploadOptions::new();
        if let Some(export) = &self.export {
            options = options.export(export);
        }
        if self.stage {
            options = options.stage();
        }
        if let Some(budget) = self.cpu_budget {
            options = options.cpu_budget(budget);
        }
        if let Some(memory) = self.memory {
            options = options.memory_bytes(memory);
        }
        if self.fresh { options.fresh_instances() } else { options }
    }
}
