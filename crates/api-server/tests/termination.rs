//! The end of a CustomResourceDefinition: it waits for its objects, which wait for their finalizers.

use futures_util::{Stream, StreamExt as _};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
    WatchEvent, WatchParams,
};
use kube::discovery::Discovery;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::custom::{definition, grid};
use crate::server::{DEADLINE, admin, api, check_refusal, cluster_api, next, object, start, status};

const NAME: &str = "grids.example.dev";

/// The definitions of a server that has one, and the objects that it defines.
async fn defined(client: &Client) -> (Api<DynamicObject>, Api<DynamicObject>) {
    let definitions = cluster_api(client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    (definitions, api(client, "example.dev", "v1", "Grid"))
}

async fn delete(objects: &Api<DynamicObject>, name: &str) -> DynamicObject {
    objects.delete(name, &DeleteParams::default()).await.unwrap().left().unwrap()
}

/// From now on.
async fn events(objects: &Api<DynamicObject>) -> impl Stream<Item = WatchEvent<DynamicObject>> + Unpin {
    let from = objects.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let stream = objects.watch(&WatchParams::default(), &from).await.unwrap();
    Box::pin(stream.map(Result::unwrap))
}

async fn until_deleted(events: &mut (impl Stream<Item = WatchEvent<DynamicObject>> + Unpin), name: &str) {
    loop {
        if let WatchEvent::Deleted(object) = next(events).await
            && object.name_any() == name
        {
            return;
        }
    }
}

fn reason(definition: &DynamicObject) -> &Value {
    let conditions = definition.data["status"]["conditions"].as_array().unwrap();
    &conditions.iter().find(|one| one["type"] == "Terminating").unwrap()["reason"]
}

async fn verbs(client: &Client) -> Option<Vec<String>> {
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    let group = discovery.get("example.dev")?;
    let (_, capabilities) = group.versioned_resources("v1").into_iter().next()?;
    Some(capabilities.operations)
}

#[tokio::test]
async fn a_definition_waits_for_its_objects_which_wait_for_their_finalizers() {
    let server = start().await;
    let client = admin(&server).await;
    let (definitions, grids) = defined(&client).await;
    let mut held = grid(&json!({"size": 3}));
    held.finalizers_mut().push("example.dev/held".to_owned());
    grids.create(&PostParams::default(), &held).await.unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.dev", "v1", "Grid"));
    let elsewhere: Api<DynamicObject> = Api::namespaced_with(client.clone(), "kube-system", &resource);
    elsewhere.create(&PostParams::default(), &grid(&json!({"size": 3}))).await.unwrap();
    let mut changes = events(&definitions).await;
    let mut gone = events(&elsewhere).await;

    let deleted = delete(&definitions, NAME).await;
    assert!(deleted.metadata.deletion_timestamp.is_some());
    assert_eq!(deleted.finalizers(), ["customresourcecleanup.apiextensions.k8s.io"]);
    assert_eq!((reason(&deleted), deleted.metadata.generation), (&json!("InstanceDeletionPending"), Some(1)));
    until_deleted(&mut gone, "g").await;
    let now = definitions.get(NAME).await.unwrap();
    assert_eq!(reason(&now), "InstanceDeletionInProgress");
    assert!(grids.get("g").await.unwrap().metadata.deletion_timestamp.is_some());
    let again = delete(&definitions, NAME).await;
    assert_eq!(again.metadata.deletion_timestamp, deleted.metadata.deletion_timestamp);

    let free = json!({"metadata": {"finalizers": null}});
    grids.patch("g", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    until_deleted(&mut changes, NAME).await;
    assert_eq!(definitions.get_opt(NAME).await.unwrap(), None);
    assert_eq!(status(grids.get("g").await).code, 404);
}

#[tokio::test]
async fn while_a_definition_goes_objects_change_but_none_are_made() {
    let server = start().await;
    let client = admin(&server).await;
    let (definitions, grids) = defined(&client).await;
    let mut held = grid(&json!({"size": 3}));
    held.finalizers_mut().push("example.dev/held".to_owned());
    grids.create(&PostParams::default(), &held).await.unwrap();
    assert!(verbs(&client).await.unwrap().contains(&"create".to_owned()));
    delete(&definitions, NAME).await;

    let mut other = grid(&json!({"size": 3}));
    other.metadata.name = Some("other".to_owned());
    let refused = status(grids.create(&PostParams::default(), &other).await);
    assert_eq!((refused.code, refused.reason.as_str()), (405, "MethodNotAllowed"));
    assert_eq!(refused.message, "create not allowed while custom resource definition is terminating");
    let details = refused.details.unwrap();
    assert_eq!((details.group.as_str(), details.kind.as_str()), ("example.dev", "grids"));
    assert_eq!(verbs(&client).await.unwrap(), ["delete", "deletecollection", "get", "list", "watch"]);
    let grown = Patch::Merge(json!({"spec": {"size": 4}}));
    let after = grids.patch("g", &PatchParams::default(), &grown).await.unwrap();
    assert_eq!(after.data["spec"]["size"], 4);
}

#[tokio::test]
async fn discovery_and_watches_end_with_the_definition() {
    let server = start().await;
    let client = admin(&server).await;
    let (definitions, grids) = defined(&client).await;
    grids.create(&PostParams::default(), &grid(&json!({"size": 3}))).await.unwrap();
    let mut watched = events(&grids).await;
    let mut changes = events(&definitions).await;
    delete(&definitions, NAME).await;
    until_deleted(&mut watched, "g").await;
    until_deleted(&mut changes, NAME).await;
    let end = tokio::time::timeout(DEADLINE, watched.next()).await.expect("the watch does not end");
    assert!(end.is_none(), "{end:?}");
    assert_eq!(verbs(&client).await, None);
}

#[tokio::test]
async fn what_custom_objects_own_goes_when_their_definition_is_deleted() {
    let server = start().await;
    let client = admin(&server).await;
    let (definitions, grids) = defined(&client).await;
    let owner = grids.create(&PostParams::default(), &grid(&json!({"size": 3}))).await.unwrap();
    // A kind that is looked at after definitions.
    let leases = api(&client, "coordination.k8s.io", "v1", "Lease");
    let mut owned = object(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "owned"}, "spec": {}}));
    let reference =
        json!({"apiVersion": "example.dev/v1", "kind": "Grid", "name": "g", "uid": owner.metadata.uid});
    owned.metadata.owner_references = Some(serde_json::from_value(json!([reference])).unwrap());
    leases.create(&PostParams::default(), &owned).await.unwrap();
    let mut changes = events(&leases).await;
    delete(&definitions, NAME).await;
    until_deleted(&mut changes, "owned").await;
}

