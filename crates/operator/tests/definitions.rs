//! The kinds: in the repository as in the code, and what the API server refuses of them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use serde_json::{Value, json};
use wattle_operator::api::{Grid, GridFunction, GridMap};
use wattle_operator::definitions_as_yaml;

use crate::cluster::Cluster;

const EXAMPLE: &str = include_str!("../../../deploy/operator/example.yaml");
const GUIDE: &str = include_str!("../../../docs/kubernetes.md");
const IN_THE_REPOSITORY: &str = include_str!("../../../deploy/operator/crds.yaml");

#[test]
fn the_definitions_in_the_repository_are_those_of_the_types() {
    let made = definitions_as_yaml().unwrap();
    assert!(made == IN_THE_REPOSITORY, "run `wattle operator crds > deploy/operator/crds.yaml`");
}

#[test]
fn the_yaml_is_what_the_types_say() {
    let made = definitions_as_yaml().unwrap();
    let read: Vec<CustomResourceDefinition> = serde_saphyr::from_multiple(&made).unwrap();
    assert_eq!(json!(read), json!(wattle_operator::api::definitions()));
}

/// A choice that may be left out is nullable; `kubectl explain` would list `null` as a value without a name.
#[test]
fn no_choice_lists_null() {
    fn check(schema: &Value) {
        let inner = match schema {
            Value::Object(fields) => fields.values().collect(),
            Value::Array(items) => items.iter().collect(),
            _ => Vec::new(),
        };
        let choices = schema.get("enum").and_then(Value::as_array);
        assert!(choices.is_none_or(|choices| !choices.contains(&Value::Null)), "{schema}");
        inner.into_iter().for_each(check);
    }
    check(&json!(wattle_operator::api::definitions()));
}

/// The YAML blocks of a page.
fn yaml_of(page: &str) -> String {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.collect::<Vec<_>>().join("---\n")
}

#[tokio::test]
async fn examples_are_taken_as_they_are() {
    let cluster = Cluster::without_operator().await;
    let guide = yaml_of(GUIDE);
    let objects_of = |text: &str| serde_saphyr::from_multiple::<Value>(text).unwrap();
    let (example, guide) = (objects_of(EXAMPLE), objects_of(&guide));
    assert_eq!((example.len(), guide.len()), (3, 1));
    for object in example.into_iter().chain(guide) {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        assert_eq!(refusal(&cluster, kind, name, object["spec"].clone()).await, "");
        let spec = object["spec"].clone();
        // Server-side apply knows no field that the schema does not.
        match kind {
            "Grid" => drop(cluster.make::<Grid>(json!({"metadata": {"name": name}, "spec": spec})).await),
            "GridMap" => {
                drop(cluster.make::<GridMap>(json!({"metadata": {"name": name}, "spec": spec})).await)
            }
            _ => drop(cluster.make::<GridFunction>(json!({"metadata": {"name": name}, "spec": spec})).await),
        }
    }
}

