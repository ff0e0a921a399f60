//! A request that comes again with the same id has one effect, and the answer of the first time.

use bytes::Bytes;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use wattle_client::UploadOptions;
use wattle_client::packed::{Condition, NameIndex, Operation, OperationResult, Results};
use wattle_proto::v1;
use wattle_proto::v1::operation::Operation as One;
use wattle_proto::v1::operation_result::Result as Answer;
use wattle_proto::v1::pipeline_request::Operations;
use wattle_proto::v1::pipeline_response::Results as Answers;

use crate::harness::TestNode;
use crate::harness::examples::{slow_counter, upload};
use crate::harness::wire::{Wire, eventually, facts, put, refusal};

const M: &str = "m";

fn key(key: &str) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

async fn wire() -> (TestNode, Wire) {
    let node = TestNode::start();
    let wire = Wire::to(&node).await;
    (node, wire)
}

#[tokio::test]
async fn a_repeated_put_overwrites_nothing() {
    let (_node, mut wire) = wire().await;
    let request = v1::PutRequest { return_previous: true, ..put(M, "k", "first", wire.id(1)) };
    let first = wire.maps.put(request.clone()).await.unwrap().into_inner();
    let second = wire.put_by_another(M, "k", "second").await;
    assert!(second > first.version);
    assert_eq!(wire.maps.put(request).await.unwrap().into_inner(), first);
    assert_eq!(wire.value(M, "k").await.unwrap(), "second");
}

#[tokio::test]
async fn a_repeated_conditional_put_finds_its_own_success() {
    use v1::put_request::Condition::{IfAbsent, IfVersion};
    let (_node, mut wire) = wire().await;
    let create = v1::PutRequest { condition: Some(IfAbsent(true)), ..put(M, "k", "1", wire.id(1)) };
    let created = wire.maps.put(create.clone()).await.unwrap().into_inner();
    assert_eq!(wire.maps.put(create).await.unwrap().into_inner(), created);
    let change = v1::PutRequest {
        condition: Some(IfVersion(created.version)),
        return_previous: true,
        ..put(M, "k", "2", wire.id(2))
    };
    let changed = wire.maps.put(change.clone()).await.unwrap().into_inner();
    assert_eq!(changed.previous.as_deref(), Some(&b"1"[..]));
    assert_eq!(wire.maps.put(change).await.unwrap().into_inner(), changed);
}

#[tokio::test]
async fn a_repeated_removal_leaves_what_was_written_since() {
    let (_node, mut wire) = wire().await;
    wire.put_by_another(M, "k", "old").await;
    let remove = v1::RemoveRequest {
        map: M.into(),
        key: key("k"),
        request_id: wire.id(1),
        return_previous: true,
        ..Default::default()
    };
    let removed = wire.maps.remove(remove.clone()).await.unwrap().into_inner();
    assert_eq!(removed, v1::RemoveResponse { removed: true, previous: Some(key("old")) });
    wire.put_by_another(M, "k", "new").await;
    assert_eq!(wire.maps.remove(remove).await.unwrap().into_inner(), removed);
    assert_eq!(wire.value(M, "k").await.unwrap(), "new");
}

#[tokio::test]
async fn a_repeated_increment_adds_once() {
    let (_node, mut wire) = wire().await;
    let add = |delta, request_id| v1::IncrementRequest { map: M.into(), key: key("k"), delta, request_id };
    let first = wire.maps.increment(add(5, wire.id(1))).await.unwrap().into_inner();
    assert_eq!(first.value, 5);
    wire.maps.increment(add(2, None)).await.unwrap();
    assert_eq!(wire.maps.increment(add(5, wire.id(1))).await.unwrap().into_inner(), first);
    assert_eq!(wire.value(M, "k").await.unwrap(), "7");
}

