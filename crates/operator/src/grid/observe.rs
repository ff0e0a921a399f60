//! What a grid is like: asked of the API server, which is asked anew each time, and of its members.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt as _;
use kube::api::ListParams;
use wattle_client::api as wire;

use super::sets::{Sets, replicas};
use super::trouble::trouble;
use crate::api::Grid;
use crate::context::Context;
use crate::decision::{GridView, MemberView, Observed, PodSet, PodView, Safety, Voters, Wanted};
use crate::error::Error;
use crate::manifests::{Founders, fence, grid_selector, has_arbiter};
use crate::reach::{
    self, CALL_TIME, CALL_TIME_BEFORE, Unreachable, address, ask_safez, client_within, is_ready,
};

/// Pods that are asked whether the grid is safe, until one says so.
const PROBED: usize = 3;

/// Whether there is a grid, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Founding {
    Done,
    Ahead,
}

#[derive(Debug)]
pub(super) struct Seen {
    pub(super) observed: Observed,
    /// What the grid says of itself, if it could be asked.
    pub(super) status: Option<wire::StatusResponse>,
    /// The pods by the addresses at which they are members.
    pub(super) names: BTreeMap<SocketAddr, String>,
    /// By name, with their uid: so that no other pod of the same name is meant.
    pub(super) uids: BTreeMap<String, String>,
    pub(super) safety: Safety,
    /// Why pods do not come up, by name.
    pub(super) troubles: BTreeMap<String, String>,
    /// As the template of the pods that hold data says, if there is one.
    pub(super) founders: Option<Founders>,
}

/// Told without asking the grid: a node has claimed it, or it was known before.
pub(super) async fn founding(context: &Context, grid: &Grid) -> Result<Founding, Error> {
    let fences = context.api_beside::<ConfigMap>(grid)?;
    let is_fenced = fences.get_opt(&fence(&grid.name_any())).await?.is_some();
    let is_known = grid.status.as_ref().is_some_and(|status| !status.grid_id.is_empty());
    Ok(if is_fenced || is_known { Founding::Done } else { Founding::Ahead })
}

pub(super) async fn observe(
    context: &Context,
    grid: &Grid,
    sets: Sets,
    founding: Founding,
) -> Result<Seen, Error> {
    let pods = context.api_beside::<Pod>(grid)?;
    let pods = pods.list(&ListParams::default().labels(&grid_selector(&grid.name_any()))).await?.items;
    let asked = ask(context, &pods, founding).await;
    let ready_suffice = match &asked {
        Ok(status) => ask_partitions(context, &pods, status).await,
        Err(_) => false,
    };
    let safety = ask_safety(context, &pods).await;
    let names = pods.iter().filter_map(|pod| Some((member_address(context, pod)?, pod.name_any()))).collect();
    let status = asked.as_ref().ok();
    // It was asked after the members were, and who left meanwhile is still among those that are told of.
    let safety = status.and_then(leaving).unwrap_or(safety);
    let set = |set: &StatefulSet| pod_set(set, &pods, status, context);
    let observed = Observed {
        wanted: Wanted {
            size: grid.spec.nodes(),
            arbiter: has_arbiter(&grid.spec),
            strategy: grid.spec.upgrade.strategy,
            paused: grid.spec.upgrade.paused,
        },
        // One that came back with its volumes is nobody's claim.
        founded: founding == Founding::Done || asked.is_ok() || pods.iter().any(is_ready),
        nodes: sets.nodes.as_ref().map(set),
        arbiter: sets.arbiter.as_ref().map(set).or_else(|| left_over(&pods, status, context)),
        grid: match &asked {
            Ok(status) => view(status, &names, &safety, ready_suffice),
            Err(why) => GridView::Unknown { why: why.to_string() },
        },
    };
    let uids = pods.iter().filter_map(|pod| Some((pod.name_any(), pod.uid()?))).collect();
    let troubles = pods.iter().filter_map(|pod| Some((pod.name_any(), trouble(pod)?))).collect();
    let founders = sets.nodes.as_ref().map(Founders::of);
    Ok(Seen { observed, status: asked.ok(), names, uids, safety, troubles, founders })
}

