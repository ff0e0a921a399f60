//! The double of the API server with the operator's kinds, and a stand-in for the StatefulSet controller and the machines: every pod is a
//! scripted node at an address of its own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::USER_AGENT;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};
use wattle_api_server::{AnsweredRequest, ApiServer, Settings as ServerSettings};
use wattle_operator::{Images, Operator, Ports, Settings, StartError};

use crate::node::Node;
use crate::script::{Grid as GridScript, Script};

/// Longer than anything here takes that works.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const TICK: Duration = Duration::from_millis(20);
/// Pods with it never come up.
pub(crate) const BAD_VERSION: &str = "bad";

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
    pub(crate) script: Script,
    pub(crate) ports: Ports,
    controller: JoinHandle<()>,
    operators: Vec<JoinHandle<()>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.controller.abort();
        self.operators.iter().for_each(JoinHandle::abort);
    }
}

impl Cluster {
    /// With an operator that may do everything.
    pub(crate) async fn start() -> Self {
        let mut cluster = Self::without_operator().await;
        cluster.operate(cluster.client.clone(), "operator", Duration::from_secs(15));
        cluster
    }

    pub(crate) async fn without_operator() -> Self {
        // kubectl sends no tokens without TLS. Some clusters ask for rights behind owner references.
        let settings = ServerSettings {
            anonymous_is_admin: true,
            owner_references_enforced: true,
            ..ServerSettings::default()
        };
        let server = ApiServer::start(settings).await.unwrap();
        let client = client(&server, server.admin_token()).await;
        install_kinds(&client).await;
        let (machines, ports) = Machines::new().await;
        let script = GridScript::new(ports.api);
        let controller = tokio::spawn(machines.run(client.clone(), ports, script.clone()));
        Self { server, client, script, ports, controller, operators: Vec::new() }
    }

    /// Starts an operator, which starts again if it ends, as a pod does; returns its number.
    pub(crate) fn operate(&mut self, client: Client, identity: &str, lease_duration: Duration) -> usize {
        let settings = Settings {
            namespaces: vec!["default".to_owned()],
            lease_namespace: Some("default".to_owned()),
            identity: identity.to_owned(),
            lease_duration,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            images: Images::parse("wattle:0.1.0", ""),
            ports: self.ports,
        };
        let operator = Operator::new(client, settings);
        self.operators.push(tokio::spawn(async move {
            loop {
                let ended = operator.clone().run(std::future::pending()).await;
                assert!(matches!(ended, Err(StartError::LeadershipLost)), "{ended:?}");
            }
        }));
        self.operators.len() - 1
    }

    /// As the machine does it on which an operator runs that is gone.
    pub(crate) fn kill(&mut self, operator: usize) {
        self.operators[operator].abort();
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn make<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        let mut object = object;
        object["apiVersion"] = json!(K::api_version(&()));
        object["kind"] = json!(K::kind(&()));
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let (api, patch) = (self.api::<K>(), Patch::Apply(object));
        api.patch(&name, &PatchParams::apply("test").force(), &patch).await.unwrap()
    }

    pub(crate) async fn change<K>(&self, name: &str, spec: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.api::<K>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until an object is as it should be.
    pub(crate) async fn until<K>(&self, name: &str, is_so: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        let started = Instant::now();
        let mut ticks = interval(TICK);
        loop {
            ticks.tick().await;
            let object = self.api::<K>().get_opt(name).await.unwrap();
            match object {
                Some(object) if is_so(&object) => return object,
                other => assert!(started.elapsed() < DEADLINE, "{name} stays {other:#?}"),
            }
        }
    }

    pub(crate) async fn until_gone<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        let started = Instant::now();
        let mut ticks = interval(TICK);
        while let Some(object) = self.api::<K>().get_opt(name).await.unwrap() {
            ticks.tick().await;
            assert!(started.elapsed() < DEADLINE, "{name} stays {object:#?}");
        }
    }

    /// How many of the requests that were answered are so.
    pub(crate) fn asked(&self, is_so: impl Fn(&AnsweredRequest) -> bool) -> usize {
        self.server.requests().iter().filter(|request| is_so(request)).count()
    }

    /// Waits until so many more such requests were answered than so far.
    pub(crate) async fn until_asked_again(&self, times: usize, is_so: impl Fn(&AnsweredRequest) -> bool) {
        let (started, before) = (Instant::now(), self.asked(&is_so));
        let mut ticks = interval(TICK);
        while self.asked(&is_so) < before + times {
            ticks.tick().await;
            assert!(started.elapsed() < DEADLINE, "{} of {times}", self.asked(&is_so) - before);
        }
    }

