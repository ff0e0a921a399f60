//! Tokens and roles.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use crate::server::{admin, api, check_refusal, config_map, object, start, with_token};

fn role(verbs: &[&str]) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]})
}

#[tokio::test]
async fn a_service_account_may_do_what_its_roles_say() {
    let server = start().await;
    let client = admin(&server).await;
    api(&client, "rbac.authorization.k8s.io", "v1", "Role")
        .create(&PostParams::default(), &object(role(&["get", "list"])))
        .await
        .unwrap();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "default"}]});
    let bindings = api(&client, "rbac.authorization.k8s.io", "v1", "RoleBinding");
    bindings.create(&PostParams::default(), &object(binding)).await.unwrap();
    let bot = with_token(&server, &server.service_account_token("default", "bot", None)).await;
    let maps = api(&bot, "", "v1", "ConfigMap");
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 0);
    check_refusal(
        maps.create(&PostParams::default(), &config_map("a", json!({}))).await,
        403,
        "Forbidden",
        "configmaps is forbidden: User \"system:serviceaccount:default:bot\" cannot create resource \"configmaps\" in \
         API group \"\" in the namespace \"default\"",
    );
    let reviews: Api<SelfSubjectAccessReview> = Api::all(bot);
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec":
        {"resourceAttributes": {"verb": "get", "resource": "configmaps", "namespace": "default"}}});
    let review = serde_json::from_value(review).unwrap();
    assert!(reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed);
    bindings.delete("r", &DeleteParams::default()).await.unwrap();
    assert!(maps.list(&ListParams::default()).await.is_err(), "what a role gave goes with it");
}

#[tokio::test]
async fn a_token_that_is_over_or_wrong_is_refused() {
    let server = start().await;
    let over = server.service_account_token("default", "bot", Some(Duration::ZERO));
    for token in [over.as_str(), "wrong"] {
        let maps = api(&with_token(&server, token).await, "", "v1", "ConfigMap");
        check_refusal(maps.list(&ListParams::default()).await, 401, "Unauthorized", "Unauthorized");
    }
}

#[tokio::test]
async fn a_client_finds_the_server_by_its_certificate() {
    let settings = wattle_api_server::Settings { tls: true, ..Default::default() };
    let server = wattle_api_server::ApiServer::start(settings).await.unwrap();
    assert!(
        server.url().starts_with("https://") && server.authority().unwrap().contains("BEGIN CERTIFICATE")
    );
    let maps = api(&admin(&server).await, "", "v1", "ConfigMap");
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn nobody_hands_out_rights_he_does_not_have() {
    let server = start().await;
    let client = admin(&server).await;
    let writer = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "writer"},
        "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]});
    let roles = api(&client, "rbac.authorization.k8s.io", "v1", "Role");
    roles.create(&PostParams::default(), &object(writer)).await.unwrap();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "writer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "writer"},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "default"}]});
    let bindings = api(&client, "rbac.authorization.k8s.io", "v1", "RoleBinding");
    bindings.create(&PostParams::default(), &object(binding)).await.unwrap();
    let bot = with_token(&server, &server.service_account_token("default", "bot", None)).await;
    let roles = api(&bot, "rbac.authorization.k8s.io", "v1", "Role");
    check_refusal(
        roles.create(&PostParams::default(), &object(role(&["get", "list"]))).await,
        403,
        "Forbidden",
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"system:serviceaccount:default:bot\" \
         (groups=[\"system:serviceaccounts\" \"system:serviceaccounts:default\" \"system:authenticated\"]) is \
         attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"configmaps\"], Verbs:[\"get\" \"list\"]}",
    );
    roles.create(&PostParams::default(), &object(role(&["get"]))).await.unwrap();
}
