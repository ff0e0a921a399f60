//! What the cells of built-in types show.

use serde_json::{Value, json};

use crate::object::{self, list, text};
use crate::time;

pub(crate) fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

pub(crate) fn or_not_available(value: &Value) -> Value {
    if value.is_null() { json!("N/A") } else { json!(crate::json_path::text(value)) }
}

pub(crate) fn labels(value: &Value, pointer: &str) -> Value {
    let all = object::map(value, pointer).into_iter().flatten();
    let all: Vec<String> =
        all.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    or_none(&all.join(","))
}

pub(crate) fn pod_ready(pod: &Value) -> Value {
    let ready =
        list(pod, "/status/containerStatuses").iter().filter(|status| status["ready"] == true).count();
    json!(format!("{ready}/{}", list(pod, "/spec/containers").len()))
}

pub(crate) fn pod_status(pod: &Value) -> Value {
    if object::is_terminating(pod) {
        return json!("Terminating");
    }
    let statuses = list(pod, "/status/containerStatuses");
    for status in statuses {
        for reason in [text(status, "/state/waiting/reason"), text(status, "/state/terminated/reason")] {
            if !reason.is_empty() {
                return json!(reason);
            }
        }
    }
    let reason = text(pod, "/status/reason");
    json!(if reason.is_empty() { text(pod, "/status/phase") } else { reason })
}

pub(crate) fn pod_restarts(pod: &Value) -> Value {
    let statuses = list(pod, "/status/containerStatuses");
    let restarts: i64 = statuses.iter().filter_map(|status| status["restartCount"].as_i64()).sum();
    json!(restarts.to_string())
}

pub(crate) fn external_address(service: &Value) -> Value {
    let mut addresses: Vec<&str> = list(service, "/status/loadBalancer/ingress")
        .iter()
        .map(|one| if text(one, "/ip").is_empty() { text(one, "/hostname") } else { text(one, "/ip") })
        .collect();
    addresses.extend(list(service, "/spec/externalIPs").iter().filter_map(Value::as_str));
    match (text(service, "/spec/type"), addresses.is_empty()) {
        ("ExternalName", _) => json!(text(service, "/spec/externalName")),
        ("LoadBalancer", true) => json!("<pending>"),
        _ => or_none(&addresses.join(",")),
    }
}

pub(crate) fn service_ports(service: &Value) -> Value {
    let ports: Vec<String> = list(service, "/spec/ports")
        .iter()
        .map(|port| {
            let node = port["nodePort"].as_i64().filter(|node| *node > 0);
            let node = node.map(|node| format!(":{node}")).unwrap_or_default();
            format!("{}{node}/{}", port["port"], text(port, "/protocol"))
        })
        .collect();
    or_none(&ports.join(","))
}

pub(crate) fn node_status(node: &Value) -> Value {
    let ready = list(node, "/status/conditions").iter().find(|condition| condition["type"] == "Ready");
    let status = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    json!(if node["spec"]["unschedulable"] == true {
        format!("{status},SchedulingDisabled")
    } else {
        status.to_owned()
    })
}

pub(crate) fn last_seen(event: &Value) -> Value {
    let at = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/deprecatedLastTimestamp"]
        .into_iter()
        .map(|pointer| text(event, pointer))
        .find(|at| !at.is_empty());
    json!(time::age(at))
}

pub(crate) fn event_object(event: &Value) -> Value {
    let object =
        if event["involvedObject"].is_object() { &event["involvedObject"] } else { &event["regarding"] };
    json!(format!("{}/{}", text(object, "/kind").to_lowercase(), text(object, "/name")))
}

pub(crate) fn endpoints(endpoints: &Value) -> Value {
    let mut all = Vec::new();
    for subset in list(endpoints, "/subsets") {
        for port in list(subset, "/ports") {
            let addresses = list(subset, "/addresses").iter();
            all.extend(addresses.map(|address| format!("{}:{}", text(address, "/ip"), port["port"])));
        }
    }
    shortened(&all)
}

/// Three of them, and how many more there are.
fn shortened(all: &[String]) -> Value {
    if all.len() > 3 {
        return json!(format!("{} + {} more...", all[..3].join(","), all.len() - 3));
    }
    or_none(&all.join(","))
}

pub(crate) fn slice_ports(slice: &Value) -> Value {
    let ports: Vec<String> = list(slice, "/ports").iter().map(|port| port["port"].to_string()).collect();
    match shortened(&ports) {
        Value::String(none) if none == "<none>" => json!("<unset>"),
        ports => ports,
    }
}

pub(crate) fn slice_endpoints(slice: &Value) -> Value {
    let addresses: Vec<String> = list(slice, "/endpoints")
        .iter()
        .flat_map(|endpoint| list(endpoint, "/addresses"))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    match shortened(&addresses) {
        Value::String(none) if none == "<none>" => json!("<unset>"),
        addresses => addresses,
    }
}

pub(crate) fn access_modes(claim: &Value) -> Value {
    let short = |mode: &Value| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        Some("ReadWriteOncePod") => "RWOP",
        _ => "",
    };
    let modes: Vec<&str> = list(claim, "/status/accessModes").iter().map(short).collect();
    json!(modes.join(","))
}

pub(crate) fn role(binding: &Value) -> Value {
    json!(format!("{}/{}", text(binding, "/roleRef/kind"), text(binding, "/roleRef/name")))
}

pub(crate) fn of_containers(workload: &Value, field: &str) -> Value {
    let containers = list(workload, "/spec/template/spec/containers").iter();
    json!(
        containers
            .map(|container| container[field].as_str().unwrap_or_default())
            .collect::<Vec<_>>()
            .join(",")
    )
}
