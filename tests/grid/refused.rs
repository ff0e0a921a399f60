//! A first attempt that arrives after its repetition was refused, or found nothing to do: it has that answer, and changes nothing,
//! whatever it would find by then.

use bytes::Bytes;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use wattle::config::RawConfig;
use wattle_proto::v1;
use wattle_proto::v1::operation::Operation as One;
use wattle_proto::v1::operation_result::Result as Answer;

use crate::harness::TestNode;
use crate::harness::examples::upload;
use crate::harness::wire::{Wire, facts, put, refusal};

const M: &str = "m";

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

/// The connection of the first attempt, and the one of its repetition, which has overtaken it.
async fn wires(node: &TestNode) -> (Wire, Wire) {
    let late = Wire::to(node).await;
    let early = Wire { client_id: late.client_id.clone(), ..Wire::to(node).await };
    (late, early)
}

fn put_absent(map: &str, name: &str, request_id: Option<v1::RequestId>) -> v1::PutRequest {
    let condition = Some(v1::put_request::Condition::IfAbsent(true));
    v1::PutRequest { condition, ..put(map, name, "1", request_id) }
}

fn remove(map: &str, name: &str, request_id: Option<v1::RequestId>) -> v1::RemoveRequest {
    v1::RemoveRequest { map: map.into(), key: key(name), request_id, ..Default::default() }
}

fn same(told: &Status, late: &Status, expected: (Code, &str)) {
    assert_eq!(facts(told), refusal(expected.0, expected.1, "NOT_APPLIED"));
    assert_eq!((facts(late), late.message()), (facts(told), told.message()));
    let said = |status: &Status| status.get_error_details().error_info().unwrap().metadata.clone();
    assert_eq!(said(late), said(told));
}

#[tokio::test]
async fn a_write_that_was_refused_is_not_done_by_its_first_attempt() {
    let node = TestNode::start();
    let (mut late, mut early) = wires(&node).await;
    late.put_by_another(M, "k", "text").await;
    let told = early.maps.put(put_absent(M, "k", late.again(1))).await.unwrap_err();
    let add = |request_id| v1::IncrementRequest { map: M.into(), key: key("k"), delta: 1, request_id };
    let not_added = early.maps.increment(add(late.again(2))).await.unwrap_err();
    early.maps.remove(remove(M, "k", None)).await.unwrap();
    same(
        &told,
        &late.maps.put(put_absent(M, "k", late.id(1))).await.unwrap_err(),
        (Code::AlreadyExists, "ALREADY_EXISTS"),
    );
    let refused = late.maps.increment(add(late.id(2))).await.unwrap_err();
    same(&not_added, &refused, (Code::FailedPrecondition, "NOT_AN_INTEGER"));
    assert_eq!(late.value(M, "k").await, None);
}

#[tokio::test]
async fn a_removal_that_found_nothing_takes_nothing_away_later() {
    let node = TestNode::start();
    let (mut late, mut early) = wires(&node).await;
    late.put_by_another(M, "other", "v").await;
    assert!(!early.maps.remove(remove(M, "k", late.again(1))).await.unwrap().into_inner().removed);
    let gone = early.maps.remove(remove("later", "k", late.again(2))).await.unwrap_err();
    let clear =
        |map: &str, request_id| v1::ClearRequest { map: map.into(), request_id, partitions: Vec::new() };
    let not_cleared = early.maps.clear(clear("later", late.again(3))).await.unwrap_err();
    assert_eq!(early.maps.clear(clear(M, late.again(4))).await.unwrap().into_inner().removed, 1);
    for map in [M, "later"] {
        late.put_by_another(map, "k", "v").await;
    }
    assert!(!late.maps.remove(remove(M, "k", late.id(1))).await.unwrap().into_inner().removed);
    let not_found = (Code::NotFound, "MAP_NOT_FOUND");
    same(&gone, &late.maps.remove(remove("later", "k", late.id(2))).await.unwrap_err(), not_found);
    same(&not_cleared, &late.maps.clear(clear("later", late.id(3))).await.unwrap_err(), not_found);
    assert_eq!(late.maps.clear(clear(M, late.id(4))).await.unwrap().into_inner().removed, 1);
    for map in [M, "later"] {
        assert_eq!(late.value(map, "k").await.unwrap(), "v", "{map}");
    }
}

fn debit(map: &str, name: &str, request_id: Option<v1::RequestId>) -> v1::InvokeRequest {
    let argument = Bytes::from_static(b"30");
    v1::InvokeRequest { function: "debit".into(), map: map.into(), key: key(name), argument, request_id }
}

