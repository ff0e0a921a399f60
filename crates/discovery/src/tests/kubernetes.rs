//! What an API server tells, by its double.

use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::time::timeout;
use wattle_api_server::{ApiServer, Break, Outage, Refusal, Settings};

use crate::{Claim, KubernetesService, LookupError};

const DEADLINE: Duration = Duration::from_secs(60);

async fn client(server: &ApiServer, token: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(token)).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// A cluster with the service of a grid.
struct Cluster {
    server: ApiServer,
    client: Client,
}

impl Cluster {
    async fn start() -> Self {
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

    /// Says anew who is in a slice of the service.
    async fn set(&self, slice: &str, pods: &[(&str, &str)]) {
        let endpoints: Vec<Value> =
            pods.iter().map(|(address, zone)| json!({"addresses": [address], "zone": zone})).collect();
        let slice_of = |service: &str| {
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": slice, "labels": {"kubernetes.io/service-name": service}},
                "ports": [{"name": "peers", "port": 7118}], "endpoints": endpoints})
        };
        let params = PatchParams::apply("test");
        self.slices().patch(slice, &params, &Patch::Apply(slice_of("nodes"))).await.unwrap();
    }

    async fn watched_by(&self, token: &str) -> KubernetesService {
        let client = client(&self.server, token).await;
        KubernetesService::watch_with(client, &"nodes".parse().unwrap(), 1, "default".to_owned()).unwrap()
    }

    async fn watched(&self) -> KubernetesService {
        self.watched_by(self.server.admin_token()).await
    }
}

/// Waits until the service is known to be at these hosts.
async fn is_at(service: &KubernetesService, hosts: &[&str]) {
    let places: Vec<String> = hosts.iter().map(|host| format!("{host}:7118")).collect();
    let seen = timeout(DEADLINE, service.knows(&places)).await;
    let known = service.addresses().await;
    seen.unwrap_or_else(|_| panic!("{known:?}, not {places:?}"));
}

#[tokio::test]
async fn pods_come_and_go_in_several_slices() {
    let cluster = Cluster::start().await;
    let nodes = cluster.watched().await;
    assert_eq!(nodes.addresses().await.unwrap(), Vec::<String>::new());
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    is_at(&nodes, &["10.0.0.1"]).await;
    cluster.set("b", &[("10.0.0.2", "east"), ("10.0.0.1", "west")]).await;
    is_at(&nodes, &["10.0.0.1", "10.0.0.2"]).await;
    assert_eq!(nodes.zone_of("10.0.0.2").await.as_deref(), Some("east"));
    cluster.slices().delete("a", &DeleteParams::default()).await.unwrap();
    cluster.set("b", &[("10.0.0.2", "east")]).await;
    is_at(&nodes, &["10.0.0.2"]).await;
    assert_eq!(cluster.watched().await.addresses().await.unwrap(), ["10.0.0.2:7118"]);
}

#[tokio::test]
async fn fifty_pods_change_places_and_all_are_followed() {
    let cluster = Cluster::start().await;
    let nodes = cluster.watched().await;
    let hosts: Vec<String> = (1..=50).map(|number| format!("10.0.1.{number}")).collect();
    for round in 0..50 {
        // Each time another part of them is there, some in two slices.
        let there = |slice: usize| -> Vec<(&str, &str)> {
            let hosts = hosts.iter().enumerate();
            hosts
                .filter(|(at, _)| (at + round) % 7 % 3 == slice || (at * round) % 5 == 0)
                .map(|(_, h)| (h.as_str(), "z"))
                .collect()
        };
        for slice in 0..2 {
            cluster.set(&format!("s{slice}"), &there(slice)).await;
        }
        if round % 10 == 3 {
            cluster.server.faults().break_watches(Break::MidLine);
            cluster.server.faults().expire_next_watches(1);
        }
    }
    cluster.set("s0", &[("10.0.1.7", "z")]).await;
    cluster.set("s1", &[("10.0.1.9", "z"), ("10.0.1.7", "z")]).await;
    is_at(&nodes, &["10.0.1.7", "10.0.1.9"]).await;
}

#[tokio::test]
async fn what_was_told_holds_during_an_outage_and_changes_are_heard_of_afterwards() {
    let cluster = Cluster::start().await;
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    let nodes = cluster.watched().await;
    is_at(&nodes, &["10.0.0.1"]).await;
    cluster.server.faults().start_outage(Outage::Refused);
    assert_eq!(nodes.addresses().await.unwrap(), ["10.0.0.1:7118"]);
    let newcomer = cluster.watched().await;
    let error = newcomer.addresses().await.unwrap_err();
    assert!(matches!(error, LookupError::NoApiServer { .. }), "{error:?}");
    assert!(matches!(newcomer.claim("one").await, Err(LookupError::NoApiServer { .. })));
    cluster.server.faults().end_outage();
    // History from before is forgotten: 410.
    cluster.set("a", &[("10.0.0.2", "west")]).await;
    cluster.server.compact();
    is_at(&nodes, &["10.0.0.2"]).await;
    is_at(&newcomer, &["10.0.0.2"]).await;
}

