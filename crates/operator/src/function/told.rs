//! What is said of a function.

use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::ResourceExt as _;
use kube::runtime::events::EventType;
use wattle_client::api as wire;

use super::plan::active;
use crate::api::{FunctionMember, GridFunction, GridFunctionStatus};
use crate::apply::apply_status;
use crate::conditions::{Conditions, Holds};
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
    let shown = members_of(function, members);
    let problems: Vec<String> = shown
        .iter()
        .filter(|member| !member.problem.is_empty())
        .map(|member| format!("node {} ({}): {}", member.node, member.address, member.problem))
        .collect();
    if problems.is_empty() {
        let message = format!("version {} runs on all members: {}", function.active, shown.len());
        return Verdict { ready: true, reason: "Loaded", message };
    }
    Verdict { ready: false, reason: "NotLoaded", message: problems.join("; ") }
}

/// Members that hold data, for calls run where the data is.
fn members_of(function: &wire::Function, members: &[wire::Member]) -> Vec<FunctionMember> {
    let digest = active(function).map(|version| version.module.clone()).unwrap_or_default();
    let holds_data = |member: &&wire::Member| member.role() != wire::NodeRole::Arbiter;
    let shown = |member: &wire::Member| {
        let refused = member.not_loaded.iter().find(|problem| problem.function == function.name);
        let problem = match (refused, &member.report) {
            (Some(problem), _) => problem.problem.clone(),
            (None, None) => "it does not answer".to_owned(),
            (None, Some(_)) => String::new(),
        };
        FunctionMember {
            node: i64::try_from(member.node).unwrap_or(i64::MAX),
            address: member.address.clone(),
            digest: if problem.is_empty() { digest.clone() } else { String::new() },
            problem,
        }
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
    let was = before.conditions.iter().find(|condition| condition.type_ == "Ready");
    let is_news = was.is_none_or(|was| was.reason != verdict.reason || was.message != verdict.message);
    if is_news {
        let type_ = if verdict.ready { EventType::Normal } else { EventType::Warning };
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
            conditions.tell("Fetched", true, "DigestMatches", "the module is the one that was asked for");
            conditions.tell("Uploaded", false, reason, message);
        }
        Told::Uploaded { .. } => {
            conditions.tell("Fetched", true, "DigestMatches", "the module is the one that was asked for");
            conditions.tell("Uploaded", Holds::Yes, "Uploaded", "calls run the module that was asked for");
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
        let suspended = wire::Function {
            suspended_because: "stopped 5 times".into(),
            ..function(wire::FunctionState::Suspended)
        };
        let verdict = judge(&suspended, &[member(1, None)]);
        assert_eq!((verdict.ready, verdict.reason), (false, "Suspended"));
    }
}
