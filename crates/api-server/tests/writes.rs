//! What is refused of a change, and in which words.

use serde_json::{Value, json};

use crate::raw::{JSON_PATCH, MAPS, MERGE, STRATEGIC, delete, get, made_map, patch, post, put, send};
use crate::server::{admin, cluster_api, start};
use kube::api::PostParams;

#[tokio::test]
async fn no_patch_moves_an_object_into_another_namespace() {
    let server = start().await;
    let client = admin(&server).await;
    made_map(&client, "a").await;
    let path = format!("{MAPS}/a");
    let message = "the namespace of the provided object does not match the namespace sent on the request";
    let moved = json!({"metadata": {"namespace": "kube-system"}});
    patch(&client, &path, MERGE, moved.clone()).await.refused_with(400, message);
    patch(&client, &path, STRATEGIC, moved).await.refused_with(400, message);
    let moved = json!([{"op": "add", "path": "/metadata/namespace", "value": "kube-system"}]);
    patch(&client, &path, JSON_PATCH, moved).await.refused_with(400, message);
    assert_eq!(get(&client, "/api/v1/namespaces/kube-system/configmaps/a").await.code, 404);
    // Left out, it is the one of the path.
    let kept = patch(&client, &path, MERGE, json!({"metadata": {"namespace": null}})).await.succeeded();
    assert_eq!(kept["metadata"]["namespace"], "default");
}

#[tokio::test]
async fn some_types_are_only_updated_by_who_says_which_version() {
    let server = start().await;
    let client = admin(&server).await;
    let definitions = cluster_api(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &crate::custom::definition()).await.unwrap();
    let check = async |collection: &str, shown: &str, mut object: Value| {
        post(&client, collection, object.clone()).await.succeeded();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let path = format!("{collection}/{name}");
        let refused = put(&client, &path, object.clone()).await;
        refused.refused_with(
            422,
            &format!(
                "{shown} \"{name}\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an \
                 update"
            ),
        );
        let kind = shown.split('.').next().unwrap();
        assert_eq!(refused.json()["details"]["kind"], kind);
        let nulled = patch(&client, &path, MERGE, json!({"metadata": {"resourceVersion": null}})).await;
        assert_eq!(nulled.code, 422, "{nulled:?}");
        let now = get(&client, &path).await.json();
        object["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
        put(&client, &path, object).await.succeeded();
    };
    let spec = json!({"holderIdentity": "a"});
    let lease = json!({"metadata": {"name": "l"}, "spec": spec});
    check("/apis/coordination.k8s.io/v1/namespaces/default/leases", "leases.coordination.k8s.io", lease)
        .await;
    let budget = json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
    check("/apis/policy/v1/namespaces/default/poddisruptionbudgets", "poddisruptionbudgets.policy", budget)
        .await;
    let grid = json!({"apiVersion": "example.dev/v1", "kind": "Grid", "metadata": {"name": "g"}, "spec": {"size": 1}});
    check("/apis/example.dev/v1/namespaces/default/grids", "grids.example.dev", grid).await;
    let mut other = serde_json::to_value(crate::custom::definition()).unwrap();
    other["metadata"]["name"] = json!("others.example.dev");
    other["spec"]["names"] = json!({"plural": "others", "kind": "Other"});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    check(definitions, "customresourcedefinitions.apiextensions.k8s.io", other).await;
    // Everything else may be overwritten blindly.
    made_map(&client, "a").await;
    put(&client, &format!("{MAPS}/a"), json!({"metadata": {"name": "a"}})).await.succeeded();
}

#[tokio::test]
async fn a_deletion_may_say_which_object_it_means() {
    let server = start().await;
    let client = admin(&server).await;
    let made = made_map(&client, "a").await;
    let path = format!("{MAPS}/a");
    let (uid, version) = (&made["metadata"]["uid"], &made["metadata"]["resourceVersion"]);
    let with = async |preconditions: Value| {
        let body = json!({"preconditions": preconditions}).to_string();
        send(&client, "DELETE", &path, &[("content-type", "application/json")], &body).await
    };
    let refused = with(json!({"uid": "x"})).await;
    refused.refused_with(
        409,
        &format!(
            "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (x) does not match the UID in \
             record ({}). The object might have been deleted and then recreated",
            uid.as_str().unwrap()
        ),
    );
    assert_eq!(refused.json()["details"], json!({"name": "a", "kind": "ConfigMap"}));
    with(json!({"resourceVersion": "1"})).await.refused_with(
        409,
        &format!(
            "Operation cannot be fulfilled on ConfigMap \"a\": the ResourceVersion in the precondition (1) does not match \
             the ResourceVersion in record ({}). The object might have been modified",
            version.as_str().unwrap()
        ),
    );
    with(json!({"uid": uid, "resourceVersion": version})).await.succeeded();
}

#[tokio::test]
async fn an_update_of_another_object_of_that_name_is_refused() {
    let server = start().await;
    let client = admin(&server).await;
    let made = made_map(&client, "a").await;
    let path = format!("{MAPS}/a");
    let other = json!({"metadata": {"name": "a", "uid": "x"}});
    put(&client, &path, other.clone()).await.refused_with(
        409,
        &format!(
            "Operation cannot be fulfilled on configmaps \"a\": StorageError: invalid object, Code: 4, Key: \
             /registry/configmaps/default/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in \
             precondition: x, UID in object meta: {}",
            made["metadata"]["uid"].as_str().unwrap()
        ),
    );
    let nameless = "the name of the object (a based on URL) was undeterminable: name must be provided";
    put(&client, &path, json!({"metadata": {}})).await.refused_with(400, nameless);
    patch(&client, &path, MERGE, json!({"metadata": {"name": null}})).await.refused_with(400, nameless);
    patch(&client, &path, MERGE, other).await.refused_with(
        422,
        "ConfigMap \"a\" is invalid: metadata.uid: Invalid value: \"x\": field is immutable",
    );
}

#[tokio::test]
async fn some_namespaces_are_immortal_and_all_go_one_by_one() {
    let server = start().await;
    let client = admin(&server).await;
    for name in ["default", "kube-system", "kube-public"] {
        let message = format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted");
        delete(&client, &format!("/api/v1/namespaces/{name}")).await.refused_with(403, &message);
    }
    delete(&client, "/api/v1/namespaces")
        .await
        .refused_with(405, "the server does not allow this method on the requested resource");
    let resources = get(&client, "/api/v1").await.json();
    let verbs = |name: &str| {
        let mut entries = resources["resources"].as_array().unwrap().iter();
        entries.find(|entry| entry["name"] == name).unwrap()["verbs"].clone()
    };
    assert_eq!(verbs("namespaces"), json!(["create", "delete", "get", "list", "patch", "update", "watch"]));
    assert!(verbs("configmaps").as_array().unwrap().contains(&json!("deletecollection")));
    delete(&client, "/api/v1/namespaces/kube-node-lease").await.succeeded();
}
