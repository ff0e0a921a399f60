//! Paths that lead to nothing, to health, and to more than fits.

use serde_json::json;

use crate::raw::{MAPS, get, made_map, patch, post, send};
use crate::server::{admin, cluster_api, start, with_token};
use kube::api::PostParams;

const NOT_FOUND: &str = "the server could not find the requested resource";

#[tokio::test]
async fn what_is_not_there_is_not_found_by_whom_the_path_belongs_to() {
    let server = start().await;
    let client = admin(&server).await;
    let definitions = cluster_api(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &crate::custom::definition()).await.unwrap();
    for path in
        ["/api/v1/nopes", "/apis/apps/v1/namespaces/default/nopes/a", "/api/v1/namespaces/default/nodes"]
    {
        let answer = get(&client, path).await;
        answer.refused_with(404, NOT_FOUND);
        assert_eq!(answer.json()["details"], json!({}), "{path}");
    }
    let plain =
        ["/apis/example.dev/v1/nopes", "/apis/example.dev/v2/grids", "/apis/nope/v1/things", "/api/v2/pods"];
    for path in plain.into_iter().chain(["/apis/example.dev/v1/grids/g"]) {
        let answer = get(&client, path).await;
        assert_eq!((answer.code, answer.text.as_str()), (404, "404 page not found\n"), "{path}");
    }
    // A list of all namespaces, but no object in none.
    get(&client, "/apis/example.dev/v1/grids").await.succeeded();
    let posted = post(&client, "/apis/example.dev/v1/grids", json!({})).await;
    assert_eq!((posted.code, posted.text.as_str()), (404, "404 page not found\n"));
    get(&client, "/apis/example.dev/v1/namespaces/default/grids/g/foo")
        .await
        .refused_with(404, "grids.example.dev \"g\" not found");
    get(&client, &format!("{MAPS}/a/foo")).await.refused_with(404, NOT_FOUND);
}

#[tokio::test]
async fn refusals_without_details_have_empty_ones() {
    let server = start().await;
    let client = admin(&server).await;
    let bot = with_token(&server, &server.service_account_token("default", "bot", None)).await;
    let refused = get(&bot, "/metrics").await;
    refused.refused_with(
        403,
        "forbidden: User \"system:serviceaccount:default:bot\" cannot get path \"/metrics\"",
    );
    assert_eq!(refused.json()["details"], json!({}));
    made_map(&client, "a").await;
    let wrong = json!([{"op": "test", "path": "/data/a", "value": "9"}]);
    let refused = patch(&client, &format!("{MAPS}/a"), "application/json-patch+json", wrong).await;
    assert_eq!((refused.code, &refused.json()["details"]), (422, &json!({})));
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_a_status() {
    let server = start().await;
    let client = admin(&server).await;
    let body = json!({"metadata": {"name": "a"}, "data": {"a": "x".repeat(3_200_000)}}).to_string();
    let refused = send(&client, "POST", MAPS, &[("content-type", "application/json")], &body).await;
    refused.refused_with(413, "Request entity too large: limit is 3145728");
    assert_eq!(refused.json()["reason"], "RequestEntityTooLarge");
}

#[tokio::test]
async fn health_is_told_check_by_check() {
    let server = start().await;
    let client = admin(&server).await;
    for path in ["/healthz", "/livez/ping", "/readyz/etcd", "/healthz/log"] {
        let answer = get(&client, path).await;
        assert_eq!((answer.code, answer.text.as_str()), (200, "ok"), "{path}");
    }
    let verbose = get(&client, "/readyz?verbose").await.text;
    assert!(verbose.starts_with("[+]ping ok\n") && verbose.ends_with("readyz check passed\n"), "{verbose}");
    assert_eq!(get(&client, "/livez/nope").await.code, 404);
    let paths = get(&client, "/").await.succeeded()["paths"].clone();
    for path in ["/api/v1", "/apis/apps/v1", "/livez/ping", "/openapi/v3", "/version"] {
        assert!(paths.as_array().unwrap().contains(&json!(path)), "{paths}");
    }
}
