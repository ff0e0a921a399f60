//! The operator with the rights of `deploy/operator/operator.yaml` and no others.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event as CoreEvent, Secret};
use kube::api::{DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, Client};
use serde_json::{Value, json};
use wattle_operator::api::{Grid, GridFunction, GridMap};

use crate::cluster::{Cluster, client, condition};
use crate::monitoring::install_prometheus_operator;

const MANIFEST: &str = include_str!("../../../deploy/operator/operator.yaml");

fn objects() -> Vec<Value> {
    serde_saphyr::from_multiple(MANIFEST).unwrap()
}

async fn install(client: &Client) {
    for object in objects() {
        let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap_or(("", "v1"));
        let kind = object["kind"].as_str().unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let made: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        api.create(&PostParams::default(), &made).await.unwrap_or_else(|error| panic!("{object}: {error}"));
    }
}

async fn with_its_rights() -> Cluster {
    let mut cluster = Cluster::without_operator().await;
    install(&cluster.client).await;
    // The tests' operator has its Lease in the namespace of its grids.
    let rules = json!([
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]}]);
    cluster.grant(("wattle-system", "wattle-operator"), "lease", rules).await;
    let token = cluster.server.service_account_token("wattle-system", "wattle-operator", None);
    let operator = client(&cluster.server, &token).await;
    cluster.operate(operator, "operator", Duration::from_secs(15));
    cluster
}

#[tokio::test]
async fn the_rights_of_the_manifest_are_enough() {
    let cluster = with_its_rights().await;
    install_prometheus_operator(&cluster).await;
    let monitoring = json!({"serviceMonitor": {"enabled": true}});
    let spec = json!({"size": 2, "monitoring": monitoring});
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": spec})).await;
    cluster.make::<GridMap>(json!({"metadata": {"name": "m"}, "spec": {"grid": "g"}})).await;
    let source = json!({"configMap": {"name": "modules", "key": "k"}});
    cluster
        .make::<GridFunction>(json!({"metadata": {"name": "f"}, "spec": {"grid": "g", "source": source}}))
        .await;
    let is_ready = |conditions: &[_]| condition(conditions, "Ready").0 == "True";
    let grid_is = |size| {
        move |grid: &Grid| {
            let status = grid.status.clone().unwrap_or_default();
            let is_monitored = condition(&status.conditions, "Monitored").0 == "True";
            is_ready(&status.conditions) && status.size == size && is_monitored == (size == 2)
        }
    };
    cluster.until::<Grid>("g", grid_is(2)).await;
    let not = json!({"serviceMonitor": {"enabled": false}});
    cluster.change::<Grid>("g", json!({"size": 1, "version": "0.2.0", "monitoring": not})).await;
    cluster.until::<Grid>("g", grid_is(1)).await;
    cluster.until::<GridMap>("m", |map| is_ready(&map.status.clone().unwrap_or_default().conditions)).await;
    let is_told = |function: &GridFunction| {
        condition(&function.status.clone().unwrap_or_default().conditions, "Ready").1 == "SourceMissing"
    };
    cluster.until::<GridFunction>("f", is_told).await;
    cluster.api::<GridFunction>().delete("f", &DeleteParams::default()).await.unwrap();
    cluster.api::<GridMap>().delete("m", &DeleteParams::default()).await.unwrap();
    cluster.until_gone::<GridFunction>("f").await;
    cluster.until_gone::<GridMap>("m").await;
    cluster.api::<Grid>().delete("g", &DeleteParams::default()).await.unwrap();
    cluster.until_gone::<Grid>("g").await;
    assert_eq!(cluster.denied(), Vec::<String>::new());
    let events = cluster.api::<CoreEvent>().list(&ListParams::default()).await.unwrap();
    assert!(events.iter().any(|event| event.reason.as_deref() == Some("Founded")));
}

