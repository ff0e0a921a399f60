//! What is said of a grid: its status, and warnings.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt as _};
use wattle_client::api as wire;

use super::monitoring::Monitoring;
use super::observe::Seen;
use crate::api::{Grid, GridMember, GridSpec, GridStatus, Phase, Replication};
use crate::apply::apply_status;
use crate::conditions::{Conditions, Holds};
use crate::context::Context;
use crate::decision::{Safety, Step, Waiting};
use crate::error::Error;
use crate::hex::hex;
use crate::manifests::{fence, node_selector};
use crate::reach::versions;

/// What there is to tell after a look at a grid.
pub(super) struct News<'a> {
    pub(super) seen: &'a Seen,
    pub(super) verdict: Verdict,
    /// None if nobody looked.
    pub(super) monitoring: Option<&'a Monitoring>,
}

/// How far the grid is from what it should be, and what is done about it.
pub(super) struct Verdict {
    phase: Phase,
    reason: &'static str,
    message: String,
    ready: bool,
    degraded: bool,
}

impl Verdict {
    pub(super) fn of(grid: &Grid, seen: &Seen, step: &Step) -> Self {
        let before = grid.status.as_ref().and_then(|status| status.phase);
        let phase = phase(before, seen, step);
        Self {
            phase,
            reason: reason(step),
            message: message(grid, seen, step),
            ready: *step == Step::Rest,
            degraded: phase == Phase::Waiting && matches!(step, Step::Wait(_)),
        }
    }

    pub(super) fn deletion_refused(why: String) -> Self {
        let reason = "DeletionRefused";
        Self { phase: Phase::Deleting, reason, message: why, ready: false, degraded: true }
    }
}

pub(super) async fn tell(
    grids: &Api<Grid>,
    grid: &Grid,
    context: &Context,
    news: &News<'_>,
) -> Result<(), Error> {
    let status = status(grid, news, Timestamp::now());
    for condition in status.conditions.iter().filter(|condition| is_new_warning(grid, condition)) {
        context.tell(grid, EventType::Warning, &condition.reason, &condition.message).await;
    }
    if is_newly_founded(grid, &status) {
        let note = format!("grid {} is founded", status.grid_id);
        context.tell(grid, EventType::Normal, "Founded", &note).await;
    }
    apply_status(grids, &grid.name_any(), &status).await
}

fn is_newly_founded(grid: &Grid, status: &GridStatus) -> bool {
    !status.grid_id.is_empty() && grid.status.as_ref().is_none_or(|before| before.grid_id.is_empty())
}

/// Conditions that nothing waits for, and that people might overlook.
fn is_new_warning(grid: &Grid, condition: &Condition) -> bool {
    let before = grid.status.iter().flat_map(|status| &status.conditions);
    let mut before = before.filter(|before| before.type_ == condition.type_);
    let is_told = before.any(|before| before.status == "False" && before.reason == condition.reason);
    matches!(condition.type_.as_str(), "ClassesFit" | "Monitored") && condition.status == "False" && !is_told
}

/// What could not be done is said, too. The rest stays as it was.
pub(super) async fn tell_failure(
    grids: &Api<Grid>,
    grid: &Grid,
    context: &Context,
    error: &Error,
) -> Result<(), Error> {
    let mut status = grid.status.clone().unwrap_or_default();
    let message = error.to_string();
    let mut conditions = conditions_of(grid, &status.conditions);
    conditions.tell("Degraded", true, error.reason(), message.clone());
    conditions.tell("Ready", false, error.reason(), message.clone());
    let conditions = conditions.finish();
    let is_news = status.message != message;
    status = GridStatus {
        observed_generation: grid.metadata.generation,
        phase: Some(if grid.metadata.deletion_timestamp.is_some() {
            Phase::Deleting
        } else {
            Phase::Failing
        }),
        message,
        conditions,
        ..status
    };
    if is_news {
        context.tell(grid, EventType::Warning, error.reason(), &status.message).await;
    }
    apply_status(grids, &grid.name_any(), &status).await
}

pub(super) fn conditions_of<'a>(grid: &Grid, previous: &'a [Condition]) -> Conditions<'a> {
    Conditions::new(previous, grid.metadata.generation, Timestamp::now())
}