#[tokio::test]
async fn watches_that_break_are_resumed() {
    let cluster = Cluster::start().await;
    let nodes = cluster.watched().await;
    for (number, how) in [Break::Close, Break::MidLine].into_iter().enumerate() {
        let host = format!("10.0.0.{number}");
        cluster.set("a", &[(&host, "west")]).await;
        is_at(&nodes, &[&host]).await;
        cluster.server.faults().break_watches(how);
        cluster.set("a", &[("10.0.9.9", "west")]).await;
        is_at(&nodes, &["10.0.9.9"]).await;
    }
}

/// Tokens of pods are replaced in their file before they are over; a client reads it again within a minute.
#[tokio::test]
async fn a_token_that_was_replaced_is_read_again() {
    let cluster = Cluster::start().await;
    let role = json!({"metadata": {"name": "node"}, "rules": [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}]});
    let binding = json!({"metadata": {"name": "node"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "node"},
        "subjects": [{"kind": "ServiceAccount", "name": "node", "namespace": "default"}]});
    let roles: Api<Role> = Api::default_namespaced(cluster.client.clone());
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let bindings: Api<RoleBinding> = Api::default_namespaced(cluster.client.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();

    let [before, after] = [(); 2].map(|()| cluster.server.service_account_token("default", "node", None));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, &before).unwrap();
    let mut kubeconfig = Kubeconfig::from_yaml(&cluster.server.kubeconfig(&before)).unwrap();
    let login = kubeconfig.auth_infos[0].auth_info.as_mut().unwrap();
    (login.token, login.token_file) = (None, Some(file.to_str().unwrap().to_owned()));
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let service = "nodes".parse().unwrap();
    let nodes = KubernetesService::watch_with(client, &service, 1, "default".to_owned()).unwrap();
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    is_at(&nodes, &["10.0.0.1"]).await;

    std::fs::write(&file, &after).unwrap();
    cluster.server.revoke(&before);
    cluster.server.faults().break_watches(Break::Close);
    cluster.set("a", &[("10.0.0.2", "west")]).await;
    let heard = timeout(DEADLINE * 2, nodes.knows(&["10.0.0.2:7118".to_owned()])).await;
    heard.expect("it asks with the token that is in the file by now");
}

#[tokio::test]
async fn who_may_not_look_says_which_right_is_missing() {
    let cluster = Cluster::start().await;
    let token = cluster.server.service_account_token("default", "node", None);
    let nodes = cluster.watched_by(&token).await;
    let said = nodes.addresses().await.unwrap_err().to_string();
    let expected = "this node cannot list and watch endpointslices.discovery.k8s.io in namespace default: a Role that \
        allows it must be bound to the pod's service account";
    assert_eq!(said, expected);
    let said = nodes.claim("one").await.unwrap_err().to_string();
    assert!(said.contains("get services in namespace default: a Role"), "{said}");
    cluster.server.faults().refuse_all(Refusal::Unavailable);
    let busy = cluster.watched().await.addresses().await.unwrap_err().to_string();
    assert!(busy.ends_with("in namespace default"), "{busy}");
}

#[tokio::test]
async fn one_of_many_claims_the_grid() {
    let cluster = Cluster::start().await;
    let services: Vec<KubernetesService> = join_all((0..8).map(|_| cluster.watched())).await;
    let claims = services.iter().enumerate();
    let claims = join_all(claims.map(async |(number, service)| {
        let grid = number.to_string();
        (grid.clone(), service.claim(&grid).await.unwrap())
    }));
    let (own, others): (Vec<_>, Vec<_>) =
        claims.await.into_iter().partition(|(_, claim)| *claim == Claim::Own);
    let [(winner, _)] = own.as_slice() else { panic!("{own:?}") };
    assert_eq!(others.len(), 7);
    let expected = Claim::Other { config_map: "default/nodes-grid".to_owned(), grid: winner.clone() };
    assert!(others.iter().all(|(_, claim)| *claim == expected), "{others:?}");
    assert_eq!(services[0].claim(winner).await.unwrap(), Claim::Own, "an answer may be lost");
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let owners = maps.get("nodes-grid").await.unwrap().metadata.owner_references.unwrap();
    assert_eq!((owners[0].kind.as_str(), owners[0].name.as_str()), ("Service", "nodes"));
    maps.delete("nodes-grid", &DeleteParams::default()).await.unwrap();
    assert_eq!(services[0].claim("another").await.unwrap(), Claim::Own);
}

#[tokio::test]
async fn a_service_has_one_label() {
    let cluster = Cluster::start().await;
    let watch = |name: &str| {
        KubernetesService::watch_with(cluster.client.clone(), &name.parse().unwrap(), 1, "default".to_owned())
    };
    assert!(watch("nodes.default.svc").is_err());
    assert!(watch("nodes:7000").is_ok());
}
