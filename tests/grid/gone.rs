//! A request that comes again after what it named is gone: what was done is known, and is not done again.

use bytes::Bytes;
use tonic::Code;
use wattle_client::UploadOptions;
use wattle_proto::v1;
use wattle_proto::v1::operation::Operation as One;

use crate::harness::TestNode;
use crate::harness::examples::slow_counter;
use crate::harness::guest::Guest;
use crate::harness::wire::{Wire, eventually, facts, put, refusal};

const M: &str = "m";

async fn upload(node: &TestNode, name: &str, guest: &Guest) {
    let options = UploadOptions::new().cpu_budget(std::time::Duration::from_millis(100));
    node.client().await.functions().upload(name, guest.module(), &options).await.unwrap();
}

fn invoke(request_id: Option<v1::RequestId>) -> v1::InvokeRequest {
    let key = Bytes::from_static(b"k");
    v1::InvokeRequest { function: "count".into(), map: M.into(), key, argument: Bytes::new(), request_id }
}

#[tokio::test]
async fn an_applied_invocation_is_answered_after_its_function_was_deleted() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    upload(&node, "count", &Guest::counter()).await;
    let first = wire.compute.invoke(invoke(wire.id(1))).await.unwrap().into_inner();
    node.client().await.functions().delete("count").await.unwrap();
    assert_eq!(wire.compute.invoke(invoke(wire.id(1))).await.unwrap().into_inner(), first);
    let keys = vec![Bytes::from_static(b"k")];
    let request = v1::InvokeKeysRequest {
        function: "count".into(),
        map: M.into(),
        keys,
        request_id: wire.id(1),
        ..Default::default()
    };
    let mut parts = wire.compute.invoke_keys(request.clone()).await.unwrap().into_inner();
    let part = parts.message().await.unwrap().unwrap();
    assert_eq!((part.failed, &part.entries[0].response), (0, &first.response));
    for refused in [
        wire.compute.invoke(invoke(wire.id(2))).await.unwrap_err(),
        wire.compute
            .invoke_keys(v1::InvokeKeysRequest { request_id: wire.id(2), ..request })
            .await
            .unwrap_err(),
    ] {
        assert_eq!(facts(&refused), refusal(Code::NotFound, "FUNCTION_NOT_FOUND", "NOT_APPLIED"));
    }
    assert_eq!(wire.value(M, "k").await.unwrap().as_ref(), 1u64.to_le_bytes());
}

#[tokio::test]
async fn an_applied_removal_is_answered_after_its_map_was_deleted() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    wire.maps.put(put(M, "k", "v", wire.id(1))).await.unwrap();
    let remove = |request_id| v1::RemoveRequest {
        map: M.into(),
        key: Bytes::from_static(b"k"),
        return_previous: true,
        request_id,
        ..Default::default()
    };
    let first = wire.maps.remove(remove(wire.id(2))).await.unwrap().into_inner();
    assert_eq!(first.previous.as_deref(), Some(&b"v"[..]));
    wire.maps.delete_map(v1::DeleteMapRequest { name: M.into() }).await.unwrap();
    assert_eq!(wire.maps.remove(remove(wire.id(2))).await.unwrap().into_inner(), first);
    let refused = wire.maps.remove(remove(wire.id(3))).await.unwrap_err();
    assert_eq!(facts(&refused), refusal(Code::NotFound, "MAP_NOT_FOUND", "NOT_APPLIED"));
    wire.maps.put(put(M, "k", "of another map", wire.id(4))).await.unwrap();
    assert_eq!(wire.maps.remove(remove(wire.id(2))).await.unwrap().into_inner(), first);
    assert_eq!(wire.value(M, "k").await.unwrap(), "of another map");
}

/// One operation that is done at once, and invocations on one key, each of which takes a turn.
fn batch(request_id: Option<v1::RequestId>) -> v1::BatchRequest {
    let one = |operation| v1::Operation { operation: Some(operation) };
    let hit = v1::IncrementRequest {
        map: M.into(),
        key: Bytes::from_static(b"{t}hits"),
        delta: 1,
        ..Default::default()
    };
    let count = v1::OperationInvoke {
        function: "slow".into(),
        map: M.into(),
        key: Bytes::from_static(b"{t}k"),
        ..Default::default()
    };
    let counts = std::iter::repeat_n(one(One::Invoke(count)), 8);
    let operations = std::iter::once(one(One::Increment(hit))).chain(counts).collect();
    v1::BatchRequest { operations, request_id }
}

