//! Objects, lists and watches through the kube crate.

use futures_util::TryStreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy, WatchEvent,
    WatchParams,
};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::server::{admin, api, check_refusal, config_map, next, object, start, status};

#[tokio::test]
async fn an_object_is_made_read_changed_and_deleted() {
    let server = start().await;
    let client = admin(&server).await;
    let maps = api(&client, "", "v1", "ConfigMap");
    let made = maps.create(&PostParams::default(), &config_map("a", json!({"x": "1"}))).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    check_refusal(
        maps.create(&PostParams::default(), &config_map("a", json!({}))).await,
        409,
        "AlreadyExists",
        "configmaps \"a\" already exists",
    );
    let mut changed = made.clone();
    changed.data["data"]["x"] = json!("2");
    maps.replace("a", &PostParams::default(), &changed).await.unwrap();
    check_refusal(
        maps.replace("a", &PostParams::default(), &changed).await,
        409,
        "Conflict",
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes \
         to the latest version and try again",
    );
    let wrong = DeleteParams::default()
        .preconditions(kube::api::Preconditions { uid: Some("b".to_owned()), resource_version: None });
    let refused = status(maps.delete("a", &wrong).await);
    assert!(
        refused.message.contains("the UID in the precondition (b) does not match the UID in record ("),
        "{refused:?}"
    );
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    check_refusal(maps.get("a").await, 404, "NotFound", "configmaps \"a\" not found");
}

/// Whichever door a patch comes through, who says which version it changes is refused if there is another by now.
#[tokio::test]
async fn a_patch_of_another_version_is_refused() {
    let server = start().await;
    let client = admin(&server).await;
    let sets = api(&client, "apps", "v1", "StatefulSet");
    let set =
        object(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {
        "replicas": 1, "serviceName": "web", "selector": {"matchLabels": {"a": "b"}}, "template": {
        "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}}));
    let stale = sets.create(&PostParams::default(), &set).await.unwrap().metadata.resource_version.unwrap();
    let label = |version: &str, value: &str| {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"resourceVersion": version, "labels": {"changed": value}}})
    };
    let plain = PatchParams::default();
    let merged = sets.patch("web", &plain, &Patch::Merge(label(&stale, "once"))).await.unwrap();
    let current = merged.metadata.resource_version.unwrap();
    let refusal = "Operation cannot be fulfilled on statefulsets.apps \"web\": the object has been modified; please apply \
        your changes to the latest version and try again";
    let conflict = |result| check_refusal(result, 409, "Conflict", refusal);
    conflict(sets.patch("web", &plain, &Patch::Merge(label(&stale, "twice"))).await);
    conflict(sets.patch("web", &plain, &Patch::Strategic(label(&stale, "twice"))).await);
    let replace = json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": stale},
        {"op": "replace", "path": "/metadata/labels/changed", "value": "twice"}]);
    let replace: Patch<serde_json::Value> = Patch::Json(serde_json::from_value(replace).unwrap());
    conflict(sets.patch("web", &plain, &replace).await);
    // That conflicts of managers are not to count does not make the version the right one.
    let forced = PatchParams::apply("test").force();
    conflict(sets.patch("web", &forced, &Patch::Apply(label(&stale, "twice"))).await);
    let ready = |version: &str| json!({"metadata": {"resourceVersion": version}, "status": {"replicas": 1}});
    conflict(sets.patch_status("web", &plain, &Patch::Merge(ready(&stale))).await);
    let mut applied = ready(&stale);
    (applied["apiVersion"], applied["kind"]) = (json!("apps/v1"), json!("StatefulSet"));
    conflict(sets.patch_status("web", &forced, &Patch::Apply(applied)).await);
    let three = json!({"metadata": {"resourceVersion": stale}, "spec": {"replicas": 3}});
    let refused = status(sets.patch_scale("web", &plain, &Patch::Merge(three)).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    let now = sets.get("web").await.unwrap();
    assert_eq!(now.metadata.resource_version.as_ref(), Some(&current), "what is refused changes nothing");
    assert_eq!((now.labels()["changed"].as_str(), &now.data["spec"]["replicas"]), ("once", &json!(1)));
    let status = sets.patch_status("web", &plain, &Patch::Merge(ready(&current))).await.unwrap();
    let current = status.metadata.resource_version.unwrap();
    let after = sets.patch("web", &forced, &Patch::Apply(label(&current, "twice"))).await.unwrap();
    assert_eq!(after.labels()["changed"], "twice");
}

