//! Readers who take their time hold up nobody else.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use wattle_client::{Client, Options, PutOptions, Responses, UploadOptions};
use wattle_proto::v1;
use wattle_proto::v1::compute_service_client::ComputeServiceClient;

use crate::harness::TestNode;
use crate::harness::grid::three;
use crate::harness::guest::Guest;

/// Answers with the argument, and changes nothing.
const ECHO: &str = "
  (global.set $arena (i32.const 1048576))
  (memory.fill (i32.const 2048) (i32.const 0) (i32.const 40))
  (i32.store offset=32 (i32.const 2048) (local.get $argument))
  (i32.store offset=36 (i32.const 2048) (local.get $argument-length))
  (i32.const 2048)";
/// As many as fill a usual window of a connection, 5 MiB, each with more than what fills one of a stream, 2 MiB.
const READERS: usize = 3;
const ENTRIES: usize = 600;
/// Less than what a call waits that another node does not answer.
const PATIENCE: Duration = Duration::from_secs(20);

fn argument() -> Bytes {
    Bytes::from_static(&[b'x'; 32 << 10])
}

fn keys() -> impl Iterator<Item = String> {
    (0..ENTRIES).map(|n| format!("k{n}"))
}

/// The answers of all entries, of which a message is read and no more; with how many entries it was about.
async fn stalled(node: &TestNode) -> (tonic::Streaming<v1::InvokePart>, usize) {
    let endpoint = Endpoint::from_shared(node.endpoint()).unwrap().initial_stream_window_size(64 << 10);
    let channel = endpoint.connect().await.unwrap();
    let all = v1::InvokeAllRequest {
        function: "echo".to_owned(),
        map: "m".to_owned(),
        argument: argument(),
        ..Default::default()
    };
    let mut parts = ComputeServiceClient::new(channel).invoke_all(all).await.unwrap().into_inner();
    let first = parts.message().await.unwrap().unwrap();
    (parts, first.entries.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_sent_on_do_not_wait_for_readers_who_have_stopped() {
    let nodes = three().await;
    let client = Client::connect(Options::new(nodes[0].endpoint()).endpoints_only()).await.unwrap();
    let patient = UploadOptions::new().cpu_budget(Duration::from_millis(100));
    client.functions().upload("echo", Guest::simple(ECHO).module(), &patient).await.unwrap();
    let map = client.raw_map("m");
    for written in map.put_many(keys().map(|key| (key, "v")), PutOptions::new()).await.unwrap() {
        written.unwrap();
    }
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(timeout(PATIENCE, stalled(&nodes[0])).await.expect("all begin"));
    }
    for key in keys() {
        timeout(PATIENCE, map.put(key, "w")).await.expect("calls go on").unwrap();
    }
    let all = async { map.invoke_all("echo", argument(), Responses::Collect).await.unwrap().finish().await };
    let summary = timeout(PATIENCE, all).await.expect("other streams go on").unwrap();
    assert_eq!((summary.processed, summary.failed), (ENTRIES as u64, 0));
    // Who reads on misses nothing.
    let (mut parts, mut answered) = readers.pop().unwrap();
    while let Some(part) = parts.message().await.unwrap() {
        assert_eq!(part.error, None);
        answered += part.entries.len();
    }
    assert_eq!(answered, ENTRIES);
}
