//! Nodes: registered at the start, and what becomes of one that is taken away: it is unreachable after a while, its pods
//! are not ready, later evicted, and removed when its object is deleted.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tracing::warn;

use crate::address::KUBELET_PORT;
use crate::controller::{Context, RETRY, Steady, everything};
use crate::error::{Error, is_status};
use crate::object;

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// A machine that pods run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    pub name: String,
    /// The value of the label `topology.kubernetes.io/zone`; none if empty.
    pub zone: String,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until a node that is silent counts as unreachable.
    pub(crate) unreachable: Duration,
    /// From then until its pods are evicted.
    pub(crate) evicted: Duration,
}

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Failed(String),
    Restored(String),
}

/// Registers a node as its kubelet does.
pub(crate) async fn register(context: &Context, node: &NodeSettings, address: Ipv4Addr) -> Result<(), Error> {
    let nodes: Api<Node> = context.all();
    let mut labels = json!({"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux"});
    if !node.zone.is_empty() {
        labels["topology.kubernetes.io/zone"] = json!(node.zone);
    }
    let object =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name, "labels": labels}});
    let made: Node = serde_json::from_value(object).expect("this is a node");
    match nodes.create(&PostParams::default(), &made).await {
        Err(error) if !is_status(&error, 409) => return Err(error.into()),
        _ => {}
    }
    let resources = json!({"cpu": "8", "memory": "32Gi", "pods": "110"});
    let mut status = ready(true);
    status["status"]["addresses"] = json!([
        {"type": "InternalIP", "address": address}, {"type": "Hostname", "address": node.name}]);
    status["status"]["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": KUBELET_PORT}});
    status["status"]["capacity"] = resources.clone();
    status["status"]["allocatable"] = resources;
    status["status"]["nodeInfo"] = json!({"architecture": std::env::consts::ARCH, "bootID": "",
        "containerRuntimeVersion": "processes", "kernelVersion": "", "kubeProxyVersion": "", "machineID": "",
        "kubeletVersion": "v1.32.0", "operatingSystem": "linux", "osImage": "this machine", "systemUUID": ""});
    nodes.patch_status(&node.name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

fn ready(is_ready: bool) -> Value {
    let (status, reason) = if is_ready { ("True", "KubeletReady") } else { ("Unknown", "NodeStatusUnknown") };
    let now = object::now();
    json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": reason,
        "lastHeartbeatTime": now, "lastTransitionTime": now}]}})
}

/// The node lifecycle controller and the collector of pods whose node is gone.
pub(crate) async fn control(context: Arc<Context>, patience: Patience, mut changes: mpsc::Receiver<Change>) {
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut current: BTreeMap<String, AbortHandle> = BTreeMap::new();
    let watch = watcher(context.all::<Node>(), everything()).backoff(Steady(RETRY));
    let mut watch = std::pin::pin!(watch);
    loop {
        let (name, deeds) = tokio::select! {
            Some(change) = changes.recv() => match change {
                Change::Failed(name) => {
                    (name, vec![(patience.unreachable, Deed::Lose), (patience.evicted, Deed::Evict)])
                }
                Change::Restored(name) => (name, vec![(Duration::ZERO, Deed::Restore)]),
            },
            event = watch.try_next() => match event {
                Ok(Some(watcher::Event::Delete(node))) => {
                    (object::name(&node.metadata).to_owned(), vec![(Duration::ZERO, Deed::Collect)])
                }
                Ok(Some(_)) => continue,
                Ok(None) => return,
                Err(error) => {
                    warn!(%error, "the watch of nodes broke");
                    continue;
                }
            },
            Some(_) = tasks.join_next() => continue,
        };
        let task = tasks.spawn(carry_out(Arc::clone(&context), name.clone(), deeds));
        // What was to be done about it before is not true any more.
        if let Some(before) = current.insert(name, task) {
            before.abort();
        }
    }
}

/// What is done about a node, a while after what was done before.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Lose,
    Evict,
    Restore,
    Collect,
}

/// Each deed is tried until it succeeds.
async fn carry_out(context: Arc<Context>, node: String, deeds: Vec<(Duration, Deed)>) {
    for (after, deed) in deeds {
        tokio::time::sleep(after).await;
        while let Err(error) = perform(&context, &node, deed).await {
            warn!(node, ?deed, %error, "a node is not looked after");
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn perform(context: &Context, node: &str, deed: Deed) -> Result<(), Error> {
    match deed {
        Deed::Lose => lose(context, node).await,
        Deed::Evict => delete_pods(context, node, &DeleteParams::default()).await,
        Deed::Restore => mark(context, node, true).await,
        Deed::Collect => delete_pods(context, node, &DeleteParams::default().grace_period(0)).await,
    }
}

async fn lose(context: &Context, node: &str) -> Result<(), Error> {
    mark(context, node, false).await?;
    for pod in pods_of(context, node).await? {
        let before = pod.status.clone().unwrap_or_default().conditions.unwrap_or_default();
        let mut after = before.clone();
        for one in after.iter_mut().filter(|one| one.type_ == "Ready") {
            *one = object::condition(&before, "Ready", false, "NodeNotReady");
        }
        let status = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": after}});
        let pods: Api<Pod> = context.within(object::namespace(&pod.metadata));
        let name = object::name(&pod.metadata);
        match pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await {
            Err(error) if !is_status(&error, 404) && !is_status(&error, 409) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// A node whose object is gone is nobody's.
async fn mark(context: &Context, node: &str, is_ready: bool) -> Result<(), Error> {
    let nodes: Api<Node> = context.all();
    let effects = ["NoSchedule", "NoExecute"].map(|effect| json!({"key": UNREACHABLE, "effect": effect}));
    let taints = if is_ready { Value::Null } else { json!(effects) };
    let taint = Patch::Merge(json!({"spec": {"taints": taints}}));
    match nodes.patch(node, &PatchParams::default(), &taint).await {
        Err(error) if is_status(&error, 404) => return Ok(()),
        marked => marked?,
    };
    nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(ready(is_ready))).await?;
    Ok(())
}

async fn pods_of(context: &Context, node: &str) -> Result<Vec<Pod>, Error> {
    let of_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    Ok(context.all::<Pod>().list(&of_node).await?.items)
}

async fn delete_pods(context: &Context, node: &str, how: &DeleteParams) -> Result<(), Error> {
    for pod in pods_of(context, node).await? {
        let pods: Api<Pod> = context.within(object::namespace(&pod.metadata));
        let this =
            DeleteParams { preconditions: object::deletion_of(&pod.metadata).preconditions, ..how.clone() };
        match pods.delete(object::name(&pod.metadata), &this).await {
            Err(error) if !is_status(&error, 404) && !is_status(&error, 409) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
