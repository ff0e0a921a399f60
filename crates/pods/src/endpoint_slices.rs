//! EndpointSlices of Services with selectors: who answers, on which ports, and how well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;

use crate::controller::{Context, everything, run};
use crate::error::{Error, is_status};
use crate::object;

const SERVICE: &str = "kubernetes.io/service-name";
const MANAGER: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");
const ZONE: &str = "topology.kubernetes.io/zone";
const MOST: usize = 100;

type Ports = Vec<EndpointPort>;

pub(crate) async fn control(context: Arc<Context>) {
    let controller = Controller::new(context.all::<Service>(), everything())
        .owns(context.all::<EndpointSlice>(), everything());
    let services = controller.store();
    let controller = controller.watches(context.all::<Pod>(), everything(), move |pod| {
        let selects = |service: &Arc<Service>| {
            service.metadata.namespace == pod.metadata.namespace && selects(service, &pod)
        };
        let found = services.state().into_iter().filter(selects);
        found.map(|service| ObjectRef::from_obj(&*service)).collect::<Vec<_>>()
    });
    run(controller, context, reconcile).await;
}

fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    spec.selector
        .as_ref()
        .filter(|selector| !selector.is_empty() && spec.type_.as_deref() != Some("ExternalName"))
}

fn selects(service: &Service, pod: &Pod) -> bool {
    selector(service).is_some_and(|selector| {
        selector.iter().all(|(name, value)| {
            pod.metadata.labels.as_ref().and_then(|labels| labels.get(name)) == Some(value)
        })
    })
}

async fn reconcile(seen: Arc<Service>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = object::namespace(&seen.metadata);
    let services: Api<Service> = context.within(namespace);
    let Some(service) = services.get_opt(object::name(&seen.metadata)).await? else {
        return Ok(Action::await_change());
    };
    let is_alive = service.metadata.deletion_timestamp.is_none();
    if !is_alive || selector(&service).is_none() {
        return Ok(Action::await_change());
    }
    let pods: Api<Pod> = context.within(namespace);
    let pods = pods.list(&ListParams::default()).await?;
    let nodes = context.all::<Node>().list(&ListParams::default()).await?;
    let zones = nodes.iter().map(|node| {
        (object::name(&node.metadata).to_owned(), object::label(&node.metadata, ZONE).to_owned())
    });
    let zones: BTreeMap<String, String> = zones.filter(|(_, zone)| !zone.is_empty()).collect();
    let mut wanted: Vec<(Ports, Vec<Endpoint>)> = Vec::new();
    for pod in pods.iter().filter(|pod| selects(&service, pod)) {
        let Some(endpoint) = endpoint(&service, pod, &zones) else { continue };
        let ports = ports(&service, pod);
        match wanted.iter_mut().find(|(other, _)| *other == ports) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => wanted.push((ports, vec![endpoint])),
        }
    }
    let slices: Api<EndpointSlice> = context.within(namespace);
    let mine = format!("{SERVICE}={},{}={}", object::name(&service.metadata), MANAGER.0, MANAGER.1);
    let found = slices.list(&ListParams::default().labels(&mine)).await?.items;
    write(&slices, &service, found, wanted).await?;
    Ok(Action::await_change())
}

/// Slices keep their endpoints, so that a change touches few of them.
async fn write(
    slices: &Api<EndpointSlice>,
    service: &Service,
    found: Vec<EndpointSlice>,
    wanted: Vec<(Ports, Vec<Endpoint>)>,
) -> Result<(), Error> {
    let mut arranged = arrange(&found, wanted);
    // A service without endpoints has one slice without any.
    let is_empty = arranged.iter().all(|slice| slice.endpoints.is_empty());
    if arranged.is_empty() {
        arranged.push(slice(Vec::new(), Vec::new()));
    }
    for (at, slice) in arranged.into_iter().enumerate() {
        let is_needed = !slice.endpoints.is_empty() || is_empty && at == 0;
        let before = slice
            .metadata
            .name
            .as_ref()
            .and_then(|name| found.iter().find(|found| found.metadata.name.as_ref() == Some(name)));
        match before {
            Some(before) if !is_needed => {
                let name = object::name(&before.metadata);
                match slices.delete(name, &DeleteParams::default()).await {
                    Err(error) if !is_status(&error, 404) => return Err(error.into()),
                    _ => {}
                }
            }
            Some(before) if *before == slice => {}
            Some(before) => {
                slices.replace(object::name(&before.metadata), &PostParams::default(), &slice).await?;
            }
            None => {
                slices
                    .create(&PostParams::default(), &EndpointSlice { metadata: metadata(service), ..slice })
                    .await?;
            }
        }
    }
    Ok(())
}

fn metadata(service: &Service) -> ObjectMeta {
    let name = object::name(&service.metadata);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE.to_owned(), name.to_owned());
    labels.insert(MANAGER.0.to_owned(), MANAGER.1.to_owned());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
    }
    ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: service.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(object::controlled_by(service)),
        ..ObjectMeta::default()
    }
}

