//! The scale subresource, as the autoscaler and kubectl use it.

use serde_json::{Value, json};

use crate::raw::{APPLY, MERGE, get, patch, post, put, send};
use crate::server::{admin, start};
use kube::Client;

const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
const SCALE: &str = "/apis/apps/v1/namespaces/default/statefulsets/web/scale";

async fn made_set(client: &Client) -> Value {
    let set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 1, "serviceName": "web",
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}});
    post(client, &format!("{SETS}?fieldManager=maker"), set).await.succeeded()
}

#[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
fn scale(replicas: Value) -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas}})
}

#[tokio::test]
async fn a_scale_is_an_object_of_its_own() {
    let server = start().await;
    let client = admin(&server).await;
    let made = made_set(&client).await;
    let negative = "Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal \
        to 0";
    put(&client, SCALE, scale(json!(-1))).await.refused_with(422, negative);
    patch(&client, SCALE, MERGE, json!({"spec": {"replicas": -1}})).await.refused_with(422, negative);
    put(&client, SCALE, scale(json!("x"))).await.refused_with(
        400,
        "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal string into Go struct field \
         ScaleSpec.spec.replicas of type int32",
    );
    assert_eq!(patch(&client, SCALE, MERGE, json!({"spec": {"replicas": "x"}})).await.code, 422);
    let mut other = scale(json!(2));
    other["metadata"]["name"] = json!("db");
    put(&client, SCALE, other.clone())
        .await
        .refused_with(400, "the name of the object (db) does not match the name on the URL (web)");
    other["metadata"] = json!({"name": "web", "namespace": "other"});
    put(&client, SCALE, other).await.refused_with(
        400,
        "the namespace of the provided object does not match the namespace sent on the request",
    );
    let mut other = scale(json!(2));
    other["kind"] = json!("Foo");
    assert_eq!(put(&client, SCALE, other).await.code, 400);
    let mut stranger = scale(json!(2));
    stranger["metadata"]["uid"] = json!("x");
    assert_eq!(put(&client, SCALE, stranger).await.code, 409);
    let now = get(&client, &format!("{SETS}/web")).await.json();
    assert_eq!(now["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    assert_eq!(put(&client, SCALE, scale(json!(2))).await.succeeded()["spec"], json!({"replicas": 2}));
    let yaml = "metadata: {name: web}\nspec: {replicas: 3}";
    let written =
        send(&client, "PUT", SCALE, &[("content-type", "application/yaml")], yaml).await.succeeded();
    assert_eq!(written["spec"], json!({"replicas": 3}));
}

#[tokio::test]
async fn a_scale_that_is_applied_owns_its_number() {
    let server = start().await;
    let client = admin(&server).await;
    made_set(&client).await;
    patch(&client, SCALE, APPLY, scale(json!(5))).await.refused_with(
        422,
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
    );
    let path = format!("{SCALE}?fieldManager=scaler");
    patch(&client, &path, APPLY, scale(json!(5))).await.refused_with(
        409,
        "Apply failed with 1 conflict: conflict with \"maker\" using apps/v1: .spec.replicas",
    );
    patch(&client, &path, APPLY, scale(json!("5"))).await.refused_with(
        500,
        "failed to create typed patch object (default/web; autoscaling/v1, Kind=Scale): .spec.replicas: expected numeric \
         (int or float), got string",
    );
    let applied = patch(&client, &format!("{path}&force=true"), APPLY, scale(json!(5))).await.succeeded();
    assert_eq!(applied["spec"]["replicas"], 5);
    let set = get(&client, &format!("{SETS}/web")).await.json();
    let entries = set["metadata"]["managedFields"].as_array().unwrap();
    let of = |name: &str| entries.iter().find(|entry| entry["manager"] == name).unwrap();
    let own = of("scaler");
    assert_eq!(
        (&own["operation"], &own["subresource"], &own["apiVersion"], &own["fieldsV1"]),
        (&json!("Apply"), &json!("scale"), &json!("apps/v1"), &json!({"f:spec": {"f:replicas": {}}}))
    );
    assert_eq!(of("maker")["fieldsV1"]["f:spec"].get("f:replicas"), None);
    patch(&client, &path, APPLY, scale(json!(6))).await.succeeded();
}
