//! A cluster with the service of a grid, by the double of its API server; what is asked of it, and what is told by it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::time::{interval, timeout};
use wattle_api_server::{ApiServer, Outage, Settings};

use crate::KubernetesService;
use crate::kubernetes::{Patience, Told};
use crate::slices::{Pods, places};

pub(super) const DEADLINE: Duration = Duration::from_secs(60);

pub(super) async fn client(server: &ApiServer, token: &str) -> Client {
    of_kubeconfig(Kubeconfig::from_yaml(&server.kubeconfig(token)).unwrap()).await
}

/// As [`KubernetesService::watch`] makes it.
pub(super) async fn of_kubeconfig(kubeconfig: Kubeconfig) -> Client {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Life {
    Starting,
    Ready,
    /// It is to end, and still serves.
    Ending,
    Ended,
}

/// What the control plane says of a pod. Of a service that publishes not ready addresses, all are ready.
pub(super) fn endpoint((address, zone): (&str, &str), life: Life, publishes: bool) -> Value {
    let serving = matches!(life, Life::Ready | Life::Ending);
    let terminating = matches!(life, Life::Ending | Life::Ended);
    let ready = publishes || serving && !terminating;
    json!({"addresses": [address], "zone": zone,
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
}

/// What was asked for to follow the slices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Asked {
    List,
    Stream { from: u64 },
}

pub(super) struct Cluster {
    pub(super) server: ApiServer,
    pub(super) client: Client,
}

impl Cluster {
    pub(super) async fn start() -> Self {
        let server = ApiServer::start(Settings::default()).await.unwrap();
        let client = client(&server, server.admin_token()).await;
        let service = json!({"metadata": {"name": "nodes"}, "spec": {"clusterIP": "None"}});
        let services: Api<Service> = Api::default_namespaced(client.clone());
        services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
        Self { server, client }
    }

    fn slices(&self) -> Api<EndpointSlice> {
        Api::default_namespaced(self.client.clone())
    }

    /// Says anew who is in a slice of the service: pods that are ready.
    pub(super) async fn set(&self, slice: &str, pods: &[(&str, &str)]) {
        self.put(slice, "IPv4", pods.iter().map(|pod| endpoint(*pod, Life::Ready, true)).collect()).await;
    }

    pub(super) async fn put(&self, slice: &str, family: &str, endpoints: Vec<Value>) {
        let slice_of = |service: &str| {
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
                "metadata": {"name": slice, "labels": {"kubernetes.io/service-name": service}},
                "ports": [{"name": "peers", "port": 7118}], "endpoints": endpoints})
        };
        let params = PatchParams::apply("test");
        self.slices().patch(slice, &params, &Patch::Apply(slice_of("nodes"))).await.unwrap();
    }

    pub(super) async fn delete(&self, slice: &str) {
        self.slices().delete(slice, &DeleteParams::default()).await.unwrap();
    }

    pub(super) async fn watched_by(&self, token: &str) -> KubernetesService {
        watch(client(&self.server, token).await, "nodes")
    }

    pub(super) async fn watched(&self) -> KubernetesService {
        self.watched_by(self.server.admin_token()).await
    }

    pub(super) async fn watched_with(&self, patience: Patience) -> KubernetesService {
        let client = client(&self.server, self.server.admin_token()).await;
        let service = "nodes".parse().unwrap();
        KubernetesService::watch_with(client, &service, 1, "default".to_owned(), patience).unwrap()
    }

    /// What those who follow the slices have asked for, and were answered.
    pub(super) fn asked(&self) -> Vec<Asked> {
        let requests = self.server.requests().into_iter();
        let requests = requests.filter(|request| request.query.contains("labelSelector="));
        let value = |query: &str, name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        let of = |query: &str| match value(query, "watch") {
            Some(_) => Asked::Stream { from: value(query, "resourceVersion").unwrap().parse().unwrap() },
            None => Asked::List,
        };
        requests.map(|request| of(&request.query)).collect()
    }

    pub(super) fn lists(&self) -> usize {
        self.asked().into_iter().filter(|asked| *asked == Asked::List).count()
    }

    /// Waits until so many streams have begun.
    pub(super) async fn has_streamed(&self, times: usize) {
        let streams = || self.asked().into_iter().filter(|asked| *asked != Asked::List).count();
        eventually(|| streams() >= times).await;
    }

    /// Nobody reaches the server when this returns.
    pub(super) async fn cut_off(&self, how: Outage) {
        self.server.faults().start_outage(how);
        let ask = async { while self.slices().get_opt("none").await.is_ok() {} };
        timeout(DEADLINE, ask).await.expect("the outage begins");
    }

    pub(super) async fn reconnect(&self) {
        self.server.faults().end_outage();
        let ask = async { while self.slices().get_opt("none").await.is_err() {} };
        timeout(DEADLINE, ask).await.expect("the outage ends");
    }
}