#[tokio::test]
async fn a_finalizer_of_somebody_else_holds_a_definition_that_has_no_objects() {
    let server = start().await;
    let client = admin(&server).await;
    let definitions = cluster_api(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let mut held = definition();
    held.finalizers_mut().push("example.dev/held".to_owned());
    definitions.create(&PostParams::default(), &held).await.unwrap();
    let mut changes = events(&definitions).await;
    delete(&definitions, NAME).await;
    let mut reasons = Vec::new();
    while reasons.len() < 3 {
        let WatchEvent::Modified(changed) = next(&mut changes).await else { panic!("no change") };
        reasons.push(reason(&changed).as_str().unwrap().trim_start_matches("InstanceDeletion").to_owned());
    }
    assert_eq!(reasons, ["Pending", "InProgress", "Completed"]);
    assert_eq!(definitions.get(NAME).await.unwrap().finalizers(), ["example.dev/held"]);
}

#[tokio::test]
async fn objects_of_a_definition_that_was_forced_out_are_back_with_the_next_one() {
    let server = start().await;
    let client = admin(&server).await;
    let (definitions, grids) = defined(&client).await;
    let mut held = grid(&json!({"size": 3}));
    held.finalizers_mut().push("example.dev/held".to_owned());
    grids.create(&PostParams::default(), &held).await.unwrap();
    delete(&definitions, NAME).await;
    let free = json!({"metadata": {"finalizers": null}});
    definitions.patch(NAME, &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    check_refusal(
        definitions.get(NAME).await,
        404,
        "NotFound",
        "customresourcedefinitions.apiextensions.k8s.io \"grids.example.dev\" not found",
    );
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    assert!(grids.get("g").await.unwrap().metadata.deletion_timestamp.is_some());
}
