//! A node that stops: calls in flight finish, streams end, nothing new begins.

use std::time::Duration;

use bytes::Bytes;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use wattle_client::UploadOptions;
use wattle_proto::v1;

use crate::harness::TestNode;
use crate::harness::guest::Guest;
use crate::harness::wire::{Wire, eventually, put};

/// Adds one to a binary number, and takes some time for it.
async fn upload_slow(node: &TestNode) {
    let spin = "(local $n i32)
        (loop $again
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $n) (i32.const 20000000))))";
    let options = UploadOptions::new().cpu_budget(Duration::from_millis(100));
    let module = Guest::counter().before_allocation(spin).module();
    node.client().await.functions().upload("slow", module, &options).await.unwrap();
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it comes soon")
}

#[tokio::test]
async fn calls_in_flight_finish_and_later_ones_find_nobody() {
    let node = TestNode::start();
    let endpoint = node.endpoint();
    upload_slow(&node).await;
    let wire = Wire::to(&node).await;
    let mut calls = Vec::new();
    for n in 0..4 {
        let mut compute = wire.compute.clone();
        let key = Bytes::from(format!("k{n}"));
        let (function, map, argument) = ("slow".to_owned(), "m".to_owned(), Bytes::new());
        let request = v1::InvokeRequest { function, map, key, argument, request_id: None };
        calls.push(tokio::spawn(async move { compute.invoke(request).await }));
    }
    // An instance is there when the first of them runs.
    let client = node.client().await;
    eventually(async || {
        let (_, statistics) = client.functions().describe("slow").await.unwrap();
        (statistics.instances > 0).then_some(())
    })
    .await;
    node.stop().await;
    for call in calls {
        let answer = soon(call).await.unwrap().expect("a call in flight is answered").into_inner();
        assert_eq!(answer.response.as_ref(), 1u64.to_le_bytes());
    }
    let refused = Endpoint::from_shared(endpoint).unwrap().connect().await;
    assert!(refused.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_pipeline_answers_what_it_has_taken_and_ends() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    let mut answers = wire.maps.pipeline(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let operation = v1::operation::Operation::Put(put("m", "k", "v", None));
    let operations = vec![v1::Operation { operation: Some(operation) }];
    let list = v1::pipeline_request::Operations::List(v1::OperationList { operations });
    let message = v1::PipelineRequest { tag: 7, operations: Some(list), ..Default::default() };
    sender.send(message).await.unwrap();
    assert_eq!(soon(answers.next()).await.unwrap().unwrap().tag, 7);
    // The client leaves its side open.
    let stopped = tokio::spawn(node.stop());
    assert!(soon(answers.next()).await.is_none(), "the stream ends in order");
    soon(stopped).await.unwrap();
    drop(sender);
}

#[tokio::test]
async fn watches_end_and_do_not_hold_up_the_stop() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    wire.put_by_another("m", "k", "v").await;
    let request = v1::WatchRequest { map: "m".into(), ..Default::default() };
    let mut watch = wire.maps.watch(request).await.unwrap().into_inner();
    soon(watch.next()).await.unwrap().unwrap();
    let begun = std::time::Instant::now();
    let stopped = tokio::spawn(node.stop());
    assert!(soon(watch.next()).await.is_none(), "the stream ends in order");
    soon(stopped).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(9), "nothing was cut off after the grace");
}

#[tokio::test]
async fn a_data_directory_is_free_as_soon_as_its_node_has_stopped() {
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=5 {
        let node = TestNode::with_data(directory.path());
        let client = node.client().await;
        let map = client.raw_map(format!("m{round}"));
        map.put("k", "v").await.unwrap();
        let watch = map.watch("", wattle_client::WatchFrom::Now);
        assert_eq!(client.maps().list().await.unwrap().len(), round);
        node.stop().await;
        drop(watch);
    }
}