#[tokio::test]
async fn a_whole_map_call_lets_other_calls_of_its_partition_go_between() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    upload(&node, "slow", &slow_counter()).await;
    upload(&node, "count", &Guest::counter()).await;
    let entry = |number: u32| {
        let put = v1::PutRequest {
            map: M.into(),
            key: format!("{{k}}{number}").into(),
            value: Bytes::from_static(&[0; 8]),
            ..Default::default()
        };
        v1::Operation { operation: Some(One::Put(put)) }
    };
    let operations = (0..20_000).map(entry).collect();
    wire.maps.batch(v1::BatchRequest { operations, request_id: None }).await.unwrap();
    let all = v1::InvokeAllRequest { function: "slow".into(), map: M.into(), ..Default::default() };
    let mut parts = wire.compute.invoke_all(all).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while seen.iter().all(|part: &v1::InvokePart| part.processed == 0) {
        seen.push(parts.message().await.unwrap().unwrap());
    }
    let of = |parts: &[v1::InvokePart]| parts.iter().map(|part| part.processed).sum::<u64>();
    let early = of(&seen);
    assert!(early < 20_000, "the call gave way after {early} entries");
    let counted = wire.compute.clone().invoke(invoke(None)).await.unwrap().into_inner();
    assert_eq!(counted.response.as_ref(), 1u64.to_le_bytes());
    while let Some(part) = parts.message().await.unwrap() {
        seen.push(part);
    }
    assert_eq!(of(&seen), 20_000);
}

#[tokio::test]
async fn a_duplicate_does_not_overtake_a_request_that_takes_turns() {
    let node = TestNode::start();
    let (mut wire, mut other) = (Wire::to(&node).await, Wire::to(&node).await);
    upload(&node, "slow", &slow_counter()).await;
    let request = batch(wire.id(1));
    let first = tokio::spawn({
        let (mut maps, request) = (wire.maps.clone(), request.clone());
        async move { maps.batch(request).await.unwrap().into_inner() }
    });
    let seen = &other;
    eventually(|| async {
        let key = Bytes::from_static(b"{t}hits");
        let get = v1::GetRequest { map: M.into(), key };
        seen.maps.clone().get(get).await.ok()?.into_inner().value
    })
    .await;
    node.client().await.functions().delete("slow").await.unwrap();
    let again = other.maps.batch(request).await.unwrap().into_inner();
    assert_eq!(again, first.await.unwrap());
    assert_eq!(wire.value(M, "{t}hits").await.unwrap(), "1");
    assert_eq!(wire.value(M, "{t}k").await.unwrap().as_ref(), 8u64.to_le_bytes());
}

/// Nine values fill an answer: what comes behind them does not run.
fn full_batch(request_id: Option<v1::RequestId>) -> v1::BatchRequest {
    let get = v1::GetRequest { map: M.into(), key: Bytes::from_static(b"{t}large") };
    let gets = std::iter::repeat_n(v1::Operation { operation: Some(One::Get(get)) }, 9);
    let mut request = batch(request_id);
    let last = v1::Operation { operation: request.operations[0].operation.clone() };
    let counts = request.operations.split_off(1);
    request.operations.extend(gets.chain(counts).chain([last]));
    request
}

#[tokio::test]
async fn a_duplicate_does_not_overtake_a_repetition_that_takes_turns() {
    let node = TestNode::start();
    let (mut wire, mut other) = (Wire::to(&node).await, Wire::to(&node).await);
    upload(&node, "slow", &slow_counter()).await;
    let large = v1::PutRequest { value: vec![7; 1 << 20].into(), ..put(M, "{t}large", "", None) };
    wire.maps.put(large).await.unwrap();
    let request = full_batch(wire.id(1));
    let mut roomy = wire.maps.clone().max_decoding_message_size(16 << 20);
    roomy.batch(request.clone()).await.unwrap();
    assert_eq!(wire.value(M, "{t}hits").await.unwrap(), "1", "the last has not run");
    let remove =
        v1::RemoveRequest { map: M.into(), key: Bytes::from_static(b"{t}large"), ..Default::default() };
    wire.maps.remove(remove).await.unwrap();
    let again = tokio::spawn({
        let (mut maps, request) = (wire.maps.clone(), request.clone());
        async move { maps.batch(request).await.unwrap().into_inner() }
    });
    let seen = &other;
    eventually(|| async {
        let key = Bytes::from_static(b"{t}k");
        let get = v1::GetRequest { map: M.into(), key };
        seen.maps.clone().get(get).await.ok()?.into_inner().value
    })
    .await;
    node.client().await.functions().delete("slow").await.unwrap();
    let duplicate = other.maps.batch(request).await.unwrap().into_inner();
    assert_eq!(duplicate, again.await.unwrap());
    assert_eq!(wire.value(M, "{t}hits").await.unwrap(), "2");
    assert_eq!(wire.value(M, "{t}k").await.unwrap().as_ref(), 8u64.to_le_bytes());
}
