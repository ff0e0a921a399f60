//! Nodes that find each other as the pods of a headless service, by the double of an API server.

use std::net::SocketAddr;
use std::path::PathBuf;

use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use wattle_api_server::{ApiServer, Outage, Settings};

use crate::harness::grid::free_addresses;
use crate::harness::process::{ProcessNode, Starting};
use crate::harness::wire::{eventually, get};

/// A cluster with a headless service, whose pods are processes at addresses of this machine.
struct Cluster {
    server: ApiServer,
    client: Client,
    directory: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let server = ApiServer::start(Settings::default()).await.unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(server.admin_token())).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let cluster = Self { server, client: Client::try_from(config).unwrap(), directory };
        cluster.server.write_kubeconfig(&cluster.kubeconfig()).unwrap();
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "nodes"}, "spec": {"clusterIP": "None"}});
        cluster.apply("", "v1", &service).await;
        cluster
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::default_namespaced_with(self.client.clone(), &resource)
    }

    async fn apply(&self, group: &str, version: &str, object: &Value) {
        let api = self.api(group, version, object["kind"].as_str().unwrap());
        let name = object["metadata"]["name"].as_str().unwrap();
        api.patch(name, &PatchParams::apply("test"), &Patch::Apply(object)).await.unwrap();
    }

    /// The service has this pod, in a slice of its own.
    async fn add(&self, pod: SocketAddr, zone: &str) {
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": format!("pod-{}", pod.port()), "labels": {"kubernetes.io/service-name": "nodes"}},
            "ports": [{"name": "peers", "port": pod.port()}],
            "endpoints": [{"addresses": [pod.ip()], "zone": zone, "conditions": {"ready": false}}]});
        self.apply("discovery.k8s.io", "v1", &slice).await;
    }

    fn start_pod(&self, pod: SocketAddr, kubeconfig: &str, expect: &str) -> Starting {
        let (listen, host) = (pod.to_string(), pod.ip().to_string());
        let kubeconfig = self.directory.path().join(kubeconfig);
        let found = ["--discovery", "kubernetes", "--service", "nodes", "--bootstrap-expect", expect];
        Starting::in_cluster(
            &kubeconfig,
            &[&["--listen", &listen, "--advertise", &host], &found[..]].concat(),
        )
    }
}

/// As pods have addresses: one each.
fn pods(count: u8) -> Vec<SocketAddr> {
    let hosts = (1..=count).map(|host| [127, 0, 20, host]);
    let ports =
        free_addresses(count.into()).into_iter().map(|address| address.parse::<SocketAddr>().unwrap().port());
    hosts.zip(ports).map(SocketAddr::from).collect()
}

async fn probe(pod: SocketAddr, path: &str) -> (u16, String) {
    let answer = String::from_utf8(get(&pod.to_string(), path).await).unwrap();
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (code, answer.split("\r\n\r\n").nth(1).unwrap().to_owned())
}

async fn says_yes(pod: SocketAddr, path: &str) {
    eventually(|| async { (probe(pod, path).await.0 == 200).then_some(()) }).await;
}