#[tokio::test]
async fn a_repeated_touch_leaves_a_later_one() {
    use v1::touch_request::Change;
    let (_node, mut wire) = wire().await;
    wire.put_by_another(M, "k", "v").await;
    let touch = |change, request_id| v1::TouchRequest { map: M.into(), key: key("k"), request_id, change };
    let hour = prost_types::Duration { seconds: 3600, nanos: 0 };
    let set = touch(Some(Change::SetTtl(hour)), wire.id(1));
    let first = wire.maps.touch(set.clone()).await.unwrap().into_inner();
    assert_eq!(first.ttl, Some(hour));
    wire.maps.touch(touch(Some(Change::ClearTtl(true)), None)).await.unwrap();
    assert_eq!(wire.maps.touch(set).await.unwrap().into_inner(), first);
    assert_eq!(wire.maps.touch(touch(None, None)).await.unwrap().into_inner().ttl, None);
}

#[tokio::test]
async fn a_repeated_clear_leaves_what_was_written_since() {
    let (_node, mut wire) = wire().await;
    for name in ["a", "b", "c"] {
        wire.put_by_another(M, name, "old").await;
    }
    let clear = v1::ClearRequest { map: M.into(), request_id: wire.id(1), partitions: Vec::new() };
    assert_eq!(wire.maps.clear(clear.clone()).await.unwrap().into_inner().removed, 3);
    for name in ["a", "b"] {
        wire.put_by_another(M, name, "new").await;
    }
    assert_eq!(wire.maps.clear(clear).await.unwrap().into_inner().removed, 3);
    assert_eq!((wire.value(M, "a").await, wire.value(M, "c").await), (Some(key("new")), None));
}

fn put_one(name: &str, value: &str) -> v1::Operation {
    v1::Operation { operation: Some(One::Put(put(M, name, value, None))) }
}

fn add_one(name: &str) -> v1::Operation {
    let add = v1::IncrementRequest { map: M.into(), key: key(name), delta: 1, request_id: None };
    v1::Operation { operation: Some(One::Increment(add)) }
}

#[tokio::test]
async fn a_repeated_batch_applies_each_operation_once() {
    let (_node, mut wire) = wire().await;
    wire.put_by_another(M, "text", "no number").await;
    let operations = vec![add_one("a"), put_one("p", "batch"), add_one("text"), add_one("b"), add_one("a")];
    let batch = v1::BatchRequest { operations, request_id: wire.id(1) };
    let first = wire.maps.batch(batch.clone()).await.unwrap().into_inner();
    wire.put_by_another(M, "p", "since").await;
    let again = wire.maps.batch(batch).await.unwrap().into_inner();
    assert_eq!(again, first);
    let Some(Answer::Error(error)) = &first.results[2].result else { panic!("{first:?}") };
    assert_eq!((error.reason.as_str(), error.outcome()), ("NOT_AN_INTEGER", v1::Outcome::NotApplied));
    assert_eq!(wire.value(M, "a").await.unwrap(), "2");
    assert_eq!(wire.value(M, "b").await.unwrap(), "1");
    assert_eq!(wire.value(M, "p").await.unwrap(), "since");
}

/// One partition, more operations than one turn of it takes.
#[tokio::test]
async fn a_long_batch_sent_twice_at_once_applies_each_operation_once() {
    let (_node, wire) = wire().await;
    let operations: Vec<_> = (0..1000).map(|n| add_one(&format!("{{t}}{n}"))).collect();
    let batch = v1::BatchRequest { operations, request_id: wire.id(1) };
    let send = |batch: v1::BatchRequest| {
        let mut maps = wire.maps.clone();
        async move { maps.batch(batch).await.unwrap().into_inner() }
    };
    let (first, second) = tokio::join!(send(batch.clone()), send(batch.clone()));
    assert_eq!(first, second);
    for result in &first.results {
        assert!(matches!(&result.result, Some(Answer::Increment(one)) if one.value == 1), "{result:?}");
    }
    assert_eq!(send(batch).await, first);
}

