//! A repetition whose names stand for nothing any more, or for something else, while an earlier attempt waits or after it was
//! done: it goes behind that attempt, and has its answer.

use bytes::Bytes;
use tonic::Code;
use wattle::config::RawConfig;
use wattle_client::UploadOptions;
use wattle_proto::v1;
use wattle_proto::v1::operation::Operation as One;

use crate::harness::TestNode;
use crate::harness::examples::slow_counter;
use crate::harness::guest::Guest;
use crate::harness::wire::{Wire, eventually, facts, put, refusal};

const M: &str = "m";
/// Each takes a turn of some ten milliseconds.
const TURNS: usize = 60;

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn number(n: u64) -> Bytes {
    Bytes::copy_from_slice(&n.to_le_bytes())
}

async fn upload(node: &TestNode, name: &str, guest: &Guest) {
    let options = UploadOptions::new().cpu_budget(std::time::Duration::from_millis(100));
    node.client().await.functions().upload(name, guest.module(), &options).await.unwrap();
}

/// A node with one partition, where so much slow work waits that what comes now has to wait, too.
async fn busy_node() -> (TestNode, Wire) {
    let node = TestNode::with(RawConfig { partitions: Some(1), ..RawConfig::default() });
    let wire = Wire::to(&node).await;
    upload(&node, "slow", &slow_counter()).await;
    upload(&node, "count", &Guest::counter()).await;
    let slow = v1::OperationInvoke {
        function: "slow".into(),
        map: M.into(),
        key: key("busy"),
        ..Default::default()
    };
    let operations = vec![v1::Operation { operation: Some(One::Invoke(slow)) }; TURNS];
    let mut maps = wire.maps.clone();
    tokio::spawn(async move { maps.batch(v1::BatchRequest { operations, request_id: None }).await });
    waiting(&node, 1).await;
    (node, wire)
}

/// Waits until so many calls wait for turns.
async fn waiting(node: &TestNode, calls: u64) {
    let name = "wattle_inbox_operations{lane=\"slow\"}";
    eventually(async || (node.metric(name).await == calls).then_some(())).await;
}

async fn invoke(wire: &Wire, request_id: Option<v1::RequestId>) -> v1::InvokeResponse {
    let request = v1::InvokeRequest {
        function: "count".into(),
        map: M.into(),
        key: key("one"),
        request_id,
        ..Default::default()
    };
    wire.compute.clone().invoke(request).await.unwrap().into_inner()
}

async fn invoke_keys(wire: &Wire, request_id: Option<v1::RequestId>) -> v1::InvokePart {
    let request = v1::InvokeKeysRequest {
        function: "count".into(),
        map: M.into(),
        keys: vec![key("a"), key("b")],
        request_id,
        ..Default::default()
    };
    let mut parts = wire.compute.clone().invoke_keys(request).await.unwrap().into_inner();
    parts.message().await.unwrap().unwrap()
}

#[tokio::test]
async fn a_duplicate_without_its_function_has_the_answer_of_the_attempt_that_waits() {
    let (node, mut wire) = busy_node().await;
    let other = Wire::to(&node).await;
    let (first, of_one) = (wire.clone(), wire.id(1));
    let first = tokio::spawn(async move { invoke(&first, of_one).await });
    waiting(&node, 2).await;
    let (second, of_keys) = (wire.clone(), wire.id(2));
    let second = tokio::spawn(async move { invoke_keys(&second, of_keys).await });
    waiting(&node, 3).await;
    node.client().await.functions().delete("count").await.unwrap();
    let again = tokio::join!(invoke(&other, wire.id(1)), invoke_keys(&other, wire.id(2)));
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!((&first.response, first.outcome()), (&number(1), v1::Outcome::Applied));
    assert_eq!((second.processed, second.failed), (2, 0));
    assert_eq!(again, (first, second));
    for name in ["one", "a", "b"] {
        assert_eq!(wire.value(M, name).await.unwrap(), number(1), "{name}");
    }
}

