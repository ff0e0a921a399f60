//! A call that is repeated after its function's name has moved on: what one module began no other goes on with.

use bytes::Bytes;
use tokio_stream::StreamExt;
use tonic::Code;
use wattle_client::UploadOptions;
use wattle_core::limits::PARTITIONS;
use wattle_core::partition::partition_of;
use wattle_proto::v1;
use wattle_proto::v1::operation::Operation as One;

use crate::harness::TestNode;
use crate::harness::examples::slow_counter;
use crate::harness::guest::Guest;
use crate::harness::wire::{Wire, facts, put, refusal};

const M: &str = "m";
/// In nearly every partition.
const ENTRIES: usize = 1000;
const MANY: usize = 20_000;

/// Writes the key as the value.
const WRITE_KEY: &str = "
  (global.set $arena (i32.const 1048576))
  (memory.fill (i32.const 2048) (i32.const 0) (i32.const 40))
  (i32.store8 offset=8 (i32.const 2048) (i32.const 1))
  (i32.store offset=16 (i32.const 2048) (local.get $key))
  (i32.store offset=20 (i32.const 2048) (local.get $key-length))
  (i32.const 2048)";

const KEEP: &str = "(i32.const 2048)";

/// Of two functions, the first empties the value and the second writes the key.
const EMPTY_OR_KEY: &str = "
  (global.set $arena (i32.const 1048576))
  (memory.fill (i32.const 2048) (i32.const 0) (i32.const 40))
  (i32.store8 offset=8 (i32.const 2048) (i32.const 1))
  (i32.store offset=16 (i32.const 2048) (local.get $key))
  (i32.store offset=20 (i32.const 2048) (select (local.get $key-length) (i32.const 0) (local.get $function)))
  (i32.const 2048)";

fn key(n: usize) -> Bytes {
    format!("k{n}").into()
}

fn number(n: u64) -> Bytes {
    Bytes::copy_from_slice(&n.to_le_bytes())
}

/// Uploads another version of `f`, which runs from now on.
async fn upload(node: &TestNode, guest: &Guest) {
    upload_export(node, guest, "").await;
}

/// The same with one of several functions of a guest.
async fn upload_export(node: &TestNode, guest: &Guest, export: &str) {
    let patient = UploadOptions::new().cpu_budget(std::time::Duration::from_millis(100)).export(export);
    node.client().await.functions().upload("f", guest.module(), &patient).await.unwrap();
}

async fn replace(node: &TestNode, guest: &Guest) {
    node.client().await.functions().delete("f").await.unwrap();
    upload(node, guest).await;
}

async fn fill(wire: &mut Wire, keys: impl Iterator<Item = Bytes>) {
    let zero = |key| One::Put(v1::PutRequest { map: M.into(), key, value: number(0), ..Default::default() });
    let operations = keys.map(|key| v1::Operation { operation: Some(zero(key)) }).collect();
    wire.maps.batch(v1::BatchRequest { operations, request_id: None }).await.unwrap();
}

/// A node whose function counts, slowly, with zeros to count from.
async fn scene() -> (TestNode, Wire) {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    upload(&node, &slow_counter()).await;
    fill(&mut wire, (0..ENTRIES).map(key)).await;
    (node, wire)
}

async fn values(wire: &mut Wire) -> Vec<Bytes> {
    let mut values = Vec::new();
    for n in 0..ENTRIES {
        values.push(wire.value(M, &format!("k{n}")).await.unwrap());
    }
    values
}

fn all(request_id: Option<v1::RequestId>) -> v1::InvokeAllRequest {
    v1::InvokeAllRequest { function: "f".into(), map: M.into(), request_id, ..Default::default() }
}

/// Begins a call on all entries, and goes away in the middle of it.
async fn begin(wire: &mut Wire, sequence: u64) {
    let mut parts = wire.compute.invoke_all(all(wire.id(sequence))).await.unwrap().into_inner();
    while parts.next().await.unwrap().unwrap().processed == 0 {}
    drop(parts);
}

