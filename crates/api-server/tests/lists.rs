//! Lists, reads and watches at resource versions.

use serde_json::Value;

use crate::raw::{Answer, MAPS, get, made_map};
use crate::server::{admin, api, config_map, next, start, status};
use kube::Client;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};

async fn list(client: &Client, query: &str) -> Answer {
    get(client, &format!("{MAPS}?{query}")).await
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_limit_counts_only_where_the_real_server_reads_its_storage() {
    let server = start().await;
    let client = admin(&server).await;
    for name in ["a", "b"] {
        made_map(&client, name).await;
    }
    let from_cache = list(&client, "limit=1&resourceVersion=0").await.succeeded();
    assert_eq!(names(&from_cache), ["a", "b"]);
    assert_eq!(from_cache["metadata"].get("continue"), None);
    let version = from_cache["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    made_map(&client, "c").await;
    // With a limit, a version is the one that is shown, without one the oldest that will do.
    let exact = list(&client, &format!("limit=9&resourceVersion={version}")).await.succeeded();
    assert_eq!(names(&exact), ["a", "b"]);
    let newest = list(&client, &format!("resourceVersion={version}")).await.succeeded();
    assert_eq!(names(&newest), ["a", "b", "c"]);
    let at_least = format!("limit=9&resourceVersion={version}&resourceVersionMatch=NotOlderThan");
    assert_eq!(names(&list(&client, &at_least).await.succeeded()), ["a", "b", "c"]);
}

#[tokio::test]
async fn options_of_lists_exclude_each_other() {
    let server = start().await;
    let client = admin(&server).await;
    for name in ["a", "b"] {
        made_map(&client, name).await;
    }
    let page = list(&client, "limit=1").await.succeeded();
    let token = page["metadata"]["continue"].as_str().unwrap();
    list(&client, &format!("continue={token}&resourceVersion=5"))
        .await
        .refused_with(400, "specifying resource version is not allowed when using continue");
    assert_eq!(
        names(&list(&client, &format!("continue={token}&resourceVersion=0")).await.succeeded()),
        ["b"]
    );
    let refused = async |query: &str, expected: &str| {
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {expected}");
        list(&client, query).await.refused_with(422, &message);
    };
    refused(
        &format!("continue={token}&resourceVersionMatch=Exact"),
        "[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided, \
         resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided]",
    )
    .await;
    refused(
        "sendInitialEvents=true",
        "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
    )
    .await;
    refused(
        "resourceVersion=1&resourceVersionMatch=Some",
        "resourceVersionMatch: Unsupported value: \"Some\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
    )
    .await;
    refused(
        "resourceVersion=0&resourceVersionMatch=Exact",
        "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
    )
    .await;
}

#[tokio::test]
async fn an_object_is_not_read_at_a_version_that_is_to_come() {
    let server = start().await;
    let client = admin(&server).await;
    made_map(&client, "a").await;
    let current = server.resource_version();
    let path = format!("{MAPS}/a");
    get(&client, &format!("{path}?resourceVersion=99999"))
        .await
        .refused_with(504, &format!("Too large resource version: 99999, current: {current}"));
    assert_eq!(get(&client, &format!("{MAPS}/b?resourceVersion=99999")).await.code, 504);
    get(&client, &format!("{path}?resourceVersion={current}")).await.succeeded();
    get(&client, &format!("{path}?resourceVersion=abc")).await.refused_with(
        500,
        "resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax",
    );
}

#[tokio::test]
async fn a_watch_waits_for_a_version_that_is_to_come() {
    let server = start().await;
    let client = admin(&server).await;
    let maps = api(&client, "", "v1", "ConfigMap");
    let from = server.resource_version() + 2;
    let stream = maps.watch(&WatchParams::default(), &from.to_string()).await.unwrap();
    let mut stream = Box::pin(stream);
    for name in ["a", "b", "c"] {
        maps.create(&PostParams::default(), &config_map(name, serde_json::json!({}))).await.unwrap();
    }
    // Those before are not told.
    let WatchEvent::Added(first) = next(&mut stream).await.unwrap() else { panic!("nothing was added") };
    assert_eq!(first.metadata.name.as_deref(), Some("c"));
    let refused = status(maps.list(&ListParams::default().at("99999")).await);
    assert_eq!(refused.code, 504);
}
