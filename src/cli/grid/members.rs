//! `wattle grid members`.

use std::time::Duration;

use serde_json::{Value, json};
use wattle_client::api::{FunctionProblem, Member, MemberReport, NodeRole, NodeState};

use crate::cli::output;
use crate::cli::quantity::{shown_bytes, shown_duration};
use crate::cli::remote::{Format, Remote};

pub(super) async fn run(remote: &Remote) -> anyhow::Result<()> {
    let status = remote.connect().await?.status().await?;
    match remote.output {
        Format::Json => output::json(&Value::from(status.members.iter().map(as_json).collect::<Vec<_>>()))?,
        Format::Table => {
            let columns = [
                "node", "name", "address", "zone", "role", "state", "control", "primary", "backup", "uptime",
                "entries", "memory", "limit", "version",
            ];
            output::table(&columns, status.members.iter().map(row))?;
        }
    }
    Ok(())
}

fn role(member: &Member) -> &'static str {
    match member.role() {
        NodeRole::Data => "data",
        NodeRole::Arbiter => "arbiter",
        NodeRole::Unspecified => "unknown",
    }
}

fn state(member: &Member) -> &'static str {
    match member.state() {
        NodeState::Joined => "joined",
        NodeState::Draining => "draining",
        NodeState::Unspecified => "unknown",
    }
}

/// For people: what it does, if it answers.
fn condition(member: &Member) -> &'static str {
    match member.report {
        None => "no answer",
        Some(MemberReport { ready: false, .. }) => "not ready",
        Some(_) => match member.state() {
            NodeState::Joined => "ready",
            NodeState::Draining | NodeState::Unspecified => state(member),
        },
    }
}

fn uptime(report: &MemberReport) -> Duration {
    let uptime = report.uptime.and_then(|uptime| Duration::try_from(uptime).ok());
    uptime.unwrap_or(Duration::ZERO)
}

fn as_json(member: &Member) -> Value {
    let report = member.report.as_ref();
    json!({
        "node": member.node,
        "incarnation": member.incarnation,
        "name": member.name,
        "address": member.address,
        "zone": Some(&member.zone).filter(|zone| !zone.is_empty()),
        "role": role(member),
        "state": state(member),
        "version": member.version,
        "votes": member.votes,
        "leads": member.leads,
        "primary_partitions": member.primary_partitions,
        "backup_partitions": member.backup_partitions,
        "answers": report.is_some(),
        "ready": report.is_some_and(|report| report.ready),
        "uptime_seconds": report.map(|report| uptime(report).as_secs_f64()),
        "entries": report.map(|report| report.entries),
        "backup_entries": report.map(|report| report.backup_entries),
        "bytes_held": report.map(|report| report.bytes_held),
        "bytes_limit": report.map(|report| report.bytes_limit),
        "not_loaded": member.not_loaded.iter().map(problem).collect::<Vec<_>>(),
    })
}

fn problem(FunctionProblem { function, problem }: &FunctionProblem) -> Value {
    json!({ "function": function, "problem": problem })
}

fn row(member: &Member) -> Vec<String> {
    let control = match (member.leads, member.votes) {
        (true, _) => "leads",
        (false, true) => "votes",
        (false, false) => "-",
    };
    let told = |show: fn(&MemberReport) -> String| member.report.as_ref().map_or("-".to_owned(), show);
    vec![
        member.node.to_string(),
        member.name.clone(),
        member.address.clone(),
        if member.zone.is_empty() { "-".to_owned() } else { member.zone.clone() },
        role(member).to_owned(),
        condition(member).to_owned(),
        control.to_owned(),
        member.primary_partitions.to_string(),
        member.backup_partitions.to_string(),
        told(|report| shown_duration(uptime(report))),
        told(|report| (report.entries + report.backup_entries).to_string()),
        told(|report| shown_bytes(report.bytes_held)),
        told(|report| shown_bytes(report.bytes_limit)),
        member.version.clone(),
    ]
}
