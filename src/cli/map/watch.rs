//! `wattle map watch`.

use clap::Args;
use serde_json::json;
use wattle_client::{Change, ChangeKind, ContentType, WatchFrom};

use super::content_type;
use crate::cli::exit::Usage;
use crate::cli::remote::{Format, Remote};
use crate::cli::{output, shown};

#[derive(Debug, Args)]
#[command(after_help = "Ends with Ctrl-C, or after --count changes.")]
pub(super) struct WatchCommand {
    /// The map
    name: String,
    /// Only keys that begin with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Go on after the changes of an earlier watch, whose JSON output has tokens
    #[arg(long)]
    token: Option<String>,
    /// End after this many changes
    #[arg(long, value_name = "CHANGES")]
    count: Option<u64>,
}

impl WatchCommand {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let from = match &self.token {
            None => WatchFrom::Now,
            Some(token) => {
                let bytes = shown::unhex(token);
                let bytes =
                    bytes.ok_or_else(|| Usage(format!("{token:?} is not a token that a watch printed")))?;
                WatchFrom::Token(bytes.into())
            }
        };
        let client = remote.connect().await?;
        let content_type = content_type(&client, &self.name).await?;
        let mut watch = client.raw_map(&self.name).watch(self.prefix.clone(), from);
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let next = tokio::select! {
                next = watch.next() => next?,
                _ = tokio::signal::ctrl_c() => return Ok(()),
            };
            if next.missed {
                print_missed(remote.output)?;
            }
            for change in next.changes.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                left -= 1;
                print(remote.output, content_type, change)?;
            }
            // Only after all changes of a message: a watch that goes on there has seen them.
            if remote.output == Format::Json {
                output::json(&json!({ "token": shown::hex(&next.token) }))?;
            }
        }
        Ok(())
    }
}

fn print_missed(format: Format) -> std::io::Result<()> {
    match format {
        Format::Json => output::json(&json!({ "missed": true })),
        Format::Table => {
            eprintln!("some changes were missed: read again what you need");
            Ok(())
        }
    }
}

fn print(format: Format, content_type: ContentType, change: &Change) -> std::io::Result<()> {
    let (kind, has_value) = match change.kind {
        ChangeKind::Put => ("put", true),
        ChangeKind::Removed => ("removed", false),
        ChangeKind::Expired => ("expired", false),
        ChangeKind::Evicted => ("evicted", false),
        ChangeKind::Cleared => ("cleared", false),
        _ => ("changed", false),
    };
    let mut shown = json!({ "change": kind, "version": change.version });
    let mut text = kind.to_owned();
    if change.kind != ChangeKind::Cleared {
        shown["key"] = shown::as_json(ContentType::Text, &change.key);
        text = format!("{text}\t{}", shown::as_text(ContentType::Text, &change.key));
    }
    if has_value {
        shown["value"] = shown::as_json(content_type, &change.value);
        text = format!("{text}\t{}", shown::as_text(content_type, &change.value));
    }
    match format {
        Format::Json => output::json(&shown),
        Format::Table => output::line(&text),
    }
}
