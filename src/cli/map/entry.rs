//! `wattle map get|put|remove`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use wattle_client::{ContentType, PutOptions, Versioned};

use super::{content_type, content_type_or_default};
use crate::cli::exit::{NoEntry, Usage};
use crate::cli::quantity::duration;
use crate::cli::remote::{Format, Remote};
use crate::cli::{output, shown};

#[derive(Debug, Args)]
pub(super) struct Get {
    /// The map
    name: String,
    /// Of which entry
    key: String,
    /// Print the value's bytes as they are, and nothing else
    #[arg(long)]
    raw: bool,
    /// Have the other copies confirm what is read, instead of trusting that the nodes' clocks run equally fast
    #[arg(long)]
    confirm: bool,
}

impl Get {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let client = remote
            .connect_with(|options| if self.confirm { options.confirm_reads() } else { options })
            .await?;
        let found = client.raw_map(&self.name).get(self.key.clone()).await?;
        let Some(found) = found else {
            return Err(NoEntry { map: self.name.clone(), key: self.key.clone() }.into());
        };
        if self.raw {
            return Ok(output::bytes(&found.value)?);
        }
        let content_type = content_type(&client, &self.name).await?;
        match remote.output {
            Format::Json => output::json(&self.as_json(content_type, &found))?,
            Format::Table => output::line(&shown::as_text(content_type, &found.value))?,
        }
        Ok(())
    }

    fn as_json(&self, content_type: ContentType, found: &Versioned<bytes::Bytes>) -> Value {
        let value = shown::as_json(content_type, &found.value);
        json!({ "key": self.key, "value": value, "version": found.version })
    }
}

#[derive(Debug, Args)]
pub(super) struct Put {
    /// The map
    name: String,
    /// Of which entry
    key: String,
    /// The value; - reads it from the standard input
    #[arg(required_unless_present = "file", conflicts_with = "file", allow_hyphen_values = true)]
    value: Option<String>,
    /// Read the value's bytes from a file
    #[arg(long)]
    file: Option<PathBuf>,
    /// How long the entry lives, instead of the map's own time; 0s for ever
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    ttl: Option<Duration>,
    /// Only when there is no entry
    #[arg(long, conflicts_with = "if_version")]
    if_absent: bool,
    /// Only when the entry has this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
}

impl Put {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let client = remote.connect().await?;
        let value = match (&self.value, &self.file) {
            (Some(value), _) if value != "-" => {
                shown::typed(content_type_or_default(&client, &self.name).await?, value)?
            }
            (Some(_), _) => standard_input()?,
            (None, Some(file)) => file_bytes(file)?,
            (None, None) => return Err(Usage("give a VALUE or --file".to_owned()).into()),
        };
        let version = client.raw_map(&self.name).put_with(self.key.clone(), value, self.options()).await?;
        match remote.output {
            Format::Json => output::json(&json!({ "key": self.key, "version": version }))?,
            Format::Table => output::line(&format!("version {version}"))?,
        }
        Ok(())
    }

    fn options(&self) -> PutOptions {
        let mut options = PutOptions::new();
        options = match self.ttl {
            Some(ttl) if ttl.is_zero() => options.keep_for_ever(),
            Some(ttl) => options.ttl(ttl),
            None => options,
        };
        if self.if_absent {
            options = options.if_absent();
        }
        match self.if_version {
            Some(version) => options.if_version(version),
            None => options,
        }
    }
}

fn standard_input() -> anyhow::Result<Vec<u8>> {
    let mut value = Vec::new();
    io::stdin().lock().read_to_end(&mut value).context("the standard input cannot be read")?;
    Ok(value)
}

fn file_bytes(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    /// The map
    name: String,
    /// Of which entry
    key: String,
    /// Only when the entry has this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
}

impl Remove {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let map = remote.connect().await?.raw_map(&self.name);
        let removed = match self.if_version {
            Some(version) => map.remove_if_version(self.key.clone(), version).await?,
            None => map.remove(self.key.clone()).await?,
        };
        if !removed {
            return Err(NoEntry { map: self.name.clone(), key: self.key.clone() }.into());
        }
        match remote.output {
            Format::Json => output::json(&json!({ "removed": self.key }))?,
            Format::Table => output::line(&format!("removed {}", self.key))?,
        }
        Ok(())
    }
}