#[tokio::test]
async fn nothing_is_created_in_a_namespace_that_is_not_there() {
    let server = start().await;
    let client = admin(&server).await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "elsewhere");
    let map = ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some("a".to_owned()), ..Default::default() },
        ..Default::default()
    };
    check_refusal(
        maps.create(&PostParams::default(), &map).await,
        404,
        "NotFound",
        "namespaces \"elsewhere\" not found",
    );
}

#[tokio::test]
async fn a_dry_run_keeps_nothing_and_a_prefix_gives_a_name() {
    let server = start().await;
    let client = admin(&server).await;
    let maps = api(&client, "", "v1", "ConfigMap");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &config_map("a", json!({}))).await.unwrap();
    assert_eq!(maps.get_opt("a").await.unwrap(), None);
    let prefixed =
        object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a-"}}));
    let made = maps.create(&PostParams::default(), &prefixed).await.unwrap();
    assert!(made.name_any().starts_with("a-") && made.name_any().len() == 7, "{}", made.name_any());
}

#[tokio::test]
async fn a_stateful_set_fits_its_type_and_counts_generations() {
    let server = start().await;
    let client = admin(&server).await;
    let sets: Api<StatefulSet> = Api::namespaced(client, "default");
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {
        "serviceName": "web", "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}});
    let apply = PatchParams::apply("test");
    let made = sets.patch("web", &apply, &Patch::Apply(&set)).await.unwrap();
    assert_eq!((made.metadata.generation, made.spec.unwrap().replicas), (Some(1), Some(1)));
    let ready = json!({"status": {"replicas": 1, "readyReplicas": 1}});
    let after = sets.patch_status("web", &PatchParams::default(), &Patch::Merge(&ready)).await.unwrap();
    assert_eq!((after.metadata.generation, after.status.unwrap().ready_replicas), (Some(1), Some(1)));
    let three = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scaled = sets.patch_scale("web", &PatchParams::default(), &three).await;
    assert_eq!(scaled.unwrap().status.unwrap().selector.as_deref(), Some("a=b"));
    let after = sets.get("web").await.unwrap();
    assert_eq!((after.metadata.generation, after.status.unwrap().ready_replicas), (Some(2), Some(1)));
    let scaler = after
        .metadata
        .managed_fields
        .unwrap()
        .into_iter()
        .find(|entry| entry.subresource.as_deref() == Some("scale"));
    assert!(scaler.is_some());
    let mut again = set.clone();
    again["spec"]["replicas"] = json!(5);
    let refused = status(sets.patch("web", &apply, &Patch::Apply(&again)).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    let causes = refused.details.unwrap().causes;
    assert_eq!(
        (causes[0].reason.as_str(), causes[0].field.as_str()),
        ("FieldManagerConflict", ".spec.replicas")
    );
    let forced = sets.patch("web", &apply.clone().force(), &Patch::Apply(&again)).await.unwrap();
    assert_eq!(forced.spec.unwrap().replicas, Some(5));
    again["spec"]["serviceName"] = json!("other");
    let refused = status(sets.patch("web", &apply.force(), &Patch::Apply(&again)).await);
    assert!(
        refused
            .message
            .starts_with("StatefulSet.apps \"web\" is invalid: spec: Forbidden: updates to statefulset spec")
    );
}

#[tokio::test]
async fn a_list_goes_on_where_it_ended_and_does_not_see_what_came_since() {
    let server = start().await;
    let client = admin(&server).await;
    let maps = api(&client, "", "v1", "ConfigMap");
    for name in ["a", "b", "c"] {
        maps.create(&PostParams::default(), &config_map(name, json!({}))).await.unwrap();
    }
    let first = maps.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (2, Some(1)));
    maps.create(&PostParams::default(), &config_map("d", json!({}))).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    let rest = maps.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    let names: Vec<String> = rest.items.iter().map(|item| item.name_any()).collect();
    assert_eq!(
        (names, rest.metadata.resource_version),
        (vec!["c".to_owned()], first.metadata.resource_version)
    );
    server.compact();
    maps.create(&PostParams::default(), &config_map("e", json!({}))).await.unwrap();
    let refused = status(maps.list(&ListParams::default().continue_token(&token)).await);
    assert_eq!((refused.code, refused.reason.as_str()), (410, "Expired"));
    let inconsistent = refused.metadata.unwrap().continue_.unwrap();
    let rest = maps.list(&ListParams::default().continue_token(&inconsistent)).await.unwrap();
    assert_eq!(rest.items.len(), 3);
}

#[tokio::test]
async fn a_watch_tells_what_enters_and_leaves_its_selection() {
    let server = start().await;
    let client = admin(&server).await;
    let maps = api(&client, "", "v1", "ConfigMap");
    let from = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let labelled = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"app": value}}}));
    maps.create(&PostParams::default(), &config_map("a", json!({}))).await.unwrap();
    maps.patch("a", &PatchParams::default(), &labelled("web")).await.unwrap();
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"x": "1"}}))).await.unwrap();
    maps.patch("a", &PatchParams::default(), &labelled("db")).await.unwrap();
    let stream = maps.watch(&WatchParams::default().labels("app=web"), &from).await.unwrap();
    let mut stream = Box::pin(stream.into_stream());
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        kinds.push(match next(&mut stream).await.unwrap() {
            WatchEvent::Added(_) => "ADDED",
            WatchEvent::Modified(_) => "MODIFIED",
            WatchEvent::Deleted(object) => {
                assert_eq!(object.labels()["app"], "web", "the last state that was selected");
                "DELETED"
            }
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(kinds, ["ADDED", "MODIFIED", "DELETED"]);
}

#[tokio::test]
async fn a_watch_from_before_what_is_remembered_is_told_so() {
    let server = start().await;
    let client = admin(&server).await;
    let maps = api(&client, "", "v1", "ConfigMap");
    maps.create(&PostParams::default(), &config_map("a", json!({}))).await.unwrap();
    server.compact();
    let mut stream = Box::pin(maps.watch(&WatchParams::default(), "1").await.unwrap());
    let WatchEvent::Error(status) = next(&mut stream).await.unwrap() else { panic!("no error") };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    assert!(status.message.starts_with("too old resource version: 1 ("), "{}", status.message);
    assert!(stream.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_finalizer_holds_what_is_deleted() {
    let server = start().await;
    let client = admin(&server).await;
    let maps = api(&client, "", "v1", "ConfigMap");
    let mut held = config_map("a", json!({}));
    held.finalizers_mut().push("example.dev/held".to_owned());
    maps.create(&PostParams::default(), &held).await.unwrap();
    let deleted = maps.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert!(deleted.metadata.deletion_timestamp.is_some());
    let more = json!({"metadata": {"finalizers": ["example.dev/held", "example.dev/more"]}});
    let refused = status(maps.patch("a", &PatchParams::default(), &Patch::Merge(more)).await);
    assert!(
        refused.message.contains("metadata.finalizers: Forbidden: no new finalizers can be added"),
        "{}",
        refused.message
    );
    let from = deleted.metadata.resource_version.unwrap();
    let mut stream = Box::pin(maps.watch(&WatchParams::default(), &from).await.unwrap());
    let none = json!({"metadata": {"finalizers": null}});
    let freed = maps.patch("a", &PatchParams::default(), &Patch::Merge(none)).await.unwrap();
    assert!(freed.finalizers().is_empty());
    assert_eq!(maps.get_opt("a").await.unwrap(), None);
    let WatchEvent::Deleted(last) = next(&mut stream).await.unwrap() else { panic!("it was changed") };
    assert_eq!(last.finalizers(), ["example.dev/held"], "as it was stored last");
}

#[tokio::test]
async fn dependents_are_deleted_after_their_owner() {
    let server = start().await;
    let client = admin(&server).await;
    let maps = api(&client, "", "v1", "ConfigMap");
    let owner = maps.create(&PostParams::default(), &config_map("owner", json!({}))).await.unwrap();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "c"}]}});
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}]);
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let made = pods.create(&PostParams::default(), &pod).await.unwrap();
    let from = made.metadata.resource_version.unwrap();
    let mut stream = Box::pin(pods.watch(&WatchParams::default(), &from).await.unwrap());
    let background =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    maps.delete("owner", &background).await.unwrap();
    assert!(matches!(next(&mut stream).await.unwrap(), WatchEvent::Deleted(_)));
}