/// Slices as they should be: those there are, some of them empty, and new ones without a name.
fn arrange(found: &[EndpointSlice], mut wanted: Vec<(Ports, Vec<Endpoint>)>) -> Vec<EndpointSlice> {
    let mut slices: Vec<EndpointSlice> = found.to_vec();
    for slice in &mut slices {
        let ports = slice.ports.clone().unwrap_or_default();
        let group = wanted.iter_mut().find(|(other, _)| *other == ports);
        let mut none = Vec::new();
        let endpoints = group.map_or(&mut none, |(_, endpoints)| endpoints);
        let kept: BTreeSet<String> = slice.endpoints.iter().map(target).collect();
        slice.endpoints = endpoints.extract_if(.., |one| kept.contains(&target(one))).take(MOST).collect();
    }
    for (ports, endpoints) in wanted {
        let mut rest = endpoints.into_iter();
        let same = slices.iter_mut().filter(|slice| slice.ports.as_deref().unwrap_or_default() == ports);
        for slice in same {
            let room = MOST.saturating_sub(slice.endpoints.len());
            slice.endpoints.extend(rest.by_ref().take(room));
        }
        while rest.len() > 0 {
            slices.push(slice(ports.clone(), rest.by_ref().take(MOST).collect()));
        }
    }
    slices
}

fn slice(ports: Ports, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        address_type: "IPv4".to_owned(),
        endpoints,
        metadata: ObjectMeta::default(),
        ports: Some(ports),
    }
}

fn target(endpoint: &Endpoint) -> String {
    endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default()
}

/// `None` for a pod that has no address yet, or is over.
fn endpoint(service: &Service, pod: &Pod, zones: &BTreeMap<String, String>) -> Option<Endpoint> {
    let address = object::address(pod).filter(|_| !object::is_over(pod))?;
    let spec = pod.spec.as_ref()?;
    let publishes = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let serving = object::is_ready(pod);
    let terminating = object::is_terminating(pod);
    let has_name = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    Some(Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(publishes || serving && !terminating),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec.hostname.clone().filter(|_| has_name),
        node_name: spec.node_name.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone: spec.node_name.as_ref().and_then(|node| zones.get(node)).cloned(),
        ..Endpoint::default()
    })
}

/// The service's ports as numbers of this pod; those that it does not have are left out.
fn ports(service: &Service, pod: &Pod) -> Ports {
    let spec: Option<&ServiceSpec> = service.spec.as_ref();
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let number = |port: &IntOrString| match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => named_port(pod, name),
    };
    ports
        .iter()
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.target_port.as_ref().map_or(Some(port.port), number)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn named_port(pod: &Pod, name: &str) -> Option<i32> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, ready: bool, terminating: bool) -> Pod {
        let mut pod = json!({
            "metadata": {"name": name, "uid": name, "namespace": "default"},
            "spec": {"nodeName": "node-1", "hostname": name, "subdomain": "web", "containers": [
                {"name": "web", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": "127.0.0.9", "conditions": [
                {"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
        if terminating {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(pod).unwrap()
    }

    fn service(publishes: bool) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"publishNotReadyAddresses": publishes,
            "ports": [{"name": "web", "port": 80, "targetPort": "http"}, {"name": "no", "port": 81, "targetPort": "none"}]}}))
        .unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
    fn check(publishes: bool, pod: Pod, expected: Value) {
        let found = endpoint(&service(publishes), &pod, &BTreeMap::new()).unwrap();
        assert_eq!(serde_json::to_value(found.conditions).unwrap(), expected);
    }

    #[test]
    fn conditions_follow_readiness_and_termination() {
        let conditions = |ready, serving, terminating| json!({"ready": ready, "serving": serving, "terminating": terminating});
        check(false, pod("a", true, false), conditions(true, true, false));
        check(false, pod("a", false, false), conditions(false, false, false));
        check(false, pod("a", true, true), conditions(false, true, true));
        check(true, pod("a", false, false), conditions(true, false, false));
        check(true, pod("a", true, true), conditions(true, true, true));
    }

    #[test]
    fn an_endpoint_says_where_it_is() {
        let zones = BTreeMap::from([("node-1".to_owned(), "zone-b".to_owned())]);
        let found = endpoint(&service(false), &pod("web-0", true, false), &zones).unwrap();
        assert_eq!((found.hostname.as_deref(), found.zone.as_deref()), (Some("web-0"), Some("zone-b")));
        let ports = ports(&service(false), &pod("web-0", true, false));
        assert_eq!(ports.len(), 1, "a port that the pod does not have is left out");
        assert_eq!((ports[0].name.as_deref(), ports[0].port), (Some("web"), Some(8080)));
    }

    #[test]
    fn slices_are_filled_and_keep_what_they_have() {
        let endpoints = |count: usize| {
            let all = (0..count).map(|at| pod(&format!("web-{at}"), true, false));
            all.filter_map(|pod| endpoint(&service(false), &pod, &BTreeMap::new())).collect::<Vec<_>>()
        };
        let mut slices = arrange(&[], vec![(Vec::new(), endpoints(150))]);
        let sizes =
            |slices: &[EndpointSlice]| slices.iter().map(|one| one.endpoints.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&slices), [100, 50]);
        for (at, slice) in slices.iter_mut().enumerate() {
            slice.metadata.name = Some(at.to_string());
        }
        let fewer = arrange(&slices, vec![(Vec::new(), endpoints(120).split_off(40))]);
        assert_eq!(sizes(&fewer), [60, 20], "nothing moves from one to the other");
        let more = arrange(&fewer, vec![(Vec::new(), endpoints(170).split_off(40))]);
        assert_eq!(sizes(&more), [100, 30]);
        assert_eq!(sizes(&arrange(&slices, Vec::new())), [0, 0]);
    }
}
