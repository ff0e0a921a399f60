//! What to do next about a grid's pods, told from what was observed and nothing else. One step at a time: the next decision is made from
//! what has become of it.
//!
//! A step that takes a pod away, or adds one, waits until every pod is a member, every partition has its copies and the control group
//! its voters. What is down already and holds nothing that others lack may be replaced or taken away at any time: so a bad upgrade can be
//! taken back.

mod observed;
#[cfg(test)]
mod tests;
mod upgrade;
#[cfg(test)]
mod walk;

pub(crate) use observed::{GridView, MemberView, Observed, PodSet, PodView, Safety, Voters, Wanted};

/// What is done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Of the pods that hold data.
    SetReplicas(u32),
    AddArbiter,
    RemoveArbiter,
    /// Their set makes them anew, as they should be by now.
    Replace(Vec<String>),
    /// A member whose process is gone for good.
    Forget(u64),
    Wait(Waiting),
    /// Everything is as it should be.
    Rest,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Waiting {
    #[error("the StatefulSet controller has yet to see the newest StatefulSet")]
    SetNotSeen,
    #[error("{pod} is about to stop, and hands over what it holds")]
    PodLeaving { pod: String },
    #[error("{found} of {wanted} pods are there")]
    PodsMissing { found: u32, wanted: u32 },
    #[error("{pod} is not ready")]
    PodNotReady { pod: String },
    #[error("{pod} is ready, and no member of the grid yet")]
    NotAMember { pod: String },
    #[error("the pods have yet to found the grid")]
    NotFounded,
    #[error("the grid cannot be asked: {why}")]
    GridUnknown { why: String },
    #[error("the grid is not safe: {why}")]
    NotSafe { why: String },
    #[error("the number of voters is {voting}, and should be {wanted}")]
    Voters { voting: usize, wanted: usize },
    #[error("member {node} is gone, and what only it held cannot be reached: {partitions} of the partitions")]
    MemberMissed { node: u64, partitions: u32 },
    #[error("the upgrade is paused")]
    Paused,
}

pub(crate) fn decide(observed: &Observed) -> Step {
    let Some(nodes) = &observed.nodes else { return Step::SetReplicas(observed.wanted.size) };
    if !observed.founded {
        return found(observed, nodes);
    }
    if let Some(waiting) = unsettled(observed) {
        return Step::Wait(waiting);
    }
    if let Some(step) = harmless(observed, nodes) {
        return step;
    }
    match unsound(observed) {
        Some(Obstacle::Wait(waiting)) => Step::Wait(waiting),
        Some(Obstacle::Forget(node)) => Step::Forget(node),
        None => advance(observed, nodes),
    }
}

/// As long as there is no grid nothing can be lost. But one may be founded at any moment: so pods that run are replaced one by one.
fn found(observed: &Observed, nodes: &PodSet) -> Step {
    let wanted = &observed.wanted;
    if nodes.replicas != wanted.size {
        return Step::SetReplicas(wanted.size);
    }
    match (&observed.arbiter, wanted.arbiter) {
        (None, true) => return Step::AddArbiter,
        (Some(set), false) if set.replicas > 0 => return Step::RemoveArbiter,
        (Some(_), _) | (None, false) => {}
    }
    if let Some(waiting) = unsettled(observed) {
        return Step::Wait(waiting);
    }
    let outdated = || observed.pods().filter(|pod| pod.outdated);
    if !wanted.paused {
        let dead: Vec<String> = outdated().filter(|pod| !pod.running).map(|pod| pod.name.clone()).collect();
        if !dead.is_empty() {
            return Step::Replace(dead);
        }
        if let Some(pod) = outdated().next() {
            return Step::Replace(vec![pod.name.clone()]);
        }
    }
    Step::Wait(Waiting::NotFounded)
}

/// The step before has not come to its end.
fn unsettled(observed: &Observed) -> Option<Waiting> {
    if observed.sets().any(|set| !set.is_seen) {
        return Some(Waiting::SetNotSeen);
    }
    let beyond = |set: &PodSet| set.pods.iter().find(|pod| pod.ordinal >= set.replicas).cloned();
    let leaving = observed.pods().find(|pod| pod.leaving).cloned();
    let pod = leaving.or_else(|| observed.sets().find_map(beyond))?;
    Some(Waiting::PodLeaving { pod: pod.name })
}