/// Sends pipeline messages and returns the answers by tag.
async fn pipeline(wire: &Wire, messages: Vec<v1::PipelineRequest>) -> Vec<v1::PipelineResponse> {
    let count = messages.len();
    let (sender, receiver) = tokio::sync::mpsc::channel(count);
    let mut maps = wire.maps.clone();
    let mut answers = maps.pipeline(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for message in messages {
        sender.send(message).await.unwrap();
    }
    drop(sender);
    let mut answered = Vec::new();
    while let Some(answer) = answers.next().await {
        answered.push(answer.unwrap());
    }
    answered.sort_by_key(|answer| answer.tag);
    assert_eq!(answered.len(), count);
    answered
}

fn message(tag: u64, request_id: Option<v1::RequestId>, operations: Operations) -> v1::PipelineRequest {
    v1::PipelineRequest { tag, request_id, timeout: None, operations: Some(operations) }
}

#[tokio::test]
async fn a_repeated_list_of_a_pipeline_applies_each_operation_once() {
    let (_node, mut wire) = wire().await;
    let list =
        Operations::List(v1::OperationList { operations: vec![add_one("a"), add_one("b"), add_one("a")] });
    let same = (1..=8).map(|tag| message(tag, wire.id(1), list.clone())).collect();
    let answers = pipeline(&wire, same).await;
    let Some(Answers::List(list)) = &answers[0].results else { panic!("{answers:?}") };
    let value = |result: &v1::OperationResult| match &result.result {
        Some(Answer::Increment(one)) => one.value,
        other => panic!("{other:?}"),
    };
    assert_eq!(list.results.iter().map(value).collect::<Vec<_>>(), [1, 1, 2]);
    assert!(answers.iter().all(|answer| answer.results == answers[0].results));
    assert_eq!(wire.value(M, "a").await.unwrap(), "2");
}

#[tokio::test]
async fn a_repeated_frame_of_a_pipeline_applies_each_operation_once() {
    let (_node, mut wire) = wire().await;
    let mut frame = Vec::new();
    let map = NameIndex(0);
    let mut writer = wattle_frame::pipeline::OperationsWriter::new(&mut frame, &[M], 2).unwrap();
    writer.push(&Operation::Increment { map, key: b"a", delta: 3 }).unwrap();
    let condition = Condition::IfAbsent;
    let put = Operation::Put { map, key: b"p", value: b"v", ttl_ms: None, condition, return_previous: false };
    writer.push(&put).unwrap();
    writer.finish();
    let frame = Bytes::from(frame);
    let same = (1..=8).map(|tag| message(tag, wire.id(1), Operations::Frame(frame.clone()))).collect();
    let answers = pipeline(&wire, same).await;
    let Some(Answers::Frame(results)) = &answers[0].results else { panic!("{answers:?}") };
    let results = Results::parse(results, 2).unwrap();
    let results: Vec<_> = results.results().map(Result::unwrap).collect();
    assert!(matches!(results[0], OperationResult::Increment { value: 3, .. }), "{results:?}");
    assert!(matches!(results[1], OperationResult::Put { .. }), "{results:?}");
    assert!(answers.iter().all(|answer| answer.results == answers[0].results));
    assert_eq!(wire.value(M, "a").await.unwrap(), "3");
}

fn invoke(function: &str, name: &str, request_id: Option<v1::RequestId>) -> v1::InvokeRequest {
    let (map, argument) = (M.to_owned(), Bytes::new());
    v1::InvokeRequest { function: function.to_owned(), map, key: key(name), argument, request_id }
}

#[tokio::test]
async fn a_repeated_invocation_runs_once() {
    let (node, mut wire) = wire().await;
    upload(&node.client().await, "counter", "add").await;
    let first = wire.compute.invoke(invoke("add", "k", wire.id(1))).await.unwrap().into_inner();
    assert_eq!((first.response.as_ref(), first.outcome()), (&b"1"[..], v1::Outcome::Applied));
    wire.compute.invoke(invoke("add", "k", None)).await.unwrap();
    let again = wire.compute.invoke(invoke("add", "k", wire.id(1))).await.unwrap().into_inner();
    assert_eq!(again, first);
    assert_eq!(wire.value(M, "k").await.unwrap(), "2");
}

async fn parts(stream: tonic::Response<tonic::Streaming<v1::InvokePart>>) -> Vec<v1::InvokePart> {
    let mut stream = stream.into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.next().await {
        parts.push(part.unwrap());
    }
    parts.sort_by_key(|part| part.partition);
    parts
}

#[tokio::test]
async fn a_repeated_invocation_of_many_keys_runs_once_on_each() {
    let (node, mut wire) = wire().await;
    upload(&node.client().await, "counter", "add").await;
    let keys: Vec<Bytes> =
        (0..400).map(|n| key(&format!("{}{n}", if n % 2 == 0 { "{t}" } else { "" }))).collect();
    let request = v1::InvokeKeysRequest {
        function: "add".into(),
        map: M.into(),
        keys,
        request_id: wire.id(1),
        ..Default::default()
    };
    let first = parts(wire.compute.invoke_keys(request.clone()).await.unwrap()).await;
    let again = parts(wire.compute.invoke_keys(request).await.unwrap()).await;
    assert_eq!(first, again);
    let entries: Vec<_> = first.iter().flat_map(|part| &part.entries).collect();
    assert_eq!(entries.len(), 400);
    assert!(entries.iter().all(|entry| entry.response == "1" && entry.error.is_none()));
    assert_eq!(wire.value(M, "{t}398").await.unwrap(), "1");
}

fn invoke_all(function: &str, request_id: Option<v1::RequestId>) -> v1::InvokeAllRequest {
    v1::InvokeAllRequest {
        function: function.to_owned(),
        map: M.to_owned(),
        request_id,
        ..Default::default()
    }
}

fn processed(parts: &[v1::InvokePart]) -> u64 {
    assert!(parts.iter().all(|part| part.error.is_none() && part.failed == 0), "{parts:?}");
    parts.iter().map(|part| part.processed).sum()
}

async fn fill(wire: &mut Wire, keys: impl Iterator<Item = String>) {
    let operations = keys.map(|name| put_one(&name, "0")).collect();
    let batch = v1::BatchRequest { operations, request_id: None };
    wire.maps.batch(batch).await.unwrap();
}

/// Keys in many partitions, and far more in one than a message tells of.
fn many_keys() -> impl Iterator<Item = String> + Clone {
    (0..2500).map(|n| format!("{{t}}{n}")).chain((0..300).map(|n| format!("k{n}")))
}

async fn assert_all_are_one(wire: &mut Wire) {
    for name in many_keys().step_by(17) {
        assert_eq!(wire.value(M, &name).await.unwrap(), "1", "{name}");
    }
}

#[tokio::test]
async fn a_repeated_invocation_of_all_runs_once_on_each() {
    let (node, mut wire) = wire().await;
    upload(&node.client().await, "counter", "add").await;
    fill(&mut wire, many_keys()).await;
    for _ in 0..2 {
        let answered = parts(wire.compute.invoke_all(invoke_all("add", wire.id(1))).await.unwrap()).await;
        assert_eq!(processed(&answered), 2800);
    }
    assert_all_are_one(&mut wire).await;
}

#[tokio::test]
async fn an_invocation_of_all_that_is_sent_twice_at_once_runs_once_on_each() {
    let (node, mut wire) = wire().await;
    upload(&node.client().await, "counter", "add").await;
    fill(&mut wire, many_keys()).await;
    let request = invoke_all("add", wire.id(1));
    let send = |request| {
        let mut compute = wire.compute.clone();
        async move { parts(compute.invoke_all(request).await.unwrap()).await }
    };
    let (first, second) = tokio::join!(send(request.clone()), send(request));
    assert_eq!((processed(&first), processed(&second)), (2800, 2800));
    assert_all_are_one(&mut wire).await;
}

/// The caller of the first attempt went away in the middle of it.
#[tokio::test]
async fn an_invocation_of_all_that_was_abandoned_is_finished_by_its_repetition() {
    let (node, mut wire) = wire().await;
    upload(&node.client().await, "counter", "add").await;
    fill(&mut wire, many_keys()).await;
    let mut abandoned = wire.compute.invoke_all(invoke_all("add", wire.id(1))).await.unwrap().into_inner();
    abandoned.next().await.unwrap().unwrap();
    drop(abandoned);
    let again = parts(wire.compute.invoke_all(invoke_all("add", wire.id(1))).await.unwrap()).await;
    assert_eq!(processed(&again), 2800);
    assert_all_are_one(&mut wire).await;
}

/// Adds one to a binary number, and takes its time.
async fn upload_slow(node: &TestNode) {
    let options = UploadOptions::new().cpu_budget(std::time::Duration::from_millis(100));
    let module = slow_counter().module();
    node.client().await.functions().upload("slow", module, &options).await.unwrap();
}

#[tokio::test]
async fn duplicates_in_flight_have_one_effect_and_the_same_answer() {
    let (node, mut wire) = wire().await;
    upload_slow(&node).await;
    let mut other = Wire::to(&node).await;
    let request = invoke("slow", "k", wire.id(1));
    let mut third = wire.compute.clone();
    let (first, second, third) = tokio::join!(
        wire.compute.invoke(request.clone()),
        other.compute.invoke(request.clone()),
        third.invoke(request),
    );
    let first = first.unwrap().into_inner();
    assert_eq!(first.response.as_ref(), 1u64.to_le_bytes());
    assert_eq!((&second.unwrap().into_inner(), &third.unwrap().into_inner()), (&first, &first));
    assert_eq!(wire.value(M, "k").await.unwrap().as_ref(), 1u64.to_le_bytes());
}

#[tokio::test]
async fn an_acknowledged_request_is_in_doubt_and_does_not_run() {
    let (_node, mut wire) = wire().await;
    let first = wire.maps.put(put(M, "k", "five", wire.acknowledging(5, 5))).await;
    let first = first.unwrap().into_inner().version;
    wire.maps.put(put(M, "k", "nine", wire.acknowledging(9, 9))).await.unwrap();
    for late in
        [put(M, "k", "five", wire.acknowledging(5, 5)), put(M, "k", "never", wire.acknowledging(8, 8))]
    {
        let refused = wire.maps.put(late).await.unwrap_err();
        assert_eq!(facts(&refused), refusal(Code::Aborted, "IN_DOUBT", "IN_DOUBT"));
    }
    let again = wire.maps.put(put(M, "k", "nine", wire.acknowledging(9, 9))).await;
    assert_eq!(again.unwrap().into_inner().version, first + 1);
    assert_eq!(wire.value(M, "k").await.unwrap(), "nine");
}

#[tokio::test]
async fn an_id_that_was_used_for_another_request_is_refused() {
    let (node, mut wire) = wire().await;
    upload(&node.client().await, "counter", "add").await;
    wire.put_by_another(M, "k", "1").await;
    let add = v1::IncrementRequest { map: M.into(), key: key("k"), delta: 1, request_id: wire.id(1) };
    wire.maps.increment(add).await.unwrap();
    let expected = refusal(Code::InvalidArgument, "REQUEST_ID_REUSED", "IN_DOUBT");
    let refused = wire.maps.put(put(M, "k", "other", wire.id(1))).await.unwrap_err();
    assert_eq!(facts(&refused), expected, "as a put");
    let remove =
        v1::RemoveRequest { map: M.into(), key: key("k"), request_id: wire.id(1), ..Default::default() };
    assert_eq!(facts(&wire.maps.remove(remove).await.unwrap_err()), expected, "as a removal");
    let refused = wire.compute.invoke(invoke("add", "k", wire.id(1))).await.unwrap_err();
    assert_eq!(facts(&refused), expected, "as an invocation");
    let clear = v1::ClearRequest { map: M.into(), request_id: wire.id(1), partitions: Vec::new() };
    assert_eq!(facts(&wire.maps.clear(clear).await.unwrap_err()), expected, "as a clear");
    let batch = v1::BatchRequest { operations: vec![add_one("k"), add_one("k")], request_id: wire.id(1) };
    let answered = wire.maps.batch(batch).await.unwrap().into_inner();
    for result in answered.results {
        let Some(Answer::Error(error)) = result.result else { panic!("a result of a reused id") };
        assert_eq!(error.reason, "REQUEST_ID_REUSED");
    }
    let all = parts(wire.compute.invoke_all(invoke_all("add", wire.id(1))).await.unwrap()).await;
    let errors: Vec<_> = all.iter().filter_map(|part| part.error.as_ref()).collect();
    assert!(matches!(errors[..], [error] if error.reason == "REQUEST_ID_REUSED"), "{errors:?}");
    assert_eq!(wire.value(M, "k").await.unwrap(), "2");
}

#[tokio::test]
async fn ids_that_this_grid_cannot_have_issued_are_refused() {
    let (_node, mut wire) = wire().await;
    wire.put_by_another(M, "k", "v").await;
    let issued = u64::from_be_bytes(wire.client_id[..8].try_into().unwrap());
    let dated = |millis: u64| Bytes::from([&millis.to_be_bytes()[..], &wire.client_id[8..]].concat());
    let id = |client_id, sequence, oldest_pending| {
        Some(v1::RequestId { client_id, sequence, oldest_pending, repeated: false })
    };
    let bad = [
        ("from the future", id(dated(issued + 120_000), 1, 0)),
        ("too short", id(Bytes::from_static(b"short"), 1, 0)),
        ("acknowledges itself", id(dated(issued), 1, 2)),
    ];
    for (name, bad) in bad {
        let refused = wire.maps.put(put(M, "k", "other", bad)).await.unwrap_err();
        let expected = refusal(Code::InvalidArgument, "INVALID_ARGUMENT", "NOT_APPLIED");
        assert_eq!(facts(&refused), expected, "{name}");
    }
    assert_eq!(wire.value(M, "k").await.unwrap(), "v");
}

#[tokio::test]
async fn an_id_past_its_life_is_in_doubt() {
    let (_node, mut wire) = wire().await;
    wire.put_by_another(M, "k", "v").await;
    let issued = u64::from_be_bytes(wire.client_id[..8].try_into().unwrap());
    let old = (issued - 16 * 60 * 1000).to_be_bytes();
    let client_id = Bytes::from([&old[..], &wire.client_id[8..]].concat());
    let request_id = Some(v1::RequestId { client_id, sequence: 1, oldest_pending: 0, repeated: false });
    // Of a key that has no entry, so that an early one does nothing.
    let remove = v1::RemoveRequest { map: M.into(), key: key("none"), request_id, ..Default::default() };
    let maps = wire.maps.clone();
    let refused = eventually(|| {
        let (mut maps, remove) = (maps.clone(), remove.clone());
        async move { maps.remove(remove).await.err() }
    });
    assert_eq!(facts(&refused.await), refusal(Code::Aborted, "IN_DOUBT", "IN_DOUBT"));
}

#[tokio::test]
async fn a_request_may_be_repeated_on_another_connection() {
    let (node, mut wire) = wire().await;
    let mut other = Wire::to(&node).await;
    let add = v1::IncrementRequest { map: M.into(), key: key("k"), delta: 1, request_id: wire.id(1) };
    let first = wire.maps.increment(add.clone()).await.unwrap().into_inner();
    assert_eq!(other.maps.increment(add).await.unwrap().into_inner(), first);
    assert_eq!(first.value, 1);
}
