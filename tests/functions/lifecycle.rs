//! A function's name and the versions it points to: upload, stage, promote, roll back, delete, while calls go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::Code;
use wattle_client::api::FunctionState;
use wattle_client::{Client, Error, Outcome, Responses, UploadOptions};

use crate::harness::TestNode;
use crate::harness::examples::example;

/// Late by the rule of version 1, very late by that of version 2.
const FLIGHT: &str = r#"{"dep_time":900,"dep_delay":20,"arr_delay":100}"#;
const BY_V1: &str = r#"{"delay":"late","minutes":20}"#;
const BY_V2: &str = r#"{"delay":"very-late","minutes":100}"#;

async fn client() -> (TestNode, Client) {
    let node = TestNode::start();
    let client = node.client().await;
    (node, client)
}

async fn upload(client: &Client, package: &str, options: UploadOptions) -> u32 {
    client.functions().upload("judge", example(package), &options).await.unwrap().version
}

async fn judged(client: &Client) -> Result<String, Error> {
    let invoked = client.raw_map("flights").invoke("judge", "f", "null").await?;
    Ok(String::from_utf8(invoked.response.to_vec()).unwrap())
}

fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, code: Code, reason: &str) {
    let error = result.expect_err("it is refused");
    let failure = error.failure().expect("it is the node's refusal");
    let facts = (failure.code(), failure.reason(), failure.outcome());
    assert_eq!(facts, (code, Some(reason), Some(Outcome::NotApplied)), "{error}");
}

#[tokio::test]
async fn a_name_moves_on_back_and_away() {
    let (_node, client) = client().await;
    client.raw_map("flights").put("f", FLIGHT).await.unwrap();
    assert_eq!(upload(&client, "flight-delay", UploadOptions::new()).await, 1);
    assert_eq!(judged(&client).await.unwrap(), BY_V1);
    assert_refused(
        client.functions().rollback("judge").await,
        Code::FailedPrecondition,
        "NOTHING_TO_ROLL_BACK",
    );
    assert_eq!(upload(&client, "flight-delay-v2", UploadOptions::new().stage()).await, 2);
    assert_eq!(judged(&client).await.unwrap(), BY_V1, "a staged version does not run");
    let promoted = client.functions().promote("judge", 2).await.unwrap();
    assert_eq!((promoted.active, promoted.previous), (2, 1));
    assert_eq!(judged(&client).await.unwrap(), BY_V2);
    let back = client.functions().rollback("judge").await.unwrap();
    assert_eq!((back.active, back.previous), (1, 2));
    assert_eq!(judged(&client).await.unwrap(), BY_V1);
    client.functions().promote_newest("judge").await.unwrap();
    assert_eq!(judged(&client).await.unwrap(), BY_V2);
    assert_refused(client.functions().promote("judge", 9).await, Code::NotFound, "VERSION_NOT_FOUND");
    client.functions().delete("judge").await.unwrap();
    assert_refused(judged(&client).await, Code::NotFound, "FUNCTION_NOT_FOUND");
    assert_refused(client.functions().delete("judge").await, Code::NotFound, "FUNCTION_NOT_FOUND");
    assert_eq!(client.functions().list().await.unwrap(), []);
    assert_eq!(upload(&client, "flight-delay", UploadOptions::new()).await, 1, "a new function begins anew");
    assert_eq!(judged(&client).await.unwrap(), BY_V1);
}

#[tokio::test]
async fn a_function_that_is_only_staged_cannot_be_called() {
    let (_node, client) = client().await;
    client.raw_map("flights").put("f", FLIGHT).await.unwrap();
    upload(&client, "flight-delay", UploadOptions::new().stage()).await;
    let (function, _) = client.functions().describe("judge").await.unwrap();
    assert_eq!((function.state(), function.active), (FunctionState::Staged, 0));
    assert_refused(judged(&client).await, Code::FailedPrecondition, "FUNCTION_STAGED");
    assert_eq!(client.functions().promote("judge", 1).await.unwrap().state(), FunctionState::Active);
    assert_eq!(judged(&client).await.unwrap(), BY_V1);
}

#[tokio::test]
async fn the_same_bytes_are_the_same_version() {
    let (_node, client) = client().await;
    let first = upload(&client, "flight-delay", UploadOptions::new()).await;
    let second = upload(&client, "flight-delay-v2", UploadOptions::new()).await;
    assert_eq!(upload(&client, "flight-delay", UploadOptions::new()).await, first);
    let (function, _) = client.functions().describe("judge").await.unwrap();
    assert_eq!((function.active, function.previous, function.versions.len()), (first, second, 2));
}

