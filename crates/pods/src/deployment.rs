//! Deployments, with pods of their own and no ReplicaSet between: `kubectl rollout status` and `wait` see no difference,
//! only `rollout history` and `undo` of a Deployment have nothing to read.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::Selector;
use kube::runtime::controller::{Action, Controller};
use kube::{Api, Resource as _};
use serde_json::{Value, json};

use crate::controller::{Context, everything, run};
use crate::error::{Error, is_status};
use crate::object;

const TEMPLATE: &str = "pod-template-hash";
const AVAILABILITY: Duration = Duration::from_secs(1);

pub(crate) async fn control(context: Arc<Context>) {
    let controller =
        Controller::new(context.all::<Deployment>(), everything()).owns(context.all::<Pod>(), everything());
    run(controller, context, reconcile).await;
}

/// What the plan needs to know of a pod.
#[derive(Debug, Clone)]
struct Member {
    name: String,
    is_new: bool,
    is_ready: bool,
    is_available: bool,
}

#[derive(Debug, Clone, Copy)]
struct Goal {
    replicas: usize,
    /// How many pods there may be beyond the replicas, and how many may be missing, during an update.
    surge: usize,
    unavailable: usize,
    /// Old pods go before new ones come.
    recreates: bool,
}

#[derive(Debug, Default, PartialEq)]
struct Plan {
    create: usize,
    delete: Vec<String>,
}

async fn reconcile(seen: Arc<Deployment>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = object::namespace(&seen.metadata);
    let deployments: Api<Deployment> = context.within(namespace);
    let Some(deployment) = deployments.get_opt(object::name(&seen.metadata)).await? else {
        return Ok(Action::await_change());
    };
    let Some(spec) = deployment.spec.clone().filter(|_| deployment.metadata.deletion_timestamp.is_none())
    else {
        return Ok(Action::await_change());
    };
    let pods: Api<Pod> = context.within(namespace);
    let selector = Selector::try_from(spec.selector.clone())?;
    let mut found = pods.list(&ListParams::default().labels_from(&selector)).await?.items;
    found.retain(|pod| object::is_controlled_by(&pod.metadata, &deployment.metadata));
    let old_go = found.iter().any(object::is_terminating);
    let template = object::hash(&spec.template);
    let now = Timestamp::now();
    let members: Vec<Member> = found
        .iter()
        .filter(|pod| !object::is_terminating(pod) && !object::is_over(pod))
        .map(|pod| member(pod, &template, &spec, now))
        .collect();
    let goal = goal(&spec);
    let mut plan = plan(goal, &members);
    if goal.recreates && old_go {
        plan.create = 0;
    }
    for _ in 0..plan.create {
        create(&context, &deployment, &spec, &template).await?;
    }
    for name in &plan.delete {
        let Some(pod) = found.iter().find(|pod| object::name(&pod.metadata) == name) else { continue };
        match pods.delete(name, &object::deletion_of(&pod.metadata)).await {
            Err(error) if !is_status(&error, 404) => return Err(error.into()),
            _ => {}
        }
    }
    report(&deployments, &deployment, goal, &members).await?;
    let waits = members.iter().any(|member| member.is_ready && !member.is_available);
    Ok(if waits { Action::requeue(AVAILABILITY) } else { Action::await_change() })
}

fn member(pod: &Pod, template: &str, spec: &DeploymentSpec, now: Timestamp) -> Member {
    Member {
        name: object::name(&pod.metadata).to_owned(),
        is_new: object::label(&pod.metadata, TEMPLATE) == template,
        is_ready: object::is_ready(pod),
        is_available: object::is_available(pod, spec.min_ready_seconds.unwrap_or(0), now),
    }
}

fn goal(spec: &DeploymentSpec) -> Goal {
    let replicas = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let strategy = spec.strategy.as_ref();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let surge = share(rolling.and_then(|rolling| rolling.max_surge.as_ref()), replicas, usize::div_ceil);
    let unavailable =
        share(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), replicas, |all, by| all / by);
    Goal {
        replicas,
        surge,
        // Nothing could ever change if both were zero.
        unavailable: if surge == 0 { unavailable.max(1) } else { unavailable },
        recreates: strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate"),
    }
}

/// A number, or percents of the replicas; a quarter if nothing is said.
fn share(value: Option<&IntOrString>, replicas: usize, divide: impl Fn(usize, usize) -> usize) -> usize {
    let percent = match value {
        Some(IntOrString::Int(number)) => return usize::try_from(*number).unwrap_or(0),
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().unwrap_or(25),
        None => 25,
    };
    divide(replicas * percent, 100)
}

fn plan(goal: Goal, members: &[Member]) -> Plan {
    let (new, old): (Vec<&Member>, Vec<&Member>) = members.iter().partition(|member| member.is_new);
    let missing = goal.replicas.saturating_sub(new.len());
    if goal.recreates && !old.is_empty() {
        return Plan { create: 0, delete: names(&old) };
    }
    let room = (goal.replicas + goal.surge).saturating_sub(members.len());
    let mut delete = Vec::new();
    // What is not available is missed by nobody.
    delete.extend(old.iter().filter(|member| !member.is_available).map(|member| member.name.clone()));
    let available = members.iter().filter(|member| member.is_available).count();
    let spare = available.saturating_sub(goal.replicas.saturating_sub(goal.unavailable));
    let mut dispensable: Vec<&Member> = old.into_iter().filter(|member| member.is_available).collect();
    dispensable.truncate(spare);
    delete.extend(names(&dispensable));
    let mut surplus = new.clone();
    surplus.sort_by_key(|member| member.is_available);
    surplus.truncate(new.len().saturating_sub(goal.replicas));
    delete.extend(names(&surplus));
    Plan { create: missing.min(room), delete }
}

