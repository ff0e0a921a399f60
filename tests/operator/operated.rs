//! A cluster with the operator of `deploy/operator`, a Grid `g` in it, and what was seen of its pods.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use wattle_client::Client;
use wattle_operator::api::{Grid, GridStatus, Phase};

use super::observer::Observer;
use crate::harness::kubernetes::{TestCluster, manifest};
use crate::harness::wire::eventually;
use crate::harness::writer::connect;

/// The version of the kinds that the operator looks after.
pub(super) const GRID: &str = "wattle.dev/v1alpha1";
const NAMESPACE: &str = "grids";
pub(super) const OPERATORS: &str = "wattle-system";
/// Members that a grid has, whether they hold data or only vote.
const PODS: &str = "wattle.dev/member=true";
/// Of each log, when something goes wrong.
const LINES: usize = 60;

pub(super) struct Operated {
    pub(super) cluster: TestCluster,
    pub(super) observer: Observer,
}

impl Operated {
    /// With so many operators.
    pub(super) async fn start(operators: u32) -> Self {
        let cluster = TestCluster::start(NAMESPACE, &["wattle:0.1.0", "wattle:0.2.0"]).await;
        cluster.apply_all(&manifest("deploy/operator/crds.yaml")).await;
        let manifest = manifest("deploy/operator/operator.yaml");
        cluster.apply_all(&manifest.replace("replicas: 1", &format!("replicas: {operators}"))).await;
        let observer = Observer::start(cluster.client.clone(), NAMESPACE, PODS);
        Self { cluster, observer }
    }

    /// A Grid that has been founded.
    pub(super) async fn found(size: u32, spec: Value) -> Self {
        let operated = Self::start(1).await;
        operated.make(size, spec).await;
        operated
    }

    pub(super) async fn make(&self, size: u32, mut spec: Value) {
        spec["size"] = json!(size);
        // As few as are enough for all pods to hold something.
        spec["settings"] = json!({"partitions": 31});
        self.apply("Grid", "g", &spec).await;
        self.rested(size).await;
    }

    /// Makes or changes an object that the operator looks after.
    pub(super) async fn apply(&self, kind: &str, name: &str, spec: &Value) {
        let object = json!({"apiVersion": GRID, "kind": kind, "metadata": {"name": name}, "spec": spec});
        self.cluster.apply(&object).await;
    }

    /// A ConfigMap `modules`, of modules by their keys.
    pub(super) async fn make_modules(&self, modules: &[(&str, &[u8])]) {
        let modules = modules.iter().map(|(key, module)| ((*key).to_owned(), ByteString(module.to_vec())));
        let metadata = ObjectMeta { name: Some("modules".to_owned()), ..ObjectMeta::default() };
        let modules = ConfigMap { metadata, binary_data: Some(modules.collect()), ..ConfigMap::default() };
        let maps: Api<ConfigMap> = Api::namespaced(self.cluster.client.clone(), NAMESPACE);
        maps.create(&PostParams::default(), &modules).await.unwrap();
    }

    /// The status of an object as it is now, and the message of its condition Ready, when that has this reason.
    pub(super) async fn told(&self, kind: &str, name: &str, reason: &str) -> (Value, String) {
        eventually(async || {
            let object = self.cluster.api(GRID, kind).get(name).await.unwrap();
            let status = object.data["status"].clone();
            let ready = status["conditions"].as_array()?.iter().find(|one| one["type"] == "Ready")?.clone();
            let is_new = status["observedGeneration"] == json!(object.metadata.generation);
            let message = ready["message"].as_str()?.to_owned();
            (is_new && ready["reason"] == reason).then_some((status, message))
        })
        .await
    }

    pub(super) fn grids(&self) -> Api<Grid> {
        Api::namespaced(self.cluster.client.clone(), NAMESPACE)
    }