/// Runs a call on all entries to its end; how many entries it was run on, in all attempts.
async fn finish(wire: &Wire, request_id: Option<v1::RequestId>) -> u64 {
    let mut parts = wire.compute.clone().invoke_all(all(request_id)).await.unwrap().into_inner();
    let mut processed = 0;
    while let Some(part) = parts.next().await {
        let part = part.unwrap();
        assert_eq!((part.failed, &part.error), (0, &None));
        processed += part.processed;
    }
    processed
}

#[tokio::test]
async fn a_call_on_all_is_finished_by_the_module_that_began_it() {
    let (node, mut wire) = scene().await;
    begin(&mut wire, 1).await;
    upload(&node, &Guest::simple(WRITE_KEY)).await;
    assert!(values(&mut wire).await.contains(&number(0)), "the call was broken half-way");
    assert_eq!(finish(&wire, wire.again(1)).await, ENTRIES as u64);
    assert_eq!(values(&mut wire).await, vec![number(1); ENTRIES]);
    assert_eq!(finish(&wire, wire.id(2)).await, ENTRIES as u64);
    assert_eq!(values(&mut wire).await, (0..ENTRIES).map(key).collect::<Vec<_>>());
}

fn partition(n: usize) -> u32 {
    partition_of(&key(n), PARTITIONS).into()
}

/// The call has come to one partition; what is left is asked for by the numbers of the others.
#[tokio::test]
async fn a_call_on_all_runs_where_it_is_asked_to_and_by_the_module_that_began_it() {
    let (node, mut wire) = scene().await;
    let one = v1::InvokeAllRequest { partitions: vec![partition(1), partition(1)], ..all(wire.id(1)) };
    let mut parts = wire.compute.invoke_all(one).await.unwrap().into_inner();
    let mut complete = 0;
    while let Some(part) = parts.next().await {
        let part = part.unwrap();
        assert_eq!((part.partition, part.partitions, &part.error), (partition(1), 1, &None));
        complete += u32::from(part.complete);
    }
    assert_eq!(complete, 1);
    let expected = |n| number(u64::from(partition(n) == partition(1)));
    assert_eq!(values(&mut wire).await, (0..ENTRIES).map(expected).collect::<Vec<_>>());
    upload(&node, &Guest::simple(WRITE_KEY)).await;
    let others = (0..PARTITIONS.into()).filter(|index| *index != partition(1)).collect();
    let others = v1::InvokeAllRequest { partitions: others, ..all(wire.again(1)) };
    let mut parts = wire.compute.invoke_all(others).await.unwrap().into_inner();
    while let Some(part) = parts.next().await {
        assert_eq!(part.unwrap().error, None);
    }
    assert_eq!(values(&mut wire).await, vec![number(1); ENTRIES]);
}

/// One version of the function is the one export of a module, the next is the other.
#[tokio::test]
async fn a_call_is_finished_by_the_export_that_began_it() {
    let (node, mut wire) = scene().await;
    let guest = Guest::simple(EMPTY_OR_KEY).named("empty").and("key");
    upload_export(&node, &guest, "empty").await;
    let one = v1::InvokeAllRequest { partitions: vec![partition(1)], ..all(wire.id(1)) };
    let mut parts = wire.compute.invoke_all(one).await.unwrap().into_inner();
    while let Some(part) = parts.next().await {
        assert_eq!(part.unwrap().error, None);
    }
    answers(&wire, keys(&[1], wire.id(2))).await;
    upload_export(&node, &guest, "key").await;
    answers(&wire, keys(&[1, 2], wire.again(2))).await;
    assert_eq!(wire.value(M, "k2").await.unwrap(), Bytes::new());
    fill(&mut wire, [key(2)].into_iter()).await;
    assert_eq!(finish(&wire, wire.again(1)).await, ENTRIES as u64);
    assert_eq!(values(&mut wire).await, vec![Bytes::new(); ENTRIES]);
    assert_eq!(finish(&wire, wire.id(3)).await, ENTRIES as u64);
    assert_eq!(values(&mut wire).await, (0..ENTRIES).map(key).collect::<Vec<_>>());
}

