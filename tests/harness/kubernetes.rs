//! A cluster of a test's own: the double of the API server, and pods that are processes of this machine.

use std::path::Path;
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use wattle_api_server::ApiServer;
use wattle_pods::{Cluster, Settings};

use super::wire::try_get;

/// Kinds that belong to no namespace.
const OF_CLUSTERS: [&str; 5] =
    ["Namespace", "Node", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"];

/// A cluster, and a namespace of it.
pub(crate) struct TestCluster {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
    pub(crate) pods: Cluster,
    pub(crate) namespace: &'static str,
    directory: TempDir,
}

impl TestCluster {
    /// Has these images, which are this program.
    pub(crate) async fn start(namespace: &'static str, images: &[&str]) -> Self {
        let server = ApiServer::start(wattle_api_server::Settings::default()).await.unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(server.admin_token())).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            restart_back_off: Duration::from_secs(1),
            node_monitor_grace: Duration::from_secs(1),
            ..Settings::new(kubeconfig, directory.path().to_owned())
        };
        let program = Path::new(env!("CARGO_BIN_EXE_wattle"));
        let settings = images.iter().fold(settings, |settings, image| settings.image(image, program));
        let pods = Cluster::start(settings).await.unwrap();
        let cluster = Self { server, client, pods, namespace, directory };
        cluster
            .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
            .await;
        cluster
    }

    /// For what a test needs beside.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Objects of a kind in the namespace.
    pub(crate) fn api(&self, version: &str, kind: &str) -> Api<DynamicObject> {
        self.api_in(self.namespace, version, kind)
    }

    /// Objects of a kind in another namespace; in none, if the kind belongs to none.
    pub(crate) fn api_in(&self, namespace: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if OF_CLUSTERS.contains(&kind) {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    pub(crate) async fn apply(&self, object: &Value) {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or(self.namespace);
        let api = self.api_in(namespace, &text(&object["apiVersion"]), &text(&object["kind"]));
        let how = PatchParams::apply("test").force();
        api.patch(&text(&object["metadata"]["name"]), &how, &Patch::Apply(object)).await.unwrap();
    }

    /// Applies all objects of a manifest.
    pub(crate) async fn apply_all(&self, manifest: &str) {
        for object in serde_saphyr::from_multiple::<Value>(manifest).unwrap() {
            self.apply(&object).await;
        }
    }

    /// The addresses of the pods with these labels.
    pub(crate) async fn hosts(&self, labels: &str) -> Vec<String> {
        let pods = self.api("v1", "Pod").list(&ListParams::default().labels(labels)).await.unwrap();
        pods.iter().filter_map(|pod| pod.data["status"]["podIP"].as_str().map(str::to_owned)).collect()
    }

    pub(crate) async fn kill(&self, pod: &str) {
        self.pods.kill_pod(self.namespace, pod).await.unwrap();
    }
}

/// A file of this repository.
pub(crate) fn manifest(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Whether a pod's probe succeeds.
pub(crate) async fn probe(host: &str, path: &str) -> bool {
    let answer = try_get(&format!("{host}:7119"), path).await;
    answer.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200 "))
}
