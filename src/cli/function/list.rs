//! `wattle function list|describe`, and how functions are printed.

use clap::Args;
use serde_json::{Value, json};
use wattle_client::api::{self, FunctionKind, FunctionState, NodeRole};
use wattle_client::not_running;

use crate::cli::output;
use crate::cli::quantity::shown_bytes;
use crate::cli::remote::{Format, Remote};

#[derive(Debug, Args)]
pub(super) struct List {}

impl List {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let mut functions = remote.connect().await?.functions().list().await?;
        functions.sort_by(|one, other| one.name.cmp(&other.name));
        match remote.output {
            Format::Json => output::json(&functions.iter().map(function_as_json).collect())?,
            Format::Table => {
                let columns = ["name", "state", "active", "versions", "kind", "module"];
                output::table(&columns, functions.iter().map(row))?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(super) struct Describe {
    /// The function
    name: String,
}

impl Describe {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let client = remote.connect().await?;
        let (function, statistics) = client.functions().describe(&self.name).await?;
        let members = client.status_about(&self.name).await?.members;
        let holders: Vec<_> = members.iter().filter(|member| member.role() == NodeRole::Data).collect();
        match remote.output {
            Format::Json => {
                let mut described = function_as_json(&function);
                described["statistics"] = statistics_as_json(&statistics);
                described["members"] =
                    holders.iter().map(|member| member_as_json(&function, member)).collect();
                output::json(&described)?;
            }
            Format::Table => print_described(&function, &statistics, &holders)?,
        }
        Ok(())
    }
}

fn member_as_json(function: &api::Function, member: &api::Member) -> Value {
    json!({
        "node": member.node,
        "version": member.runs.as_ref().map(|runs| runs.number),
        "module": member.runs.as_ref().map(|runs| &runs.module),
        "problem": not_running(function, member).map(|why| why.to_string()),
    })
}

fn print_described(
    function: &api::Function,
    statistics: &api::FunctionStatistics,
    holders: &[&api::Member],
) -> std::io::Result<()> {
    let mut facts = vec![("name", function.name.clone()), ("state", state(function.state()).to_owned())];
    if !function.suspended_because.is_empty() {
        facts.push(("because", function.suspended_because.clone()));
    }
    for member in holders {
        if let Some(why) = not_running(function, member) {
            facts.push(("not running", format!("on node {}: {why}", member.node)));
        }
    }
    facts.push(("batches here", statistics.batches.to_string()));
    facts.push(("applied here", statistics.applied.to_string()));
    facts.push(("not applied here", statistics.not_applied.to_string()));
    facts.push(("stops here", statistics.stops.to_string()));
    facts.push(("instances here", statistics.instances.to_string()));
    output::facts(facts)?;
    output::line("")?;
    let columns = ["version", "", "export", "kind", "read-only", "size", "module"];
    output::table(&columns, function.versions.iter().map(|version| version_row(function, version)))
}

fn version_row(function: &api::Function, version: &api::FunctionVersion) -> Vec<String> {
    let place = match version.number {
        number if number == function.active => "active",
        number if number == function.previous => "previous",
        _ => "",
    };
    vec![
        version.number.to_string(),
        place.to_owned(),
        version.export.clone(),
        kind(version.kind()).to_owned(),
        if version.read_only { "yes" } else { "no" }.to_owned(),
        shown_bytes(version.size_bytes),
        short(&version.module),
    ]
}

fn row(function: &api::Function) -> Vec<String> {
    let active = active(function);
    vec![
        function.name.clone(),
        state(function.state()).to_owned(),
        active.map_or("-".to_owned(), |version| version.number.to_string()),
        function.versions.len().to_string(),
        active.map_or("-", |version| kind(version.kind())).to_owned(),
        active.map_or("-".to_owned(), |version| short(&version.module)),
    ]
}

fn active(function: &api::Function) -> Option<&api::FunctionVersion> {
    function.versions.iter().find(|version| version.number == function.active)
}

/// Enough of a digest for people to tell modules apart.
fn short(module: &str) -> String {
    module.chars().take(12).collect()
}

pub(super) fn function_as_json(function: &api::Function) -> Value {
    let number = |number: u32| (number > 0).then_some(number);
    json!({
        "name": function.name,
        "state": state(function.state()),
        "active": number(function.active),
        "previous": number(function.previous),
        "suspended_because": Some(&function.suspended_because).filter(|because| !because.is_empty()),
        "versions": function.versions.iter().map(version_as_json).collect::<Vec<_>>(),
    })
}

fn version_as_json(version: &api::FunctionVersion) -> Value {
    json!({
        "version": version.number,
        "module": version.module,
        "size_bytes": version.size_bytes,
        "export": version.export,
        "kind": kind(version.kind()),
        "read_only": version.read_only,
        "deterministic": version.deterministic,
    })
}

fn statistics_as_json(statistics: &api::FunctionStatistics) -> Value {
    json!({
        "batches": statistics.batches,
        "applied": statistics.applied,
        "not_applied": statistics.not_applied,
        "stops": statistics.stops,
        "instances": statistics.instances,
    })
}

fn state(state: FunctionState) -> &'static str {
    match state {
        FunctionState::Unspecified => "unknown",
        FunctionState::Staged => "staged",
        FunctionState::Active => "active",
        FunctionState::Suspended => "suspended",
    }
}

fn kind(kind: FunctionKind) -> &'static str {
    match kind {
        FunctionKind::Unspecified => "unknown",
        FunctionKind::EntryProcessor => "entry-processor",
        FunctionKind::SimpleEntryProcessor => "simple-entry-processor",
    }
}