async fn refusal(cluster: &Cluster, kind: &str, name: &str, spec: Value) -> String {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("wattle.dev", "v1alpha1", kind));
    let objects: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), "default", &resource);
    let object = json!({
        "apiVersion": "wattle.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    let object = serde_json::from_value(object).unwrap();
    match objects.create(&PostParams { dry_run: true, ..PostParams::default() }, &object).await {
        Ok(_) => String::new(),
        Err(kube::Error::Api(status)) => status.message,
        Err(error) => panic!("{error}"),
    }
}

/// Objects, and what is said of them; nothing of those that are taken.
async fn check(kind: &str, cases: &[(&str, Value, &str)]) {
    let cluster = Cluster::without_operator().await;
    for (name, spec, expected) in cases {
        let said = refusal(&cluster, kind, name, spec.clone()).await;
        assert!(
            said.contains(expected) && said.is_empty() == expected.is_empty(),
            "{kind} {name} {spec}: {said:?}"
        );
    }
}

#[tokio::test]
async fn a_grid_that_cannot_be_meant_is_refused_when_it_is_applied() {
    let long = "g".repeat(46);
    let gold = json!({"name": "gold", "backups": 3});
    let silver = json!({"name": "silver", "backups": 2, "minInSync": 1});
    check(
        "Grid",
        &[
            ("g", json!({"size": 3}), ""),
            ("g", json!({"size": 1, "imagePullPolicy": null}), ""),
            ("g", json!({"size": 1, "imagePullPolicy": "Often"}), "supported values: \"Always\""),
            ("g", json!({"size": 0}), "greater than or equal to 1"),
            ("g", json!({}), "spec.size: Required value"),
            ("g", json!({"size": 1, "version": "1", "image": "a"}), "give version or image, not both"),
            ("g-nodes", json!({"size": 1}), "may not end with -nodes"),
            ("1g", json!({"size": 1}), "must be one of a service"),
            (&long, json!({"size": 1}), "may have 44 characters"),
            (
                "g",
                json!({"size": 1, "upgrade": {"strategy": "Sometimes"}}),
                "Unsupported value: \"Sometimes\"",
            ),
            ("g", json!({"size": 1, "storage": {"size": "much"}}), "spec.storage.size"),
            ("g", json!({"size": 1, "classes": [gold, silver]}), ""),
            ("g", json!({"size": 1, "classes": [gold, gold]}), "Duplicate value"),
            ("g", json!({"size": 1, "classes": [gold, gold, gold, gold, gold]}), "must have at most 4 items"),
            ("g", json!({"size": 1, "classes": [{"name": "durable", "backups": 1}]}), "give another name"),
            (
                "g",
                json!({"size": 1, "classes": [{"name": "a", "backups": 1, "minInSync": 3}]}),
                "at most backups + 1",
            ),
            ("g", json!({"size": 1, "classes": [{"name": "a", "backups": 7}]}), "less than or equal to 6"),
            ("g", json!({"size": 1, "monitoring": {"serviceMonitor": {"interval": "1m30s"}}}), ""),
            (
                "g",
                json!({"size": 1, "monitoring": {"serviceMonitor": {"interval": "often"}}}),
                "serviceMonitor.interval",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_map_that_cannot_be_meant_is_refused_when_it_is_applied() {
    check(
        "GridMap",
        &[
            ("m", json!({"grid": "g"}), ""),
            ("m", json!({"grid": "g", "class": "gold"}), ""),
            (
                "m",
                json!({"grid": "g", "class": "gold", "backups": 1}),
                "give class, or backups and minInSync",
            ),
            (
                "m",
                json!({"grid": "g", "class": "gold", "minInSync": 1}),
                "give class, or backups and minInSync",
            ),
            ("m", json!({"grid": "g", "backups": 2, "minInSync": 3}), ""),
            ("m", json!({"grid": "g", "ttl": "soon"}), "spec.ttl"),
            ("m", json!({"grid": "g", "minInSync": 3}), "may be at most backups + 1"),
            ("m", json!({"grid": "g", "eviction": "Lru"}), "eviction needs maxBytes"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_function_that_cannot_be_meant_is_refused_when_it_is_applied() {
    let map = json!({"configMap": {"name": "a", "key": "b"}});
    let url = json!({"url": {"address": "https://example.com/a.wasm"}});
    check(
        "GridFunction",
        &[
            ("f", json!({"grid": "g", "source": map}), ""),
            ("f", json!({"grid": "g", "source": {}}), "give exactly one source"),
            ("f", json!({"grid": "g", "source": url}), "sha256 is required with source.url"),
            ("f", json!({"grid": "g", "source": map, "sha256": "A".repeat(64)}), "spec.sha256"),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_fixed_cannot_be_changed() {
    let cluster = Cluster::without_operator().await;
    let spec = json!({"size": 1, "storage": {"size": "1Gi"}, "settings": {"partitions": 7}});
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": spec})).await;
    let source = json!({"configMap": {"name": "a", "key": "b"}});
    cluster
        .make::<GridFunction>(json!({"metadata": {"name": "f"}, "spec": {"grid": "g", "source": source}}))
        .await;
    async fn refused<K>(api: Api<K>, name: &str, spec: &Value) -> String
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await;
        match patched {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }
    for (spec, expected) in [
        (json!({"size": 5, "settings": {"memoryBytes": 2_000_000}}), ""),
        (json!({"storage": {"size": "2Gi"}}), "storage cannot change"),
        (json!({"storage": null}), "storage cannot change"),
        (json!({"settings": {"partitions": 8}}), "partitions cannot change"),
        (json!({"settings": null}), "partitions cannot change"),
        (json!({"secret": "own"}), "secret cannot change"),
    ] {
        let said = refused(cluster.api::<Grid>(), "g", &spec).await;
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{spec}: {said:?}");
    }
    let said = refused(cluster.api::<GridFunction>(), "f", &json!({"grid": "h"})).await;
    assert!(said.contains("grid cannot change"), "{said}");
}
