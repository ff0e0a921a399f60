//! `wattle grid status`.

use std::collections::BTreeSet;

use serde_json::json;
use wattle_client::api::{FunctionProblem, Member, MemberReport, PartitionCounts, StatusResponse};

use crate::cli::output;
use crate::cli::quantity::shown_bytes;
use crate::cli::remote::{Format, Remote};

pub(super) async fn run(remote: &Remote) -> anyhow::Result<()> {
    let status = remote.connect().await?.status().await?;
    let (sums, warnings) = (Sums::of(&status), warnings(&status));
    match remote.output {
        Format::Json => output::json(&as_json(&status, &sums, &warnings))?,
        Format::Table => {
            output::facts(facts(&status, &sums))?;
            for warning in warnings {
                output::line(&format!("warning: {warning}"))?;
            }
        }
    }
    Ok(())
}

/// Of all members that answer.
#[derive(Debug, Default)]
struct Sums {
    answering: usize,
    entries: u64,
    bytes_held: u64,
    bytes_limit: u64,
}

impl Sums {
    fn of(status: &StatusResponse) -> Self {
        let mut sums = Self::default();
        for report in status.members.iter().filter_map(|member| member.report.as_ref()) {
            sums.answering += 1;
            sums.entries += report.entries;
            sums.bytes_held += report.bytes_held;
            sums.bytes_limit += report.bytes_limit;
        }
        sums
    }
}

fn versions(status: &StatusResponse) -> BTreeSet<&str> {
    status.members.iter().map(|member| member.version.as_str()).collect()
}