fn status(grid: &Grid, news: &News<'_>, now: Timestamp) -> GridStatus {
    let News { seen, verdict, .. } = news;
    let before = grid.status.clone().unwrap_or_default();
    let pods = seen.observed.nodes.as_ref().map(|set| set.pods.as_slice()).unwrap_or_default();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let conditions = conditions(grid, news, now);
    let mut status = GridStatus {
        observed_generation: grid.metadata.generation,
        phase: Some(verdict.phase),
        message: verdict.message.clone(),
        size: count(pods.len()),
        ready: count(pods.iter().filter(|pod| pod.ready).count()),
        selector: node_selector(&grid.name_any()),
        conditions,
        ..before
    };
    // Who cannot be asked is shown as it was.
    if let Some(asked) = &seen.status {
        status.grid_id = hex(&asked.grid_id);
        status.members = asked.members.iter().map(|member| shown(member, seen)).collect();
        status.version = versions(&asked.members);
    }
    status
}

fn shown(member: &wire::Member, seen: &Seen) -> GridMember {
    let pod = member.address.parse().ok().and_then(|address| seen.names.get(&address));
    GridMember {
        node: i64::try_from(member.node).unwrap_or(i64::MAX),
        pod: pod.cloned().unwrap_or_default(),
        address: member.address.clone(),
        zone: member.zone.clone(),
        version: member.version.clone(),
        arbiter: member.role() == wire::NodeRole::Arbiter,
        votes: member.votes,
        answers: member.report.is_some(),
    }
}

/// What there is to do beyond keeping what there is.
fn is_scaling(seen: &Seen) -> bool {
    let observed = &seen.observed;
    let replicas = observed.nodes.as_ref().map(|set| set.replicas);
    replicas != Some(observed.wanted.size) || observed.arbiter.is_some() != observed.wanted.arbiter
}

fn is_upgrading(seen: &Seen) -> bool {
    seen.observed.pods().any(|pod| pod.outdated)
}

fn phase(before: Option<Phase>, seen: &Seen, step: &Step) -> Phase {
    if !seen.observed.founded {
        return Phase::Founding;
    }
    match (step, before) {
        (Step::Rest, _) => Phase::Running,
        (Step::Wait(Waiting::Paused), _) => Phase::Paused,
        _ if is_upgrading(seen) && !seen.observed.wanted.paused => Phase::Upgrading,
        _ if is_scaling(seen) => Phase::Scaling,
        // The last pod is there, and not ready: what was begun is over when all rests.
        (_, Some(begun @ (Phase::Founding | Phase::Upgrading | Phase::Scaling))) => begun,
        // Whoever waits for the grid to run must not take it for what it was.
        (Step::Wait(Waiting::SetNotSeen), _) => Phase::Upgrading,
        _ => Phase::Waiting,
    }
}

fn message(grid: &Grid, seen: &Seen, step: &Step) -> String {
    match step {
        Step::Rest => "all is as it should be".to_owned(),
        Step::SetReplicas(1) => "scaling to one pod".to_owned(),
        Step::SetReplicas(replicas) => format!("scaling to {replicas} pods"),
        Step::AddArbiter => "adding an arbiter".to_owned(),
        Step::RemoveArbiter => "removing the arbiter".to_owned(),
        Step::Replace(pods) => format!("replacing {}", pods.join(", ")),
        Step::Forget(node) => format!("forgetting member {node}, whose pod is gone"),
        Step::Wait(waiting) => {
            let hints = [trouble(seen, waiting), upgraded(seen), hint(grid, seen)].into_iter().flatten();
            hints.fold(format!("waiting: {waiting}"), |message, hint| format!("{message}; {hint}"))
        }
    }
}

fn trouble(seen: &Seen, waiting: &Waiting) -> Option<String> {
    match waiting {
        Waiting::PodNotReady { pod } | Waiting::PodLeaving { pod } => seen.troubles.get(pod).cloned(),
        // It takes all of them.
        Waiting::NotFounded => seen.troubles.iter().next().map(|(pod, trouble)| format!("{pod}: {trouble}")),
        _ => None,
    }
}

/// How far an upgrade is.
fn upgraded(seen: &Seen) -> Option<String> {
    let outdated = seen.observed.pods().filter(|pod| pod.outdated).count();
    let all = seen.observed.pods().count();
    (seen.observed.founded && outdated > 0).then(|| format!("{} of {all} pods are upgraded", all - outdated))
}

/// What people have to do where nothing gets better by itself.
fn hint(grid: &Grid, seen: &Seen) -> Option<String> {
    let mut pods = seen.observed.pods().peekable();
    pods.peek()?;
    let nobody_knows = seen.observed.founded && seen.status.is_none();
    let all_wait = pods.all(|pod| pod.running && !pod.ready);
    (nobody_knows && all_wait).then(|| {
        format!(
            "if all nodes ended at once, what was in memory is gone: delete ConfigMap {} and the pods to have a new grid founded",
            fence(&grid.name_any())
        )
    })
}

