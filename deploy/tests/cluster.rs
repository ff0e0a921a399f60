//! The chart before a Kubernetes API server: each rendering is taken, releases come and go, and pods may do what they have to.

use std::fmt::Debug;
use std::path::PathBuf;
use std::process::Output;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use wattle_api_server::{ApiServer, Settings};

use crate::helm::{Helm, VALUES, folder};
use crate::objects;

/// An API server, and whoever may do everything there.
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) folder: TempDir,
    client: Client,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let server = ApiServer::start(Settings { tls: true, ..Settings::default() }).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let client = client(&server, server.admin_token()).await;
        let cluster = Self { server, folder, client };
        cluster.server.write_kubeconfig(&cluster.kubeconfig()).unwrap();
        cluster
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Server-side apply; fields that are not known are refused.
    async fn apply(&self, object: &Value) -> kube::Result<DynamicObject> {
        let (group, version) = match objects::text(object, "/apiVersion").split_once('/') {
            Some(both) => both,
            None => ("", objects::text(object, "/apiVersion")),
        };
        let kind = GroupVersionKind::gvk(group, version, objects::text(object, "/kind"));
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = if kind.kind == "CustomResourceDefinition" {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), "default", &resource)
        };
        let name = objects::text(object, "/metadata/name");
        api.patch(name, &PatchParams::apply("test").validation_strict(), &Patch::Apply(object)).await
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// What helm does there.
    async fn helm(&self, helm: &Helm, arguments: &[&str]) -> Output {
        let mut command = helm.command(arguments);
        command.env("KUBECONFIG", self.kubeconfig());
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME"] {
            command.env(home, self.folder.path());
        }
        tokio::process::Command::from(command).kill_on_drop(true).output().await.unwrap()
    }

    async fn helm_succeeds(&self, helm: &Helm, arguments: &[&str]) -> String {
        let output = self.helm(helm, arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

async fn client(server: &ApiServer, token: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(token)).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn an_api_server_takes_everything_that_is_rendered() {
    let Some(helm) = Helm::find("cluster::an_api_server_takes_everything_that_is_rendered") else { return };
    for values in VALUES {
        let cluster = Cluster::start().await;
        let definition = objects::parse(include_str!("service_monitor.yaml"));
        cluster.apply(&definition[0]).await.unwrap();
        for object in helm.objects(values, &[]) {
            let taken = cluster.apply(&object).await;
            assert!(taken.is_ok(), "{values}: {}: {taken:?}", objects::name(&object));
        }
    }
}

#[tokio::test]
async fn an_api_server_refuses_a_field_that_it_does_not_know() {
    let Some(helm) = Helm::find("cluster::an_api_server_refuses_a_field_that_it_does_not_know") else {
        return;
    };
    let cluster = Cluster::start().await;
    let mut nodes = objects::find(&helm.objects("", &[]), "StatefulSet/demo").clone();
    nodes["spec"]["template"]["spec"]["containers"][0]["comand"] = json!(["wattle"]);
    let Err(kube::Error::Api(status)) = cluster.apply(&nodes).await else { panic!("it is taken") };
    assert!(status.message.contains("comand"), "{}", status.message);
}

#[tokio::test]
async fn a_release_keeps_its_secret_when_it_is_upgraded_and_goes_without_a_trace() {
    let test = "cluster::a_release_keeps_its_secret_when_it_is_upgraded_and_goes_without_a_trace";
    let Some(helm) = Helm::find(test) else { return };
    let cluster = Cluster::start().await;
    let notes = cluster.helm_succeeds(&helm, &["install", "flights", "chart"]).await;
    let expected = "kubectl --namespace default exec flights-0 -- wattle grid status";
    assert!(notes.contains(expected), "{notes}");
    let secret = || async { cluster.api::<Secret>().get("flights-secret").await.unwrap().data.unwrap() };
    let nodes = || async { cluster.api::<StatefulSet>().get("flights").await.unwrap().spec.unwrap() };
    let (secret_before, nodes_before) = (secret().await, nodes().await);
    assert!(secret_before["secret"].0.len() >= 16);

    let upgrade = ["upgrade", "flights", "chart", "--set", "replicas=5"];
    cluster.helm_succeeds(&helm, &upgrade).await;
    let nodes_after = nodes().await;
    assert_eq!(secret().await, secret_before);
    assert_eq!((nodes_before.replicas, nodes_after.replicas), (Some(3), Some(5)));
    assert_eq!(nodes_after.template, nodes_before.template);
    let config = cluster.api::<ConfigMap>().get("flights-config").await.unwrap().data.unwrap();
    assert!(config["config.toml"].contains("bootstrap_expect = 5"), "{config:?}");

    let refused = cluster.helm(&helm, &["upgrade", "flights", "chart", "--set", "replicas=0"]).await;
    assert!(!refused.status.success());
    assert_eq!(nodes().await.replicas, Some(5));

    cluster.helm_succeeds(&helm, &["uninstall", "flights"]).await;
    // What every cluster has is there still.
    assert_eq!(names::<StatefulSet>(&cluster).await, [""; 0]);
    assert_eq!(names::<Secret>(&cluster).await, [""; 0]);
    assert_eq!(names::<Service>(&cluster).await, ["kubernetes"]);
}

#[tokio::test]
async fn the_document_can_be_followed_as_it_is_written() {
    let Some(helm) = Helm::find("cluster::the_document_can_be_followed_as_it_is_written") else { return };
    let cluster = Cluster::start().await;
    let document = std::fs::read_to_string(folder().join("chart/README.md")).unwrap();
    // Its commands are for the root of the clone.
    let commands = document.lines().filter_map(|line| line.strip_prefix("helm "));
    let commands: Vec<String> = commands.map(|line| line.replace("deploy/chart", "chart")).collect();
    assert_eq!(commands.len(), 6, "{commands:?}");
    for command in commands {
        let arguments: Vec<&str> = command.split(' ').collect();
        cluster.helm_succeeds(&helm, &arguments).await;
    }
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    assert!(namespaces.get_opt("flights").await.unwrap().is_some());
    let sets: Api<StatefulSet> = Api::namespaced(cluster.client.clone(), "flights");
    assert_eq!(sets.list(&ListParams::default()).await.unwrap().items.len(), 0);
}

async fn names<K>(cluster: &Cluster) -> Vec<String>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let objects = cluster.api::<K>().list(&ListParams::default()).await.unwrap();
    objects.items.iter().map(kube::ResourceExt::name_any).collect()
}

#[tokio::test]
async fn pods_may_do_what_discovery_needs_and_nothing_else() {
    let Some(helm) = Helm::find("cluster::pods_may_do_what_discovery_needs_and_nothing_else") else { return };
    let cluster = Cluster::start().await;
    for object in helm.objects("", &[]) {
        cluster.apply(&object).await.unwrap();
    }
    let token = cluster.server.service_account_token("default", "demo", None);
    let pod = client(&cluster.server, &token).await;
    let slices: Api<EndpointSlice> = Api::namespaced(pod.clone(), "default");
    slices.list(&ListParams::default()).await.unwrap();
    let services: Api<Service> = Api::namespaced(pod.clone(), "default");
    services.get("demo-nodes").await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(pod.clone(), "default");
    let mut fence = ConfigMap::default();
    fence.metadata.name = Some("demo-nodes-grid".to_owned());
    maps.create(&PostParams::default(), &fence).await.unwrap();
    maps.get("demo-nodes-grid").await.unwrap();

    let pods: Api<Pod> = Api::namespaced(pod.clone(), "default");
    let secrets: Api<Secret> = Api::namespaced(pod, "default");
    refused(services.get("demo").await.map(drop));
    refused(maps.get("demo-config").await.map(drop));
    refused(maps.delete("demo-nodes-grid", &kube::api::DeleteParams::default()).await.map(drop));
    refused(pods.list(&ListParams::default()).await.map(drop));
    refused(secrets.get("demo-secret").await.map(drop));
}

fn refused(result: kube::Result<()>) {
    match result {
        Err(kube::Error::Api(status)) => assert_eq!(status.code, 403, "{status:?}"),
        other => panic!("no refusal: {other:?}"),
    }
}