#[tokio::test]
async fn a_deletion_that_is_under_way_can_only_be_shortened() {
    let server = start().await;
    let pods: Api<Pod> = Api::namespaced(admin(&server).await, "default");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "c"}]}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let mut ends = Vec::new();
    for (wanted, expected) in [(None, 30), (Some(60), 30), (Some(10), 10), (None, 10)] {
        let how = wanted
            .map_or_else(DeleteParams::default, |seconds| DeleteParams::default().grace_period(seconds));
        let left = pods.delete("p", &how).await.unwrap().left().unwrap().metadata;
        assert_eq!(left.deletion_grace_period_seconds, Some(expected));
        ends.push(left.deletion_timestamp.unwrap().0.as_second());
    }
    assert_eq!(ends.iter().map(|end| ends[0] - end).collect::<Vec<_>>(), [0, 0, 20, 20]);
    pods.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert_eq!(pods.get_opt("p").await.unwrap(), None);
}

#[tokio::test]
async fn an_eviction_asks_the_budget_of_the_pod() {
    let server = start().await;
    let client = admin(&server).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let budgets = api(&client, "policy", "v1", "PodDisruptionBudget");
    let budget =
        object(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}}));
    budgets.create(&PostParams::default(), &budget).await.unwrap();
    for name in ["p", "q"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "c"}]}});
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        let status =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
    let refused = status(pods.evict("p", &EvictParams::default()).await);
    assert_eq!((refused.code, refused.reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(
        refused.details.unwrap().causes[0].message,
        "The disruption budget b is still being processed by the server."
    );
    let known = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2,
        "desiredHealthy": 1, "expectedPods": 2}});
    budgets.patch_status("b", &PatchParams::default(), &Patch::Merge(known)).await.unwrap();
    pods.evict("p", &EvictParams::default()).await.unwrap();
    let going = pods.get("p").await.unwrap();
    let conditions = going.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().any(|one| one.type_ == "DisruptionTarget" && one.status == "True"));
    assert!(going.metadata.deletion_timestamp.is_some());
    let spent = budgets.get("b").await.unwrap().data;
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert!(spent["status"]["disruptedPods"]["p"].is_string());
    let refused = status(pods.evict("q", &EvictParams::default()).await);
    assert_eq!(
        refused.details.unwrap().causes[0].message,
        "The disruption budget b needs 1 healthy pods and has 2 currently"
    );
    let gone = status(pods.evict("r", &EvictParams::default()).await);
    assert_eq!(gone.code, 404);
}

