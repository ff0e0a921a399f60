//! `wattle map list|describe`, and how maps are printed.

use std::io;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use wattle_client::{ContentType, EvictionPolicy, api};

use crate::cli::output;
use crate::cli::quantity::{shown_bytes, shown_duration};
use crate::cli::remote::{Format, Remote};

#[derive(Debug, Args)]
pub(super) struct List {}

impl List {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let mut maps = remote.connect().await?.maps().list().await?;
        maps.sort_by(|one, other| one.name.cmp(&other.name));
        match remote.output {
            Format::Json => output::json(&Value::from(maps.iter().map(map_as_json).collect::<Vec<_>>()))?,
            Format::Table => {
                let columns = ["name", "content", "ttl", "max idle", "max bytes", "eviction", "backups"];
                output::table(&columns, maps.iter().map(row))?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(super) struct Describe {
    /// The map
    name: String,
}

impl Describe {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let (map, statistics) = remote.connect().await?.maps().describe(&self.name).await?;
        match remote.output {
            Format::Json => {
                let mut described = map_as_json(&map);
                described["entries"] = statistics.entries.into();
                described["bytes"] = statistics.bytes.into();
                described["evictions"] = statistics.evictions.into();
                described["expirations"] = statistics.expirations.into();
                output::json(&described)?;
            }
            Format::Table => {
                let figures = [
                    ("entries", statistics.entries.to_string()),
                    ("bytes", shown_bytes(statistics.bytes)),
                    ("evictions", statistics.evictions.to_string()),
                    ("expirations", statistics.expirations.to_string()),
                ];
                output::facts(map_as_facts(&map).into_iter().chain(figures))?;
            }
        }
        Ok(())
    }
}

pub(super) fn print_map(remote: &Remote, map: &api::Map) -> io::Result<()> {
    match remote.output {
        Format::Json => output::json(&map_as_json(map)),
        Format::Table => output::facts(map_as_facts(map)),
    }
}

fn map_as_json(map: &api::Map) -> Value {
    let options = map.options.unwrap_or_default();
    let seconds = |duration| limit(duration).map(|duration| duration.as_secs_f64());
    json!({
        "name": map.name,
        "id": map.id,
        "revision": map.revision,
        "content_type": content(options.content_type()),
        "ttl_seconds": seconds(options.ttl),
        "max_idle_seconds": seconds(options.max_idle),
        "max_bytes": options.max_bytes,
        "eviction": eviction(options.eviction()),
        "backups": options.replication.map(|replication| replication.backups),
        "min_in_sync": options.replication.map(|replication| replication.min_in_sync),
    })
}

fn map_as_facts(map: &api::Map) -> Vec<(&'static str, String)> {
    let [name, content, ttl, max_idle, max_bytes, eviction, backups] = cells(map);
    vec![
        ("name", name),
        ("id", map.id.to_string()),
        ("content", content),
        ("ttl", ttl),
        ("max idle", max_idle),
        ("max bytes", max_bytes),
        ("eviction", eviction),
        ("backups", backups),
    ]
}

fn row(map: &api::Map) -> Vec<String> {
    cells(map).into()
}

fn cells(map: &api::Map) -> [String; 7] {
    let options = map.options.unwrap_or_default();
    let life = |duration| limit(duration).map_or("-".to_owned(), shown_duration);
    let max_bytes = if options.max_bytes == 0 { "-".to_owned() } else { shown_bytes(options.max_bytes) };
    [
        map.name.clone(),
        content(options.content_type()).to_owned(),
        life(options.ttl),
        life(options.max_idle),
        max_bytes,
        eviction(options.eviction()).to_owned(),
        backups(options.replication),
    ]
}

/// Zero is no limit.
fn limit<D: TryInto<Duration>>(duration: Option<D>) -> Option<Duration> {
    duration.and_then(|duration| duration.try_into().ok()).filter(|duration| !duration.is_zero())
}

/// How many copies beside the first, and what that demands of a write.
fn backups(replication: Option<api::Replication>) -> String {
    match replication {
        None => "-".to_owned(),
        Some(api::Replication { backups, min_in_sync: 1 }) => backups.to_string(),
        Some(api::Replication { backups, min_in_sync }) => format!("{backups}, {min_in_sync} in sync"),
    }
}

fn content(content: ContentType) -> &'static str {
    match content {
        ContentType::Unspecified | ContentType::Bytes => "bytes",
        ContentType::Text => "text",
        ContentType::Json => "json",
        ContentType::MessagePack => "message-pack",
    }
}

fn eviction(policy: EvictionPolicy) -> &'static str {
    match policy {
        EvictionPolicy::Unspecified | EvictionPolicy::None => "none",
        EvictionPolicy::Lru => "lru",
        EvictionPolicy::Lfu => "lfu",
    }
}
