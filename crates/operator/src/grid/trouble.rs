//! Why a pod does not come up, as its node and the scheduler say.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

/// What people should know of a pod that is not ready; nothing if it just needs time.
pub(super) fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        return Some(said(condition.reason.as_deref(), condition.message.as_deref()));
    }
    machine_gone(pod).or_else(|| status.container_statuses.iter().flatten().find_map(trouble_of))
}

/// A machine that does not answer: its pods are told to be not ready, and what it said last of their containers stays.
fn machine_gone(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let is =
        |kind: &str, status: &str| conditions.iter().any(|one| one.type_ == kind && one.status == status);
    let spec = pod.spec.as_ref()?;
    let has_gates = spec.readiness_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    let machine = spec.node_name.as_ref()?;
    (is("Ready", "False") && is("ContainersReady", "True") && !has_gates)
        .then(|| format!("its machine does not answer: if it is gone for good, delete Node {machine}"))
}

fn trouble_of(container: &ContainerStatus) -> Option<String> {
    if container.ready {
        return None;
    }
    let ended = |state: &Option<ContainerState>| state.as_ref()?.terminated.clone();
    let ended = ended(&container.state).or_else(|| ended(&container.last_state)).map(|end| {
        let message = end.message.as_deref().and_then(|message| message.trim_end().lines().last());
        let why = said(end.reason.as_deref(), message);
        format!(
            "its container has ended, with exit code {} ({why}); restarts: {}",
            end.exit_code, container.restart_count
        )
    });
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let waiting = waiting.filter(|waiting| waiting.reason.as_deref() != Some("ContainerCreating"));
    ended.or_else(|| waiting.map(|waiting| said(waiting.reason.as_deref(), waiting.message.as_deref())))
}

fn said(reason: Option<&str>, message: Option<&str>) -> String {
    [reason, message].into_iter().flatten().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(status: &Value) -> Option<String> {
        trouble(&serde_json::from_value(json!({"metadata": {"name": "g-0"}, "status": status})).unwrap())
    }

    #[test]
    fn a_machine_that_does_not_answer_is_told() {
        let of = |ready: &str, containers: &str| {
            let conditions = json!([{"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": containers}]);
            let pod = json!({"metadata": {"name": "g-0"}, "spec": {"nodeName": "n", "containers": []},
                "status": {"conditions": conditions}});
            trouble(&serde_json::from_value(pod).unwrap())
        };
        let gone = "its machine does not answer: if it is gone for good, delete Node n";
        assert_eq!(of("False", "True").as_deref(), Some(gone));
        assert_eq!((of("False", "False"), of("True", "True")), (None, None));
    }

    #[test]
    fn what_keeps_a_pod_from_coming_up_is_told() {
        let container = |state: Value, last: Value| {
            json!({"containerStatuses": [{
                "name": "wattle", "image": "wattle", "imageID": "", "ready": false, "restartCount": 4,
                "state": state, "lastState": last,
            }]})
        };
        let end = json!({"terminated": {"exitCode": 2, "reason": "Error", "message": "begins\nis wrong\n"}});
        let ended =
            Some("its container has ended, with exit code 2 (Error: is wrong); restarts: 4".to_owned());
        let back_off = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}});
        let pull = json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}});
        for (status, expected) in [
            (json!({}), None),
            (container(json!({"waiting": {"reason": "ContainerCreating"}}), json!({})), None),
            (container(json!({"running": {}}), json!({})), None),
            (container(pull, json!({})), Some("ErrImagePull: no such image".to_owned())),
            (container(back_off, end.clone()), ended.clone()),
            (container(json!({"running": {}}), end), ended),
            (
                json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": "0/3 nodes are available"}]}),
                Some("Unschedulable: 0/3 nodes are available".to_owned()),
            ),
        ] {
            assert_eq!(told(&status), expected, "{status}");
        }
    }
}
