//! `wattle map create|update|delete`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use wattle_client::{ContentType, EvictionPolicy, MapChanges, MapOptions};

use super::list::print_map;
use crate::cli::exit::Usage;
use crate::cli::output;
use crate::cli::quantity::{bytes, duration};
use crate::cli::remote::{Format, Remote};

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Letters, digits, dots, dashes and underscores
    name: String,
    /// What the values are: other values are refused, and tools know how to show them
    #[arg(long, value_enum, default_value_t)]
    content_type: Content,
    /// How long an entry lives after its last write; for ever by default
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    ttl: Option<Duration>,
    /// How long an entry lives after its last use; for ever by default
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    max_idle: Option<Duration>,
    /// How much memory the entries may take; no limit by default
    #[arg(long, value_parser = bytes, value_name = "SIZE")]
    max_bytes: Option<u64>,
    /// Which entries go when the map is full
    #[arg(long, value_enum, requires = "max_bytes")]
    eviction: Option<Eviction>,
    /// How many copies an entry has beside the first; with 0 it is lost with its node
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=6), default_value_t = 1, value_name = "N")]
    backups: u32,
    /// How many copies, the first too, must be in sync for a write: else it is refused; by default one more than half the
    /// backups
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=7), value_name = "N")]
    min_in_sync: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Content {
    #[default]
    Bytes,
    Text,
    Json,
    MessagePack,
}

impl From<Content> for ContentType {
    fn from(content: Content) -> Self {
        match content {
            Content::Bytes => Self::Bytes,
            Content::Text => Self::Text,
            Content::Json => Self::Json,
            Content::MessagePack => Self::MessagePack,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Eviction {
    /// None: writes are refused
    None,
    /// Those unused for longest
    Lru,
    /// Those used least often
    Lfu,
}

impl From<Eviction> for EvictionPolicy {
    fn from(eviction: Eviction) -> Self {
        match eviction {
            Eviction::None => Self::None,
            Eviction::Lru => Self::Lru,
            Eviction::Lfu => Self::Lfu,
        }
    }
}

impl Create {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let mut options = MapOptions::new().content_type(self.content_type.into());
        options = with(options, self.ttl, MapOptions::ttl);
        options = with(options, self.max_idle, MapOptions::max_idle);
        options = with(options, self.max_bytes, MapOptions::max_bytes);
        options = with(options, self.eviction.map(EvictionPolicy::from), MapOptions::eviction);
        let options = options.replication(self.backups, self.min_in_sync.unwrap_or_default());
        let map = remote.connect().await?.maps().create(&self.name, &options).await?;
        Ok(print_map(remote, &map)?)
    }
}

fn with<T, V>(target: T, value: Option<V>, set: impl FnOnce(T, V) -> T) -> T {
    match value {
        Some(value) => set(target, value),
        None => target,
    }
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// The map
    name: String,
    /// How long an entry lives after its last write; 0s for ever
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    ttl: Option<Duration>,
    /// How long an entry lives after its last use; 0s for ever
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    max_idle: Option<Duration>,
    /// How much memory the entries may take; 0 for no limit
    #[arg(long, value_parser = bytes, value_name = "SIZE")]
    max_bytes: Option<u64>,
    /// Which entries go when the map is full
    #[arg(long, value_enum)]
    eviction: Option<Eviction>,
}

impl Update {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let nothing = self.ttl.is_none() && self.max_idle.is_none() && self.max_bytes.is_none();
        if nothing && self.eviction.is_none() {
            let what = "nothing to change: give --ttl, --max-idle, --max-bytes or --eviction";
            return Err(Usage(what.to_owned()).into());
        }
        let mut changes = MapChanges::new();
        changes = with(changes, self.ttl, MapChanges::ttl);
        changes = with(changes, self.max_idle, MapChanges::max_idle);
        changes = with(changes, self.max_bytes, MapChanges::max_bytes);
        changes = with(changes, self.eviction.map(EvictionPolicy::from), MapChanges::eviction);
        let map = remote.connect().await?.maps().update(&self.name, &changes).await?;
        Ok(print_map(remote, &map)?)
    }
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The map
    name: String,
}

impl Delete {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        remote.connect().await?.maps().delete(&self.name).await?;
        match remote.output {
            Format::Json => output::json(&serde_json::json!({ "deleted": self.name }))?,
            Format::Table => output::line(&format!("deleted {}", self.name))?,
        }
        Ok(())
    }
}
