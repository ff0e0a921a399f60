//! Where the kubelet is that has a pod, and what it is asked.

use std::fmt;

use serde_json::Value;

use super::log_options::LogOptions;
use crate::error::{ApiError, Subject};
use crate::object::{list, text};
use crate::request::Query;
use crate::state::State;
use crate::write::Place;

/// A path with its query at a kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}{}", self.authority(), self.path)
    }
}

impl Location {
    pub(crate) fn authority(&self) -> String {
        let is_v6 = self.host.contains(':');
        if is_v6 { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }
}

/// Of a kubelet that does not say where it listens.
const DEFAULT_PORT: u16 = 10_250;
/// In this order, as kubeadm has servers prefer them, but without names: nobody resolves them here.
const ADDRESSES: [&str; 2] = ["InternalIP", "ExternalIP"];

impl State {
    /// None if no node has the pod yet.
    pub(crate) fn log_of(&self, place: &Place, query: &Query) -> Result<Option<Location>, ApiError> {
        let options = LogOptions::parse(query, &place.name)?;
        let pod = self.get(place)?;
        let container = container(&pod, options.container())?;
        let node = text(&pod, "/spec/nodeName");
        if node.is_empty() {
            return Ok(None);
        }
        let namespace = place.namespace.as_deref().unwrap_or_default();
        let mut path = format!("/containerLogs/{namespace}/{}/{container}", place.name);
        let query = options.query();
        if !query.is_empty() {
            path = format!("{path}?{query}");
        }
        self.kubelet(node, path).map(Some)
    }

    pub(crate) fn ports_of(&self, place: &Place) -> Result<Location, ApiError> {
        let pod = self.get(place)?;
        let node = text(&pod, "/spec/nodeName");
        if node.is_empty() {
            return Err(ApiError::BadRequest(format!("pod {} does not have a host assigned", place.name)));
        }
        let namespace = place.namespace.as_deref().unwrap_or_default();
        self.kubelet(node, format!("/portForward/{namespace}/{}", place.name))
    }

    fn kubelet(&self, node: &str, path: String) -> Result<Location, ApiError> {
        let nodes = self.registry.find("", "v1", "nodes").ok_or(ApiError::UnknownResource)?;
        let missing = || ApiError::NotFound(Subject::of(&nodes, node));
        let found = self.find(&nodes, None, node).ok_or_else(missing)?;
        let addresses = list(found, "/status/addresses");
        let of_type = |wanted: &&str| addresses.iter().find(|one| one["type"] == **wanted);
        let Some(address) = ADDRESSES.iter().find_map(of_type) else {
            let known: Vec<String> = addresses
                .iter()
                .map(|one| format!("{{{} {}}}", text(one, "/type"), text(one, "/address")))
                .collect();
            let message = format!("no preferred addresses found; known addresses: [{}]", known.join(" "));
            return Err(ApiError::Internal(message));
        };
        let port = found["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        let host = text(address, "/address").to_owned();
        Ok(Location { host, port: port.unwrap_or(DEFAULT_PORT), path })
    }
}

/// The container that is meant, if there is any doubt a refusal in the real server's words.
fn container<'a>(pod: &'a Value, wanted: &'a str) -> Result<&'a str, ApiError> {
    let names = |list_name: &str| list(pod, list_name).iter().map(|one| text(one, "/name"));
    let containers: Vec<&str> = names("/spec/containers").collect();
    let all: Vec<&str> = names("/spec/initContainers")
        .chain(containers.iter().copied())
        .chain(names("/spec/ephemeralContainers"))
        .collect();
    let pod = text(pod, "/metadata/name");
    match (wanted, containers.as_slice()) {
        ("", [only]) => Ok(only),
        ("", []) => Err(ApiError::BadRequest(format!("a container name must be specified for pod {pod}"))),
        ("", _) => Err(ApiError::BadRequest(format!(
            "a container name must be specified for pod {pod}, choose one of: [{}]",
            all.join(" ")
        ))),
        (wanted, _) if all.contains(&wanted) => Ok(wanted),
        _ => Err(ApiError::BadRequest(format!("container {wanted} is not valid for pod {pod}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::strategy::Door;

    fn state(containers: &[&str], node: &str) -> (State, Place) {
        let mut state = State::new();
        let containers: Vec<Value> =
            containers.iter().map(|name| json!({"name": name, "image": "i"})).collect();
        state.add("", "v1", "nodes", json!({"metadata": {"name": "n"}, "status": {
            "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "127.0.0.9"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 99}}}}));
        state.add("", "v1", "nodes", json!({"metadata": {"name": "nowhere"}}));
        state.add(
            "",
            "v1",
            "pods",
            json!({"metadata": {"name": "p", "namespace": "default"},
            "spec": {"nodeName": node, "containers": containers}}),
        );
        let resource = Arc::clone(&state.registry.find("", "v1", "pods").unwrap());
        let (namespace, name) = (Some("default".to_owned()), "p".to_owned());
        (state, Place { resource, namespace, name, door: Door::Main })
    }

    fn check(containers: &[&str], node: &str, query: &str, expected: Result<Option<&str>, &str>) {
        let (state, place) = state(containers, node);
        let found = state.log_of(&place, &Query::parse(query)).map(|at| at.map(|at| at.to_string()));
        let found = found.map_err(|error| error.message());
        assert_eq!(found.as_ref().map(|at| at.as_deref()).map_err(String::as_str), expected);
    }

    #[test]
    fn logs_are_at_the_kubelet_of_the_pods_node() {
        let path = "http://127.0.0.9:99/containerLogs/default/p/";
        check(&["a"], "n", "", Ok(Some(&format!("{path}a"))));
        check(
            &["a", "b"],
            "n",
            "container=b&follow=true&tailLines=3",
            Ok(Some(&format!("{path}b?follow=true&tailLines=3"))),
        );
        check(&["a"], "", "", Ok(None));
    }

    #[test]
    fn refusals_read_as_those_of_the_real_server() {
        let many = "a container name must be specified for pod p, choose one of: [a b]";
        check(&["a", "b"], "n", "", Err(many));
        check(&["a"], "n", "container=b", Err("container b is not valid for pod p"));
        check(&["a"], "gone", "", Err("nodes \"gone\" not found"));
        check(&["a"], "nowhere", "", Err("no preferred addresses found; known addresses: []"));
        let negative = "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0";
        check(&["a"], "n", "tailLines=-1", Err(negative));
        let (state, place) = state(&["a"], "");
        let refused = state.ports_of(&place).unwrap_err();
        assert_eq!(
            (refused.code(), refused.message().as_str()),
            (400, "pod p does not have a host assigned")
        );
    }
}
