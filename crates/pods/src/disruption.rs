//! How many pods may be evicted: the status of PodDisruptionBudgets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ListParams, PostParams};
use kube::core::{Selector, SelectorExt as _};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;

use crate::controller::{Context, everything, run};
use crate::error::Error;
use crate::object;

/// An eviction after which the pod has not gone within this time is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(120);

pub(crate) async fn control(context: Arc<Context>) {
    let controller = Controller::new(context.all::<PodDisruptionBudget>(), everything());
    let budgets = controller.store();
    let controller = controller.watches(context.all::<Pod>(), everything(), move |pod| {
        let selects = |budget: &Arc<PodDisruptionBudget>| {
            let is_near = budget.metadata.namespace == pod.metadata.namespace;
            is_near && selector(budget).is_ok_and(|selector| selects(selector.as_ref(), &pod))
        };
        let found = budgets.state().into_iter().filter(selects);
        found.map(|budget| ObjectRef::from_obj(&*budget)).collect::<Vec<_>>()
    });
    run(controller, context, reconcile).await;
}

/// None selects nothing, an empty one everything.
fn selector(budget: &PodDisruptionBudget) -> Result<Option<Selector>, Error> {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    Ok(selector.map(Selector::try_from).transpose()?)
}

fn selects(selector: Option<&Selector>, pod: &Pod) -> bool {
    selector
        .is_some_and(|selector| selector.matches(pod.metadata.labels.as_ref().unwrap_or(&BTreeMap::new())))
}

async fn reconcile(seen: Arc<PodDisruptionBudget>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = object::namespace(&seen.metadata);
    let budgets: Api<PodDisruptionBudget> = context.within(namespace);
    let Some(mut budget) = budgets.get_opt(object::name(&seen.metadata)).await? else {
        return Ok(Action::await_change());
    };
    let selector = selector(&budget)?;
    let mut pods = context.within::<Pod>(namespace).list(&ListParams::default()).await?.items;
    pods.retain(|pod| selects(selector.as_ref(), pod));
    let scale = scale(&context, namespace, &pods).await?;
    let before = budget.status.clone().unwrap_or_default();
    let spec = budget.spec.clone().unwrap_or_default();
    let mut status = status(&spec, &pods, scale, &before, Timestamp::now());
    status.observed_generation = budget.metadata.generation;
    let has_evicted = status.disrupted_pods.as_ref().is_some_and(|pods| !pods.is_empty());
    if status != before {
        budget.status = Some(status);
        // With its resource version: an eviction that spends meanwhile must not be forgotten.
        budgets.replace_status(object::name(&seen.metadata), &PostParams::default(), &budget).await?;
    }
    Ok(if has_evicted { Action::requeue(FORGOTTEN) } else { Action::await_change() })
}

/// How many pods the owners of these want to have.
async fn scale(context: &Context, namespace: &str, pods: &[Pod]) -> Result<i32, Error> {
    let owners = pods.iter().filter_map(|pod| object::controller(&pod.metadata));
    let owners: BTreeSet<(&str, &str)> =
        owners.map(|owner| (owner.kind.as_str(), owner.name.as_str())).collect();
    let mut sum = 0;
    for (kind, name) in owners {
        sum += match kind {
            "StatefulSet" => {
                let set = context.within::<StatefulSet>(namespace).get_opt(name).await?;
                set.and_then(|set| set.spec?.replicas)
            }
            "Deployment" => {
                let deployment = context.within::<Deployment>(namespace).get_opt(name).await?;
                deployment.and_then(|deployment| deployment.spec?.replicas)
            }
            _ => None,
        }
        .unwrap_or(0);
    }
    Ok(sum)
}