/// The first answer of a pod that is in the grid: ready ones first.
async fn ask(
    context: &Context,
    pods: &[Pod],
    founding: Founding,
) -> Result<wire::StatusResponse, Unreachable> {
    let time = match founding {
        Founding::Ahead if !pods.iter().any(is_ready) => CALL_TIME_BEFORE,
        Founding::Ahead | Founding::Done => CALL_TIME,
    };
    let (ready, others): (Vec<&Pod>, Vec<&Pod>) =
        pods.iter().filter(|pod| is_running(pod)).partition(|pod| is_ready(pod));
    let addresses = |pods: &[&Pod]| pods.iter().filter_map(|pod| address(pod)).collect::<Vec<IpAddr>>();
    let mut why = Unreachable::NobodyRuns;
    for addresses in [addresses(&ready), addresses(&others)] {
        match reach::ask(&addresses, context.ports, time).await {
            Ok((_, status)) => return Ok(status),
            Err(Unreachable::NobodyReady) => {}
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Whether nothing is lost if all pods die that are not ready. Asked only while there is one that may hold something.
async fn ask_partitions(context: &Context, pods: &[Pod], status: &wire::StatusResponse) -> bool {
    let (ready, others): (Vec<&Pod>, Vec<&Pod>) = pods.iter().partition(|pod| is_ready(pod));
    let address_of = |pod: &&Pod| member_address(context, pod);
    if !others.iter().any(|pod| is_running(pod) && is_listed(status, address_of(pod))) {
        return false;
    }
    let addresses: Vec<IpAddr> = ready.iter().filter_map(|pod| address(pod)).collect();
    let Ok(client) = client_within(&addresses, context.ports, CALL_TIME) else { return false };
    let Ok(partitions) = client.partitions().await else { return false };
    let members = ready.iter().filter_map(address_of).filter_map(|address| member(status, address));
    suffice(&members.collect::<Vec<_>>(), status, &partitions)
}

/// Whether these members hold every partition completely, and are more than half of the voters. What a lost partition may go on with is
/// worth keeping too.
fn suffice(
    members: &[MemberView],
    status: &wire::StatusResponse,
    partitions: &wire::ListPartitionsResponse,
) -> bool {
    let is_held = |partition: &wire::Partition| match partition.state() {
        wire::PartitionState::NotBegun => true,
        wire::PartitionState::Unspecified | wire::PartitionState::Lost => false,
        wire::PartitionState::Ok
        | wire::PartitionState::UnderReplicated
        | wire::PartitionState::Unreachable => {
            members.iter().any(|member| partition.in_sync.contains(&member.node))
        }
    };
    let voters = status.members.iter().filter(|member| member.votes).count();
    let can_decide = members.iter().filter(|member| member.votes).count() * 2 > voters;
    can_decide && !partitions.outdated && partitions.partitions.iter().all(is_held)
}

async fn ask_safety(context: &Context, pods: &[Pod]) -> Safety {
    let ready = pods.iter().filter(|pod| is_ready(pod));
    let mut why = String::from("no pod is ready");
    for pod in ready.filter_map(address).take(PROBED) {
        match ask_safez(pod, context.ports).await {
            Ok(()) => return Safety::Safe,
            Err(refused) => why = refused.to_string(),
        }
    }
    Safety::Unsafe { why }
}

/// Nobody is taken away, and nothing is at rest, while a member hands over what it holds.
fn leaving(status: &wire::StatusResponse) -> Option<Safety> {
    let leaves = |member: &&wire::Member| member.state() == wire::NodeState::Draining;
    let member = status.members.iter().find(leaves)?;
    Some(Safety::Unsafe { why: format!("member {} leaves", member.node) })
}

/// Where a pod serves clients, which is how members are told apart by the grid.
fn member_address(context: &Context, pod: &Pod) -> Option<SocketAddr> {
    Some(SocketAddr::new(address(pod)?, context.ports.api))
}

fn is_running(pod: &Pod) -> bool {
    let containers = pod.status.iter().filter_map(|status| status.container_statuses.as_ref()).flatten();
    containers.filter_map(|container| container.state.as_ref()).any(|state| state.running.is_some())
}

fn pod_set(
    set: &StatefulSet,
    pods: &[Pod],
    status: Option<&wire::StatusResponse>,
    context: &Context,
) -> PodSet {
    let newest = set.status.as_ref().and_then(|status| status.update_revision.as_deref());
    let seen = set.status.as_ref().and_then(|status| status.observed_generation);
    let of_set =
        |pod: &&Pod| pod.owner_references().iter().any(|owner| Some(&owner.uid) == set.uid().as_ref());
    let is_outdated = |pod: &Pod| {
        let revision = pod.labels().get("controller-revision-hash").map(String::as_str);
        newest.is_some() && revision != newest
    };
    let view = |pod: &Pod| PodView { outdated: is_outdated(pod), ..pod_view(pod, status, context) };
    let mut views: Vec<PodView> = pods.iter().filter(of_set).map(view).collect();
    views.sort_by_key(|pod| pod.ordinal);
    PodSet {
        replicas: replicas(set).unwrap_or_default(),
        is_seen: seen.is_some() && seen >= set.metadata.generation,
        pods: views,
    }
}

/// The arbiter's pod, after its set: it is a member until it has left. One that nobody owns is left to the next set.
fn left_over(pods: &[Pod], status: Option<&wire::StatusResponse>, context: &Context) -> Option<PodSet> {
    let is_left = |pod: &&Pod| {
        let component = pod.labels().get("app.kubernetes.io/component");
        component.is_some_and(|component| component == "arbiter") && !pod.owner_references().is_empty()
    };
    let pods: Vec<PodView> = pods.iter().filter(is_left).map(|pod| pod_view(pod, status, context)).collect();
    (!pods.is_empty()).then_some(PodSet { replicas: 0, is_seen: true, pods })
}

fn pod_view(pod: &Pod, status: Option<&wire::StatusResponse>, context: &Context) -> PodView {
    let address = member_address(context, pod);
    PodView {
        ordinal: ordinal(&pod.name_any()),
        name: pod.name_any(),
        outdated: false,
        ready: is_ready(pod),
        running: is_running(pod),
        leaving: pod.metadata.deletion_timestamp.is_some(),
        listed: status.is_some_and(|status| is_listed(status, address)),
        member: status.and_then(|status| member(status, address?)),
    }
}

/// What stands behind the last dash of a pod's name. A pod that has none is in nobody's way at the end.
fn ordinal(pod: &str) -> u32 {
    pod.rsplit('-').next().and_then(|ordinal| ordinal.parse().ok()).unwrap_or(u32::MAX)
}

/// The member that answers at an address.
fn member(status: &wire::StatusResponse, address: SocketAddr) -> Option<MemberView> {
    let found = status.members.iter().find(|member| member.report.is_some() && is_at(member, address))?;
    Some(MemberView { node: found.node, zone: found.zone.clone(), votes: found.votes, leads: found.leads })
}

/// Whether there is a member at an address, or may be: it does not have to answer.
fn is_listed(status: &wire::StatusResponse, address: Option<SocketAddr>) -> bool {
    address.is_some_and(|address| status.members.iter().any(|member| is_at(member, address)))
}

fn is_at(member: &wire::Member, address: SocketAddr) -> bool {
    member.address.parse() == Ok(address)
}

fn view(
    status: &wire::StatusResponse,
    pods: &BTreeMap<SocketAddr, String>,
    safety: &Safety,
    ready_suffice: bool,
) -> GridView {
    let answers = |member: &&wire::Member| member.report.is_some();
    let joined = || status.members.iter().filter(|member| member.state() == wire::NodeState::Joined);
    let is_gone = |member: &&wire::Member| {
        let Ok(address) = member.address.parse::<SocketAddr>() else { return false };
        let replaced = || status.members.iter().filter(answers).any(|other| is_at(other, address));
        member.report.is_none() && (!pods.contains_key(&address) || replaced())
    };
    GridView::Known {
        safety: safety.clone(),
        voters: Voters {
            voting: status.members.iter().filter(|member| member.votes).count(),
            wanted: Voters::wanted(joined().filter(answers).count(), joined().count()),
        },
        gone: status.members.iter().filter(is_gone).map(|member| member.node).collect(),
        missed: status.partitions.as_ref().map_or(0, |partitions| partitions.unreachable + partitions.lost),
        ready_suffice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, address: &str, answers: bool) -> wire::Member {
        wire::Member {
            node,
            address: address.to_owned(),
            state: wire::NodeState::Joined.into(),
            votes: true,
            report: answers.then(wire::MemberReport::default),
            ..wire::Member::default()
        }
    }

    #[test]
    fn members_that_are_none_of_the_pods_are_gone() {
        let pods =
            ["10.0.0.1:7117", "10.0.0.2:7117"].map(|address| (address.parse().unwrap(), String::new()));
        let members = vec![
            member(1, "10.0.0.1:7117", true),
            // Its pod is there, and may answer again.
            member(2, "10.0.0.2:7117", false),
            // Its pod has started again, with the same address.
            member(3, "10.0.0.1:7117", false),
            member(4, "10.0.0.3:7117", false),
            member(5, "10.0.0.4:7117", true),
        ];
        let status = wire::StatusResponse { members, ..Default::default() };
        let GridView::Known { gone, voters, .. } = view(&status, &pods.into(), &Safety::Safe, false) else {
            panic!("the grid was asked");
        };
        assert_eq!(gone, [3, 4]);
        assert_eq!(voters, Voters { voting: 5, wanted: 3 });
        assert_eq!(super::member(&status, "10.0.0.1:7117".parse().unwrap()).unwrap().node, 1);
        assert_eq!(super::member(&status, "10.0.0.2:7117".parse().unwrap()), None);
        assert!(is_listed(&status, "10.0.0.2:7117".parse().ok()));
        assert!(!is_listed(&status, "10.0.0.9:7117".parse().ok()) && !is_listed(&status, None));
    }

    #[test]
    fn who_is_ready_suffices_with_every_partition_and_most_votes() {
        let view = |node, votes| MemberView { node, zone: String::new(), votes, leads: false };
        let members = (1..=3).map(|node| member(node, "10.0.0.1:7117", true)).collect();
        let status = wire::StatusResponse { members, ..Default::default() };
        let of = |in_sync: &[u64], state: wire::PartitionState| {
            let held = wire::Partition {
                in_sync: vec![1],
                state: wire::PartitionState::Ok.into(),
                ..Default::default()
            };
            let partition =
                wire::Partition { in_sync: in_sync.to_vec(), state: state.into(), ..Default::default() };
            wire::ListPartitionsResponse { partitions: vec![held, partition], ..Default::default() }
        };
        let ready = [view(1, true), view(2, true)];
        for (in_sync, state, expected) in [
            (&[2, 3][..], wire::PartitionState::Ok, true),
            (&[2], wire::PartitionState::UnderReplicated, true),
            (&[3], wire::PartitionState::UnderReplicated, false),
            (&[2], wire::PartitionState::Unreachable, true),
            (&[], wire::PartitionState::Unreachable, false),
            (&[], wire::PartitionState::Lost, false),
            (&[], wire::PartitionState::NotBegun, true),
        ] {
            assert_eq!(suffice(&ready, &status, &of(in_sync, state)), expected, "{in_sync:?} {state:?}");
        }
        let good = of(&[1, 2], wire::PartitionState::Ok);
        assert!(!suffice(&ready[..1], &status, &good), "one of three voters");
        assert!(!suffice(&[], &status, &good));
        let old = wire::ListPartitionsResponse { outdated: true, ..good };
        assert!(!suffice(&ready, &status, &old), "it may be otherwise by now");
    }

    #[test]
    fn a_grid_is_not_safe_while_a_member_leaves() {
        let members = vec![member(1, "10.0.0.1:7117", true), member(2, "10.0.0.2:7117", true)];
        let mut status = wire::StatusResponse { members, ..Default::default() };
        assert_eq!(leaving(&status), None);
        status.members[1].state = wire::NodeState::Draining.into();
        assert_eq!(leaving(&status), Some(Safety::Unsafe { why: "member 2 leaves".to_owned() }));
    }

    #[test]
    fn pods_are_ordered_by_number() {
        assert_eq!((ordinal("g-10"), ordinal("a-b-2"), ordinal("stray")), (10, 2, u32::MAX));
    }
}
