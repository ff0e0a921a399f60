//! A cluster for a test, what tests put into it, and how they wait.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Config, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use wattle_api_server::ApiServer;
use wattle_pods::{Cluster, Settings};

/// Longer than anything here takes that works.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub(crate) server: ApiServer,
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) folder: TempDir,
}

pub(crate) fn sample() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sample-pod"))
}

pub(crate) async fn client(kubeconfig: Kubeconfig) -> Client {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    // A refusal is to be seen, not to be waited out.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::start_with(|settings| settings).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(Settings) -> Settings) -> Self {
        Self::start_behind(wattle_api_server::Settings::default(), change).await
    }

    /// For kubectl, which sends tokens over TLS only.
    pub(crate) async fn start_with_tls() -> Self {
        let settings = wattle_api_server::Settings { tls: true, ..wattle_api_server::Settings::default() };
        Self::start_behind(settings, |settings| settings).await
    }

    async fn start_behind(
        server: wattle_api_server::Settings,
        change: impl FnOnce(Settings) -> Settings,
    ) -> Self {
        let server = ApiServer::start(server).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(server.admin_token())).unwrap();
        let settings = Settings::new(kubeconfig.clone(), folder.path().join("cluster"));
        let settings = change(settings.image("sample", sample()));
        let cluster = Cluster::start(settings).await.unwrap();
        Self { server, cluster, client: client(kubeconfig).await, folder }
    }

    pub(crate) fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn apply<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let how = PatchParams::apply("test").force();
        self.api().patch(&name, &how, &Patch::Apply(object)).await.unwrap()
    }

    /// Says whether the sample in this pod is ready from now on.
    pub(crate) fn set_ready(&self, pod: &str, is_ready: bool) {
        std::fs::write(self.folder.path().join(pod), if is_ready { "yes" } else { "no" }).unwrap();
    }

    pub(crate) fn log(&self, pod: &str) -> String {
        std::fs::read_to_string(self.cluster.log("default", pod, "sample")).unwrap_or_default()
    }

    /// What follows this word in the first line of a pod's log that begins with it.
    pub(crate) fn logged(&self, pod: &str, word: &str) -> String {
        let log = self.log(pod);
        let mut lines = log.lines().filter_map(|line| line.strip_prefix(word));
        lines.next().unwrap_or_else(|| panic!("no {word:?} in {log:?}")).trim().to_owned()
    }

    /// Waits until the objects with a label are as they should be, and gives them back by name.
    pub(crate) async fn until<K>(
        &self,
        labels: &str,
        mut is_as_wanted: impl FnMut(&BTreeMap<String, K>) -> bool,
    ) -> BTreeMap<String, K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        until(self.api::<K>(), labels, &mut is_as_wanted).await
    }

    pub(crate) async fn until_pods(
        &self,
        is_as_wanted: impl FnMut(&BTreeMap<String, Pod>) -> bool,
    ) -> BTreeMap<String, Pod> {
        self.until("app=sample", is_as_wanted).await
    }

    pub(crate) async fn until_set(&self, is_as_wanted: impl Fn(&StatefulSet) -> bool) -> StatefulSet {
        let mut sets = self.until("app=sample", |sets| sets.values().next().is_some_and(&is_as_wanted)).await;
        sets.pop_first().unwrap().1
    }

    /// A process of this pod; waits for nothing, so that the pod must run.
    pub(crate) async fn process(&self, pod: &str) -> Process {
        let found = self.cluster.processes("default", pod).await.unwrap();
        Process::open(found[0])
    }
}

pub(crate) async fn until<K>(
    api: Api<K>,
    labels: &str,
    is_as_wanted: &mut (dyn FnMut(&BTreeMap<String, K>) -> bool + '_),
) -> BTreeMap<String, K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut known: BTreeMap<String, K> = BTreeMap::new();
    let watch = watcher(api, watcher::Config::default().labels(labels)).default_backoff();
    let mut watch = std::pin::pin!(watch);
    let search = async {
        let mut is_complete = false;
        while let Some(event) = watch.try_next().await.unwrap() {
            match event {
                watcher::Event::Init => known.clear(),
                watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                    known.insert(object.name_any(), object);
                }
                watcher::Event::InitDone => is_complete = true,
                watcher::Event::Delete(object) => {
                    known.remove(&object.name_any());
                }
            }
            if is_complete && is_as_wanted(&known) {
                return;
            }
        }
    };
    let found = tokio::time::timeout(DEADLINE, search).await;
    found.unwrap_or_else(|_| panic!("waited in vain: {known:#?}"));
    known
}

/// Looks again and again, for what nobody tells of.
pub(crate) async fn eventually<T>(look: impl Fn() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let search = async {
        loop {
            ticks.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    };
    tokio::time::timeout(DEADLINE, search).await.expect("waited in vain")
}

/// A process of a pod, told from another one that gets its id later by the time of its start.
pub(crate) struct Process {
    id: u32,
    start: String,
}

impl Process {
    pub(crate) fn open(id: u32) -> Self {
        Self { id, start: start_if_alive(id).expect("the process is there") }
    }

    pub(crate) fn is_alive(&self) -> bool {
        start_if_alive(self.id).as_ref() == Some(&self.start)
    }

    pub(crate) async fn ended(&self) {
        eventually(|| (!self.is_alive()).then_some(())).await;
    }
}

/// The fields behind the name, which is in parentheses, are the state first, and the start as the twentieth.
fn start_if_alive(id: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    (!matches!(*fields.first()?, "Z" | "X")).then(|| fields.get(19).map(|&start| start.to_owned()))?
}

/// A container with the sample; `READY_FILE` is what `Bench::set_ready` writes.
pub(crate) fn pod_spec(bench: &Bench, arguments: &[&str]) -> Value {
    let ready: PathBuf = bench.folder.path().join("$(POD_NAME)");
    let all: Vec<&str> = ["--listen", "0.0.0.0:7117"].iter().chain(arguments).copied().collect();
    json!({"terminationGracePeriodSeconds": 20, "containers": [{"name": "sample", "image": "example.com/sample:1",
        "args": all,
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "READY_FILE", "value": ready},
        ],
        "ports": [{"name": "http", "containerPort": 7117}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1},
    }]})
}

pub(crate) fn set(bench: &Bench, replicas: u32, policy: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "web", "labels": {"app": "sample"}},
        "spec": {"replicas": replicas, "serviceName": "web", "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": "sample"}},
            "template": {"metadata": {"labels": {"app": "sample"}}, "spec": pod_spec(bench, &[])}}})
}

pub(crate) fn pod(bench: &Bench, name: &str, arguments: &[&str]) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "sample"}},
        "spec": pod_spec(bench, arguments)})
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn address(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default()
}

pub(crate) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}

/// Why a pod's container waits, if it does.
pub(crate) fn waits_for(pod: &Pod) -> Option<&str> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}
