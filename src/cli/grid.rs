//! `wattle grid …`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use wattle_client::api;

use super::output;
use super::quantity::{shown_bytes, shown_duration};
use super::remote::{Format, Remote};

#[derive(Debug, Args)]
pub(super) struct GridCommand {
    #[command(subcommand)]
    action: GridAction,
}

#[derive(Debug, Subcommand)]
enum GridAction {
    /// Members, entries, memory
    Status,
}

impl GridCommand {
    pub(super) fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        match self.action {
            GridAction::Status => remote.block_on(status(remote)),
        }
    }
}

async fn status(remote: &Remote) -> anyhow::Result<()> {
    let status = remote.connect().await?.status().await?;
    match remote.output {
        Format::Json => {
            let members = status.members.iter().map(member_as_json).collect::<Vec<_>>();
            let (version, partitions) = (status.version, status.partitions);
            output::json(&json!({ "version": version, "partitions": partitions, "members": members }))?;
        }
        Format::Table => {
            let columns =
                ["member", "address", "ready", "uptime", "maps", "functions", "entries", "memory", "limit"];
            output::table(&columns, status.members.iter().map(member_as_row))?;
            output::line(&format!("\nwattle {}, {} partitions", status.version, status.partitions))?;
        }
    }
    Ok(())
}

fn uptime(member: &api::Member) -> Duration {
    let uptime = member.uptime.and_then(|uptime| Duration::try_from(uptime).ok());
    uptime.unwrap_or(Duration::ZERO)
}

fn member_as_json(member: &api::Member) -> serde_json::Value {
    json!({
        "name": member.name,
        "address": member.address,
        "ready": member.ready,
        "uptime_seconds": uptime(member).as_secs_f64(),
        "maps": member.maps,
        "functions": member.functions,
        "entries": member.entries,
        "bytes_held": member.bytes_held,
        "bytes_limit": member.bytes_limit,
    })
}

fn member_as_row(member: &api::Member) -> Vec<String> {
    vec![
        member.name.clone(),
        member.address.clone(),
        if member.ready { "yes" } else { "no" }.to_owned(),
        shown_duration(uptime(member)),
        member.maps.to_string(),
        member.functions.to_string(),
        member.entries.to_string(),
        shown_bytes(member.bytes_held),
        shown_bytes(member.bytes_limit),
    ]
}
