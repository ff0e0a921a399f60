//! A grid as a cluster runs it: the pods of `deploy/manifests/grid.yaml`, whose containers are processes of this machine.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use wattle_api_server::Outage;
use wattle_client::{Client, Options};

use crate::harness::kubernetes::{TestCluster, manifest, probe};
use crate::harness::wire::eventually;
use crate::harness::writer::{Writer, connect, members};

const NAMESPACE: &str = "wattle";

/// A cluster with one grid.
struct Deployed {
    cluster: TestCluster,
}

impl Deployed {
    /// Starts so many pods at once.
    async fn of(replicas: u32) -> Self {
        let cluster = TestCluster::start(NAMESPACE, &["wattle"]).await;
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wattle-secret"},
            "stringData": {"secret": "a secret of sixteen bytes or more"}});
        cluster.apply(&secret).await;
        let settings = format!("bootstrap_expect = {replicas}\n    partitions = 61");
        let manifest = manifest("deploy/manifests/grid.yaml").replace("bootstrap_expect = 3", &settings);
        cluster.apply_all(&manifest.replace("replicas: 3", &format!("replicas: {replicas}"))).await;
        Self { cluster }
    }

    async fn hosts(&self) -> Vec<String> {
        self.cluster.hosts("").await
    }

    async fn host(&self, pod: &str) -> String {
        let pod = self.cluster.api("v1", "Pod").get(pod).await.unwrap();
        pod.data["status"]["podIP"].as_str().unwrap().to_owned()
    }

    async fn change(&self, patch: Value) {
        let sets = self.cluster.api("apps/v1", "StatefulSet");
        sets.patch(NAMESPACE, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Waits until so many pods are there, all ready and of the newest template.
    async fn has(&self, replicas: u64) {
        let is_so = async || {
            let set = self.cluster.api("apps/v1", "StatefulSet").get(NAMESPACE).await.unwrap();
            let status = &set.data["status"];
            let is_current = status["currentRevision"] == status["updateRevision"]
                && status["observedGeneration"].as_i64() == set.metadata.generation;
            let counts = [&status["replicas"], &status["readyReplicas"], &status["updatedReplicas"]];
            (is_current && counts.iter().all(|count| count.as_u64() == Some(replicas))).then_some(())
        };
        eventually(is_so).await;
    }
}

/// Waits until each of them says that all partitions have their backups, and nobody is missing.
async fn are_safe(hosts: &[String]) {
    for host in hosts {
        eventually(async || probe(host, "/safez").await.then_some(())).await;
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
        grid.cluster.kill(pod).await;
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
    let (id, count) = members(&client).await;
    assert_eq!(count, 3);
    let writer = Writer::start(&client);
    grid.cluster.server.faults().start_outage(Outage::Refused);
    let until = Instant::now() + Duration::from_secs(60);
    grid.cluster.kill("wattle-2").await;
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
    grid.cluster.server.faults().end_outage();
    // The pod that was killed has waited: it knows nobody without the API server.
    are_safe(&hosts).await;
    grid.has(3).await;
    assert_eq!(members(&client).await, (id, 3), "one grid");
    writer.check(&client).await;
}

/// What a pod says to somebody who asks it to found a grid, although nodes are silent.
async fn refusal(host: &str) -> String {
    let alone = Options::new(format!("http://{host}:7117")).endpoints_only();
    let client = Client::prepare(alone).unwrap();
    client.create_grid(true).await.expect_err("there is a grid").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_pods_that_restart_cut_off_from_two_others_make_no_second_grid() {
    // Three together may found a grid, and three is more than half of five.
    let grid = Deployed::of(3).await;
    grid.has(3).await;
    grid.change(json!({"spec": {"replicas": 5}})).await;
    grid.has(5).await;
    let client = connect(&grid.hosts().await).await;
    let (id, count) = members(&client).await;
    assert_eq!(count, 5);
    client.raw_map("m").put("k", "v").await.unwrap();

    let (silent, restarted) = (["wattle-0", "wattle-1"], ["wattle-2", "wattle-3", "wattle-4"]);
    for pod in silent {
        grid.cluster.pods.freeze_pod(NAMESPACE, pod).await.unwrap();
    }
    for pod in restarted {
        grid.cluster.kill(pod).await;
    }
    let claimed = "a grid was founded here before";
    // The others have promised the first that it may found one, which does not get further.
    for (pod, why) in restarted.into_iter().zip([claimed, "no grid is created", "no grid is created"]) {
        let host = grid.host(pod).await;
        eventually(async || refusal(&host).await.contains(why).then_some(())).await;
        assert!(probe(&host, "/livez").await && !probe(&host, "/readyz").await, "{pod} waits");
    }
    let claim = grid.cluster.api("v1", "ConfigMap").get("wattle-nodes-grid").await.unwrap();
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(claim.data["data"]["grid"], hex);

    // Those two are the grid still, and wait for people: most of its votes are gone.
    for pod in silent {
        grid.cluster.pods.thaw_pod(NAMESPACE, pod).await.unwrap();
    }
    let hosts = [grid.host(silent[0]).await, grid.host(silent[1]).await];
    eventually(async || (members(&connect(&hosts).await).await.0 == id).then_some(())).await;
}
