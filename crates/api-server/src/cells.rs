//! What the cells of built-in types show.

use serde_json::{Value, json};

use crate::object::{self, list, text};
use crate::resource::split_api_version;
use crate::time;

pub(crate) fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

pub(crate) fn or_unknown(text: &str) -> Value {
    json!(if text.is_empty() { "<unknown>" } else { text })
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

/// A selector as kubectl writes it.
pub(crate) fn selector(selector: &Value) -> Value {
    let labels = object::map(selector, "/matchLabels").into_iter().flatten();
    let mut all: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    for one in list(selector, "/matchExpressions") {
        let key = text(one, "/key");
        let values: Vec<&str> = list(one, "/values").iter().filter_map(Value::as_str).collect();
        let values = values.join(",");
        all.push(match text(one, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    or_none(&all.join(","))
}

pub(crate) fn readiness_gates(pod: &Value) -> Value {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return json!("<none>");
    }
    let conditions = list(pod, "/status/conditions");
    let is_open = |gate: &&Value| {
        conditions.iter().any(|one| one["type"] == gate["conditionType"] && one["status"] == "True")
    };
    json!(format!("{}/{}", gates.iter().filter(is_open).count(), gates.len()))
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

pub(crate) fn node_roles(node: &Value) -> Value {
    const PREFIX: &str = "node-role.kubernetes.io/";
    let mut roles: Vec<&str> = object::map(node, "/metadata/labels")
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| {
                if key == "kubernetes.io/role" { value.as_str() } else { key.strip_prefix(PREFIX) }
            },
        )
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    or_none(&roles.join(","))
}

pub(crate) fn node_address(node: &Value, kind: &str) -> Value {
    let addresses = list(node, "/status/addresses");
    let found = addresses.iter().find(|address| address["type"] == kind);
    or_none(found.map(|address| text(address, "/address")).unwrap_or_default())
}

/// The first of these fields that says anything.
fn first<'a>(value: &'a Value, pointers: &[&str]) -> &'a str {
    pointers.iter().map(|pointer| text(value, pointer)).find(|text| !text.is_empty()).unwrap_or_default()
}

/// When an event was first seen; in events of the newer form that is when it was.
fn first_time(event: &Value) -> &str {
    first(event, &["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"])
}

fn age(time: &str) -> Value {
    json!(time::age(Some(time)))
}

pub(crate) fn first_seen(event: &Value) -> Value {
    age(first_time(event))
}

pub(crate) fn last_seen(event: &Value) -> Value {
    let last = first(event, &["/series/lastObservedTime", "/lastTimestamp", "/deprecatedLastTimestamp"]);
    age(if last.is_empty() { first_time(event) } else { last })
}

pub(crate) fn event_count(event: &Value) -> Value {
    let counts = ["/series/count", "/count", "/deprecatedCount"];
    let count = counts.iter().find_map(|pointer| event.pointer(pointer)?.as_i64());
    json!(count.filter(|count| *count != 0).unwrap_or(1))
}

pub(crate) fn event_source(event: &Value) -> Value {
    let component = first(
        event,
        &["/source/component", "/deprecatedSource/component", "/reportingComponent", "/reportingController"],
    );
    let instance = first(event, &["/source/host", "/deprecatedSource/host", "/reportingInstance"]);
    json!(if instance.is_empty() { component.to_owned() } else { format!("{component}, {instance}") })
}

pub(crate) fn event_subobject(event: &Value) -> Value {
    json!(first(event, &["/involvedObject/fieldPath", "/regarding/fieldPath"]))
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

pub(crate) fn subjects(binding: &Value, kind: &str) -> Value {
    let of_kind = list(binding, "/subjects").iter().filter(|subject| subject["kind"] == kind);
    let names: Vec<String> = of_kind
        .map(|subject| match (kind, text(subject, "/namespace")) {
            ("ServiceAccount", namespace) if !namespace.is_empty() => {
                format!("{namespace}/{}", text(subject, "/name"))
            }
            _ => text(subject, "/name").to_owned(),
        })
        .collect();
    json!(names.join(", "))
}

/// Who controls an object: `statefulset.apps/web`.
pub(crate) fn controller(value: &Value) -> Value {
    let Some(owner) = object::owners(value).iter().find(|owner| owner["controller"] == true) else {
        return json!("<none>");
    };
    let (group, _) = split_api_version(text(owner, "/apiVersion"));
    let kind = text(owner, "/kind").to_lowercase();
    let kind = if group.is_empty() { kind } else { format!("{kind}.{group}") };
    json!(format!("{kind}/{}", text(owner, "/name")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_show_their_roles_and_addresses() {
        let node = json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
        assert_eq!(node_roles(&node), "edge,worker");
        assert_eq!(node_address(&node, "InternalIP"), "10.0.0.1");
        assert_eq!(
            (node_address(&node, "ExternalIP"), node_roles(&json!({}))),
            (json!("<none>"), json!("<none>"))
        );
    }

    #[test]
    fn events_show_who_saw_them_how_often() {
        let event = json!({"reportingController": "c", "reportingInstance": "i", "series": {"count": 3},
            "regarding": {"fieldPath": "spec.containers{a}"}, "eventTime": time::now()});
        assert_eq!(event_source(&event), "c, i");
        assert_eq!((event_count(&event), event_count(&json!({}))), (json!(3), json!(1)));
        assert_eq!(event_subobject(&event), "spec.containers{a}");
        assert_eq!((first_seen(&event), last_seen(&event)), (json!("0s"), json!("0s")));
    }

    #[test]
    fn bindings_and_revisions_show_whose_they_are() {
        let binding = json!({"subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": "n"},
            {"kind": "User", "name": "u"}, {"kind": "User", "name": "v"}]});
        assert_eq!(
            (subjects(&binding, "ServiceAccount"), subjects(&binding, "User")),
            (json!("n/a"), json!("u, v"))
        );
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true});
        assert_eq!(controller(&json!({"metadata": {"ownerReferences": [owner]}})), "statefulset.apps/web");
    }

    #[test]
    fn selectors_are_shown_whole() {
        let shown = selector(&json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "f", "operator": "DoesNotExist"}]}));
        assert_eq!(shown, "a=b,c in (d,e),!f");
    }
}
