//! `wattle function new`.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::cli::output;
use crate::cli::remote::{Format, Remote};
use crate::cli::template::write_new_function;

#[derive(Debug, Args)]
pub(super) struct New {
    /// The crate's name
    name: String,
    /// Where to write it; a folder of that name by default
    #[arg(long)]
    path: Option<PathBuf>,
}

impl New {
    pub(super) fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let folder = self.path.clone().unwrap_or_else(|| PathBuf::from(&self.name));
        write_new_function(&folder, &self.name)?;
        let module = format!("target/wasm32-unknown-unknown/release/{}.wasm", self.name.replace('-', "_"));
        match remote.output {
            Format::Json => {
                let folder = folder.display().to_string();
                output::json(&json!({ "name": self.name, "folder": folder, "module": module }))?;
            }
            Format::Table => self.print_steps(&folder, &module)?,
        }
        Ok(())
    }

    fn print_steps(&self, folder: &Path, module: &str) -> io::Result<()> {
        output::line(&format!("wrote {}; now:\n", folder.display()))?;
        output::line(&format!("  cd {}", folder.display()))?;
        output::line("  cargo test")?;
        output::line("  rustup target add wasm32-unknown-unknown")?;
        output::line("  cargo build --release --target wasm32-unknown-unknown")?;
        output::line(&format!("  wattle function upload {} {module}", self.name))?;
        output::line("  wattle map create pages --content-type json")?;
        output::line(&format!("  wattle invoke {} --map pages --key home --argument '\"alice\"'", self.name))
    }
}