fn status(
    spec: &PodDisruptionBudgetSpec,
    pods: &[Pod],
    scale: i32,
    before: &PodDisruptionBudgetStatus,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (scale, (scale - share(most, scale)).max(0)),
        (None, Some(IntOrString::Int(least))) => (count, *least),
        (None, Some(percent)) => (scale, share(percent, scale)),
        (None, None) => (count, 0),
    };
    let is_recent = |time: &Time| now.duration_since(time.0).unsigned_abs() < FORGOTTEN;
    let mut disrupted = before.disrupted_pods.clone().unwrap_or_default();
    disrupted.retain(|name, time| {
        is_recent(time)
            && pods.iter().any(|pod| object::name(&pod.metadata) == name && !object::is_terminating(pod))
    });
    let is_healthy = |pod: &&Pod| {
        object::is_ready(pod)
            && !object::is_terminating(pod)
            && !disrupted.contains_key(object::name(&pod.metadata))
    };
    let healthy = i32::try_from(pods.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    PodDisruptionBudgetStatus {
        conditions: Some(vec![condition(before, allowed > 0)]),
        current_healthy: healthy,
        desired_healthy: desired,
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: allowed,
        expected_pods: expected,
        observed_generation: before.observed_generation,
    }
}

/// Percents are rounded up.
fn share(value: &IntOrString, of: i32) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i32 = text.trim_end_matches('%').parse().unwrap_or(0);
            of.saturating_mul(percent).saturating_add(99) / 100
        }
    }
}

fn condition(before: &PodDisruptionBudgetStatus, is_allowed: bool) -> Condition {
    let (status, reason) =
        if is_allowed { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let same = before.conditions.iter().flatten().find(|one| one.status == status);
    same.cloned().unwrap_or_else(|| Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        last_transition_time: object::now(),
        observed_generation: before.observed_generation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each letter is a pod: `r` ready, `n` not, `t` ready and terminating, `e` ready and just evicted.
    fn check(spec: serde_json::Value, scale: i32, pods: &str, expected: [i32; 4]) {
        let spec: PodDisruptionBudgetSpec = serde_json::from_value(spec).unwrap();
        let pods: Vec<(String, Pod)> = pods
            .char_indices()
            .map(|(at, letter)| {
                let ready = if letter == 'n' { "False" } else { "True" };
                let mut pod = json!({"metadata": {"name": format!("{letter}{at}")},
                    "status": {"conditions": [{"type": "Ready", "status": ready}]}});
                if letter == 't' {
                    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                }
                (format!("{letter}{at}"), serde_json::from_value(pod).unwrap())
            })
            .collect();
        let evicted = pods.iter().filter(|(name, _)| name.starts_with('e'));
        let evicted = evicted.map(|(name, _)| (name.clone(), object::now())).collect();
        let before = PodDisruptionBudgetStatus {
            disrupted_pods: Some(evicted),
            ..PodDisruptionBudgetStatus::default()
        };
        let pods: Vec<Pod> = pods.into_iter().map(|(_, pod)| pod).collect();
        let found = status(&spec, &pods, scale, &before, Timestamp::now());
        let found =
            [found.expected_pods, found.desired_healthy, found.current_healthy, found.disruptions_allowed];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_budget_counts_what_is_wanted_and_what_is_well() {
        let one_less = json!({"maxUnavailable": 1});
        check(one_less.clone(), 3, "rrr", [3, 2, 3, 1]);
        check(one_less.clone(), 3, "rrn", [3, 2, 2, 0]);
        check(one_less.clone(), 3, "rrt", [3, 2, 2, 0]);
        check(one_less.clone(), 3, "rre", [3, 2, 2, 0]);
        check(one_less.clone(), 3, "rr", [3, 2, 2, 0]);
        check(one_less, 0, "", [0, 0, 0, 0]);
        check(json!({"minAvailable": 2}), 3, "rrr", [3, 2, 3, 1]);
        check(json!({"minAvailable": "50%"}), 3, "rrr", [3, 2, 3, 1]);
        check(json!({"maxUnavailable": "10%"}), 3, "rrr", [3, 2, 3, 1]);
    }
}