    pub(super) async fn change(&self, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.grids().patch("g", &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until what is said of the Grid as it is now is so, and has been heard of. Each step on the way may take its time.
    pub(super) async fn until(&self, is_so: impl Fn(&GridStatus) -> bool) -> GridStatus {
        let mut last = GridStatus::default();
        // A bound, should it never come to rest.
        for _ in 0..1000 {
            let found = eventually(async || {
                let now = self.grids().get("g").await.ok()?;
                let grid = self.observer.seen().grid?;
                let is_new = now.metadata.generation == grid.metadata.generation;
                let status = grid
                    .status
                    .filter(|told| is_new && told.observed_generation == now.metadata.generation)?;
                (status != last).then_some(status)
            });
            last = found.await;
            if is_so(&last) {
                return last;
            }
        }
        panic!("the grid does not come to rest");
    }

    /// Waits until all that has happened to the pods has been heard of.
    async fn pods_are_heard_of(&self) {
        let is_heard = async || {
            let heard = self.observer.seen().versions;
            let is_known = |pod: &Pod| heard.get(&pod.name_any()) == Some(&pod.resource_version());
            self.pods().await.iter().all(is_known).then_some(())
        };
        eventually(is_heard).await;
    }

    /// Waits until the grid is as it should be.
    pub(super) async fn rested(&self, size: u32) -> GridStatus {
        let size = i32::try_from(size).unwrap();
        let status =
            self.until(|now| (now.size, now.ready, now.phase) == (size, size, Some(Phase::Running))).await;
        for (kind, expected) in [
            ("Ready", "True"),
            ("Available", "True"),
            ("Safe", "True"),
            ("Progressing", "False"),
            ("Degraded", "False"),
        ] {
            assert_eq!(condition(&status, kind), expected, "{kind}: {:?}", status.conditions);
        }
        assert_eq!(status.message, "all is as it should be");
        assert!(status.members.iter().all(|member| member.answers && !member.pod.is_empty()), "{status:?}");
        self.pods_are_heard_of().await;
        status
    }

    /// How many pods were told to stop since the observer was asked to begin anew: no pod twice, and each when all others served.
    pub(super) fn taken_one_by_one(&self, size: usize) -> usize {
        let taken = self.observer.seen().taken;
        let pods: BTreeSet<&str> = taken.iter().map(|taken| taken.pod.as_str()).collect();
        assert_eq!(pods.len(), taken.len(), "{taken:?}");
        assert!(taken.iter().all(|taken| taken.serving.len() == size - 1), "{taken:?}");
        taken.len()
    }

    pub(super) async fn pods(&self) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client.clone(), NAMESPACE);
        pods.list(&ListParams::default().labels(PODS)).await.unwrap().items
    }

    /// What the pods run, by their names.
    pub(super) async fn images(&self) -> Vec<String> {
        let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        self.pods().await.iter().map(image).collect()
    }

    /// Which pods there are: a pod that was made anew is another one.
    pub(super) async fn uids(&self) -> Vec<String> {
        self.pods().await.iter().map(|pod| pod.uid().unwrap()).collect()
    }

    pub(super) async fn client(&self) -> Client {
        connect(&self.cluster.hosts(PODS).await).await
    }

    pub(super) async fn operators(&self) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client.clone(), OPERATORS);
        pods.list(&ListParams::default()).await.unwrap().items
    }
}

pub(super) fn condition<'a>(status: &'a GridStatus, kind: &str) -> &'a str {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind);
    found.map_or("", |condition| condition.status.as_str())
}

/// When a test fails, what the operator and the nodes have said is part of the answer.
impl Drop for Operated {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        eprintln!("seen: {:#?}", self.observer.seen());
        let logs = self.cluster.directory().join("logs");
        for (namespace, container) in [(OPERATORS, "operator"), (NAMESPACE, "wattle")] {
            for pod in std::fs::read_dir(logs.join(namespace)).into_iter().flatten().flatten() {
                print_end_of(&pod.path().join(format!("{container}.log")));
            }
        }
    }
}

fn print_end_of(log: &Path) {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.len().saturating_sub(LINES);
    eprintln!("{}:\n{}", log.display(), lines[end..].join("\n"));
}
