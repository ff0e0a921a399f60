//! Batches as lists of operations, in a call of their own and in a pipeline: at their limits, and one past them.

use bytes::Bytes;
use tokio_stream::StreamExt;
use tonic::Code;
use wattle_core::limits::{BATCH_BYTES, BATCH_OPERATIONS};
use wattle_proto::v1;
use wattle_proto::v1::operation::Operation as One;
use wattle_proto::v1::pipeline_request::Operations;
use wattle_proto::v1::pipeline_response::Results;

use super::{KEY, MAP, Scene};
use crate::harness::wire::{Wire, facts, refusal};

/// A map that only the list of a test makes.
const NEW: &str = "new";

/// Puts of about 512 KiB: so many bytes together, their keys included.
fn puts(bytes: usize) -> Vec<v1::Operation> {
    let put = |n: usize| {
        let key = format!("key-{n:02}");
        let size = bytes / 16 + if n == 0 { bytes % 16 } else { 0 } - key.len();
        let (key, value) = (key.into(), vec![b'v'; size].into());
        let put = v1::PutRequest { map: NEW.into(), key, value, ..Default::default() };
        v1::Operation { operation: Some(One::Put(put)) }
    };
    (0..16).map(put).collect()
}

/// A put, and reads of the entry that was there before.
fn put_and_gets(operations: usize) -> Vec<v1::Operation> {
    let get = One::Get(v1::GetRequest { map: MAP.into(), key: Bytes::from_static(KEY.as_bytes()) });
    let mut list = vec![v1::Operation { operation: Some(get) }; operations];
    let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
    let put = v1::PutRequest { map: NEW.into(), key, value, ..Default::default() };
    list[0].operation = Some(One::Put(put));
    list
}

/// As a call of its own: its results, or the code and reason of the refusal and what became of the list.
async fn batch(wire: &Wire, operations: Vec<v1::Operation>) -> Result<usize, (Code, String, String)> {
    let request = v1::BatchRequest { operations, request_id: None };
    let answer = wire.maps.clone().batch(request).await.map_err(|status| facts(&status))?;
    Ok(succeeded(&answer.into_inner().results))
}

/// As the message of a pipeline.
async fn pipelined(wire: &Wire, operations: Vec<v1::Operation>) -> Result<usize, (Code, String, String)> {
    let list = Operations::List(v1::OperationList { operations });
    let message = v1::PipelineRequest { tag: 1, operations: Some(list), ..Default::default() };
    let mut answers = wire.maps.clone().pipeline(tokio_stream::once(message)).await.unwrap().into_inner();
    match answers.next().await.unwrap().unwrap().results {
        Some(Results::List(list)) => Ok(succeeded(&list.results)),
        Some(Results::Error(error)) => {
            let outcome = error.outcome().as_str_name().trim_start_matches("OUTCOME_").to_owned();
            Err((Code::from_i32(error.code), error.reason, outcome))
        }
        other => panic!("{other:?}"),
    }
}

fn succeeded(results: &[v1::OperationResult]) -> usize {
    let error = |result: &&v1::OperationResult| {
        matches!(result.result, None | Some(v1::operation_result::Result::Error(_)))
    };
    assert_eq!(results.iter().find(error), None);
    results.len()
}

/// Nothing of what was refused is there, not even its map.
async fn check_nothing_was_done(scene: &Scene) {
    let maps = scene.client.maps().list().await.unwrap();
    assert!(maps.iter().all(|map| map.name != NEW), "{maps:?}");
    scene.check_unharmed().await;
}

fn too_large() -> (Code, String, String) {
    refusal(Code::InvalidArgument, "TOO_LARGE", "NOT_APPLIED")
}

#[tokio::test]
async fn a_list_has_at_most_8_mib() {
    let scene = Scene::start().await;
    let wire = Wire::to(&scene.node).await;
    assert_eq!(batch(&wire, puts(BATCH_BYTES + 1)).await, Err(too_large()));
    assert_eq!(pipelined(&wire, puts(BATCH_BYTES + 1)).await, Err(too_large()));
    check_nothing_was_done(&scene).await;
    assert_eq!(batch(&wire, puts(BATCH_BYTES)).await, Ok(16));
    assert_eq!(pipelined(&wire, puts(BATCH_BYTES)).await, Ok(16));
    assert_eq!(scene.client.raw_map(NEW).size().await.unwrap(), 16);
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_list_has_at_most_65536_operations() {
    let scene = Scene::start().await;
    let wire = Wire::to(&scene.node).await;
    assert_eq!(batch(&wire, put_and_gets(BATCH_OPERATIONS + 1)).await, Err(too_large()));
    assert_eq!(pipelined(&wire, put_and_gets(BATCH_OPERATIONS + 1)).await, Err(too_large()));
    check_nothing_was_done(&scene).await;
    assert_eq!(batch(&wire, put_and_gets(BATCH_OPERATIONS)).await, Ok(BATCH_OPERATIONS));
    assert_eq!(pipelined(&wire, put_and_gets(BATCH_OPERATIONS)).await, Ok(BATCH_OPERATIONS));
    assert_eq!(scene.client.raw_map(NEW).size().await.unwrap(), 1);
    scene.check_unharmed().await;
}