/// From now on it may do what the manifest says, changed so.
async fn change_rights(cluster: &Cluster, change: impl FnOnce(&mut Vec<Value>)) {
    let objects = objects();
    let role = objects.iter().find(|object| object["kind"] == "ClusterRole").unwrap();
    let mut rules = role["rules"].as_array().unwrap().clone();
    change(&mut rules);
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", "ClusterRole"));
    let roles: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
    let patch = Patch::Merge(json!({"rules": rules}));
    roles.patch("wattle-operator", &PatchParams::default(), &patch).await.unwrap();
}

fn is_about(rule: &Value, resource: &str) -> bool {
    rule["resources"].as_array().unwrap().contains(&json!(resource))
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_in_the_status() {
    let cluster = with_its_rights().await;
    change_rights(&cluster, |rules| rules.retain(|rule| !is_about(rule, "poddisruptionbudgets"))).await;
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": {"size": 1}})).await;
    let grid = cluster
        .until::<Grid>("g", |grid| {
            let status = grid.status.clone().unwrap_or_default();
            condition(&status.conditions, "Degraded").1 == "Forbidden"
        })
        .await;
    assert_eq!(
        grid.status.unwrap().message,
        "system:serviceaccount:wattle-system:wattle-operator may not get poddisruptionbudgets: a Role in namespace default (or \
         a ClusterRole) needs the rule {apiGroups: [\"policy\"], resources: [\"poddisruptionbudgets\"], verbs: [\"get\"]}"
    );
}

#[tokio::test]
async fn a_grid_goes_without_the_right_to_have_it_monitored() {
    let cluster = with_its_rights().await;
    install_prometheus_operator(&cluster).await;
    change_rights(&cluster, |rules| rules.retain(|rule| !is_about(rule, "servicemonitors"))).await;
    let spec = json!({"size": 1, "monitoring": {"serviceMonitor": {"enabled": true}}});
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": spec})).await;
    let is_told = |grid: &Grid| {
        let conditions = grid.status.clone().unwrap_or_default().conditions;
        condition(&conditions, "Ready").0 == "True" && condition(&conditions, "Monitored").1 == "Forbidden"
    };
    cluster.until::<Grid>("g", is_told).await;
    cluster.api::<Grid>().delete("g", &DeleteParams::default()).await.unwrap();
    cluster.until_gone::<Grid>("g").await;
    cluster.until_gone::<Secret>("g-secret").await;
}

/// Some of its objects may be gone already, which only a deletion in the foreground shows.
#[tokio::test]
async fn a_grid_that_was_let_go_goes_whatever_is_written_then() {
    let cluster = with_its_rights().await;
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": {"size": 1}})).await;
    let is_ready =
        |grid: &Grid| condition(&grid.status.clone().unwrap_or_default().conditions, "Ready").0 == "True";
    cluster.until::<Grid>("g", is_ready).await;
    // The secret is the last of its objects.
    change_rights(&cluster, |rules| {
        let rule = rules.iter_mut().find(|rule| is_about(rule, "secrets")).unwrap();
        rule["verbs"].as_array_mut().unwrap().retain(|verb| verb != "delete");
    })
    .await;
    cluster.api::<Grid>().delete("g", &DeleteParams::foreground()).await.unwrap();
    let is_stuck =
        |grid: &Grid| grid.status.clone().unwrap_or_default().message.contains("may not delete secrets");
    let stuck = cluster.until::<Grid>("g", is_stuck).await;
    assert!(stuck.status.unwrap().deletion_allowed);
    let flights = wattle_proto::v1::Map { name: "flights".into(), ..Default::default() };
    {
        let mut script = cluster.script.lock();
        script.maps.insert("flights".to_owned(), flights);
        script.entries.insert("flights".to_owned(), 842);
    }
    change_rights(&cluster, |_| {}).await;
    cluster.until_gone::<Grid>("g").await;
    cluster.until_gone::<Secret>("g-secret").await;
}
