//! Which node a pod runs on: one that its selector allows, in the zone and then on the node with the fewest of its kind.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, PersistentVolumeClaim, Pod};
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::runtime::controller::{Action, Controller};
use kube::{Api, Resource as _};
use serde_json::json;

use crate::claims;
use crate::controller::{Context, everything, run_one_by_one};
use crate::error::Error;
use crate::object;

const UNSCHEDULABLE: Duration = Duration::from_secs(1);

pub(crate) async fn control(context: Arc<Context>) {
    let unassigned = everything().fields("spec.nodeName=");
    let controller = Controller::new(context.all::<Pod>(), unassigned);
    // Each decision counts on those before it.
    run_one_by_one(controller, context, reconcile).await;
}

async fn reconcile(seen: Arc<Pod>, context: Arc<Context>) -> Result<Action, Error> {
    let pods: Api<Pod> = context.within(object::namespace(&seen.metadata));
    let name = object::name(&seen.metadata);
    let Some(pod) = pods.get_opt(name).await? else { return Ok(Action::await_change()) };
    if !object::node_name(&pod).is_empty() || object::is_terminating(&pod) {
        return Ok(Action::await_change());
    }
    let nodes = context.all::<Node>().list(&ListParams::default()).await?.items;
    let others = context.all::<Pod>().list(&ListParams::default()).await?.items;
    let chosen = match deleted_claim(&context, &pod).await? {
        Some(claim) => Err(format!("persistentvolumeclaim \"{claim}\" is being deleted")),
        None => {
            choose(&pod, &nodes, &others).ok_or_else(|| format!("0/{} nodes are available.", nodes.len()))
        }
    };
    let node = match chosen {
        Ok(node) => node,
        Err(message) => return refuse(&context, &pod, &message).await,
    };
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            uid: pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    let _: Status = pods.create_subresource("binding", name, &PostParams::default(), &binding).await?;
    let note = format!("Successfully assigned {}/{name} to {node}", object::namespace(&pod.metadata));
    context.events.normal(pod.object_ref(&()), "Scheduled", &note);
    Ok(Action::await_change())
}

async fn refuse(context: &Context, pod: &Pod, message: &str) -> Result<Action, Error> {
    let before = pod.status.clone().unwrap_or_default().conditions.unwrap_or_default();
    let mut condition = object::condition(&before, "PodScheduled", false, "Unschedulable");
    condition.message = Some(message.to_owned());
    if !before.contains(&condition) {
        context.events.warning(pod.object_ref(&()), "FailedScheduling", message);
        let status = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let pods: Api<Pod> = context.within(object::namespace(&pod.metadata));
        pods.patch_status(object::name(&pod.metadata), &PatchParams::default(), &Patch::Merge(status))
            .await?;
    }
    Ok(Action::requeue(UNSCHEDULABLE))
}

/// A pod must not keep a claim from going that it does not use yet.
async fn deleted_claim(context: &Context, pod: &Pod) -> Result<Option<String>, Error> {
    let claims: Api<PersistentVolumeClaim> = context.within(object::namespace(&pod.metadata));
    for name in claims::used_by(pod) {
        let found = claims.get_opt(name).await?;
        if found.is_some_and(|claim| claim.metadata.deletion_timestamp.is_some()) {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

fn choose<'a>(pod: &Pod, nodes: &'a [Node], others: &[Pod]) -> Option<&'a str> {
    let owner = object::controller(&pod.metadata).map(|owner| owner.uid.as_str());
    let kin: Vec<&str> = others
        .iter()
        .filter(|other| object::controller(&other.metadata).map(|owner| owner.uid.as_str()) == owner)
        .filter(|other| !object::is_terminating(other) && !object::is_over(other))
        .map(object::node_name)
        .collect();
    let on = |names: &BTreeSet<&str>| kin.iter().filter(|node| names.contains(*node)).count();
    let zone = |node: &'a Node| object::label(&node.metadata, "topology.kubernetes.io/zone");
    let fits = nodes.iter().filter(|node| is_open(node) && selects(pod, node));
    let best = fits.min_by_key(|node| {
        let name = object::name(&node.metadata);
        let neighbours = nodes.iter().filter(|other| zone(other) == zone(node));
        let neighbours = neighbours.map(|other| object::name(&other.metadata)).collect();
        (on(&neighbours), on(&BTreeSet::from([name])), name)
    });
    best.map(|node| object::name(&node.metadata))
}

fn is_open(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True");
    let spec = node.spec.clone().unwrap_or_default();
    let is_tainted = spec.taints.iter().flatten().any(|taint| taint.effect != "PreferNoSchedule");
    is_ready && spec.unschedulable != Some(true) && !is_tainted
}

fn selects(pod: &Pod, node: &Node) -> bool {
    let selector = pod.spec.iter().flat_map(|spec| spec.node_selector.iter().flatten());
    selector.into_iter().all(|(name, value)| object::label(&node.metadata, name) == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, zone: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}, "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}}))
        .unwrap()
    }

    fn pod(node: &str) -> Pod {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "1", "controller": true}]);
        serde_json::from_value(json!({"metadata": {"ownerReferences": owner},
            "spec": {"nodeName": node, "containers": []}}))
        .unwrap()
    }

    fn check(nodes: &[Node], others: &[&str], expected: Option<&str>) {
        let others: Vec<Pod> = others.iter().map(|node| pod(node)).collect();
        assert_eq!(choose(&pod(""), nodes, &others), expected);
    }

    #[test]
    fn pods_of_one_owner_spread_over_zones_and_nodes() {
        let nodes = [node("a1", "a"), node("a2", "a"), node("b1", "b")];
        check(&nodes, &[], Some("a1"));
        check(&nodes, &["a1"], Some("b1"));
        check(&nodes, &["a1", "b1"], Some("a2"));
        check(&nodes, &["a1", "b1", "a2"], Some("b1"));
    }

    #[test]
    fn closed_nodes_and_those_not_asked_for_are_left_out() {
        let mut nodes = [node("a", "a"), node("b", "b")];
        nodes[0].spec = Some(serde_json::from_value(json!({"unschedulable": true})).unwrap());
        check(&nodes, &["b"], Some("b"));
        let mut picky = pod("");
        let selector = json!({"containers": [], "nodeSelector": {"topology.kubernetes.io/zone": "a"}});
        picky.spec = Some(serde_json::from_value(selector).unwrap());
        assert_eq!(choose(&picky, &nodes, &[]), None);
    }
}