pub(super) fn watch(client: Client, service: &str) -> KubernetesService {
    let (service, namespace) = (service.parse().unwrap(), "default".to_owned());
    KubernetesService::watch_with(client, &service, 1, namespace, Patience::default()).unwrap()
}

pub(super) async fn eventually(is_so: impl Fn() -> bool) {
    let mut ticks = interval(Duration::from_millis(10));
    let search = async {
        while !is_so() {
            ticks.tick().await;
        }
    };
    timeout(DEADLINE, search).await.expect("waited in vain");
}

fn of_hosts(hosts: &[&str]) -> Vec<String> {
    hosts.iter().map(|host| format!("{host}:7118")).collect()
}

/// Who is there, and in which zone.
pub(super) fn zones(pods: &Pods) -> Vec<String> {
    let pods = pods.iter().filter(|(_, pod)| !pod.is_gone);
    pods.map(|(host, pod)| format!("{host} in {}", pod.zone.as_deref().unwrap_or("no zone"))).collect()
}

/// Waits until what is told of the pods is exactly this.
pub(super) async fn tells(service: &KubernetesService, of: fn(&Pods) -> Vec<String>, expected: &[String]) {
    let is_so = |told: &Option<Told>| matches!(told, Some(Ok(pods)) if of(pods) == expected);
    let mut told = service.told.clone();
    // After an outage of minutes the next attempt comes after a minute at most.
    let seen = timeout(DEADLINE * 2, told.wait_for(is_so)).await.map(drop);
    let known = service.told.borrow().clone().map(|told| told.map(|pods| of(&pods)));
    seen.unwrap_or_else(|_| panic!("{known:?}, not {expected:?}"));
}

/// Waits until the service is known to be at these hosts.
pub(super) async fn is_at(service: &KubernetesService, hosts: &[&str]) {
    tells(service, places, &of_hosts(hosts)).await;
}

/// Waits for what is told next: this at once, and nothing between.
pub(super) async fn goes_at_once(service: &KubernetesService, from: &[&str], to: &[&str]) {
    let [from, to] = [from, to].map(of_hosts);
    let is_at =
        |told: &Option<Told>, expected: &[String]| matches!(told, Some(Ok(pods)) if places(pods) == expected);
    let mut told = service.told.clone();
    let next =
        timeout(DEADLINE, told.wait_for(|told| !is_at(told, &from))).await.expect("it changes").unwrap();
    assert!(is_at(&next, &to), "{:?}, not {to:?}", *next);
}

/// Nothing else is told for so long.
pub(super) async fn stays_at(service: &KubernetesService, hosts: &[&str], time: Duration) {
    let expected = of_hosts(hosts);
    let is_else = |told: &Option<Told>| !matches!(told, Some(Ok(pods)) if places(pods) == expected);
    let mut told = service.told.clone();
    let told = timeout(time, told.wait_for(is_else)).await;
    assert!(told.is_err(), "{told:?}, not {expected:?}");
    assert_eq!(service.addresses().await.unwrap(), expected);
}
