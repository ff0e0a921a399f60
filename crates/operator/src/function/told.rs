//! What is said of a function.

use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::ResourceExt as _;
use kube::runtime::events::EventType;
use wattle_client::{NotRunning, api as wire, not_running};

use super::plan::{active, capabilities};
use crate::api::{FunctionMember, GridFunction, GridFunctionStatus};
use crate::apply::apply_status;
use crate::conditions::{Conditions, is_news};
use crate::context::Context;
use crate::error::Error;

/// People tell modules apart by so many digits.
const SHORT_DIGEST: usize = 12;

/// How far a function has come on its way into the grid.
#[derive(Debug, Clone)]
pub(super) enum Told {
    /// It cannot be asked for.
    Blocked {
        reason: &'static str,
        message: String,
    },
    NotFetched {
        reason: &'static str,
        message: String,
    },
    NotUploaded {
        reason: &'static str,
        message: String,
    },
    /// The grid has what was asked for.
    Uploaded {
        function: wire::Function,
        members: Vec<wire::Member>,
    },
}

/// Whether calls run what was asked for, and why not.
struct Verdict {
    ready: bool,
    reason: &'static str,
    message: String,
}

impl Told {
    pub(super) fn is_ready(&self) -> bool {
        self.verdict().ready
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::Blocked { reason, message }
            | Self::NotFetched { reason, message }
            | Self::NotUploaded { reason, message } => {
                Verdict { ready: false, reason, message: message.clone() }
            }
            Self::Uploaded { function, members } => judge(function, members),
        }
    }
}

fn judge(function: &wire::Function, members: &[wire::Member]) -> Verdict {
    if function.state() == wire::FunctionState::Suspended {
        let message = format!(
            "suspended: {}; upload another module, or `wattle function promote {} {}` lets it run again",
            function.suspended_because, function.name, function.active
        );
        return Verdict { ready: false, reason: "Suspended", message };
    }
    let holders = || members.iter().filter(holds_data);
    let problems: Vec<(&wire::Member, NotRunning)> =
        holders().filter_map(|member| Some((member, not_running(function, member)?))).collect();
    if problems.is_empty() {
        let message = format!("version {} runs on all members: {}", function.active, holders().count());
        return Verdict { ready: true, reason: "Loaded", message };
    }
    let is_transient =
        |why: &NotRunning| matches!(why, NotRunning::Behind { .. } | NotRunning::Loading { .. });
    let reason = if problems.iter().all(|(_, why)| is_transient(why)) { "Loading" } else { "NotLoaded" };
    let problems =
        problems.iter().map(|(member, why)| format!("node {} ({}): {why}", member.node, member.address));
    Verdict { ready: false, reason, message: problems.collect::<Vec<_>>().join("; ") }
}

/// An arbiter runs no functions.
fn holds_data(member: &&wire::Member) -> bool {
    member.role() != wire::NodeRole::Arbiter
}

/// What they say themselves.
fn members_of(function: &wire::Function, members: &[wire::Member]) -> Vec<FunctionMember> {
    let shown = |member: &wire::Member| FunctionMember {
        node: i64::try_from(member.node).unwrap_or(i64::MAX),
        address: member.address.clone(),
        digest: member.runs.as_ref().map(|runs| runs.module.clone()).unwrap_or_default(),
        problem: not_running(function, member).map(|why| why.to_string()).unwrap_or_default(),
    };
    members.iter().filter(holds_data).map(shown).collect()
}

pub(super) async fn tell(
    functions: &Api<GridFunction>,
    function: &GridFunction,
    context: &Context,
    told: &Told,
) -> Result<(), Error> {
    let before = function.status.clone().unwrap_or_default();
    let verdict = told.verdict();
    if is_news(&before.conditions, verdict.reason, &verdict.message) {
        let is_fine = verdict.ready || verdict.reason == "Loading";
        let type_ = if is_fine { EventType::Normal } else { EventType::Warning };
        context.tell(function, type_, verdict.reason, &verdict.message).await;
    }
    let status = status(function, before, (told, &verdict), Timestamp::now());
    apply_status(functions, &function.name_any(), &status).await
}

