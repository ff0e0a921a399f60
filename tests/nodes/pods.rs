//! A grid as a cluster runs it: the pods of `deploy/manifests/grid.yaml`, whose containers are processes of this machine.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client as ApiClient, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use wattle_api_server::{ApiServer, Outage};
use wattle_client::{Client, Options};
use wattle_pods::Cluster;

use crate::harness::wire::{eventually, try_get};

const NAMESPACE: &str = "wattle";
const MANIFEST: &str = "deploy/manifests/grid.yaml";

/// A cluster with one grid.
struct Deployed {
    server: ApiServer,
    client: ApiClient,
    pods: Cluster,
    _directory: TempDir,
}

impl Deployed {
    /// Starts so many pods at once.
    async fn of(replicas: u32) -> Self {
        let server = ApiServer::start(wattle_api_server::Settings::default()).await.unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(server.admin_token())).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await;
        let client = ApiClient::try_from(config.unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let settings = wattle_pods::Settings::new(kubeconfig, directory.path().to_owned());
        let settings = settings.image("wattle", Path::new(env!("CARGO_BIN_EXE_wattle")));
        let settings = wattle_pods::Settings { restart_back_off: Duration::from_secs(1), ..settings };
        let pods = Cluster::start(settings).await.unwrap();
        let deployed = Self { server, client, pods, _directory: directory };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        let namespaces: Api<DynamicObject> =
            Api::all_with(deployed.client.clone(), &resource("v1", "Namespace"));
        namespaces.patch(NAMESPACE, &PatchParams::apply("test"), &Patch::Apply(namespace)).await.unwrap();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wattle-secret"},
            "stringData": {"secret": "a secret of sixteen bytes or more"}});
        deployed.apply(&secret).await;
        let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(MANIFEST)).unwrap();
        let settings = format!("bootstrap_expect = {replicas}\n    partitions = 61");
        let manifest = manifest.replace("bootstrap_expect = 3", &settings);
        let manifest = manifest.replace("replicas: 3", &format!("replicas: {replicas}"));
        for object in serde_saphyr::from_multiple::<Value>(&manifest).unwrap() {
            deployed.apply(&object).await;
        }
        deployed
    }

    fn api(&self, version: &str, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), NAMESPACE, &resource(version, kind))
    }

    async fn apply(&self, object: &Value) {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let api = self.api(&text(&object["apiVersion"]), &text(&object["kind"]));
        api.patch(&text(&object["metadata"]["name"]), &PatchParams::apply("test"), &Patch::Apply(object))
            .await
            .unwrap();
    }

    async fn change(&self, patch: Value) {
        let sets = self.api("apps/v1", "StatefulSet");
        sets.patch(NAMESPACE, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Waits until so many pods are there, all ready and of the newest template.
    async fn has(&self, replicas: u64) {
        let is_so = async || {
            let set = self.api("apps/v1", "StatefulSet").get(NAMESPACE).await.unwrap();
            let status = &set.data["status"];
            let is_current = status["currentRevision"] == status["updateRevision"]
                && status["observedGeneration"].as_i64() == set.metadata.generation;
            let counts = [&status["replicas"], &status["readyReplicas"], &status["updatedReplicas"]];
            (is_current && counts.iter().all(|count| count.as_u64() == Some(replicas))).then_some(())
        };
        eventually(is_so).await;
    }

    async fn hosts(&self) -> Vec<String> {
        let pods = self.api("v1", "Pod").list(&ListParams::default()).await.unwrap();
        pods.iter().filter_map(|pod| pod.data["status"]["podIP"].as_str().map(str::to_owned)).collect()
    }

    async fn kill(&self, pod: &str) {
        self.pods.kill_pod(NAMESPACE, pod).await.unwrap();
    }
}

async fn connect(hosts: &[String]) -> Client {
    let mut endpoints = hosts.iter().map(|host| format!("http://{host}:7117"));
    let first = Options::new(endpoints.next().expect("there are pods"));
    Client::connect(endpoints.fold(first, Options::endpoint)).await.unwrap()
}

fn resource(version: &str, kind: &str) -> ApiResource {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

async fn probe(host: &str, path: &str) -> bool {
    let answer = try_get(&format!("{host}:7119"), path).await;
    answer.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200 "))
}

/// Waits until each of them says that all partitions have their backups, and nobody is missing.
async fn are_safe(hosts: &[String]) {
    for host in hosts {
        eventually(async || probe(host, "/safez").await.then_some(())).await;
    }
}

/// The grid's id, which must never be another, and who is in it.
async fn members(client: &Client) -> (Vec<u8>, usize) {
    let status = client.status().await.unwrap();
    (status.grid_id.to_vec(), status.members.iter().filter(|member| member.report.is_some()).count())
}

/// Writes keys one after the other until it is told to stop.
struct Writer {
    stops: Arc<AtomicBool>,
    written: JoinHandle<u64>,
}

impl Writer {
    fn start(client: &Client) -> Self {
        let (stops, map) = (Arc::new(AtomicBool::new(false)), client.raw_map("m"));
        let told = Arc::clone(&stops);
        let written = tokio::spawn(async move {
            let mut number = 0;
            while !told.load(Ordering::Relaxed) {
                map.put(number.to_string(), number.to_string()).await.expect("it is acknowledged in the end");
                number += 1;
            }
            number
        });
        Self { stops, written }
    }

    /// Stops, and finds everything that was acknowledged.
    async fn check(self, client: &Client) {
        self.stops.store(true, Ordering::Relaxed);
        let written = self.written.await.unwrap();
        assert!(written > 0);
        let map = client.raw_map("m");
        for number in 0..written {
            let found = map.get(number.to_string()).await.unwrap();
            assert_eq!(found.expect("nothing is lost").value, number.to_string(), "of {written}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_replaced_removed_and_crash_and_nothing_is_lost() {
    let grid = Deployed::of(5).await;
    grid.has(5).await;
    let client = connect(&grid.hosts().await).await;
    let (id, count) = members(&client).await;
    assert_eq!(count, 5);
    let writer = Writer::start(&client);

    let restart = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}});
    let before: BTreeSet<String> = grid.hosts().await.into_iter().collect();
    grid.change(json!({"spec": {"template": restart}})).await;
    grid.has(5).await;
    let hosts = grid.hosts().await;
    assert!(hosts.iter().all(|host| !before.contains(host)), "all are others");
    are_safe(&hosts).await;
    grid.change(json!({"spec": {"replicas": 3}})).await;
    grid.has(3).await;
    let hosts = grid.hosts().await;
    are_safe(&hosts).await;

    for pod in ["wattle-0", "wattle-1"] {
        grid.kill(pod).await;
        // Its container begins again, as another node.
        are_safe(&hosts).await;
    }
    let client = connect(&hosts).await;
    let (now, count) = members(&client).await;
    assert_eq!((now, count), (id, 3), "one grid");
    writer.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_the_api_server_stops_nothing_that_runs() {
    let grid = Deployed::of(3).await;
    grid.has(3).await;
    let hosts = grid.hosts().await;
    let client = connect(&hosts).await;
    are_safe(&hosts).await;
    let writer = Writer::start(&client);
    grid.server.faults().start_outage(Outage::Refused);
    let until = Instant::now() + Duration::from_secs(60);
    grid.kill("wattle-2").await;
    let map = client.raw_map("other");
    let mut turns = 0_u64;
    while Instant::now() < until {
        map.put("turn", turns.to_string()).await.unwrap();
        for host in &hosts[..2] {
            assert!(probe(host, "/readyz").await && probe(host, "/livez").await, "who serves stays ready");
        }
        turns += 1;
    }
    assert_eq!(map.get("turn").await.unwrap().unwrap().value, (turns - 1).to_string());
    grid.server.faults().end_outage();
    // The pod that was killed has waited: it knows nobody without the API server.
    are_safe(&hosts).await;
    grid.has(3).await;
    assert_eq!(members(&client).await.1, 3);
    writer.check(&client).await;
}
