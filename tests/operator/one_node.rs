//! Maps and functions on a node of the test.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Config};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;
use wattle_api_server::{ApiServer, Settings as ServerSettings};
use wattle_client::ContentType;
use wattle_operator::{Images, Operator, Ports, Settings};

use crate::harness::TestNode;
use crate::harness::examples::example;
use crate::harness::wire::eventually;

struct Cluster {
    client: kube::Client,
    node: TestNode,
    operator: JoinHandle<()>,
    _server: ApiServer,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.operator.abort();
    }
}

impl Cluster {
    /// A Grid whose pod is a node of this test.
    async fn start() -> Self {
        let server = ApiServer::start(ServerSettings::default()).await.unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(server.admin_token())).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let kinds = Api::all(client.clone());
        for definition in wattle_operator::api::definitions() {
            kinds.create(&PostParams::default(), &definition).await.unwrap();
        }
        let node = TestNode::start();
        let address: SocketAddr = node.http_address().parse().unwrap();
        let settings = Settings {
            namespaces: vec!["default".to_owned()],
            own_namespace: None,
            identity: "operator".to_owned(),
            lease_duration: Duration::from_secs(15),
            listen: "127.0.0.1:0".parse().unwrap(),
            images: Images::parse("wattle", "0.1.0"),
            ports: Ports { api: address.port(), http: address.port() },
        };
        let operator = Operator::new(client.clone(), settings);
        let operator = tokio::spawn(async move { operator.run(std::future::pending()).await.unwrap() });
        let cluster = Self { client, node, operator, _server: server };
        cluster.apply("Grid", "g", &json!({"size": 1})).await;
        cluster.start_pod().await;
        cluster
    }

    async fn start_pod(&self) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        let labels = json!({
            "app.kubernetes.io/name": "wattle", "app.kubernetes.io/instance": "g", "wattle.dev/member": "true",
        });
        let pod = json!({
            "metadata": {"name": "g-0", "labels": labels},
            "spec": {"containers": [{"name": "wattle", "image": "wattle"}]},
        });
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        let status = json!({"status": {
            "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}],
        }});
        pods.patch_status("g-0", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("wattle.dev", "v1alpha1", kind));
        Api::namespaced_with(self.client.clone(), "default", &resource)
    }

    async fn apply(&self, kind: &str, name: &str, spec: &Value) {
        let object = json!({"apiVersion": "wattle.dev/v1alpha1", "kind": kind, "spec": spec});
        self.api(kind).patch(name, &PatchParams::apply("test"), &Patch::Apply(object)).await.unwrap();
    }

    /// The status of an object, and the message of its condition Ready, when that has this reason.
    async fn told(&self, kind: &str, name: &str, reason: &str) -> (Value, String) {
        eventually(|| async {
            let object = self.api(kind).get(name).await.unwrap();
            let status = object.data["status"].clone();
            let ready = status["conditions"].as_array()?.iter().find(|one| one["type"] == "Ready")?.clone();
            let is_new = status["observedGeneration"] == json!(object.metadata.generation);
            let message = ready["message"].as_str()?.to_owned();
            (is_new && ready["reason"] == reason).then_some((status, message))
        })
        .await
    }
}

fn digest(module: &[u8]) -> String {
    Sha256::digest(module).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_makes_maps_and_replaces_functions_of_a_real_node() {
    let cluster = Cluster::start().await;
    let spec = json!({"grid": "g", "contentType": "Json", "ttl": "1h", "backups": 2});
    cluster.apply("GridMap", "counts", &spec).await;
    cluster.told("GridMap", "counts", "AsSpecified").await;
    let client = cluster.node.client().await;
    let map = || async { client.maps().list().await.unwrap().into_iter().find(|map| map.name == "counts") };
    let options = map().await.unwrap().options.unwrap();
    assert_eq!((options.content_type(), options.ttl.unwrap().seconds), (ContentType::Json, 3600));
    cluster.apply("GridMap", "counts", &json!({"grid": "g", "contentType": "Json", "backups": 2})).await;
    eventually(|| async { map().await.filter(|map| map.revision > 1) }).await;
    cluster.told("GridMap", "counts", "AsSpecified").await;

    let (first, second) = (example("flight-delay"), example("flight-delay-v2"));
    let modules = [("first", first.to_vec()), ("second", second.to_vec()), ("text", b"no module".to_vec())];
    let modules = modules.map(|(key, module)| (key.to_owned(), ByteString(module)));
    let metadata = ObjectMeta { name: Some("modules".to_owned()), ..ObjectMeta::default() };
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "default");
    let modules = ConfigMap { metadata, binary_data: Some(modules.into()), ..ConfigMap::default() };
    maps.create(&PostParams::default(), &modules).await.unwrap();
    let function = |key: &str, sha256: Option<String>| {
        let source = json!({"configMap": {"name": "modules", "key": key}});
        match sha256 {
            Some(sha256) => json!({"grid": "g", "source": source, "sha256": sha256}),
            None => json!({"grid": "g", "source": source}),
        }
    };
    cluster.apply("GridFunction", "delay", &function("first", None)).await;
    let (status, _) = cluster.told("GridFunction", "delay", "Loaded").await;
    assert_eq!((&status["digest"], &status["loaded"]), (&json!(digest(&first)), &json!("1/1")));
    cluster.apply("GridFunction", "delay", &function("second", Some(digest(&second)))).await;
    let (status, _) = cluster.told("GridFunction", "delay", "Loaded").await;
    assert_eq!((&status["version"], &status["digest"]), (&json!(2), &json!(digest(&second))));
    cluster.apply("GridFunction", "delay", &function("text", None)).await;
    let (_, message) = cluster.told("GridFunction", "delay", "ModuleRefused").await;
    assert!(message.contains("WebAssembly"), "{message}");
    let (delay, _) = client.functions().describe("delay").await.unwrap();
    assert_eq!(delay.active, 2, "what cannot run replaces nothing");
    cluster.apply("GridFunction", "delay", &function("first", Some(digest(&first)))).await;
    let (status, _) = cluster.told("GridFunction", "delay", "Loaded").await;
    assert_eq!((&status["version"], &status["digest"]), (&json!(1), &json!(digest(&first))));
}