#[tokio::test]
async fn a_call_on_all_that_waits_is_in_doubt_without_its_function() {
    let (node, wire) = busy_node().await;
    let all = |request_id| v1::InvokeAllRequest {
        function: "count".into(),
        map: M.into(),
        request_id,
        ..Default::default()
    };
    let mut parts = wire.compute.clone().invoke_all(all(wire.id(1))).await.unwrap().into_inner();
    waiting(&node, 2).await;
    node.client().await.functions().delete("count").await.unwrap();
    let mut other = Wire::to(&node).await.compute;
    let refused = other.invoke_all(all(wire.again(1))).await.unwrap_err();
    assert_eq!(facts(&refused), refusal(Code::NotFound, "FUNCTION_NOT_FOUND", "IN_DOUBT"));
    let part = parts.message().await.unwrap().unwrap();
    assert_eq!((part.processed, part.failed), (1, 0));
    let refused = other.invoke_all(all(wire.again(2))).await.unwrap_err();
    assert_eq!(facts(&refused), refusal(Code::NotFound, "FUNCTION_NOT_FOUND", "NOT_APPLIED"));
}

#[tokio::test]
async fn an_applied_put_is_answered_after_its_map_became_one_that_refuses_the_value() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    let first = wire.maps.put(put(M, "k", "no JSON", wire.id(1))).await.unwrap().into_inner();
    let pair = |request_id| {
        let one = |name, value| v1::Operation { operation: Some(One::Put(put(M, name, value, None))) };
        let operations = vec![one("{t}a", "no JSON"), one("{t}b", "7")];
        v1::BatchRequest { operations, request_id }
    };
    let both = wire.maps.batch(pair(wire.id(2))).await.unwrap().into_inner();
    wire.maps.delete_map(v1::DeleteMapRequest { name: M.into() }).await.unwrap();
    let options = v1::MapOptions { content_type: v1::ContentType::Json.into(), ..Default::default() };
    let create = v1::CreateMapRequest { name: M.into(), options: Some(options) };
    wire.maps.create_map(create).await.unwrap();
    assert_eq!(wire.maps.put(put(M, "k", "no JSON", wire.id(1))).await.unwrap().into_inner(), first);
    assert_eq!(wire.maps.batch(pair(wire.id(2))).await.unwrap().into_inner(), both);
    assert_eq!(wire.value(M, "{t}b").await, None, "it was put into the map that is gone");
    let refused = wire.maps.put(put(M, "k", "no JSON", wire.id(3))).await.unwrap_err();
    assert_eq!(facts(&refused), refusal(Code::InvalidArgument, "INVALID_VALUE", "NOT_APPLIED"));
}

#[tokio::test]
async fn a_call_on_all_that_lost_its_map_while_it_waited_is_not_made_by_its_first_attempt() {
    let (node, mut wire) = busy_node().await;
    wire.put_by_another(M, "k", "").await;
    let all = |request_id| v1::InvokeAllRequest {
        function: "count".into(),
        map: M.into(),
        request_id,
        ..Default::default()
    };
    let mut again = wire.compute.invoke_all(all(wire.again(1))).await.unwrap().into_inner();
    waiting(&node, 2).await;
    wire.maps.delete_map(v1::DeleteMapRequest { name: M.into() }).await.unwrap();
    let told = again.message().await.unwrap().unwrap();
    let error = told.error.as_ref().unwrap();
    assert_eq!((error.reason.as_str(), error.outcome()), ("MAP_NOT_FOUND", v1::Outcome::NotApplied));
    wire.put_by_another(M, "k", "").await;
    let mut first = wire.compute.invoke_all(all(wire.id(1))).await.unwrap().into_inner();
    assert_eq!(first.message().await.unwrap().unwrap(), told);
    assert_eq!(wire.value(M, "k").await.unwrap(), "");
}