fn conditions(grid: &Grid, news: &News<'_>, now: Timestamp) -> Vec<Condition> {
    let News { seen, verdict: Verdict { phase, reason, message, .. }, monitoring } = news;
    let previous = grid.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let mut told = Conditions::new(previous, grid.metadata.generation, now);
    told.tell("Ready", news.verdict.ready, reason, message);
    let serves = seen.observed.pods().any(|pod| pod.ready && pod.member.is_some());
    let partitions = seen.status.as_ref().and_then(|status| status.partitions).unwrap_or_default();
    let missing = partitions.lost + partitions.unreachable;
    match (serves, missing) {
        (true, 0) => told.tell("Available", true, "Serving", "all partitions are served"),
        (true, missing) => {
            let what = format!("{missing} partitions are lost or unreachable: see `wattle grid partitions`");
            told.tell("Available", false, "PartitionsMissing", what);
        }
        (false, _) => told.tell("Available", false, "NobodyServes", "no ready pod is a member of the grid"),
    }
    match &seen.safety {
        Safety::Safe => told.tell("Safe", true, "Safe", "every partition has its copies in sync"),
        Safety::Unsafe { why } if serves => told.tell("Safe", false, "NotSafe", why),
        Safety::Unsafe { why } => told.tell("Safe", Holds::Unknown, "NobodyServes", why),
    }
    let progresses = matches!(phase, Phase::Founding | Phase::Upgrading | Phase::Scaling);
    told.tell("Progressing", progresses, reason, message);
    tell_classes(&mut told, &grid.spec);
    if let Some(monitoring) = monitoring {
        tell_monitoring(&mut told, monitoring);
    }
    let degraded = news.verdict.degraded;
    told.tell("Degraded", degraded, reason, if degraded { message } else { "" });
    told.finish()
}

/// A grid serves without the nodes that its classes would have copies on. But people count on those.
fn tell_classes(told: &mut Conditions<'_>, spec: &GridSpec) {
    let short = spec.classes_short_of_nodes();
    if let Some(count) = spec.too_many_classes() {
        let what = format!(
            "with standard, which every grid has, these are {count} classes of different numbers: a grid has 4 at most, and gets \
             one with the first map of it"
        );
        return told.tell("ClassesFit", false, "TooManyClasses", what);
    }
    if short.is_empty() {
        return told.tell("ClassesFit", true, "EnoughNodes", "no class has more copies than there are nodes");
    }
    let wants = |(name, class): &(&str, Replication)| format!("class {name} has {} copies", class.copies());
    let wants = short.iter().map(wants).collect::<Vec<_>>().join(", ");
    let what = format!("{wants}, and the grid's size is {}: its maps have fewer copies", spec.size);
    told.tell("ClassesFit", false, "TooFewNodes", what);
}

fn tell_monitoring(told: &mut Conditions<'_>, monitoring: &Monitoring) {
    match monitoring {
        Monitoring::Off => told.drop("Monitored"),
        Monitoring::On => told.tell("Monitored", true, "ServiceMonitorMade", "there is a ServiceMonitor"),
        Monitoring::Failed(why) => told.tell("Monitored", false, why.reason(), why.to_string()),
    }
}

fn reason(step: &Step) -> &'static str {
    match step {
        Step::SetReplicas(_) => "Scaling",
        Step::AddArbiter | Step::RemoveArbiter => "ChangingArbiter",
        Step::Replace(_) => "Upgrading",
        Step::Forget(_) => "ForgettingMember",
        Step::Rest => "AsSpecified",
        Step::Wait(waiting) => match waiting {
            Waiting::SetNotSeen => "StatefulSetNotSeen",
            Waiting::PodLeaving { .. } => "PodLeaving",
            Waiting::PodsMissing { .. } => "PodsMissing",
            Waiting::PodNotReady { .. } => "PodNotReady",
            Waiting::NotAMember { .. } => "PodNotAMember",
            Waiting::NotFounded => "Founding",
            Waiting::GridUnknown { .. } => "GridUnknown",
            Waiting::NotSafe { .. } => "NotSafe",
            Waiting::Voters { .. } => "VotersMoving",
            Waiting::MemberMissed { .. } => "MemberMissed",
            Waiting::Paused => "Paused",
        },
    }
}
