//! Custom resources: served at once, pruned, completed, validated.

use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::discovery::{Discovery, Scope};
use serde_json::{Value, json};

use crate::server::{admin, api, check_refusal, cluster_api, object, start, status};

pub(crate) fn definition() -> DynamicObject {
    object(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "grids.example.dev"},
        "spec": {"group": "example.dev", "scope": "Namespaced", "names": {"plural": "grids", "kind": "Grid"},
            "versions": [version("v1", true), version("v1beta1", false)]},
    }))
}

fn version(name: &str, is_stored: bool) -> Value {
    json!({
        "name": name, "served": true, "storage": is_stored, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "required": ["size"], "properties": {
                "size": {"type": "integer", "minimum": 1, "x-kubernetes-validations": [
                    {"rule": "self <= 2 * oldSelf", "message": "may at most double"}]},
                "mode": {"type": "string", "enum": ["fast", "safe"], "default": "safe"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
            "status": {"type": "object", "properties": {"size": {"type": "integer"}, "conditions": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                "items": {"type": "object", "required": ["type"], "properties": {
                    "type": {"type": "string"}, "status": {"type": "string"}}}}}}}}},
    })
}

pub(crate) fn grid(spec: &Value) -> DynamicObject {
    object(json!({"apiVersion": "example.dev/v1", "kind": "Grid", "metadata": {"name": "g"}, "spec": spec,
        "status": {"size": 9}}))
}

#[tokio::test]
async fn a_custom_resource_is_completed_pruned_and_validated() {
    let server = start().await;
    let client = admin(&server).await;
    let made = cluster_api(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let new = made.create(&PostParams::default(), &definition()).await.unwrap();
    assert_eq!(
        new.data["status"],
        json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": ["v1"]})
    );
    let conditions = &made.get("grids.example.dev").await.unwrap().data["status"]["conditions"];
    assert_eq!((&conditions[1]["type"], &conditions[1]["status"]), (&json!("Established"), &json!("True")));

    let grids = api(&client, "example.dev", "v1", "Grid");
    check_refusal(
        grids.create(&PostParams::default(), &grid(&json!({"size": 0}))).await,
        422,
        "Invalid",
        "Grid.example.dev \"g\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or \
         equal to 1",
    );
    let spec = json!({"size": 3, "sise": 4, "free": {"a": {"b": 1}}});
    let made = grids.create(&PostParams::default(), &grid(&spec)).await.unwrap();
    assert_eq!(made.data["spec"], json!({"size": 3, "mode": "safe", "free": {"a": {"b": 1}}}));
    assert_eq!(made.data.get("status"), None, "only the status subresource writes it");
    check_refusal(
        grids.patch("g", &PatchParams::default(), &Patch::Merge(json!({"spec": {"size": 7}}))).await,
        422,
        "Invalid",
        "Grid.example.dev \"g\" is invalid: spec.size: Invalid value: \"integer\": may at most double",
    );
}

#[tokio::test]
async fn the_status_has_a_door_of_its_own() {
    let server = start().await;
    let client = admin(&server).await;
    let definitions = cluster_api(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let grids = api(&client, "example.dev", "v1", "Grid");
    grids.create(&PostParams::default(), &grid(&json!({"size": 3}))).await.unwrap();
    let both = json!({"apiVersion": "example.dev/v1", "kind": "Grid", "metadata": {"labels": {"a": "b"}},
        "spec": {"size": 4}, "status": {"size": 2}});
    let after = grids.patch_status("g", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert_eq!((&after.data["spec"]["size"], &after.data["status"]["size"]), (&json!(3), &json!(2)));
    assert_eq!((after.metadata.generation, after.metadata.labels), (Some(1), None));
    let after = grids.patch("g", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert_eq!((&after.data["spec"]["size"], &after.data["status"]["size"]), (&json!(4), &json!(2)));
    assert_eq!(after.metadata.generation, Some(2));
    let old = api(&client, "example.dev", "v1beta1", "Grid");
    assert_eq!(old.get("g").await.unwrap().types.unwrap().api_version, "example.dev/v1beta1");
}

#[tokio::test]
async fn a_definition_must_be_sound() {
    let server = start().await;
    let client = admin(&server).await;
    let definitions = cluster_api(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let mut wrong = definition();
    wrong.data["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"] =
        json!({});
    check_refusal(
        definitions.create(&PostParams::default(), &wrong).await,
        422,
        "Invalid",
        "CustomResourceDefinition.apiextensions.k8s.io \"grids.example.dev\" is invalid: \
         spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[size].type: Required value: must not be \
         empty for specified object fields",
    );
    let grids = api(&client, "example.dev", "v1", "Grid");
    assert_eq!(status(grids.get("g").await).code, 404, "it is not served");
}

#[tokio::test]
async fn an_unknown_field_is_no_part_of_what_is_applied() {
    let server = start().await;
    let client = admin(&server).await;
    let definitions = cluster_api(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let grids = api(&client, "example.dev", "v1", "Grid");
    let config = json!({"apiVersion": "example.dev/v1", "kind": "Grid", "spec": {"size": 1, "sise": 2}});
    let refused = status(grids.patch("g", &PatchParams::apply("test"), &Patch::Apply(config)).await);
    assert_eq!(refused.code, 500);
    assert_eq!(
        refused.message,
        "failed to create typed patch object (/; example.dev/v1, Kind=Grid): .spec.sise: field not declared \
         in schema"
    );
}

#[tokio::test]
async fn conditions_of_two_managers_stand_side_by_side() {
    let server = start().await;
    let client = admin(&server).await;
    let definitions = cluster_api(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let grids = api(&client, "example.dev", "v1", "Grid");
    grids.create(&PostParams::default(), &grid(&json!({"size": 3}))).await.unwrap();
    let of = |conditions: Value| {
        Patch::Apply(
            json!({"apiVersion": "example.dev/v1", "kind": "Grid", "status": {"conditions": conditions}}),
        )
    };
    let ready = of(json!([{"type": "Ready", "status": "True"}]));
    grids.patch_status("g", &PatchParams::apply("one"), &ready).await.unwrap();
    let safe = of(json!([{"type": "Safe", "status": "False"}]));
    grids.patch_status("g", &PatchParams::apply("two"), &safe).await.unwrap();
    let taken = of(json!([{"type": "Ready", "status": "False"}]));
    let refused = status(grids.patch_status("g", &PatchParams::apply("two"), &taken).await);
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"one\" with subresource \"status\": \
         .status.conditions[type=\"Ready\"].status"
    );
    let after = grids.patch_status("g", &PatchParams::apply("one"), &of(json!([]))).await.unwrap();
    assert_eq!(after.data["status"]["conditions"], json!([{"type": "Safe", "status": "False"}]));
}

#[tokio::test]
async fn discovery_finds_what_a_definition_brings() {
    let server = start().await;
    let client = admin(&server).await;
    let definitions = cluster_api(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let kind = GroupVersionKind::gvk("example.dev", "v1", "Grid");
    for discovery in [
        Discovery::new(client.clone()).run().await.unwrap(),
        Discovery::new(client.clone()).run_aggregated().await.unwrap(),
    ] {
        let (resource, capabilities) = discovery.resolve_gvk(&kind).unwrap();
        assert_eq!((resource.plural.as_str(), capabilities.scope), ("grids", Scope::Namespaced));
        let subresources: Vec<&str> = capabilities.subresources.iter().map(|(one, _)| &*one.plural).collect();
        assert_eq!(subresources, ["status"]);
    }
}