    /// What somebody asked for who may not.
    pub(crate) fn denied(&self) -> Vec<String> {
        let asked = self.server.requests();
        let denied = asked.iter().filter(|request| request.code == 403);
        denied.map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    /// Lets a service account do this where the grids are.
    pub(crate) async fn grant(&self, (namespace, account): (&str, &str), role: &str, rules: Value) {
        let metadata = json!({"name": role});
        self.make::<Role>(json!({"metadata": metadata, "rules": rules})).await;
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role});
        let account = json!({"kind": "ServiceAccount", "name": account, "namespace": namespace});
        self.make::<RoleBinding>(json!({"metadata": metadata, "roleRef": role, "subjects": [account]})).await;
    }

    pub(crate) async fn pods(&self) -> Vec<Pod> {
        self.api::<Pod>().list(&ListParams::default()).await.unwrap().items
    }
}

pub(crate) async fn client(server: &ApiServer, token: &str) -> Client {
    client_named(server, token, "test").await
}

/// With a name by which its requests are known.
pub(crate) async fn client_named(server: &ApiServer, token: &str, name: &'static str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(token)).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.headers.push((USER_AGENT, HeaderValue::from_static(name)));
    Client::try_from(config).unwrap()
}

pub(crate) async fn install_kinds(client: &Client) {
    let kinds = Api::all(client.clone());
    for definition in wattle_operator::api::definitions() {
        kinds.create(&PostParams::default(), &definition).await.unwrap();
    }
}

/// What of a condition people look at: its status and its reason.
pub(crate) fn condition<'a>(
    conditions: &'a [k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    kind: &str,
) -> (&'a str, &'a str, &'a str) {
    let found = conditions.iter().find(|condition| condition.type_ == kind);
    found.map_or(("", "", ""), |one| (one.status.as_str(), one.reason.as_str(), one.message.as_str()))
}

/// Where pods run.
struct Machines {
    network: [u8; 2],
    nodes: HashMap<String, Node>,
    /// With how many others a node founds a grid: it has read that when it started.
    expects: HashMap<String, usize>,
    joined: HashSet<String>,
    addresses: BTreeMap<String, IpAddr>,
}

impl Machines {
    /// A part of the loopback network, and two ports that are free in it.
    async fn new() -> (Self, Ports) {
        let mut network = [0_u8; 2];
        getrandom::fill(&mut network).unwrap();
        let network = [64 + network[0] % 128, network[1]];
        let first = Ipv4Addr::new(127, network[0], network[1], 1);
        let api = TcpListener::bind((first, 0)).await.unwrap();
        let http = TcpListener::bind((first, 0)).await.unwrap();
        let ports = Ports { api: api.local_addr().unwrap().port(), http: http.local_addr().unwrap().port() };
        let machines = Self {
            network,
            nodes: HashMap::new(),
            expects: HashMap::new(),
            joined: HashSet::new(),
            addresses: BTreeMap::new(),
        };
        (machines, ports)
    }

    async fn run(mut self, client: Client, ports: Ports, script: Script) {
        let mut ticks = interval(TICK);
        loop {
            ticks.tick().await;
            self.stop_deleted(&client, &script).await;
            let sets: Api<StatefulSet> = Api::namespaced(client.clone(), "default");
            for set in sets.list(&ListParams::default()).await.unwrap() {
                self.keep_set(&client, &set, ports, &script).await;
            }
        }
    }

