//! `wattle map …`.

mod clear;
mod define;
mod entry;
mod export;
mod import;
mod list;
mod scan;
mod watch;

use clap::{Args, Subcommand};
use wattle_client::{Client, ContentType, Error};

use super::remote::Remote;

#[derive(Debug, Args)]
pub(super) struct MapCommand {
    #[command(subcommand)]
    action: MapAction,
}

#[derive(Debug, Subcommand)]
enum MapAction {
    /// Create a map
    Create(define::Create),
    /// Change what can change while a map is in use
    Update(define::Update),
    /// Show a map's options and figures
    Describe(list::Describe),
    /// List all maps
    List(list::List),
    /// Delete a map and its entries for good
    Delete(define::Delete),
    /// Print the value of a key
    Get(entry::Get),
    /// Write the value of a key
    Put(entry::Put),
    /// Remove an entry
    Remove(entry::Remove),
    /// Count the entries
    Size(clear::Size),
    /// Remove all entries
    Clear(clear::Clear),
    /// Print entries, in no order
    Scan(scan::ScanCommand),
    /// Print committed changes as they happen
    Watch(watch::WatchCommand),
    /// Read rows of a CSV or NDJSON file into a map, as JSON objects
    Import(import::Import),
    /// Write a map's entries to a CSV or NDJSON file
    Export(export::Export),
}

impl MapCommand {
    pub(super) fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        match &self.action {
            MapAction::Create(create) => remote.block_on(create.run(remote)),
            MapAction::Update(update) => remote.block_on(update.run(remote)),
            MapAction::Describe(describe) => remote.block_on(describe.run(remote)),
            MapAction::List(list) => remote.block_on(list.run(remote)),
            MapAction::Delete(delete) => remote.block_on(delete.run(remote)),
            MapAction::Get(get) => remote.block_on(get.run(remote)),
            MapAction::Put(put) => remote.block_on(put.run(remote)),
            MapAction::Remove(remove) => remote.block_on(remove.run(remote)),
            MapAction::Size(size) => remote.block_on(size.run(remote)),
            MapAction::Clear(clear) => remote.block_on(clear.run(remote)),
            MapAction::Scan(scan) => remote.block_on(scan.run(remote)),
            MapAction::Watch(watch) => remote.block_on(watch.run(remote)),
            MapAction::Import(import) => remote.block_on(import.run(remote)),
            MapAction::Export(export) => remote.block_on(export.run(remote)),
        }
    }
}

/// What a map declares its values to be.
pub(super) async fn content_type(client: &Client, map: &str) -> Result<ContentType, Error> {
    let (map, _) = client.maps().describe(map).await?;
    Ok(map.options.unwrap_or_default().content_type())
}

/// The same, for a map that the command may create by writing to it.
async fn content_type_or_default(client: &Client, map: &str) -> Result<ContentType, Error> {
    match content_type(client, map).await {
        Err(Error::MapNotFound(_)) => Ok(ContentType::Unspecified),
        known => known,
    }
}
