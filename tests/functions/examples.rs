//! The example guests in a grid.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tonic::Code;
use wattle_client::{Client, Error, Outcome, Postcard, Responses, UploadOptions};

use crate::harness::TestNode;
use crate::harness::examples::{c_example, upload};

async fn with(example: &str, exports: &[&str]) -> (TestNode, Client) {
    let node = TestNode::start();
    let client = node.client().await;
    for export in exports {
        upload(&client, example, export).await;
    }
    (node, client)
}

#[tokio::test]
async fn the_counter_counts_on_one_key_on_keys_and_on_all() {
    let (_node, client) = with("counter", &["add", "read"]).await;
    let map = client.raw_map("m");
    assert_eq!(map.invoke("add", "a", "").await.unwrap().response, "1");
    assert_eq!(map.invoke("add", "a", "-5").await.unwrap().response, "-4");
    let keys = ["a", "b", "a"];
    let mut stream = map.invoke_keys("add", keys, "10").await.unwrap();
    let mut answers = Vec::new();
    let mut last = None;
    while let Some(part) = stream.next().await.unwrap() {
        assert!(part.error.is_none() && part.failed == 0);
        answers.extend(part.entries.into_iter().map(|entry| (entry.key, entry.response.unwrap())));
        last = Some(part.partitions);
    }
    answers.sort();
    let expected =
        [("a", "16"), ("a", "6"), ("b", "10")].map(|(key, sum)| (Bytes::from(key), Bytes::from(sum)));
    assert_eq!((answers, last), (expected.to_vec(), Some(2)));
    let all = map.invoke_all("add", "1", Responses::Collect).await.unwrap();
    let summary = all.finish().await.unwrap();
    assert_eq!((summary.processed, summary.failed, summary.complete), (2, 0, summary.partitions));
    assert_eq!(map.get("a").await.unwrap().unwrap().value, "17");
    assert_eq!(map.invoke("read", "b", "").await.unwrap().response, "11");
    assert_eq!(map.invoke("read", "none", "").await.unwrap().response, "0");
    assert_eq!(map.get("none").await.unwrap(), None, "reading makes no entry");
}