fn account(balance: u64) -> String {
    format!(r#"{{"owner":"Alice","balance":{balance}}}"#)
}

#[tokio::test]
async fn a_debit_that_was_refused_is_not_made_by_its_first_attempt() {
    let node = TestNode::start();
    let (mut late, mut early) = wires(&node).await;
    late.put_by_another(M, "alice", &account(20)).await;
    let unknown = early.compute.invoke(debit(M, "alice", late.again(1))).await.unwrap_err();
    upload(&node.client().await, "debit", "debit").await;
    let overdrawn = early.compute.invoke(debit(M, "alice", late.again(2))).await.unwrap_err();
    assert!(overdrawn.message().contains("the balance of 20 does not cover 30"), "{overdrawn}");
    late.put_by_another(M, "alice", &account(100)).await;
    let refused = late.compute.invoke(debit(M, "alice", late.id(1))).await.unwrap_err();
    same(&unknown, &refused, (Code::NotFound, "FUNCTION_NOT_FOUND"));
    let refused = late.compute.invoke(debit(M, "alice", late.id(2))).await.unwrap_err();
    same(&overdrawn, &refused, (Code::FailedPrecondition, "FUNCTION_FAILED"));
    assert_eq!(late.value(M, "alice").await.unwrap(), account(100));
}

#[tokio::test]
async fn a_batch_is_told_what_its_repetition_was() {
    let node = TestNode::start();
    let (mut late, mut early) = wires(&node).await;
    upload(&node.client().await, "debit", "debit").await;
    late.put_by_another(M, "{t}alice", &account(20)).await;
    late.put_by_another(M, "{t}n", "text").await;
    let invoke = v1::OperationInvoke {
        function: "debit".into(),
        map: M.into(),
        key: key("{t}alice"),
        argument: Bytes::from_static(b"30"),
    };
    let add = |name: &str| {
        One::Increment(v1::IncrementRequest { map: M.into(), key: key(name), delta: 1, request_id: None })
    };
    let get = One::Get(v1::GetRequest { map: M.into(), key: key("{t}n") });
    let slow = vec![One::Invoke(invoke), add("{t}n"), get.clone()];
    let short = vec![add("{t}n"), get];
    let batch = |operations: &[One], request_id| {
        let operation = |one: &One| v1::Operation { operation: Some(one.clone()) };
        v1::BatchRequest { operations: operations.iter().map(operation).collect(), request_id }
    };
    for (sequence, operations) in [(1, slow), (2, short)] {
        late.put_by_another(M, "{t}alice", &account(20)).await;
        late.put_by_another(M, "{t}n", "text").await;
        let told =
            early.maps.batch(batch(&operations, late.again(sequence))).await.unwrap().into_inner().results;
        late.put_by_another(M, "{t}alice", &account(100)).await;
        late.put_by_another(M, "{t}n", "41").await;
        let first =
            late.maps.batch(batch(&operations, late.id(sequence))).await.unwrap().into_inner().results;
        let (read, refused) = first.split_last().unwrap();
        assert_eq!(refused, &told[..refused.len()]);
        assert!(refused.iter().all(|result| matches!(result.result, Some(Answer::Error(_)))), "{refused:?}");
        assert!(
            matches!(&read.result, Some(Answer::Get(got)) if got.value.as_deref() == Some(b"41")),
            "what reads, reads again: {read:?}"
        );
        assert_eq!(late.value(M, "{t}alice").await.unwrap(), account(100));
        assert_eq!(late.value(M, "{t}n").await.unwrap(), "41");
    }
}

async fn parts(stream: tonic::Response<tonic::Streaming<v1::InvokePart>>) -> Vec<v1::InvokePart> {
    let mut stream = stream.into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        parts.push(part);
    }
    parts
}

#[tokio::test]
async fn a_call_on_many_entries_that_was_refused_is_not_made_by_its_first_attempt() {
    let node = TestNode::with(RawConfig { partitions: Some(3), ..RawConfig::default() });
    let (mut late, mut early) = wires(&node).await;
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        late.put_by_another(M, name, &account(100)).await;
    }
    let all = |request_id| v1::InvokeAllRequest {
        function: "debit".into(),
        map: M.into(),
        argument: Bytes::from_static(b"30"),
        request_id,
        ..Default::default()
    };
    let keys = |request_id| v1::InvokeKeysRequest {
        function: "debit".into(),
        map: M.into(),
        keys: names.iter().map(|name| key(name)).collect(),
        argument: Bytes::from_static(b"30"),
        request_id,
        ..Default::default()
    };
    let unknown = refusal(Code::NotFound, "FUNCTION_NOT_FOUND", "NOT_APPLIED");
    assert_eq!(facts(&early.compute.invoke_all(all(late.again(1))).await.unwrap_err()), unknown);
    assert_eq!(facts(&early.compute.invoke_keys(keys(late.again(2))).await.unwrap_err()), unknown);
    assert_eq!(facts(&early.compute.invoke_all(all(late.again(1))).await.unwrap_err()), unknown, "again");
    upload(&node.client().await, "debit", "debit").await;
    let of_all = parts(late.compute.invoke_all(all(late.id(1))).await.unwrap()).await;
    assert_eq!(of_all.len(), 3);
    for part in of_all {
        let error = part.error.unwrap();
        assert_eq!((part.processed, part.complete), (0, true));
        assert_eq!((error.reason.as_str(), error.outcome()), ("FUNCTION_NOT_FOUND", v1::Outcome::NotApplied));
    }
    let of_keys = parts(late.compute.invoke_keys(keys(late.id(2))).await.unwrap()).await;
    let refused = of_keys.iter().flat_map(|part| &part.entries).map(|entry| entry.error.as_ref().unwrap());
    assert_eq!(refused.map(|error| error.reason.as_str()).collect::<Vec<_>>(), ["FUNCTION_NOT_FOUND"; 6]);
    for name in names {
        assert_eq!(late.value(M, name).await.unwrap(), account(100), "{name}");
    }
    let done = parts(late.compute.invoke_all(all(late.id(3))).await.unwrap()).await;
    assert_eq!(done.iter().map(|part| part.processed - part.failed).sum::<u64>(), 6);
}
