//! StatefulSets, as the controller of Kubernetes 1.32 keeps them: pods with ordinals, revisions, rolling updates.

mod claims;
mod plan;
mod pod;
mod revisions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::Selector;
use kube::runtime::controller::{Action, Controller};
use kube::{Api, Resource as _};
use serde_json::json;

use self::plan::{Goal, Member, Step};
use self::revisions::Revisions;
use crate::controller::{Context, everything, run};
use crate::error::{Error, is_status};
use crate::object;

pub(crate) const REVISION: &str = "controller-revision-hash";
/// While pods become available by nothing but time.
const AVAILABILITY: Duration = Duration::from_secs(1);

pub(crate) async fn control(context: Arc<Context>) {
    let controller =
        Controller::new(context.all::<StatefulSet>(), everything()).owns(context.all::<Pod>(), everything());
    run(controller, context, reconcile).await;
}

async fn reconcile(seen: Arc<StatefulSet>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = object::namespace(&seen.metadata);
    let sets: Api<StatefulSet> = context.within(namespace);
    let Some(set) = sets.get_opt(object::name(&seen.metadata)).await? else {
        return Ok(Action::await_change());
    };
    let Some(spec) = set.spec.clone().filter(|_| set.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let pods = members(&context, &set, &spec.selector).await?;
    let revisions = revisions::settle(&context, &set, &pods).await?;
    let goal = goal(&spec, &revisions);
    let now = Timestamp::now();
    let known: Vec<Member> = pods.iter().map(|(ordinal, pod)| member(*ordinal, pod, &spec, now)).collect();
    claims::retain(&context, &set, &goal, &pods).await?;
    for (ordinal, _) in pods.iter().filter(|(_, pod)| object::phase(pod) == "Pending") {
        // One may have been deleted between the last pod and this one.
        claims::ensure(&context, &set, *ordinal).await?;
    }
    for step in plan::plan(&goal, &known) {
        match step {
            Step::Create { ordinal, revision } => {
                let revision = revisions.named(&revision);
                create(&context, &set, ordinal, revision).await?;
            }
            Step::Delete { ordinal } => delete(&context, &set, &pods[&ordinal]).await?,
        }
    }
    report(&sets, &set, &goal, &known).await?;
    let waits = known.iter().any(|member| member.is_ready && !member.is_available);
    Ok(if waits { Action::requeue(AVAILABILITY) } else { Action::await_change() })
}

/// The set's pods by ordinal; orphans that fit are adopted.
async fn members(
    context: &Context,
    set: &StatefulSet,
    selector: &LabelSelector,
) -> Result<BTreeMap<i32, Pod>, Error> {
    let pods: Api<Pod> = context.within(object::namespace(&set.metadata));
    let selector = Selector::try_from(selector.clone())?;
    let found = pods.list(&ListParams::default().labels_from(&selector)).await?;
    let mut members = BTreeMap::new();
    for mut pod in found {
        let Some(ordinal) = pod::ordinal(set, object::name(&pod.metadata)) else { continue };
        if object::controller(&pod.metadata).is_none() && !object::is_terminating(&pod) {
            let owners = object::controlled_by(set);
            let adopt = json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": owners}});
            pod = pods
                .patch(object::name(&pod.metadata), &PatchParams::default(), &Patch::Merge(adopt))
                .await?;
        }
        if object::is_controlled_by(&pod.metadata, &set.metadata) {
            members.insert(ordinal, pod);
        }
    }
    Ok(members)
}

fn goal(spec: &StatefulSetSpec, revisions: &Revisions) -> Goal {
    let update = spec.update_strategy.as_ref();
    let rolls = update.is_none_or(|update| update.type_.as_deref() != Some("OnDelete"));
    let partition = update.and_then(|update| update.rolling_update.as_ref()?.partition).unwrap_or(0);
    Goal {
        start: spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0),
        replicas: spec.replicas.unwrap_or(1),
        partition: rolls.then_some(partition),
        is_ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
        current: revisions.current_name().to_owned(),
        update: revisions.update_name().to_owned(),
    }
}

fn member(ordinal: i32, pod: &Pod, spec: &StatefulSetSpec, now: Timestamp) -> Member {
    let is_running = object::phase(pod) == "Running";
    let is_available = object::is_available(pod, spec.min_ready_seconds.unwrap_or(0), now);
    Member {
        ordinal,
        revision: object::label(&pod.metadata, REVISION).to_owned(),
        is_over: object::is_over(pod),
        is_ready: is_running && object::is_ready(pod),
        is_available: is_running && is_available,
        is_terminating: object::is_terminating(pod),
    }
}

async fn create(
    context: &Context,
    set: &StatefulSet,
    ordinal: i32,
    revision: &revisions::Revision,
) -> Result<(), Error> {
    let pod = pod::new(set, ordinal, revision)?;
    let name = object::name(&pod.metadata).to_owned();
    claims::ensure(context, set, ordinal).await?;
    let pods: Api<Pod> = context.within(object::namespace(&set.metadata));
    match pods.create(&PostParams::default(), &pod).await {
        Ok(_) => {
            let note = format!("create Pod {name} in StatefulSet {} successful", object::name(&set.metadata));
            context.events.normal(set.object_ref(&()), "SuccessfulCreate", &note);
            Ok(())
        }
        Err(error) if is_status(&error, 409) => Ok(()),
        Err(error) => {
            let note = format!("create Pod {name} failed: {error}");
            context.events.warning(set.object_ref(&()), "FailedCreate", &note);
            Err(error.into())
        }
    }
}

async fn delete(context: &Context, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
    let pods: Api<Pod> = context.within(object::namespace(&set.metadata));
    let name = object::name(&pod.metadata);
    match pods.delete(name, &object::deletion_of(&pod.metadata)).await {
        Ok(_) => {
            let note = format!("delete Pod {name} in StatefulSet {} successful", object::name(&set.metadata));
            context.events.normal(set.object_ref(&()), "SuccessfulDelete", &note);
            Ok(())
        }
        Err(error) if is_status(&error, 404) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn report(
    sets: &Api<StatefulSet>,
    set: &StatefulSet,
    goal: &Goal,
    members: &[Member],
) -> Result<(), Error> {
    let count = |is: &dyn Fn(&Member) -> bool| members.iter().filter(|member| is(member)).count();
    let of = |revision: &str| count(&|member| !member.is_terminating && member.revision == revision);
    let mut current = (goal.current.clone(), of(&goal.current));
    let (replicas, ready, updated) = (members.len(), count(&|member| member.is_ready), of(&goal.update));
    let wanted = usize::try_from(goal.replicas).unwrap_or(0);
    if goal.partition.is_some() && [replicas, ready, updated] == [wanted; 3] {
        // The rolling update is complete.
        current = (goal.update.clone(), updated);
    }
    let status = json!({
        "observedGeneration": set.metadata.generation,
        "replicas": replicas,
        "readyReplicas": ready,
        "availableReplicas": count(&|member| member.is_available),
        "currentReplicas": current.1,
        "updatedReplicas": updated,
        "currentRevision": current.0,
        "updateRevision": goal.update,
        "collisionCount": 0,
    });
    if serde_json::to_value(&set.status).ok().as_ref() == Some(&status) {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": set.metadata.uid}, "status": status});
    sets.patch_status(object::name(&set.metadata), &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}
