//! The status of a pod, as its kubelet writes it.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::container::{Ended, Phase, Restart, View};
use super::environment::Place;
use crate::object;

const OWN: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// `place` once the pod has an address. `before` is the status that was written last.
pub(crate) fn status(
    pod: &Pod,
    restart: Restart,
    place: Option<Place>,
    views: &[View],
    before: &PodStatus,
) -> PodStatus {
    let phase = phase(views, restart);
    let is_over = matches!(phase, "Succeeded" | "Failed");
    let all_ready = !is_over && !views.is_empty() && views.iter().all(|view| view.is_ready);
    let reason = match (all_ready, phase) {
        (true, _) => "",
        (false, "Succeeded") => "PodCompleted",
        (false, "Failed") => "PodFailed",
        (false, _) => "ContainersNotReady",
    };
    let known = before.conditions.as_deref().unwrap_or_default();
    let states = [(place.is_some(), ""), (true, ""), (all_ready, reason), (all_ready, reason), (true, "")];
    // Conditions of others stay.
    let mut conditions: Vec<PodCondition> =
        known.iter().filter(|one| !OWN.contains(&one.type_.as_str())).cloned().collect();
    let own = OWN.iter().zip(states);
    conditions.extend(own.map(|(type_, (state, reason))| object::condition(known, type_, state, reason)));
    let specs = pod.spec.iter().flat_map(|spec| &spec.containers);
    let containers = specs.zip(views).map(|(spec, view)| {
        container(&spec.name, spec.image.as_deref().unwrap_or_default(), object::uid(&pod.metadata), view)
    });
    let address = place.map(|place| place.address.to_string());
    let host = place.map(|place| place.host.to_string());
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions),
        container_statuses: Some(containers.collect()),
        host_ips: host.clone().map(|ip| vec![HostIP { ip }]),
        host_ip: host,
        pod_ips: address.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: address,
        start_time: Some(before.start_time.clone().unwrap_or_else(object::now)),
        ..PodStatus::default()
    }
}

/// What was written last, with the conditions that others keep as they are now.
pub(crate) fn with_others(written: &PodStatus, live: &Pod) -> PodStatus {
    let is_own = |one: &&PodCondition| OWN.contains(&one.type_.as_str());
    let own = written.conditions.iter().flatten().filter(is_own);
    let all = live.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let conditions = own.chain(all.filter(|one| !is_own(one))).cloned().collect();
    PodStatus { conditions: Some(conditions), ..written.clone() }
}

pub(crate) fn restart(pod: &Pod) -> Restart {
    match pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) {
        Some("Never") => Restart::Never,
        Some("OnFailure") => Restart::OnFailure,
        _ => Restart::Always,
    }
}

/// Where nothing restarts, the pod is over when all containers have ended.
fn phase(views: &[View], restart: Restart) -> &'static str {
    let ended: Vec<&Ended> = views
        .iter()
        .filter_map(|view| match &view.phase {
            Phase::Ended(ended) => Some(ended),
            Phase::Waiting { .. } | Phase::Running { .. } => None,
        })
        .collect();
    let all_succeeded = ended.iter().all(|ended| ended.exit_code == 0);
    if !views.is_empty() && ended.len() == views.len() && restart != Restart::Always {
        return if all_succeeded { "Succeeded" } else { "Failed" };
    }
    let has_begun = |view: &View| match view.phase {
        Phase::Waiting { .. } => view.last.is_some(),
        Phase::Running { .. } | Phase::Ended(_) => true,
    };
    if !views.is_empty() && views.iter().all(has_begun) { "Running" } else { "Pending" }
}

fn container(name: &str, image: &str, pod: &str, view: &View) -> ContainerStatus {
    let (state, has_run) = match &view.phase {
        Phase::Waiting { reason, message } => {
            let waiting =
                ContainerStateWaiting { reason: Some((*reason).to_owned()), message: message.clone() };
            (ContainerState { waiting: Some(waiting), ..ContainerState::default() }, view.last.is_some())
        }
        Phase::Running { since, .. } => {
            let running = ContainerStateRunning { started_at: Some(time(*since)) };
            (ContainerState { running: Some(running), ..ContainerState::default() }, true)
        }
        Phase::Ended(ended) => (terminated(ended), true),
    };
    ContainerStatus {
        name: name.to_owned(),
        image: image.to_owned(),
        image_id: if has_run { image.to_owned() } else { String::new() },
        container_id: has_run.then(|| format!("process://{pod}/{name}/{}", view.restarts)),
        last_state: Some(view.last.as_ref().map(terminated).unwrap_or_default()),
        ready: view.is_ready,
        restart_count: view.restarts,
        started: Some(view.is_started),
        state: Some(state),
        ..ContainerStatus::default()
    }
}

fn terminated(ended: &Ended) -> ContainerState {
    let terminated = ContainerStateTerminated {
        exit_code: ended.exit_code,
        reason: Some(if ended.exit_code == 0 { "Completed" } else { "Error" }.to_owned()),
        message: ended.message.clone(),
        started_at: Some(time(ended.since)),
        finished_at: Some(time(ended.until)),
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).expect("it was a time before"))
}

/// What a kubelet that has just started makes of a container that another has run: it has ended, nobody knows how.
pub(crate) fn resumed(pod: &Pod, name: &str) -> View {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let Some(before) =
        statuses.into_iter().find(|status| status.name == name && status.container_id.is_some())
    else {
        return View::waiting(0, None);
    };
    let running = before.state.as_ref().and_then(|state| state.running.as_ref());
    let since =
        running.and_then(|running| running.started_at.as_ref()).map_or_else(Timestamp::now, |time| time.0);
    let last = Ended { exit_code: 255, message: None, since, until: Timestamp::now() };
    View::waiting(before.restart_count + 1, Some(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ended(exit_code: i32) -> Phase {
        let now = Timestamp::now();
        Phase::Ended(Ended { exit_code, message: None, since: now, until: now })
    }

    fn view(phase: Phase) -> View {
        View { phase, ..View::waiting(0, None) }
    }

    #[test]
    fn a_phase_sums_up_the_containers() {
        let check = |phases: &[Phase], restart, expected: &str| {
            let views: Vec<View> = phases.iter().cloned().map(view).collect();
            assert_eq!(phase(&views, restart), expected);
        };
        let waiting = Phase::Waiting { reason: "ContainerCreating", message: None };
        check(&[waiting.clone(), ended(0)], Restart::Always, "Pending");
        check(&[ended(1)], Restart::Always, "Running");
        check(&[ended(0), ended(0)], Restart::Never, "Succeeded");
        check(&[ended(0), ended(1)], Restart::Never, "Failed");
        check(&[ended(0), waiting], Restart::Never, "Pending");
    }

    #[test]
    fn a_pod_is_ready_when_its_containers_are() {
        let pod = serde_json::json!({"metadata": {"uid": "1"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let place = Place { address: Ipv4Addr::LOCALHOST, host: Ipv4Addr::LOCALHOST };
        let ready = |is_ready| {
            let view = View { is_ready, ..view(ended(0)) };
            let status = status(&pod, Restart::Always, Some(place), &[view], &PodStatus::default());
            object::is_ready(&Pod { status: Some(status), ..Pod::default() })
        };
        assert!(ready(true) && !ready(false));
    }
}
