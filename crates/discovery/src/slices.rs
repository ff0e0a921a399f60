//! [`Slices`]: what the EndpointSlices of a service say together. A pod may be in several, in two families of addresses, and under an
//! address that another has had before.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::place;

/// What a slice calls the port at which nodes find each other.
const PEERS: &str = "peers";

/// A pod of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) zone: Option<String>,
    port: u16,
    /// It ends, and serves nobody any more.
    pub(crate) is_gone: bool,
}

/// The slices of a service by name.
#[derive(Debug, Default)]
pub(crate) struct Slices(BTreeMap<String, EndpointSlice>);

/// The pods of a service by host.
pub(crate) type Pods = BTreeMap<String, Pod>;

impl Slices {
    pub(crate) fn apply(&mut self, slice: EndpointSlice) {
        if let Some(name) = slice.metadata.name.clone() {
            self.0.insert(name, slice);
        }
    }

    pub(crate) fn delete(&mut self, slice: &EndpointSlice) {
        if let Some(name) = &slice.metadata.name {
            self.0.remove(name);
        }
    }

    /// Who is in them. The port is the one that is given, else that of the slice, else that of who asks.
    pub(crate) fn pods(&self, given: Option<u16>, own: u16) -> Pods {
        let mut pods = Pods::new();
        for slice in self.0.values() {
            let port = given.or_else(|| port_of(slice)).unwrap_or(own);
            for endpoint in &slice.endpoints {
                // Of more addresses nothing is said (`EndpointSlice`, v1).
                let Some(host) = endpoint.addresses.first() else { continue };
                let pod = Pod { zone: endpoint.zone.clone(), port, is_gone: is_gone(endpoint) };
                let known = pods.entry(host.clone()).or_insert_with(|| pod.clone());
                // The address was another pod's before.
                if known.is_gone && !pod.is_gone {
                    *known = pod;
                }
            }
        }
        // Where pods have both, a node listens at one of them.
        if pods.keys().any(|host| matches!(host.parse(), Ok(IpAddr::V4(_)))) {
            pods.retain(|host, _| !matches!(host.parse(), Ok(IpAddr::V6(_))));
        }
        pods
    }
}

/// Where those are who may answer. A pod that is not ready may: it waits for others.
pub(crate) fn places(pods: &Pods) -> Vec<String> {
    pods.iter().filter(|(_, pod)| !pod.is_gone).map(|(host, pod)| place(host, pod.port)).collect()
}

/// Where a condition is unknown, `serving` is what `ready` is, and `ready` is true (`EndpointConditions`, v1).
fn is_gone(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    conditions.terminating.unwrap_or(false) && !conditions.serving.unwrap_or(ready)
}

fn port_of(slice: &EndpointSlice) -> Option<u16> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let only = if let [only] = ports { Some(only) } else { None };
    let peers = ports.iter().find(|port| port.name.as_deref() == Some(PEERS)).or(only)?;
    u16::try_from(peers.port?).ok()
}
