//! Steps, done.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use kube::runtime::events::EventType;

use super::observe::Seen;
use crate::api::Grid;
use crate::apply::{apply, ignore_absence};
use crate::context::Context;
use crate::decision::Step;
use crate::error::Error;
use crate::manifests::{Blueprint, Founders, arbiter_name, arbiter_set, node_set};
use crate::reach::client_of;

/// Does what was decided. What fails is decided again.
pub(super) async fn carry_out(
    context: &Context,
    grid: &Grid,
    blueprint: &Blueprint<'_>,
    (seen, step): (&Seen, &Step),
) -> Result<(), Error> {
    let new_founders = Founders::wanted(blueprint.spec);
    let done = match step {
        Step::Wait(_) | Step::Rest => return Ok(()),
        Step::SetReplicas(replicas) => {
            let founders = seen.founders.as_ref().unwrap_or(&new_founders);
            apply(&context.client, &node_set(blueprint, *replicas, founders)).await?;
            ("Scaled", "SetReplicas", format!("scaled to {replicas} pods that hold data"))
        }
        Step::AddArbiter => {
            apply(&context.client, &arbiter_set(blueprint, &new_founders)).await?;
            (
                "ArbiterAdded",
                "AddArbiter",
                "a third node votes, so that either of two others may die".to_owned(),
            )
        }
        Step::RemoveArbiter => {
            let sets: Api<StatefulSet> = Api::namespaced(context.client.clone(), blueprint.namespace);
            let name = arbiter_name(blueprint.name);
            ignore_absence(sets.delete(&name, &DeleteParams::background()).await.map(drop))?;
            ("ArbiterRemoved", "RemoveArbiter", "there are enough nodes to vote".to_owned())
        }
        Step::Replace(pods) => {
            replace(context, blueprint, seen, pods).await?;
            ("Replacing", "Replace", format!("replacing {} to match the spec", pods.join(", ")))
        }
        Step::Forget(node) => {
            forget(context, seen, *node).await?;
            ("MemberForgotten", "Forget", format!("forgot member {node}, which has no pod"))
        }
    };
    let (reason, step, note) = done;
    context.metrics.count_step(step);
    context.tell(grid, EventType::Normal, reason, &note).await;
    Ok(())
}

async fn replace(
    context: &Context,
    blueprint: &Blueprint<'_>,
    seen: &Seen,
    names: &[String],
) -> Result<(), Error> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), blueprint.namespace);
    for name in names {
        // Only the pod that was looked at: another one of its name may be new.
        let preconditions = Preconditions { uid: seen.uids.get(name).cloned(), resource_version: None };
        let deletion = DeleteParams::default().preconditions(preconditions);
        ignore_absence(pods.delete(name, &deletion).await.map(drop))?;
    }
    Ok(())
}

async fn forget(context: &Context, seen: &Seen, node: u64) -> Result<(), Error> {
    let addresses: Vec<_> = seen.names.keys().map(std::net::SocketAddr::ip).collect();
    context.check_tenure()?;
    client_of(&addresses, context.ports)?.forget_node(node).await?;
    Ok(())
}
