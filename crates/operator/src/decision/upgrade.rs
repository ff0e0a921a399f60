//! Which pods are replaced next.

use std::cmp::Reverse;

use super::observed::{Observed, PodSet, PodView};
use crate::api::UpgradeStrategy;

/// Outdated pods that go together; none if no pod that stays is outdated. The leader goes last, to save elections.
pub(super) fn next(observed: &Observed, nodes: &PodSet) -> Option<Vec<String>> {
    let staying = nodes.pods.iter().filter(|pod| pod.ordinal < observed.wanted.size);
    let outdated: Vec<&PodView> = staying.filter(|pod| pod.outdated).collect();
    let leads = |pod: &PodView| pod.member.as_ref().is_some_and(|member| member.leads);
    let first = outdated.iter().min_by_key(|pod| (leads(pod), Reverse(pod.ordinal)))?;
    let together = match observed.wanted.strategy {
        UpgradeStrategy::ByPod => None,
        UpgradeStrategy::ByZone => zone_of(observed, first, &outdated),
    };
    let pods = together.unwrap_or_else(|| vec![first]);
    Some(pods.into_iter().map(|pod| pod.name.clone()).collect())
}

/// The outdated pods of a pod's zone, if others hold data elsewhere and can decide without them.
fn zone_of<'a>(observed: &Observed, pod: &PodView, outdated: &[&'a PodView]) -> Option<Vec<&'a PodView>> {
    let zone = |pod: &PodView| pod.member.as_ref().map(|member| member.zone.clone());
    let own = zone(pod).filter(|zone| !zone.is_empty())?;
    let is_here = |pod: &PodView| zone(pod).as_deref() == Some(own.as_str());
    let holds_elsewhere = observed.nodes.iter().flat_map(|set| &set.pods).any(|pod| !is_here(pod));
    let votes = |pod: &&PodView| pod.member.as_ref().is_some_and(|member| member.votes);
    let voters = observed.pods().filter(votes).count();
    let elsewhere = observed.pods().filter(|pod| !is_here(pod)).filter(votes).count();
    let can_decide = elsewhere * 2 > voters;
    (holds_elsewhere && can_decide).then(|| outdated.iter().copied().filter(|pod| is_here(pod)).collect())
}