/// Begins a call on all entries, and goes away in the middle of a partition, which it returns.
async fn begin_partition(wire: &mut Wire, sequence: u64) -> u32 {
    // In one partition, and more than its turns take before they give way.
    fill(wire, (0..MANY).map(|n| format!("{{t}}{n}").into())).await;
    let mut parts = wire.compute.invoke_all(all(wire.id(sequence))).await.unwrap().into_inner();
    loop {
        let part = parts.next().await.unwrap().unwrap();
        if !part.complete {
            return part.partition;
        }
    }
}

#[tokio::test]
async fn a_call_on_all_ends_although_its_function_only_reads_by_now() {
    let (node, mut wire) = scene().await;
    begin_partition(&mut wire, 1).await;
    upload(&node, &Guest::simple(KEEP).read_only()).await;
    assert_eq!(wire.value(M, &format!("{{t}}{}", MANY - 1)).await.unwrap(), number(0), "half-way");
    assert_eq!(finish(&wire, wire.again(1)).await, (ENTRIES + MANY) as u64);
    assert_eq!(values(&mut wire).await, vec![number(1); ENTRIES]);
    assert_eq!(wire.value(M, &format!("{{t}}{}", MANY - 1)).await.unwrap(), number(1));
}

/// What ran, as all parts of an answer say it.
async fn ran(answer: tonic::Response<tonic::Streaming<v1::InvokePart>>) -> v1::ModuleExport {
    let mut parts = answer.into_inner();
    let mut ran = None;
    while let Some(part) = parts.next().await {
        let part = part.unwrap();
        assert_eq!(part.error, None);
        let export = part.export.unwrap();
        assert_eq!(*ran.get_or_insert_with(|| export.clone()), export);
    }
    ran.unwrap()
}

/// It only reads, so no partition knows that it ran.
#[tokio::test]
async fn a_call_goes_on_with_what_it_says_that_ran() {
    let (node, mut wire) = scene().await;
    upload(&node, &Guest::simple(KEEP).named("keep").read_only()).await;
    let read = ran(wire.compute.invoke_all(all(wire.id(1))).await.unwrap()).await;
    assert_eq!((read.module.len(), read.export.as_str()), (64, "keep"));
    assert_eq!(ran(wire.compute.invoke_keys(keys(&[1, 2], wire.id(2))).await.unwrap()).await, read);
    upload(&node, &Guest::simple(WRITE_KEY)).await;
    let all = v1::InvokeAllRequest { export: Some(read.clone()), ..all(wire.again(1)) };
    let keys = v1::InvokeKeysRequest { export: Some(read.clone()), ..keys(&[1, 2], wire.again(2)) };
    assert_eq!(ran(wire.compute.invoke_all(all.clone()).await.unwrap()).await, read);
    assert_eq!(ran(wire.compute.invoke_keys(keys.clone()).await.unwrap()).await, read);
    replace(&node, &Guest::simple(WRITE_KEY)).await;
    let refused = wire.compute.invoke_all(all).await.unwrap_err();
    assert_eq!(facts(&refused), refusal(Code::FailedPrecondition, "MODULE_GONE", "IN_DOUBT"));
    let refused = "MODULE_GONE OUTCOME_NOT_APPLIED".to_owned();
    let refused = [1, 2].map(|n| (key(n), Bytes::new(), refused.clone()));
    assert_eq!(answers(&wire, keys).await, refused);
    assert_eq!(values(&mut wire).await, vec![number(0); ENTRIES]);
}

