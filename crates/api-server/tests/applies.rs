//! Server-side apply: what it refuses, and whom it names.

use serde_json::{Value, json};

use crate::raw::{APPLY, Answer, JSON_PATCH, MAPS, MERGE, get, patch, post, put};
use crate::server::{admin, cluster_api, start};
use kube::Client;
use kube::api::PostParams;

async fn apply(client: &Client, query: &str, config: Value) -> Answer {
    patch(client, &format!("{MAPS}/a?{query}"), APPLY, config).await
}

#[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": data})
}

#[tokio::test]
async fn a_configuration_says_of_which_version_it_is() {
    let server = start().await;
    let client = admin(&server).await;
    let mut config = map(json!({"a": "1"}));
    config["apiVersion"] = json!("v2");
    apply(&client, "fieldManager=m", config.clone()).await.refused_with(
        400,
        "Incorrect version specified in apply patch. Specified patch version: v2, expected: v1",
    );
    config.as_object_mut().unwrap().remove("apiVersion");
    apply(&client, "fieldManager=m", config).await.refused_with(
        400,
        "Incorrect version specified in apply patch. Specified patch version: , expected: v1",
    );
    let kindless = json!({"apiVersion": "v1", "metadata": {"name": "a"}});
    apply(&client, "fieldManager=m", kindless).await.refused_with(
        500,
        "failed to create typed patch object (/a; /v1, Kind=): no corresponding type for /v1, Kind=",
    );
}

#[tokio::test]
async fn a_configuration_fits_its_type() {
    let server = start().await;
    let client = admin(&server).await;
    let check = async |config: Value, path: &str, named: &str, expected: &str| {
        let answer = patch(&client, &format!("{path}?fieldManager=m"), APPLY, config).await;
        answer.refused_with(500, &format!("failed to create typed patch object ({named}): {expected}"));
    };
    let of_map = "default/a; /v1, Kind=ConfigMap";
    let path = &format!("{MAPS}/a");
    let number = ".data.a: expected string, got &value.valueUnstructured{Value:1}";
    check(map(json!({"a": 1})), path, of_map, number).await;
    check(map(json!(["a"])), path, of_map, ".data: expected map, got &{[a]}").await;
    let mut unknown = map(json!({}));
    unknown["foo"] = json!(1);
    check(unknown, path, of_map, ".foo: field not declared in schema").await;
    let mut label = map(json!({}));
    label["metadata"]["labels"] = json!({"a": true});
    let expected = ".metadata.labels.a: expected string, got &value.valueUnstructured{Value:true}";
    check(label, path, of_map, expected).await;

    let set = |spec: Value| {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"},
            "spec": {"replicas": "3", "template": {"spec": spec}}})
    };
    let path = "/apis/apps/v1/namespaces/default/statefulsets/web";
    let of_set = "/web; apps/v1, Kind=StatefulSet";
    let containers =
        json!({"hostPID": "no", "containers": [{"name": "c", "image": "i", "foo": 1, "args": {"a": 1}}]});
    let expected = "errors:\n  .spec.replicas: expected numeric (int or float), got string\n  \
        .spec.template.spec.containers[name=\"c\"].args: expected list, got &{map[a:1]}\n  \
        .spec.template.spec.containers[name=\"c\"].foo: field not declared in schema\n  \
        .spec.template.spec.hostPID: expected boolean, got &{no}";
    check(set(containers), path, of_set, expected).await;
    let mut twice = set(json!({"containers": [{"name": "c"}, {"name": "c"}]}));
    twice["spec"]["replicas"] = json!(3);
    let expected = ".spec.template.spec.containers: duplicate entries for key [name=\"c\"]";
    check(twice, path, of_set, expected).await;
    let mut nameless = set(json!({"containers": [{"image": "i"}]}));
    nameless["spec"]["replicas"] = json!(3);
    let expected = ".spec.template.spec.containers: element 0: associative list with keys has an element that omits key \
        field \"name\" (and doesn't have default value)";
    check(nameless, path, of_set, expected).await;
}

#[tokio::test]
async fn a_conflict_says_who_and_not_when() {
    let server = start().await;
    let client = admin(&server).await;
    let edited = post(&client, &format!("{MAPS}?fieldManager=editor"), map(json!({"a": "1"}))).await;
    assert!(edited.succeeded()["metadata"]["managedFields"][0]["time"].is_string());
    apply(&client, "fieldManager=m", map(json!({"a": "2"})))
        .await
        .refused_with(409, "Apply failed with 1 conflict: conflict with \"editor\" using v1: .data.a");
}

#[tokio::test]
async fn who_applies_stays_the_same_in_another_version() {
    let server = start().await;
    let client = admin(&server).await;
    let definitions = cluster_api(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &crate::custom::definition()).await.unwrap();
    for (version, size) in [("v1beta1", 3), ("v1", 4)] {
        let config = json!({"apiVersion": format!("example.dev/{version}"), "kind": "Grid", "metadata": {"name": "g"},
            "spec": {"size": size}});
        let path = format!("/apis/example.dev/{version}/namespaces/default/grids/g?fieldManager=m");
        let applied = patch(&client, &path, APPLY, config).await.succeeded();
        let entries = applied["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(entries.len(), 1, "{entries:?}");
        assert_eq!(entries[0]["apiVersion"], format!("example.dev/{version}"));
    }
}

#[tokio::test]
async fn a_refused_patch_shows_what_it_would_have_made() {
    let server = start().await;
    let client = admin(&server).await;
    post(&client, MAPS, map(json!({"a": "1"}))).await.succeeded();
    let path = format!("{MAPS}/a");
    let merged = patch(&client, &path, MERGE, json!({"data": {"b": 5}})).await;
    let replaced = json!([{"op": "add", "path": "/data/b", "value": 5}]);
    let replaced = patch(&client, &path, JSON_PATCH, replaced).await;
    let mut expected = get(&client, &path).await.json();
    expected["data"]["b"] = json!(5);
    for answer in [merged, replaced] {
        assert_eq!(answer.code, 422);
        let message = answer.message();
        let shown = message.strip_prefix(" \"\" is invalid: patch: Invalid value: ").expect(&message);
        let mut parts = serde_json::Deserializer::from_str(shown).into_iter::<String>();
        let patched: Value = serde_json::from_str(&parts.next().unwrap().unwrap()).unwrap();
        assert_eq!(patched, expected);
        let rest = &shown[parts.byte_offset()..];
        assert!(
            rest.starts_with(": json: cannot unmarshal number into Go struct field ConfigMap.data"),
            "{rest}"
        );
    }
    put(&client, &path, map(json!({"a": "1"}))).await.succeeded();
}