#[tokio::test]
async fn a_description_says_what_was_uploaded_and_what_ran() {
    let (_node, client) = client().await;
    crate::harness::examples::upload(&client, "counter", "add").await;
    crate::harness::examples::upload(&client, "counter", "read").await;
    let listed = client.functions().list().await.unwrap();
    assert_eq!(listed.iter().map(|function| function.name.as_str()).collect::<Vec<_>>(), ["add", "read"]);
    let bytes = example("counter");
    let version = &listed[1].versions[0];
    assert_eq!(
        (version.number, version.size_bytes, version.export.as_str()),
        (1, bytes.len() as u64, "read")
    );
    assert!(version.read_only && version.deterministic && !listed[0].versions[0].read_only);
    assert_eq!(version.module, listed[0].versions[0].module, "both are exports of one module");
    assert_eq!(version.module.len(), 64);
    let map = client.raw_map("m");
    for argument in ["1", "1", "nonsense"] {
        drop(map.invoke("add", "k", argument).await);
    }
    let (_, statistics) = client.functions().describe("add").await.unwrap();
    assert_eq!((statistics.batches, statistics.applied, statistics.not_applied), (3, 2, 1));
    assert_eq!((statistics.stops, statistics.instances > 0), (0, true));
}

#[tokio::test]
async fn an_export_must_be_named_if_there_are_several() {
    let (_node, client) = client().await;
    let several = client.functions().upload("f", example("counter"), &UploadOptions::new()).await;
    let error = several.unwrap_err();
    assert_eq!(error.outcome(), Some(Outcome::NotApplied));
    let message = error.failure().unwrap().message().to_owned();
    assert!(message.contains("add") && message.contains("read"), "{message}");
    let unknown =
        client.functions().upload("f", example("counter"), &UploadOptions::new().export("none")).await;
    assert_eq!(unknown.unwrap_err().outcome(), Some(Outcome::NotApplied));
    assert_eq!(client.functions().list().await.unwrap(), []);
}

/// Calls the function until told to stop; how often each version answered. The map holds nothing but the same flight.
async fn call_until(client: Client, stop: Arc<AtomicBool>, modules: [String; 2]) -> [u32; 2] {
    let map = client.raw_map("flights");
    let mut counts = [0; 2];
    while !stop.load(Ordering::Relaxed) {
        let invoked = map.invoke("judge", "f", "null").await.expect("no call fails");
        let which = usize::from(invoked.response == BY_V2);
        assert_eq!(invoked.response, [BY_V1, BY_V2][which], "it is one version's answer");
        assert_eq!(invoked.module, modules[which], "and that version is named");
        counts[which] += 1;
        let mut all = map.invoke_all("judge", "null", Responses::Collect).await.expect("no call fails");
        let mut answers = Vec::new();
        while let Some(part) = all.next().await.expect("no call fails") {
            assert!(part.error.is_none(), "{part:?}");
            answers.extend(part.entries.into_iter().map(|entry| entry.response.expect("no entry fails")));
        }
        assert_eq!(answers.len(), 40);
        assert!(answers.iter().all(|answer| answer == &answers[0]), "one call runs one version");
    }
    counts
}

#[tokio::test]
async fn calls_during_swaps_run_one_version_and_none_fails() {
    let (node, client) = client().await;
    let map = client.raw_map("flights");
    map.put("f", FLIGHT).await.unwrap();
    for n in 0..39 {
        map.put(format!("f{n}"), FLIGHT).await.unwrap();
    }
    upload(&client, "flight-delay", UploadOptions::new()).await;
    upload(&client, "flight-delay-v2", UploadOptions::new()).await;
    let (function, _) = client.functions().describe("judge").await.unwrap();
    let modules = [0, 1].map(|version: usize| function.versions[version].module.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    for _ in 0..3 {
        callers.push(tokio::spawn(call_until(node.client().await, Arc::clone(&stop), modules.clone())));
    }
    for round in 0..60 {
        if round % 2 == 0 {
            client.functions().rollback("judge").await.unwrap();
        } else {
            client.functions().promote("judge", 2).await.unwrap();
        }
        // What was answered is in force: who calls now runs the new version.
        assert_eq!(judged(&client).await.unwrap(), [BY_V1, BY_V2][round % 2], "round {round}");
    }
    stop.store(true, Ordering::Relaxed);
    let mut counts = [0; 2];
    for caller in callers {
        let [v1, v2] = caller.await.unwrap();
        counts = [counts[0] + v1, counts[1] + v2];
    }
    assert!(counts[0] > 0 && counts[1] > 0, "both versions were called meanwhile: {counts:?}");
}