#[tokio::test]
async fn a_partition_is_not_finished_by_another_export_than_began_it_whatever_the_call_says() {
    let (node, mut wire) = scene().await;
    let begun = begin_partition(&mut wire, 1).await;
    upload(&node, &Guest::simple(WRITE_KEY)).await;
    let one = |request_id| v1::InvokeAllRequest { partitions: vec![partition(1)], ..all(request_id) };
    let export = Some(ran(wire.compute.invoke_all(one(None)).await.unwrap()).await);
    let again = v1::InvokeAllRequest { partitions: vec![begun], export, ..all(wire.again(1)) };
    let mut parts = wire.compute.invoke_all(again).await.unwrap().into_inner();
    let part = parts.next().await.unwrap().unwrap();
    let error = part.error.unwrap();
    assert_eq!((error.reason.as_str(), error.outcome()), ("MODULE_GONE", v1::Outcome::InDoubt));
    assert!(part.complete && part.processed > 0, "what is done is told");
    assert_eq!(wire.value(M, &format!("{{t}}{}", MANY - 1)).await.unwrap(), number(0));
}

#[tokio::test]
async fn a_call_on_all_is_in_doubt_when_the_module_that_began_it_is_gone() {
    let (node, mut wire) = scene().await;
    begin(&mut wire, 1).await;
    replace(&node, &Guest::simple(WRITE_KEY)).await;
    let refused = wire.compute.invoke_all(all(wire.again(1))).await.unwrap_err();
    assert_eq!(facts(&refused), refusal(Code::FailedPrecondition, "MODULE_GONE", "IN_DOUBT"));
    let written = |value: &Bytes| *value == number(0) || *value == number(1);
    assert!(values(&mut wire).await.iter().all(written));
    assert_eq!(finish(&wire, wire.id(2)).await, ENTRIES as u64, "a new call runs");
}

fn keys(keys: &[usize], request_id: Option<v1::RequestId>) -> v1::InvokeKeysRequest {
    let keys = keys.iter().copied().map(key).collect();
    v1::InvokeKeysRequest { function: "f".into(), map: M.into(), keys, request_id, ..Default::default() }
}

/// What each key was answered, by key: a response, or why it was refused.
async fn answers(wire: &Wire, request: v1::InvokeKeysRequest) -> Vec<(Bytes, Bytes, String)> {
    let mut parts = wire.compute.clone().invoke_keys(request).await.unwrap().into_inner();
    let mut answers = Vec::new();
    while let Some(part) = parts.next().await {
        for entry in part.unwrap().entries {
            let refused =
                entry.error.map(|error| format!("{} {}", error.reason, error.outcome().as_str_name()));
            answers.push((entry.key, entry.response, refused.unwrap_or_default()));
        }
    }
    answers.sort();
    answers
}

/// The answer of a key that was counted.
fn done(n: usize) -> (Bytes, Bytes, String) {
    (key(n), number(1), String::new())
}

/// The first attempt has come to one of two partitions: it names only that one's key.
#[tokio::test]
async fn a_call_on_keys_is_finished_by_the_module_that_began_it() {
    let (node, mut wire) = scene().await;
    answers(&wire, keys(&[1], wire.id(1))).await;
    upload(&node, &Guest::simple(WRITE_KEY)).await;
    let again = answers(&wire, keys(&[1, 2], wire.again(1))).await;
    assert_eq!(again, [done(1), done(2)]);
    assert_eq!(wire.value(M, "k2").await.unwrap(), number(1));
    answers(&wire, keys(&[1, 2], wire.id(2))).await;
    assert_eq!(wire.value(M, "k2").await.unwrap(), key(2));
}

#[tokio::test]
async fn a_call_on_keys_tells_what_is_done_when_the_module_that_began_it_is_gone() {
    let (node, mut wire) = scene().await;
    answers(&wire, keys(&[1], wire.id(1))).await;
    replace(&node, &Guest::simple(WRITE_KEY)).await;
    let again = answers(&wire, keys(&[1, 2], wire.again(1))).await;
    let refused = "MODULE_GONE OUTCOME_NOT_APPLIED".to_owned();
    assert_eq!(again, [done(1), (key(2), Bytes::new(), refused)]);
    assert_eq!(wire.value(M, "k2").await.unwrap(), number(0));
}

