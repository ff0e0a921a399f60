//! `wattle function upload`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use wattle_client::api::{self, FunctionState};
use wattle_client::{Error, Functions, UploadOptions};

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
        let before = active(&functions, &self.name).await?;
        let uploaded = functions.upload(&self.name, module, &self.options()).await?;
        let (function, version) = (&uploaded.function, uploaded.version);
        match remote.output {
            Format::Json => {
                output::json(&json!({ "version": version, "function": function_as_json(function) }))?;
            }
            Format::Table => output::line(&told(before, function, version))?,
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

/// The number of the active version, if there is one.
async fn active(functions: &Functions, name: &str) -> Result<Option<u32>, Error> {
    match functions.describe(name).await {
        Ok((function, _)) => Ok(Some(function.active)),
        Err(Error::FunctionNotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What an upload has done to a function whose active version was `before`.
fn told(before: Option<u32>, function: &api::Function, version: u32) -> String {
    let name = &function.name;
    if function.active != version {
        return format!(
            "{name} has a version {version}; `wattle function promote {name} {version}` activates it"
        );
    }
    if function.state() == FunctionState::Suspended {
        return format!(
            "{name} is still suspended: it has had this module, as version {version}; \
             `wattle function promote {name} {version}` lets it run again"
        );
    }
    if before == Some(version) {
        return format!("{name} is at version {version} already: nothing changed");
    }
    format!("{name} is now at version {version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: Option<u32>, state: FunctionState, version: u32, expected: &str) {
        let function =
            api::Function { name: "f".into(), state: state.into(), active: 2, ..Default::default() };
        assert_eq!(told(before, &function, version), expected);
    }

    #[test]
    fn an_upload_is_told_by_what_it_changed() {
        let at_once = "f is now at version 2";
        check(None, FunctionState::Active, 2, at_once);
        check(Some(1), FunctionState::Active, 2, at_once);
        check(Some(2), FunctionState::Active, 2, "f is at version 2 already: nothing changed");
        let staged = "f has a version 3; `wattle function promote f 3` activates it";
        check(Some(2), FunctionState::Active, 3, staged);
        let suspended = "f is still suspended: it has had this module, as version 2; `wattle function promote f 2` lets it run again";
        check(Some(2), FunctionState::Suspended, 2, suspended);
    }
}
