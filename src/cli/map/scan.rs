//! `wattle map scan`.

use clap::Args;
use serde_json::json;
use wattle_client::{ContentType, ScanOptions, ScannedEntry};

use super::content_type;
use crate::cli::exit::Usage;
use crate::cli::remote::{Format, Remote};
use crate::cli::{output, shown};

#[derive(Debug, Args)]
pub(super) struct ScanCommand {
    /// The map
    name: String,
    /// Only keys that begin with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Keys without values
    #[arg(long)]
    keys_only: bool,
    /// Stop after this many entries, and say how to go on
    #[arg(long, value_name = "ENTRIES", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Go on where a limited scan stood
    #[arg(long)]
    cursor: Option<String>,
}

type Entry = ScannedEntry<bytes::Bytes, bytes::Bytes>;

impl ScanCommand {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let options = self.options()?;
        let client = remote.connect().await?;
        let content_type = content_type(&client, &self.name).await?;
        let mut scan = client.raw_map(&self.name).scan(options);
        while let Some(entry) = scan.next().await? {
            match remote.output {
                Format::Json => output::json(&self.as_json(content_type, &entry))?,
                Format::Table => output::line(&self.as_text(content_type, &entry))?,
            }
        }
        if let Some(cursor) = scan.cursor() {
            eprintln!("more: --cursor {}", shown::hex(&cursor));
        }
        Ok(())
    }

    fn options(&self) -> anyhow::Result<ScanOptions> {
        let mut options = ScanOptions::new().prefix(self.prefix.clone());
        if self.keys_only {
            options = options.keys_only();
        }
        if let Some(limit) = self.limit {
            options = options.limit(limit);
        }
        if let Some(cursor) = &self.cursor {
            let bytes = shown::unhex(cursor);
            let bytes =
                bytes.ok_or_else(|| Usage(format!("{cursor:?} is not a cursor that a scan printed")))?;
            options = options.resume(bytes);
        }
        Ok(options)
    }

    fn as_json(&self, content_type: ContentType, entry: &Entry) -> serde_json::Value {
        let mut shown =
            json!({ "key": shown::as_json(ContentType::Text, &entry.key), "version": entry.version });
        if !self.keys_only {
            shown["value"] = shown::as_json(content_type, &entry.value);
        }
        if let Some(ttl) = entry.ttl {
            shown["ttl_seconds"] = ttl.as_secs_f64().into();
        }
        shown
    }

    fn as_text(&self, content_type: ContentType, entry: &Entry) -> String {
        let key = shown::as_text(ContentType::Text, &entry.key);
        if self.keys_only { key } else { format!("{key}\t{}", shown::as_text(content_type, &entry.value)) }
    }
}