/// Without the keys of a partition that is answered.
fn others(answered: usize, request: v1::InvokeKeysRequest) -> v1::InvokeKeysRequest {
    v1::InvokeKeysRequest { answered_partitions: vec![partition(answered)], ..request }
}

#[tokio::test]
async fn a_call_on_keys_leaves_out_what_is_answered_and_goes_on_with_the_module_that_began_it() {
    let (node, mut wire) = scene().await;
    answers(&wire, keys(&[1], wire.id(1))).await;
    upload(&node, &Guest::simple(WRITE_KEY)).await;
    assert_eq!(answers(&wire, others(1, keys(&[1, 2], wire.again(1)))).await, [done(2)]);
    assert_eq!(wire.value(M, "k2").await.unwrap(), number(1));
    assert_eq!(answers(&wire, others(3, keys(&[3], None))).await, []);
    assert_eq!(wire.value(M, "k3").await.unwrap(), number(0));
    replace(&node, &Guest::simple(WRITE_KEY)).await;
    let refused = "MODULE_GONE OUTCOME_NOT_APPLIED".to_owned();
    let again = answers(&wire, others(1, keys(&[1, 3], wire.again(1)))).await;
    assert_eq!(again, [(key(3), Bytes::new(), refused)]);
}

#[tokio::test]
async fn a_call_on_all_that_was_begun_is_in_doubt_without_its_function_or_map() {
    let (node, mut wire) = scene().await;
    finish(&wire, wire.id(1)).await;
    let functions = node.client().await;
    functions.functions().delete("f").await.unwrap();
    let gone = |reason, outcome| refusal(Code::NotFound, reason, outcome);
    for (sequence, outcome) in [(1, "IN_DOUBT"), (2, "NOT_APPLIED")] {
        let refused = wire.compute.invoke_all(all(wire.again(sequence))).await.unwrap_err();
        assert_eq!(facts(&refused), gone("FUNCTION_NOT_FOUND", outcome));
    }
    upload(&node, &slow_counter()).await;
    wire.maps.delete_map(v1::DeleteMapRequest { name: M.into() }).await.unwrap();
    for (sequence, outcome) in [(1, "IN_DOUBT"), (2, "NOT_APPLIED")] {
        let refused = wire.compute.invoke_all(all(wire.again(sequence))).await.unwrap_err();
        assert_eq!(facts(&refused), gone("MAP_NOT_FOUND", outcome));
    }
}

#[tokio::test]
async fn a_clear_that_was_begun_is_in_doubt_without_its_map() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    wire.maps.put(put(M, "k", "v", None)).await.unwrap();
    let clear = |request_id| v1::ClearRequest { map: M.into(), request_id, partitions: Vec::new() };
    assert_eq!(wire.maps.clear(clear(wire.id(1))).await.unwrap().into_inner().removed, 1);
    wire.maps.delete_map(v1::DeleteMapRequest { name: M.into() }).await.unwrap();
    for (sequence, outcome) in [(1, "IN_DOUBT"), (2, "NOT_APPLIED")] {
        let refused = wire.maps.clear(clear(wire.again(sequence))).await.unwrap_err();
        assert_eq!(facts(&refused), refusal(Code::NotFound, "MAP_NOT_FOUND", outcome));
    }
}

#[tokio::test]
async fn keys_in_doubt_stay_so_without_their_function() {
    let (node, mut wire) = scene().await;
    answers(&wire, keys(&[1], wire.id(1))).await;
    answers(&wire, keys(&[1], wire.acknowledging(2, 2))).await;
    node.client().await.functions().delete("f").await.unwrap();
    let again = answers(&wire, keys(&[1], wire.again(1))).await;
    assert_eq!(again, [(key(1), Bytes::new(), "IN_DOUBT OUTCOME_IN_DOUBT".to_owned())]);
    let refused = wire.compute.invoke_keys(keys(&[1], wire.id(3))).await.unwrap_err();
    assert_eq!(facts(&refused), refusal(Code::NotFound, "FUNCTION_NOT_FOUND", "NOT_APPLIED"));
}