#[tokio::test]
async fn an_event_of_the_new_form_is_read_in_the_old_one() {
    let server = start().await;
    let client = admin(&server).await;
    let event = object(json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "Works", "action": "Work", "type": "Normal",
        "note": "it works", "reportingController": "example.dev/c", "reportingInstance": "c-0",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}}));
    let made =
        api(&client, "events.k8s.io", "v1", "Event").create(&PostParams::default(), &event).await.unwrap();
    assert_eq!(made.data["note"], "it works");
    let of_pod = ListParams::default().fields("involvedObject.name=p");
    let found = api(&client, "", "v1", "Event").list(&of_pod).await.unwrap();
    assert_eq!(found.items[0].data["message"], "it works");
}

#[tokio::test]
async fn a_service_keeps_the_address_it_was_given() {
    let server = start().await;
    let client = admin(&server).await;
    let services = api(&client, "", "v1", "Service");
    let service = |kind: &str| {
        object(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"type": kind, "ports": [{"port": 80}]}}))
    };
    let made = services.create(&PostParams::default(), &service("ClusterIP")).await.unwrap();
    let after = services.replace("web", &PostParams::default(), &service("NodePort")).await.unwrap();
    assert!(made.data["spec"]["clusterIP"].as_str().unwrap().starts_with("10.96."));
    assert_eq!(made.data["spec"]["clusterIP"], after.data["spec"]["clusterIP"]);
    assert!(after.data["spec"]["ports"][0]["nodePort"].as_i64().unwrap() >= 30_000);
    let moved = json!({"spec": {"clusterIP": "10.96.9.9"}});
    let refused = status(services.patch("web", &PatchParams::default(), &Patch::Merge(moved)).await);
    assert!(refused.message.contains("may not change once set"), "{}", refused.message);
}