#[tokio::test]
async fn pods_that_start_together_found_one_grid_which_needs_no_api_server_afterwards() {
    let cluster = Cluster::start().await;
    let pods = pods(3);
    for (pod, zone) in pods.iter().zip(["west", "east"]) {
        cluster.add(*pod, zone).await;
    }
    let mut waiting = Vec::new();
    for pod in &pods[..2] {
        let mut starting = cluster.start_pod(*pod, "kubeconfig", "3");
        starting.says("waiting for a grid").await.expect("two are too few");
        assert_eq!((probe(*pod, "/livez").await.0, probe(*pod, "/readyz").await.0), (200, 503));
        assert_eq!(probe(*pod, "/safez").await.0, 503);
        waiting.push(starting);
    }
    cluster.add(pods[2], "west").await;
    waiting.push(cluster.start_pod(pods[2], "kubeconfig", "3"));
    let mut nodes = Vec::new();
    for starting in waiting {
        nodes.push(ProcessNode::serving(starting).await);
    }
    let client = nodes[0].client().await;
    let status = client.status().await.unwrap();
    let mut zones: Vec<&str> = status.members.iter().map(|member| member.zone.as_str()).collect();
    zones.sort_unstable();
    assert_eq!(zones, ["east", "west", "west"], "one grid, and each knows its zone");
    let claim = cluster.api("", "v1", "ConfigMap").get("nodes-grid").await.unwrap();
    let id: String = status.grid_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(claim.data["data"]["grid"], id);
    for pod in &pods {
        says_yes(*pod, "/readyz").await;
        says_yes(*pod, "/safez").await;
    }
    let map = client.raw_map("m");
    map.put("k", "before").await.unwrap();

    cluster.server.faults().start_outage(Outage::Refused);
    nodes.pop().unwrap().kill().await;
    eventually(|| async { (probe(pods[0], "/safez").await.0 == 503).then_some(()) }).await;
    assert_eq!(probe(pods[0], "/readyz").await.0, 200, "it serves on");
    assert_eq!(map.get("k").await.unwrap().unwrap().value, "before");
    map.put("k", "after").await.unwrap();

    // Another pod, at the address of the one that has died, before the API server is back: it waits.
    let mut another = cluster.start_pod(pods[2], "kubeconfig", "3");
    let silent = another.says("other nodes are not found: looking again").await.expect("it says so");
    assert!(silent["error"].as_str().unwrap().contains("endpointslices"), "{silent}");
    cluster.server.faults().end_outage();
    let another = ProcessNode::serving(another).await;
    says_yes(pods[2], "/readyz").await;
    // It votes in place of the one that has died.
    says_yes(pods[0], "/safez").await;
    assert_eq!(another.client().await.raw_map("m").get("k").await.unwrap().unwrap().value, "after");
    let status = another.client().await.status().await.unwrap();
    assert_eq!(status.members.iter().map(|member| member.node).max(), Some(4), "it is no member of before");
}

#[tokio::test]
async fn pods_without_disks_that_are_cut_off_from_their_grid_found_no_second_one() {
    let cluster = Cluster::start().await;
    let pods = pods(2);
    let claim = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nodes-grid"}, "data": {"grid": "first"}});
    cluster.apply("", "v1", &claim).await;
    let mut starting = Vec::new();
    for pod in &pods {
        cluster.add(*pod, "west").await;
        starting.push(cluster.start_pod(*pod, "kubeconfig", "2"));
    }
    // One of them is to found the grid, and finds that it was founded.
    let warned = "a grid was founded here before, and none of its nodes is found: if it is gone for good, delete the ConfigMap";
    let (one, other) = starting.split_at_mut(1);
    let warning = tokio::select! {
        warning = one[0].says(warned) => warning,
        warning = other[0].says(warned) => warning,
    };
    let warning = warning.expect("neither serves");
    assert_eq!((&warning["config_map"], &warning["grid"]), (&json!("default/nodes-grid"), &json!("first")));
    cluster.api("", "v1", "ConfigMap").delete("nodes-grid", &DeleteParams::default()).await.unwrap();
    let mut nodes = Vec::new();
    for starting in starting {
        nodes.push(ProcessNode::serving(starting).await);
    }
    assert_eq!(nodes[0].client().await.status().await.unwrap().members.len(), 2);
}

#[tokio::test]
async fn a_pod_without_rights_names_the_missing_one() {
    let cluster = Cluster::start().await;
    let token = cluster.server.service_account_token("default", "nobody", None);
    std::fs::write(cluster.directory.path().join("weak"), cluster.server.kubeconfig(&token)).unwrap();
    let pod = pods(1)[0];
    let mut starting = cluster.start_pod(pod, "weak", "1");
    let said =
        starting.says("the API server does not tell of the service's pods: asking again").await.unwrap();
    assert!(
        said["error"].as_str().unwrap().contains("cannot list resource \\\"endpointslices\\\""),
        "{said}"
    );
    let said = starting.says("other nodes are not found: looking again").await.unwrap();
    let expected = "list and watch endpointslices.discovery.k8s.io in namespace default: a Role that allows it must be bound to the pod's \
        service account";
    assert!(said["error"].as_str().unwrap().contains(expected), "{said}");
    assert_eq!(probe(pod, "/livez").await.0, 200);
}