#[tokio::test]
async fn an_overdraft_fails_with_its_code_and_leaves_the_account_as_it_was() {
    let (_node, client) = with("debit", &["debit", "balance"]).await;
    let map = client.raw_map("accounts");
    let account = r#"{"owner":"Alice","balance":100}"#;
    let version = map.put("alice", account).await.unwrap();
    let refused = map.invoke("debit", "alice", "101").await.unwrap_err();
    let Error::FunctionFailed { code, message, failure } = &refused else { panic!("{refused:?}") };
    assert_eq!((*code, message.as_str()), (Some(2), "the balance of 100 does not cover 101"));
    assert_eq!(failure.reason(), Some("FUNCTION_FAILED"));
    assert_eq!((failure.code(), failure.outcome()), (Code::FailedPrecondition, Some(Outcome::NotApplied)));
    let entry = map.get("alice").await.unwrap().unwrap();
    assert_eq!((entry.value.as_ref(), entry.version), (account.as_bytes(), version));
    assert_eq!(map.invoke("debit", "alice", "30").await.unwrap().response, "70");
    assert_eq!(map.invoke("balance", "alice", "null").await.unwrap().response, "70");
    assert_eq!(map.get("alice").await.unwrap().unwrap().value, r#"{"owner":"Alice","balance":70}"#);
    let nobody = map.invoke("debit", "bob", "1").await.unwrap_err();
    assert!(matches!(nobody, Error::FunctionFailed { code: Some(1), .. }), "{nobody:?}");
}

#[tokio::test]
async fn of_many_accounts_only_those_that_would_be_overdrawn_are_refused() {
    let (_node, client) = with("debit", &["debit"]).await;
    let map = client.raw_map("accounts");
    for n in 0..40 {
        map.put(format!("{{t}}{n}"), format!(r#"{{"owner":"{n}","balance":{n}}}"#)).await.unwrap();
    }
    let mut stream = map.invoke_all("debit", "25", Responses::Collect).await.unwrap();
    let (mut done, mut refused) = (0, 0);
    while let Some(part) = stream.next().await.unwrap() {
        for entry in part.entries {
            let n: u64 = std::str::from_utf8(&entry.key[3..]).unwrap().parse().unwrap();
            match entry.response {
                Ok(left) => assert_eq!(left, (n - 25).to_string()),
                Err(Error::FunctionFailed { code: Some(2), .. }) => assert!(n < 25, "{n}"),
                Err(error) => panic!("{error}"),
            }
        }
        (done, refused) = (done + part.processed - part.failed, refused + part.failed);
    }
    assert_eq!((done, refused), (15, 25));
    assert_eq!(map.get("{t}3").await.unwrap().unwrap().value, r#"{"owner":"3","balance":3}"#);
    assert_eq!(map.get("{t}30").await.unwrap().unwrap().value, r#"{"owner":"30","balance":5}"#);
}

#[tokio::test]
async fn flights_are_judged_where_they_are() {
    let (_node, client) = with("flight-delay", &["flight_delay"]).await;
    let map = client.raw_map("flights");
    let flights = HashMap::from([
        ("punctual", (r#"{"dep_time":517,"dep_delay":2,"tail":"N1"}"#, r#"{"delay":"on-time","minutes":2}"#)),
        ("late", (r#"{"dep_time":542,"dep_delay":16}"#, r#"{"delay":"late","minutes":16}"#)),
        ("cancelled", (r#"{"dep_time":null,"dep_delay":null}"#, r#"{"delay":"cancelled","minutes":0}"#)),
    ]);
    for (key, (flight, _)) in &flights {
        map.put(*key, *flight).await.unwrap();
    }
    let mut stream = map.invoke_all("flight_delay", "null", Responses::Collect).await.unwrap();
    let mut count = 0;
    while let Some(part) = stream.next().await.unwrap() {
        for entry in part.entries {
            let key = std::str::from_utf8(&entry.key).unwrap();
            assert_eq!(entry.response.unwrap(), flights[key].1, "{key}");
            count += 1;
        }
    }
    assert_eq!(count, 3);
    let entry = map.get("punctual").await.unwrap().unwrap();
    let judged: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
    let expected = serde_json::json!({"dep_time": 517, "dep_delay": 2, "tail": "N1", "delay": "on-time"});
    assert_eq!(judged, expected);
}

#[derive(Serialize, Deserialize)]
struct Request {
    tokens: u32,
    burst: u32,
    per_second: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Decision {
    allowed: bool,
    left: u32,
    retry_after_ms: u64,
}

#[tokio::test]
async fn the_rate_limiter_takes_tokens_by_key() {
    let (_node, client) = with("rate-limiter", &["take"]).await;
    let map = client.map_with::<String, (), Postcard>("buckets");
    // So slow that nothing comes back during the test.
    let request = Request { tokens: 2, burst: 5, per_second: 1 };
    let mut left = Vec::new();
    for _ in 0..2 {
        let decision: Decision = map.invoke("take", "alice", &request).await.unwrap();
        assert!(decision.allowed && decision.retry_after_ms == 0, "{decision:?}");
        left.push(decision.left);
    }
    assert_eq!(left[0], 3);
    let many = Request { tokens: 5, burst: 5, per_second: 1 };
    let refused: Decision = map.invoke("take", "alice", &many).await.unwrap();
    assert!(!refused.allowed && (1..=5000).contains(&refused.retry_after_ms), "{refused:?}");
    let other: Decision = map.invoke("take", "bob", &many).await.unwrap();
    assert_eq!(other, Decision { allowed: true, left: 0, retry_after_ms: 0 });
    let too_many = Request { tokens: 6, burst: 5, per_second: 1 };
    let refused = map.invoke::<_, Decision, _>("take", "alice", &too_many).await.unwrap_err();
    assert!(matches!(refused, Error::FunctionFailed { code: Some(2), .. }), "{refused:?}");
}

#[tokio::test]
async fn a_processor_in_c_needs_no_sdk() {
    let Some(module) = c_example() else {
        let line = "SKIPPED wattle::functions::examples::a_processor_in_c_needs_no_sdk: clang and lld are not installed";
        // Not by a macro that prints: what those write is captured when a test passes.
        writeln!(std::io::stderr().lock(), "{line}").unwrap();
        return;
    };
    let node = TestNode::start();
    let client = node.client().await;
    let budget = UploadOptions::new().cpu_budget(Duration::from_millis(20));
    let uploaded = client.functions().upload("upper", module, &budget).await.unwrap();
    let version = &uploaded.function.versions[0];
    assert_eq!(version.kind(), wattle_client::api::FunctionKind::SimpleEntryProcessor);
    let map = client.raw_map("m");
    map.put("k", "grid of Nodes").await.unwrap();
    assert_eq!(map.invoke("upper", "k", "").await.unwrap().response, "10");
    assert_eq!(map.get("k").await.unwrap().unwrap().value, "GRID OF NODES");
    let none = map.invoke("upper", "none", "").await.unwrap_err();
    assert!(matches!(none, Error::FunctionFailed { code: Some(1), .. }), "{none:?}");
    for n in 0..300 {
        map.put(format!("{{t}}{n}"), "ab").await.unwrap();
    }
    let keys: Vec<_> = (0..100).map(|n| format!("{{t}}{n}")).collect();
    let some = map.invoke_keys("upper", keys, "").await.unwrap().finish().await.unwrap();
    assert_eq!((some.processed, some.failed), (100, 0));
    let all = map.invoke_all("upper", "", Responses::Discard).await.unwrap().finish().await.unwrap();
    assert_eq!((all.processed, all.failed), (301, 0));
    assert_eq!(map.get("{t}299").await.unwrap().unwrap().value, "AB");
}
