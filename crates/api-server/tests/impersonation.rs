//! Whoever may, acts as somebody else.

use kube::Client;
use serde_json::json;

use crate::raw::{Answer, JSON, get, post, send};
use crate::server::{admin, start, with_token};

const NAMESPACES: &str = "/api/v1/namespaces";

async fn acting(client: &Client, headers: &[(&str, &str)]) -> Answer {
    send(client, "GET", NAMESPACES, headers, "").await
}

async fn whoami(client: &Client, headers: &[(&str, &str)]) -> serde_json::Value {
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let all = [headers, &[("content-type", JSON)]].concat();
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    send(client, "POST", path, &all, &review.to_string()).await.succeeded()["status"]["userInfo"].clone()
}

#[tokio::test]
async fn somebody_else_may_only_what_is_his() {
    let server = start().await;
    let client = admin(&server).await;
    acting(&client, &[("Impersonate-User", "nobody")]).await.refused_with(
        403,
        "namespaces is forbidden: User \"nobody\" cannot list resource \"namespaces\" in API group \"\" at the cluster \
         scope",
    );
    acting(&client, &[("Impersonate-User", "nobody"), ("Impersonate-Group", "system:masters")])
        .await
        .succeeded();
    get(&client, NAMESPACES).await.succeeded();
}

#[tokio::test]
async fn who_acts_as_somebody_else_is_known_by_his_groups() {
    let server = start().await;
    let client = admin(&server).await;
    let user = whoami(&client, &[("Impersonate-User", "jane")]).await;
    assert_eq!(user, json!({"username": "jane", "groups": ["system:authenticated"]}));
    let account = whoami(&client, &[("Impersonate-User", "system:serviceaccount:a:bot")]).await;
    assert_eq!(
        account,
        json!({"username": "system:serviceaccount:a:bot",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]})
    );
    let all = whoami(
        &client,
        &[
            ("Impersonate-User", "jane"),
            ("Impersonate-Group", "one"),
            ("Impersonate-Group", "two"),
            ("Impersonate-Uid", "u-1"),
            ("Impersonate-Extra-Scopes", "view"),
            ("Impersonate-Extra-acme.com%2Fproject", "some"),
        ],
    )
    .await;
    assert_eq!(
        all,
        json!({"username": "jane", "uid": "u-1", "groups": ["one", "two", "system:authenticated"],
            "extra": {"scopes": ["view"], "acme.com/project": ["some"]}})
    );
    let nobody =
        whoami(&client, &[("Impersonate-User", "system:anonymous"), ("Impersonate-Group", "system:masters")]);
    assert_eq!(nobody.await["groups"], json!(["system:masters", "system:unauthenticated"]));
}

#[tokio::test]
async fn acting_as_somebody_else_needs_a_right() {
    let server = start().await;
    let client = admin(&server).await;
    let bot = with_token(&server, &server.service_account_token("default", "bot", None)).await;
    let refused = async |headers: &[(&str, &str)], what: &str, resource: &str, group: &str| {
        acting(&bot, headers).await.refused_with(
            403,
            &format!(
                "{what} is forbidden: User \"system:serviceaccount:default:bot\" cannot impersonate resource \
                 {resource:?} in API group {group:?} at the cluster scope"
            ),
        );
    };
    refused(&[("Impersonate-User", "jane")], "users \"jane\"", "users", "").await;
    let role = json!({"metadata": {"name": "janes"}, "rules": [
        {"apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"], "verbs": ["impersonate"]}]});
    post(&client, "/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await.succeeded();
    let binding = json!({"metadata": {"name": "janes"}, "roleRef": {"kind": "ClusterRole", "name": "janes"},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "default"}]});
    post(&client, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await.succeeded();
    assert_eq!(whoami(&bot, &[("Impersonate-User", "jane")]).await["username"], "jane");
    refused(&[("Impersonate-User", "joe")], "users \"joe\"", "users", "").await;
    let jane = ("Impersonate-User", "jane");
    refused(&[jane, ("Impersonate-Group", "g")], "groups \"g\"", "groups", "").await;
    let group = "authentication.k8s.io";
    refused(&[jane, ("Impersonate-Uid", "1")], "uids.authentication.k8s.io \"1\"", "uids", group).await;
    let extra = "userextras.authentication.k8s.io \"v\"";
    refused(&[jane, ("Impersonate-Extra-scopes", "v")], extra, "userextras/scopes", group).await;
    let account = acting(&bot, &[("Impersonate-User", "system:serviceaccount:a:b")]).await;
    account.refused_with(
        403,
        "serviceaccounts \"b\" is forbidden: User \"system:serviceaccount:default:bot\" cannot impersonate resource \
         \"serviceaccounts\" in API group \"\" in the namespace \"a\"",
    );
}

#[tokio::test]
async fn groups_alone_are_nobody() {
    let server = start().await;
    let answer = acting(&admin(&server).await, &[("Impersonate-Group", "dev")]).await;
    assert_eq!((answer.code, answer.media_type.as_str()), (500, "text/plain; charset=utf-8"));
    assert_eq!(
        answer.text,
        "Internal Server Error: \"/api/v1/namespaces\": requested [{Group  dev    }] without impersonating a user\n"
    );
}

#[tokio::test]
async fn rights_of_others_are_told() {
    let server = start().await;
    let client = admin(&server).await;
    let allowed = async |spec: serde_json::Value| {
        let review =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        post(&client, path, review).await.succeeded()["status"]["allowed"].clone()
    };
    let secrets = json!({"verb": "list", "resource": "secrets"});
    assert_eq!(allowed(json!({"user": "jane", "resourceAttributes": secrets})).await, false);
    let as_master = json!({"user": "jane", "groups": ["system:masters"], "resourceAttributes": secrets});
    assert_eq!(allowed(as_master).await, true);
    let version = json!({"verb": "get", "path": "/version"});
    let somebody =
        json!({"user": "jane", "groups": ["system:authenticated"], "nonResourceAttributes": version});
    assert_eq!(allowed(somebody).await, true);
    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    post(&client, rules, json!({"spec": {}})).await.refused_with(400, "no namespace on request");
}