fn id(status: &StatusResponse) -> String {
    status.grid_id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn facts(status: &StatusResponse, sums: &Sums) -> Vec<(&'static str, String)> {
    let versions = versions(status).into_iter().collect::<Vec<_>>().join(", ");
    let leader = status.leader.map_or("nobody".to_owned(), |leader| format!("node {leader}"));
    let PartitionCounts { ok, under_replicated, lost, not_begun, unreachable } =
        status.partitions.unwrap_or_default();
    let partitions = [
        (lost, "lost"),
        (unreachable, "unreachable"),
        (under_replicated, "under-replicated"),
        (not_begun, "not begun"),
    ];
    let partitions = partitions.into_iter().filter(|(count, _)| *count > 0).chain([(ok, "ok")]);
    let partitions = partitions.map(|(count, state)| format!("{count} {state}")).collect::<Vec<_>>();
    let memory = format!("{} of {}", shown_bytes(sums.bytes_held), shown_bytes(sums.bytes_limit));
    vec![
        ("grid", status.name.clone()),
        ("id", id(status)),
        ("version", versions),
        ("nodes", format!("{} of {} answer", sums.answering, status.members.len())),
        ("led by", leader),
        ("partitions", partitions.join(", ")),
        ("maps", status.maps.to_string()),
        ("functions", status.functions.to_string()),
        ("entries", sums.entries.to_string()),
        ("memory", memory),
    ]
}

fn as_json(status: &StatusResponse, sums: &Sums, warnings: &[String]) -> serde_json::Value {
    let PartitionCounts { ok, under_replicated, lost, not_begun, unreachable } =
        status.partitions.unwrap_or_default();
    json!({
        "name": status.name,
        "id": id(status),
        "generation": status.generation,
        "table_version": status.table_version,
        "versions": versions(status),
        "nodes": status.members.len(),
        "nodes_answering": sums.answering,
        "leader": status.leader,
        "outdated": status.outdated,
        "partitions": {
            "ok": ok, "under_replicated": under_replicated, "lost": lost, "not_begun": not_begun,
            "unreachable": unreachable,
        },
        "maps": status.maps,
        "functions": status.functions,
        "entries": sums.entries,
        "bytes_held": sums.bytes_held,
        "bytes_limit": sums.bytes_limit,
        "warnings": warnings,
    })
}

/// What is not as it should be, the worst first.
fn warnings(status: &StatusResponse) -> Vec<String> {
    let mut warnings = Vec::new();
    let PartitionCounts { ok: _, under_replicated, lost, not_begun, unreachable } =
        status.partitions.unwrap_or_default();
    if lost > 0 {
        warnings.push(format!("{lost} partitions are lost: nobody has their entries"));
    }
    if unreachable > 0 {
        warnings.push(format!("{unreachable} partitions are unreachable: {}", super::UNREACHABLE));
    }
    if under_replicated > 0 {
        warnings.push(format!("{under_replicated} partitions lack a copy where one should be"));
    }
    if not_begun > 0 {
        warnings.push(format!("{not_begun} partitions are not held by anybody yet"));
    }
    if status.leader.is_none() {
        warnings.push("nobody is known to lead the control group: nothing can be decided".to_owned());
    } else if status.outdated {
        warnings.push(super::OUTDATED.to_owned());
    }
    let silent = |member: &Member| member.report.is_none();
    let unready = |member: &Member| member.report.is_some_and(|report| !report.ready);
    let full = |report: MemberReport| report.bytes_held >= report.bytes_limit;
    let full = |member: &Member| member.report.is_some_and(full);
    warnings.extend(nodes(status, silent).map(|nodes| format!("no answer from {nodes}")));
    warnings.extend(nodes(status, unready).map(|nodes| format!("not ready: {nodes}")));
    warnings.extend(nodes(status, full).map(|nodes| format!("no memory for more entries: {nodes}")));
    warnings.extend(status.members.iter().flat_map(not_loaded));
    if versions(status).len() > 1 {
        warnings.push("the nodes are not of one version".to_owned());
    }
    warnings
}

/// What a node cannot run.
fn not_loaded(member: &Member) -> impl Iterator<Item = String> {
    member.not_loaded.iter().map(|FunctionProblem { function, problem }| {
        let Member { node, address, .. } = member;
        format!("node {node} ({address}) cannot run function {function}: {problem}")
    })
}

/// The nodes of which something is true: `node 1 (a), node 3 (c)`.
fn nodes(status: &StatusResponse, which: impl Fn(&Member) -> bool) -> Option<String> {
    let found = status.members.iter().filter(|member| which(member));
    let found = found.map(|member| format!("node {} ({})", member.node, member.address)).collect::<Vec<_>>();
    (!found.is_empty()).then(|| found.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, report: Option<MemberReport>) -> Member {
        let address = format!("10.0.0.{node}:7117");
        Member { node, address, version: "0.1.0".to_owned(), report, ..Member::default() }
    }

    fn report(entries: u64) -> MemberReport {
        MemberReport { entries, bytes_held: 2048, bytes_limit: 4096, ready: true, ..MemberReport::default() }
    }

    fn status(members: Vec<Member>, partitions: PartitionCounts) -> StatusResponse {
        StatusResponse {
            name: "wattle".to_owned(),
            grid_id: vec![0xab; 2].into(),
            partitions: Some(partitions),
            members,
            leader: Some(1),
            ..StatusResponse::default()
        }
    }

    #[test]
    fn a_grid_that_is_well_has_no_warnings() {
        let counts = PartitionCounts { ok: 271, ..PartitionCounts::default() };
        let well = status(vec![member(1, Some(report(3))), member(2, Some(report(4)))], counts);
        assert_eq!(warnings(&well), Vec::<String>::new());
        let expected = [
            ("grid", "wattle"),
            ("id", "abab"),
            ("version", "0.1.0"),
            ("nodes", "2 of 2 answer"),
            ("led by", "node 1"),
            ("partitions", "271 ok"),
            ("maps", "0"),
            ("functions", "0"),
            ("entries", "7"),
            ("memory", "4.0 KiB of 8.0 KiB"),
        ];
        assert_eq!(facts(&well, &Sums::of(&well)), expected.map(|(name, fact)| (name, fact.to_owned())));
    }

    #[test]
    fn what_may_be_outdated_is_shown_as_that() {
        let outdated = StatusResponse { outdated: true, ..status(vec![], PartitionCounts::default()) };
        assert_eq!(warnings(&outdated), [crate::cli::grid::OUTDATED]);
        let unled = StatusResponse { leader: None, ..outdated };
        let expected = ["nobody is known to lead the control group: nothing can be decided"];
        assert_eq!(warnings(&unled), expected, "that says it, too");
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_warning() {
        let counts = PartitionCounts { ok: 1, under_replicated: 2, lost: 3, not_begun: 4, unreachable: 5 };
        let unready = MemberReport { ready: false, bytes_held: 4096, ..report(1) };
        let problem = FunctionProblem { function: "f".to_owned(), problem: "too large".to_owned() };
        let newer =
            Member { version: "0.2.0".to_owned(), not_loaded: vec![problem], ..member(4, Some(report(1))) };
        let members = vec![member(1, None), member(2, Some(unready)), member(3, None), newer];
        let ill = StatusResponse { leader: None, ..status(members, counts) };
        let expected = [
            "3 partitions are lost: nobody has their entries",
            "5 partitions are unreachable: what only silent nodes hold is served again when one of them is back; if they are dead for \
             good, `wattle grid forget` them, then `wattle grid recover-lost`",
            "2 partitions lack a copy where one should be",
            "4 partitions are not held by anybody yet",
            "nobody is known to lead the control group: nothing can be decided",
            "no answer from node 1 (10.0.0.1:7117), node 3 (10.0.0.3:7117)",
            "not ready: node 2 (10.0.0.2:7117)",
            "no memory for more entries: node 2 (10.0.0.2:7117)",
            "node 4 (10.0.0.4:7117) cannot run function f: too large",
            "the nodes are not of one version",
        ];
        assert_eq!(warnings(&ill), expected);
        let facts = facts(&ill, &Sums::of(&ill));
        assert!(facts.contains(&(
            "partitions",
            "3 lost, 5 unreachable, 2 under-replicated, 4 not begun, 1 ok".to_owned()
        )));
        assert!(facts.contains(&("nodes", "2 of 4 answer".to_owned())));
    }
}
