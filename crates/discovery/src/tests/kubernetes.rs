//! Who may ask the API server, and what it says then.

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::config::Kubeconfig;
use serde_json::json;
use wattle_api_server::{Break, Refusal};

use crate::kubernetes::Patience;
use crate::{Claim, KubernetesService};

use super::cluster::{Cluster, is_at, of_kubeconfig, watch};

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
    let nodes = watch(of_kubeconfig(kubeconfig).await, "nodes");
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    is_at(&nodes, &["10.0.0.1"]).await;

    std::fs::write(&file, &after).unwrap();
    cluster.server.revoke(&before);
    cluster.server.faults().break_watches(Break::Close);
    cluster.set("a", &[("10.0.0.2", "west")]).await;
    // It asks with the token that is in the file by now.
    is_at(&nodes, &["10.0.0.2"]).await;
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
        let (client, name) = (cluster.client.clone(), name.parse().unwrap());
        KubernetesService::watch_with(client, &name, 1, "default".to_owned(), Patience::default())
    };
    assert!(watch("nodes.default.svc").is_err());
    assert!(watch("nodes:7000").is_ok());
}
