//! Owner references under the admission plugin that asks for the rights behind them.

use kube::Client;
use serde_json::{Value, json};
use wattle_api_server::{ApiServer, Settings};

use crate::raw::{APPLY, MAPS, MERGE, made_map, patch, post, send};
use crate::server::{admin, start, with_token};

const CANNOT_DELETE: &str =
    "configmaps \"a\" is forbidden: cannot set an ownerRef on a resource you can't delete: , <nil>";
const CANNOT_FINALIZE: &str = "configmaps \"a\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers \
    to a resource you can't set finalizers on: , <nil>";

async fn enforcing() -> ApiServer {
    let settings = Settings { owner_references_enforced: true, ..Settings::default() };
    ApiServer::start(settings).await.unwrap()
}

fn owned_by(owner: &Value, blocks: bool) -> Value {
    json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": blocks}]}})
}

fn named(mut object: Value) -> Value {
    object["apiVersion"] = json!("v1");
    object["kind"] = json!("ConfigMap");
    object["metadata"]["name"] = json!("a");
    object
}

/// A client with one role of its own in the namespace `default`.
async fn with_rules(server: &ApiServer, name: &str, rules: Value) -> Client {
    let client = admin(server).await;
    let group = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({"metadata": {"name": name}, "rules": rules});
    post(&client, &format!("{group}/roles"), role).await.succeeded();
    let binding = json!({"metadata": {"name": name}, "roleRef": {"kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]});
    post(&client, &format!("{group}/rolebindings"), binding).await.succeeded();
    with_token(server, &server.service_account_token("default", name, None)).await
}

#[tokio::test]
async fn an_owner_is_given_to_what_one_may_delete() {
    let server = enforcing().await;
    let client = admin(&server).await;
    let owner = made_map(&client, "owner").await;
    made_map(&client, "a").await;
    let writer = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "patch"]});
    let writes = with_rules(&server, "writer", json!([writer])).await;
    let path = format!("{MAPS}/a");
    patch(&writes, &path, MERGE, owned_by(&owner, false)).await.refused_with(403, CANNOT_DELETE);
    let applied = named(owned_by(&owner, false));
    patch(&writes, &format!("{path}?fieldManager=m"), APPLY, applied).await.refused_with(403, CANNOT_DELETE);
    patch(&writes, &path, MERGE, json!({"data": {"b": "2"}})).await.succeeded();
    let remover =
        json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["delete"]});
    let removes = with_rules(&server, "remover", json!([writer, remover])).await;
    patch(&removes, &path, MERGE, owned_by(&owner, false)).await.succeeded();
    // Whoever makes an object may say whose it is.
    let mut other = named(owned_by(&owner, false));
    other["metadata"]["name"] = json!("b");
    post(&writes, MAPS, other).await.succeeded();
}

#[tokio::test]
async fn who_holds_up_an_owner_must_be_allowed_to_do_so() {
    let server = enforcing().await;
    let client = admin(&server).await;
    let owner = made_map(&client, "owner").await;
    let all = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]});
    let writes = with_rules(&server, "writer", json!([all])).await;
    post(&writes, MAPS, named(owned_by(&owner, true))).await.refused_with(403, CANNOT_FINALIZE);
    post(&writes, MAPS, named(owned_by(&owner, false))).await.succeeded();
    let path = format!("{MAPS}/a");
    patch(&writes, &path, MERGE, owned_by(&owner, true)).await.refused_with(403, CANNOT_FINALIZE);
    let finalizer = json!({"apiGroups": [""], "resources": ["configmaps/finalizers"], "resourceNames": ["owner"],
        "verbs": ["update"]});
    let finalizes = with_rules(&server, "finalizer", json!([all, finalizer])).await;
    patch(&finalizes, &path, MERGE, owned_by(&owner, true)).await.succeeded();
    // What blocks already is not asked about again.
    let mut again = owned_by(&owner, true);
    again["metadata"]["ownerReferences"][0]["controller"] = json!(true);
    patch(&writes, &path, MERGE, again).await.succeeded();
}

#[tokio::test]
async fn an_owner_of_an_unknown_kind_holds_up_nothing() {
    let server = enforcing().await;
    let client = admin(&server).await;
    let mut owned = named(owned_by(&json!({"metadata": {"uid": "u"}}), true));
    owned["metadata"]["ownerReferences"][0]["kind"] = json!("Thing");
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]});
    let writes = with_rules(&server, "writer", json!([rule])).await;
    post(&writes, MAPS, owned.clone()).await.refused_with(
        403,
        "configmaps \"a\" is forbidden: cannot set blockOwnerDeletion in this case because cannot find RESTMapping for \
         APIVersion v1 Kind Thing: no matches for kind \"Thing\" in version \"v1\"",
    );
    // Who may do everything is not asked whose finalizers they are.
    post(&client, MAPS, owned).await.succeeded();
}

#[tokio::test]
async fn without_the_plugin_owners_are_anybodys() {
    let server = start().await;
    let client = admin(&server).await;
    let owner = made_map(&client, "owner").await;
    made_map(&client, "a").await;
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]});
    let writes = with_rules(&server, "writer", json!([rule])).await;
    let headers = [("content-type", MERGE)];
    let body = owned_by(&owner, true).to_string();
    send(&writes, "PATCH", &format!("{MAPS}/a"), &headers, &body).await.succeeded();
}