/// Steps about pods that are down and not needed: they make nothing worse, and nothing else may get better without them.
fn harmless(observed: &Observed, nodes: &PodSet) -> Option<Step> {
    let is_needless = |pod: &PodView| {
        let is_needless_member = match observed.grid {
            GridView::Known { ready_suffice, .. } => ready_suffice || !pod.listed,
            GridView::Unknown { .. } => false,
        };
        !pod.ready && (!pod.running || is_needless_member)
    };
    let wanted = &observed.wanted;
    // Somebody else has scaled the set: nobody would answer for ever.
    if nodes.replicas == 0 {
        return Some(Step::SetReplicas(wanted.size));
    }
    // With a pod may go its volume: only where the others are known to do without it.
    let is_known = matches!(observed.grid, GridView::Known { .. });
    if is_known && nodes.replicas > target(wanted, nodes) {
        let last = nodes.pods.iter().find(|pod| pod.ordinal + 1 == nodes.replicas);
        if last.is_none_or(is_needless) {
            return Some(Step::SetReplicas(nodes.replicas - 1));
        }
    }
    if let Some(arbiter) = &observed.arbiter
        && is_known
        && !wanted.arbiter
        && arbiter.pods.iter().all(is_needless)
    {
        return Some(Step::RemoveArbiter);
    }
    if wanted.paused {
        return None;
    }
    let broken = observed.pods().find(|pod| pod.outdated && is_needless(pod))?;
    Some(Step::Replace(vec![broken.name.clone()]))
}

/// How many pods should hold data just now. Somebody has to take what a lone node holds while that is replaced.
fn target(wanted: &Wanted, nodes: &PodSet) -> u32 {
    let mut staying = nodes.pods.iter().filter(|pod| pod.ordinal < wanted.size);
    let is_lone = wanted.size == 1 && !wanted.paused && staying.any(|pod| pod.outdated);
    if is_lone { 2 } else { wanted.size }
}

enum Obstacle {
    Wait(Waiting),
    Forget(u64),
}

/// Why nothing may be taken from the grid, or added to it, just now.
fn unsound(observed: &Observed) -> Option<Obstacle> {
    if let Some(pod) = observed.pods().find(|pod| !pod.ready) {
        return Some(Obstacle::Wait(Waiting::PodNotReady { pod: pod.name.clone() }));
    }
    if let Some(set) = observed.sets().find(|set| set.found() < set.replicas) {
        let (found, wanted) = (set.found(), set.replicas);
        return Some(Obstacle::Wait(Waiting::PodsMissing { found, wanted }));
    }
    let (safety, voters, gone, missed) = match &observed.grid {
        GridView::Unknown { why } => {
            return Some(Obstacle::Wait(Waiting::GridUnknown { why: why.clone() }));
        }
        GridView::Known { safety, voters, gone, missed, .. } => (safety, voters, gone, *missed),
    };
    if let Some(pod) = observed.pods().find(|pod| pod.member.is_none()) {
        return Some(Obstacle::Wait(Waiting::NotAMember { pod: pod.name.clone() }));
    }
    // Every pod is a member that answers: who does not is none of them, and its process is dead. It must go before anything is counted
    // on the number of nodes, as votes are.
    if let Some(node) = gone.first() {
        return Some(if missed == 0 {
            Obstacle::Forget(*node)
        } else {
            Obstacle::Wait(Waiting::MemberMissed { node: *node, partitions: missed })
        });
    }
    if let Safety::Unsafe { why } = safety {
        return Some(Obstacle::Wait(Waiting::NotSafe { why: why.clone() }));
    }
    if voters.voting != voters.wanted {
        let Voters { voting, wanted } = *voters;
        return Some(Obstacle::Wait(Waiting::Voters { voting, wanted }));
    }
    None
}

/// The next step towards what is wanted, of a grid that is sound.
fn advance(observed: &Observed, nodes: &PodSet) -> Step {
    let wanted = &observed.wanted;
    // The third voter comes before the third node goes.
    if wanted.arbiter && observed.arbiter.is_none() {
        return Step::AddArbiter;
    }
    let target = target(wanted, nodes);
    if nodes.replicas < target {
        return Step::SetReplicas(nodes.replicas + 1);
    }
    if !wanted.paused {
        if let Some(pods) = upgrade::next(observed, nodes) {
            return Step::Replace(pods);
        }
        let arbiter = observed.arbiter.iter().flat_map(|set| &set.pods).find(|pod| pod.outdated);
        if let (Some(pod), true) = (arbiter, wanted.arbiter) {
            return Step::Replace(vec![pod.name.clone()]);
        }
    }
    if nodes.replicas > target {
        return Step::SetReplicas(nodes.replicas - 1);
    }
    if !wanted.arbiter && observed.arbiter.is_some() {
        return Step::RemoveArbiter;
    }
    let outdated = observed.pods().filter(|pod| pod.outdated).count();
    if outdated > 0 { Step::Wait(Waiting::Paused) } else { Step::Rest }
}
