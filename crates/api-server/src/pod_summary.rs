//! A pod in a few words, as kubernetes' `printPod` tells them from the states of its containers.

use serde_json::Value;

use crate::object::{self, list, text};
use crate::time;

#[derive(Debug, PartialEq)]
pub(crate) struct PodSummary {
    /// `1/2`.
    pub(crate) ready: String,
    pub(crate) reason: String,
    /// `3 (5s ago)`.
    pub(crate) restarts: String,
}

pub(crate) fn of(pod: &Value) -> PodSummary {
    let mut found = Found { reason: text(pod, "/status/phase").to_owned(), ..Found::default() };
    let own = text(pod, "/status/reason");
    if !own.is_empty() {
        found.reason = own.to_owned();
    }
    let beside: Vec<&Value> =
        list(pod, "/spec/initContainers").iter().filter(|one| one["restartPolicy"] == "Always").collect();
    let is_initializing = found.initialize(pod, &beside);
    if !is_initializing || has_condition(pod, "Initialized") {
        found.run(pod);
    }
    if object::is_terminating(pod) {
        if own == "NodeLost" {
            found.reason = "Unknown".to_owned();
        } else if !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
            found.reason = "Terminating".to_owned();
        }
    }
    let restarts = match found.last_restart {
        Some(at) if found.restarts != 0 => format!("{} ({} ago)", found.restarts, time::age(Some(&at))),
        _ => found.restarts.to_string(),
    };
    let containers = list(pod, "/spec/containers").len() + beside.len();
    PodSummary { ready: format!("{}/{containers}", found.ready), reason: found.reason, restarts }
}

#[derive(Default)]
struct Found {
    reason: String,
    ready: usize,
    restarts: i64,
    last_restart: Option<String>,
}

impl Found {
    /// The containers that run before the others; those that go on beside them count as the others do.
    fn initialize(&mut self, pod: &Value, beside: &[&Value]) -> bool {
        let mut of_others = Self::default();
        let count = list(pod, "/spec/initContainers").len();
        let mut is_initializing = false;
        for (at, status) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
            let goes_on = beside.iter().any(|one| one["name"] == status["name"]);
            self.count_restarts(status);
            if goes_on {
                of_others.count_restarts(status);
            }
            let (waits, ended) = (text(status, "/state/waiting/reason"), &status["state"]["terminated"]);
            if ended["exitCode"] == 0 {
                continue;
            }
            if goes_on && status["started"] == true {
                self.ready += usize::from(status["ready"] == true);
                continue;
            }
            self.reason = if ended.is_object() {
                format!("Init:{}", end(ended))
            } else if !waits.is_empty() && waits != "PodInitializing" {
                format!("Init:{waits}")
            } else {
                format!("Init:{at}/{count}")
            };
            is_initializing = true;
            break;
        }
        if !is_initializing || has_condition(pod, "Initialized") {
            (self.restarts, self.last_restart) = (of_others.restarts, of_others.last_restart);
        }
        is_initializing
    }

    fn run(&mut self, pod: &Value) {
        let mut is_running = false;
        for status in list(pod, "/status/containerStatuses").iter().rev() {
            self.count_restarts(status);
            let (waits, ended) = (text(status, "/state/waiting/reason"), &status["state"]["terminated"]);
            if !waits.is_empty() {
                waits.clone_into(&mut self.reason);
            } else if ended.is_object() {
                self.reason = end(ended);
            } else if status["ready"] == true && status["state"]["running"].is_object() {
                is_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && is_running {
            self.reason = if has_condition(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn count_restarts(&mut self, status: &Value) {
        self.restarts += status["restartCount"].as_i64().unwrap_or(0);
        let ended = text(status, "/lastState/terminated/finishedAt");
        let is_later = self.last_restart.as_deref().is_none_or(|last| time::parse(last) < time::parse(ended));
        if !ended.is_empty() && is_later {
            self.last_restart = Some(ended.to_owned());
        }
    }
}

/// Why a container ended.
fn end(ended: &Value) -> String {
    let (reason, signal) = (text(ended, "/reason"), ended["signal"].as_i64().unwrap_or(0));
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match signal {
        0 => format!("ExitCode:{}", ended["exitCode"].as_i64().unwrap_or(0)),
        signal => format!("Signal:{signal}"),
    }
}

fn has_condition(pod: &Value, kind: &str) -> bool {
    list(pod, "/status/conditions").iter().any(|one| one["type"] == kind && one["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
    fn check(status: Value, expected: (&str, &str, &str)) {
        let pod = json!({"spec": {"initContainers": [{"name": "i"}, {"name": "j"}],
            "containers": [{"name": "a"}, {"name": "b"}]}, "status": status});
        let found = of(&pod);
        assert_eq!((&*found.ready, &*found.reason, &*found.restarts), expected);
    }

    #[test]
    fn a_pod_is_what_its_containers_are() {
        let running = json!({"name": "a", "ready": true, "state": {"running": {}}});
        let done = json!({"name": "b", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}});
        let both = json!([running, done]);
        check(json!({"phase": "Pending"}), ("0/2", "Pending", "0"));
        check(json!({"phase": "Running", "containerStatuses": both}), ("1/2", "NotReady", "0"));
        let ready = json!([{"type": "Ready", "status": "True"}]);
        check(
            json!({"phase": "Running", "containerStatuses": both, "conditions": ready}),
            ("1/2", "Running", "0"),
        );
        let ended = json!([running, {"state": {"terminated": {"exitCode": 3}}}]);
        check(json!({"phase": "Running", "containerStatuses": ended}), ("1/2", "ExitCode:3", "0"));
        let waits = json!([{"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 2,
            "lastState": {"terminated": {"finishedAt": time::now()}}}, running]);
        check(
            json!({"phase": "Running", "containerStatuses": waits}),
            ("1/2", "CrashLoopBackOff", "2 (0s ago)"),
        );
    }

    #[test]
    fn a_pod_that_begins_says_how_far_it_is() {
        let done = json!({"name": "i", "state": {"terminated": {"exitCode": 0}}});
        let next =
            |state: Value| json!({"phase": "Pending", "initContainerStatuses": [done, {"state": state}]});
        check(next(json!({"running": {}})), ("0/2", "Init:1/2", "0"));
        check(
            next(json!({"waiting": {"reason": "ImagePullBackOff"}})),
            ("0/2", "Init:ImagePullBackOff", "0"),
        );
        check(next(json!({"terminated": {"exitCode": 1}})), ("0/2", "Init:ExitCode:1", "0"));
        check(next(json!({"terminated": {"exitCode": 1, "reason": "Error"}})), ("0/2", "Init:Error", "0"));
    }
}