    /// Pods that were told to stop hand over and end; so do those whose set is gone.
    async fn stop_deleted(&mut self, client: &Client, script: &Script) {
        let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
        let there = pods.list(&ListParams::default()).await.unwrap().items;
        for pod in there.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()) {
            self.stop(&pod.name_any(), script);
            let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
            if let Err(error) = pods.delete(&pod.name_any(), &now).await {
                assert!(matches!(&error, kube::Error::Api(status) if status.code == 404), "{error}");
            }
        }
    }

    fn stop(&mut self, pod: &str, script: &Script) {
        if let Some(address) = self.addresses.get(pod) {
            script.lock().leave(*address);
        }
        self.nodes.remove(pod);
        self.joined.remove(pod);
    }

    async fn keep_set(&mut self, client: &Client, set: &StatefulSet, ports: Ports, script: &Script) {
        let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
        let spec = set.spec.as_ref().unwrap();
        let replicas = spec.replicas.unwrap_or(1);
        let template = serde_json::to_vec(&spec.template).unwrap();
        let revision = format!("{}-{:02x?}", set.name_any(), &Sha256::digest(&template)[..4]);
        let revision = revision.replace([' ', ',', '[', ']'], "");
        let mut there = Vec::new();
        for ordinal in 0..replicas {
            let name = format!("{}-{ordinal}", set.name_any());
            match pods.get_opt(&name).await.unwrap() {
                None => self.make_pod(&pods, set, &name, &revision).await,
                Some(pod) if pod.metadata.deletion_timestamp.is_some() => {}
                Some(pod) => there.push(pod),
            }
        }
        for pod in &there {
            self.start(client, pod, ports, script).await;
        }
        let mut ready = 0;
        for pod in &there {
            ready += i32::from(self.keep_pod(&pods, pod, script).await);
        }
        let surplus = format!("{}-{replicas}", set.name_any());
        if pods.get_opt(&surplus).await.unwrap().is_some() {
            pods.delete(&surplus, &DeleteParams::default()).await.unwrap();
        }
        let status = json!({"status": {
            "observedGeneration": set.metadata.generation, "replicas": replicas, "readyReplicas": ready,
            "updateRevision": revision,
        }});
        let sets: Api<StatefulSet> = Api::namespaced(client.clone(), "default");
        if let Err(error) =
            sets.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await
        {
            assert!(matches!(&error, kube::Error::Api(status) if status.code == 404), "{error}");
        }
    }

    async fn make_pod(&mut self, pods: &Api<Pod>, set: &StatefulSet, name: &str, revision: &str) {
        let template = &set.spec.as_ref().unwrap().template;
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": template.metadata, "spec": template.spec,
        });
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["labels"]["controller-revision-hash"] = json!(revision);
        pod["metadata"]["ownerReferences"] = json!([set.controller_owner_ref(&()).unwrap()]);
        // Only pods that run somewhere take time to stop.
        pod["spec"]["nodeName"] = json!("machine");
        let pod = serde_json::from_value(pod).unwrap();
        if let Err(error) = pods.create(&PostParams::default(), &pod).await {
            assert!(matches!(&error, kube::Error::Api(status) if status.code == 409), "{error}");
        }
    }

    /// Where there is room for the pod, and its image is there.
    async fn start(&mut self, client: &Client, pod: &Pod, ports: Ports, script: &Script) {
        let name = pod.name_any();
        let room = script.lock().room.unwrap_or(usize::MAX);
        if self.nodes.contains_key(&name) || self.nodes.len() >= room || version(pod) == BAD_VERSION {
            return;
        }
        let count = self.addresses.len();
        let next = Ipv4Addr::new(127, self.network[0], self.network[1], u8::try_from(count + 2).unwrap());
        let address = *self.addresses.entry(name.clone()).or_insert(IpAddr::V4(next));
        self.nodes.insert(name.clone(), Node::start(address, ports, script).await);
        self.expects.insert(name, bootstrap_expect(client, pod).await);
    }

    /// Whether the pod is ready.
    async fn keep_pod(&mut self, pods: &Api<Pod>, pod: &Pod, script: &Script) -> bool {
        let name = pod.name_any();
        if !self.nodes.contains_key(&name) {
            let waiting = json!({"waiting": {"reason": "ImagePullBackOff"}});
            show(pods, &name, "", waiting, false).await;
            return false;
        }
        let address = self.addresses[&name];
        let may_join = script.lock().founded || self.nodes.len() >= self.expects[&name];
        if may_join && self.joined.insert(name.clone()) {
            script.lock().join(address, name.contains("arbiter"), &version(pod));
            found(pods, pod).await;
        }
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let ready = self.joined.contains(&name);
        show(pods, &name, &address.to_string(), running, ready).await;
        ready
    }
}

fn version(pod: &Pod) -> String {
    let image = pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap_or_default();
    image.rsplit(':').next().unwrap_or_default().to_owned()
}

/// As the pod's configuration says it now.
async fn bootstrap_expect(client: &Client, pod: &Pod) -> usize {
    let volumes = pod.spec.as_ref().unwrap().volumes.as_ref().unwrap();
    let config = volumes.iter().find(|volume| volume.name == "config").unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map = maps.get(&config.config_map.as_ref().unwrap().name).await.unwrap();
    let text = &map.data.unwrap()["config.toml"];
    let settings: toml::Table = toml::from_str(text).unwrap();
    usize::try_from(settings["bootstrap_expect"].as_integer().unwrap()).unwrap()
}

async fn show(pods: &Api<Pod>, name: &str, address: &str, state: Value, ready: bool) {
    let ready_text = if ready { "True" } else { "False" };
    let status = json!({"status": {
        "phase": if ready { "Running" } else { "Pending" },
        "podIP": (!address.is_empty()).then_some(address),
        "conditions": [{"type": "Ready", "status": ready_text}],
        "containerStatuses": [{
            "name": "wattle", "ready": ready, "state": state, "restartCount": 0, "image": "", "imageID": "",
        }],
    }});
    if let Err(error) = pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await {
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 404), "{error}");
    }
}

/// The first node makes the fence.
async fn found(pods: &Api<Pod>, pod: &Pod) {
    let grid = &pod.labels()["app.kubernetes.io/instance"];
    let maps: Api<ConfigMap> = Api::namespaced(pods.clone().into_client(), "default");
    let fence = json!({"metadata": {"name": format!("{grid}-nodes-grid")}, "data": {"grid": "ab"}});
    let fence = serde_json::from_value(fence).unwrap();
    if let Err(error) = maps.create(&PostParams::default(), &fence).await {
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 409), "{error}");
    }
}