fn names(members: &[&Member]) -> Vec<String> {
    members.iter().map(|member| member.name.clone()).collect()
}

async fn create(
    context: &Context,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    template: &str,
) -> Result<(), Error> {
    let own = spec.template.metadata.clone().unwrap_or_default();
    let mut labels = own.labels.unwrap_or_default();
    labels.insert(TEMPLATE.to_owned(), template.to_owned());
    let pod = Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-{template}-", object::name(&deployment.metadata))),
            labels: Some(labels),
            annotations: own.annotations,
            owner_references: Some(object::controlled_by(deployment)),
            ..ObjectMeta::default()
        },
        spec: spec.template.spec.clone(),
        status: None,
    };
    let pods: Api<Pod> = context.within(object::namespace(&deployment.metadata));
    let made = pods.create(&PostParams::default(), &pod).await;
    if let Err(error) = &made {
        context.events.warning(
            deployment.object_ref(&()),
            "FailedCreate",
            &format!("Error creating: {error}"),
        );
    }
    let note = format!("Created pod: {}", object::name(&made?.metadata));
    context.events.normal(deployment.object_ref(&()), "SuccessfulCreate", &note);
    Ok(())
}

async fn report(
    deployments: &Api<Deployment>,
    deployment: &Deployment,
    goal: Goal,
    members: &[Member],
) -> Result<(), Error> {
    let count = |is: &dyn Fn(&Member) -> bool| members.iter().filter(|member| is(member)).count();
    let available = count(&|member| member.is_available);
    let updated = count(&|member| member.is_new);
    let is_complete = [updated, available, members.len()] == [goal.replicas; 3];
    let before = deployment.status.as_ref().and_then(|status| status.conditions.as_deref());
    let before = serde_json::to_value(before.unwrap_or_default()).unwrap_or_default();
    let progress = if is_complete { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" };
    let enough = available + goal.unavailable >= goal.replicas;
    let minimum = if enough { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" };
    let status = json!({
        "observedGeneration": deployment.metadata.generation,
        "replicas": members.len(),
        "updatedReplicas": updated,
        "readyReplicas": count(&|member| member.is_ready),
        "availableReplicas": available,
        "unavailableReplicas": goal.replicas.saturating_sub(available),
        "conditions": [
            condition(&before, "Available", enough, minimum),
            condition(&before, "Progressing", true, progress),
        ],
    });
    if serde_json::to_value(&deployment.status).ok().as_ref() == Some(&status) {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": deployment.metadata.uid}, "status": status});
    let name = object::name(&deployment.metadata);
    deployments.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

fn condition(before: &Value, type_: &str, status: bool, reason: &str) -> Value {
    let status = if status { "True" } else { "False" };
    let same = before
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["type"] == *type_ && one["status"] == *status && one["reason"] == *reason);
    same.cloned().unwrap_or_else(|| {
        let now = object::now();
        json!({"type": type_, "status": status, "reason": reason, "lastTransitionTime": now, "lastUpdateTime": now})
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Goal = Goal { replicas: 1, surge: 1, unavailable: 0, recreates: false };

    /// Each word is a pod: `old` or `new`, with `!` if it is not available.
    fn check(goal: Goal, pods: &str, create: usize, delete: &[usize]) {
        let members: Vec<Member> = pods
            .split_whitespace()
            .enumerate()
            .map(|(at, word)| Member {
                name: at.to_string(),
                is_new: word.starts_with("new"),
                is_ready: !word.ends_with('!'),
                is_available: !word.ends_with('!'),
            })
            .collect();
        let delete = delete.iter().map(usize::to_string).collect();
        assert_eq!(plan(goal, &members), Plan { create, delete }, "{pods}");
    }

    #[test]
    fn a_new_pod_comes_before_the_old_one_goes() {
        check(ONE, "", 1, &[]);
        check(ONE, "old", 1, &[]);
        check(ONE, "old new!", 0, &[]);
        check(ONE, "old new", 0, &[0]);
        check(ONE, "new", 0, &[]);
        check(ONE, "old!", 1, &[0]);
    }

    #[test]
    fn what_is_too_much_goes_and_recreation_empties_first() {
        check(ONE, "new new!", 0, &[1]);
        check(Goal { recreates: true, ..ONE }, "old", 0, &[0]);
        check(Goal { recreates: true, ..ONE }, "", 1, &[]);
        check(Goal { surge: 0, unavailable: 1, ..ONE }, "old", 0, &[0]);
    }

    #[test]
    fn shares_are_numbers_or_percents() {
        let percent = IntOrString::String("25%".to_owned());
        assert_eq!(share(Some(&percent), 5, usize::div_ceil), 2);
        assert_eq!(share(Some(&percent), 5, |all, by| all / by), 1);
        assert_eq!(share(Some(&IntOrString::Int(3)), 5, usize::div_ceil), 3);
    }
}