fn status(
    function: &GridFunction,
    before: GridFunctionStatus,
    (told, verdict): (&Told, &Verdict),
    now: Timestamp,
) -> GridFunctionStatus {
    let generation = function.metadata.generation;
    let mut conditions = Conditions::new(&before.conditions, generation, now);
    conditions.tell("Ready", verdict.ready, verdict.reason, verdict.message.as_str());
    let message = verdict.message.as_str();
    match told {
        Told::Blocked { .. } => {}
        Told::NotFetched { reason, .. } => conditions.tell("Fetched", false, reason, message),
        Told::NotUploaded { reason, .. } => {
            conditions.tell("Fetched", true, "AsSpecified", "the module is the one that was asked for");
            conditions.tell("Uploaded", false, reason, message);
        }
        Told::Uploaded { .. } => {
            conditions.tell("Fetched", true, "AsSpecified", "the module is the one that was asked for");
            conditions.tell("Uploaded", true, "Uploaded", "the grid has the module that was asked for");
        }
    }
    let conditions = conditions.finish();
    let name = function.function_name().to_owned();
    let mut status = GridFunctionStatus { observed_generation: generation, name, conditions, ..before };
    if let Told::Uploaded { function, members } = told {
        status.version = Some(i64::from(function.active));
        let module = active(function);
        status.digest = module.map(|version| version.module.clone()).unwrap_or_default();
        status.short_digest = status.digest.chars().take(SHORT_DIGEST).collect();
        status.export = module.map(|version| version.export.clone()).unwrap_or_default();
        status.capabilities = module.map(capabilities).unwrap_or_default();
        status.members = members_of(function, members);
        let loaded = status.members.iter().filter(|member| member.problem.is_empty()).count();
        status.loaded = format!("{loaded}/{}", status.members.len());
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, problem: Option<&str>) -> wire::Member {
        let problem = problem
            .map(|problem| wire::FunctionProblem { function: "debit".into(), problem: problem.into() });
        wire::Member {
            node,
            address: format!("10.0.0.{node}:7117"),
            role: wire::NodeRole::Data.into(),
            report: Some(wire::MemberReport::default()),
            runs: problem.is_none().then(|| wire::RunningVersion { number: 2, module: "ab".into() }),
            not_loaded: problem.into_iter().collect(),
            ..wire::Member::default()
        }
    }

    fn function(state: wire::FunctionState) -> wire::Function {
        let version = wire::FunctionVersion { number: 2, module: "ab".into(), ..Default::default() };
        let name = "debit".to_owned();
        wire::Function { name, state: state.into(), active: 2, versions: vec![version], ..Default::default() }
    }

    #[test]
    fn a_function_is_ready_when_every_member_that_holds_data_runs_it() {
        let active = function(wire::FunctionState::Active);
        let check = |members: Vec<wire::Member>, expected: (bool, &str, &str)| {
            let verdict = judge(&active, &members);
            assert_eq!((verdict.ready, verdict.reason, verdict.message.as_str()), expected);
        };
        check(vec![member(1, None), member(2, None)], (true, "Loaded", "version 2 runs on all members: 2"));
        check(
            vec![member(1, None), member(2, Some("too large"))],
            (false, "NotLoaded", "node 2 (10.0.0.2:7117): too large"),
        );
        let arbiter = wire::Member { role: wire::NodeRole::Arbiter.into(), report: None, ..member(3, None) };
        check(vec![member(1, None), arbiter], (true, "Loaded", "version 2 runs on all members: 1"));
        let silent = wire::Member { report: None, ..member(2, None) };
        check(vec![silent], (false, "NotLoaded", "node 2 (10.0.0.2:7117): it does not answer"));
        let of_before = Some(wire::RunningVersion { number: 1, module: "aa".into() });
        let behind = wire::Member { runs: of_before, ..member(2, None) };
        assert_eq!(members_of(&active, std::slice::from_ref(&behind))[0].digest, "aa");
        check(
            vec![member(1, None), behind, wire::Member { runs: None, ..member(3, None) }],
            (
                false,
                "Loading",
                "node 2 (10.0.0.2:7117): it runs version 1 still; node 3 (10.0.0.3:7117): it has yet to load version 2",
            ),
        );
        let suspended = wire::Function {
            suspended_because: "stopped 5 times".into(),
            ..function(wire::FunctionState::Suspended)
        };
        let verdict = judge(&suspended, &[member(1, None)]);
        assert_eq!((verdict.ready, verdict.reason), (false, "Suspended"));
    }
}
