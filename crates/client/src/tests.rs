//! Calls, streams and pipelines against a scripted node.

mod dealt;
mod doubt;
mod refused;
mod straight;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use wattle_frame::pipeline::{
    Facts, Failure as PackedFailure, OperationResult, Outcome as PackedOutcome, ResultsWriter,
};
use wattle_proto::v1;

use crate::test_node::{InvokeRequest, PipelineStep, TestNode};
use crate::{
    Answer, Batch, Client, Error, InvokeStream, Operation, Options, Outcome, Pipeline, PipelineOptions,
    PutOptions, Responses, RetryPolicy, ScanOptions, WatchFrom,
};

fn refusal(code: Code, reason: &str) -> Status {
    let facts = HashMap::from([("outcome".to_owned(), "NOT_APPLIED".to_owned())]);
    Status::with_error_details(code, "told", ErrorDetails::with_error_info(reason, "wattle", facts))
}

fn sequences(node: &TestNode) -> Vec<(u64, u64)> {
    let requests = node.script.put_requests.lock().unwrap();
    let ids = requests.iter().map(|request| request.request_id.clone().unwrap());
    ids.map(|id| (id.sequence, id.oldest_pending)).collect()
}

fn written(version: u64) -> v1::PutResponse {
    v1::PutResponse { version, previous: None }
}

#[tokio::test]
async fn a_retry_carries_the_same_request_id() {
    let node = TestNode::start().await;
    let client = node.client().await;
    node.script.puts.lock().unwrap().extend([
        Err(Status::unavailable("starting")),
        Err(refusal(Code::ResourceExhausted, "OVERLOADED")),
        Ok(written(7)),
        Ok(written(8)),
    ]);
    let map = client.raw_map("m");
    assert_eq!(map.put("k", "v").await.unwrap(), 7);
    assert_eq!(map.put("k", "v").await.unwrap(), 8);
    // The first sequence was the greeting's.
    assert_eq!(sequences(&node), [(2, 2), (2, 2), (2, 2), (3, 3)]);
    let requests = node.script.put_requests.lock().unwrap();
    assert!(
        requests.iter().all(|request| request.request_id.as_ref().unwrap().client_id == "0123456789abcdef")
    );
}

#[tokio::test]
async fn an_awaited_request_holds_the_watermark() {
    let node = TestNode::start().await;
    let client = node.client().await;
    let map = client.raw_map("m");
    // Without an answer in the script the first put waits.
    let waiting = tokio::spawn({
        let map = map.clone();
        async move { map.put("slow", "v").await }
    });
    while node.script.put_requests.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    node.script.puts.lock().unwrap().extend([Ok(written(1)), Ok(written(2))]);
    map.put("fast", "v").await.unwrap();
    assert_eq!(sequences(&node), [(2, 2), (3, 2)]);
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    map.put("fast", "v").await.unwrap();
    assert_eq!(sequences(&node).last(), Some(&(4, 4)));
}

#[tokio::test]
async fn a_definite_refusal_is_not_repeated() {
    let node = TestNode::start().await;
    let client = node.client().await;
    node.script.puts.lock().unwrap().push_back(Err(refusal(Code::ResourceExhausted, "NODE_FULL")));
    let refused = client.raw_map("m").put("k", "v").await.unwrap_err();
    assert!(matches!(refused, Error::Full(_)), "{refused:?}");
    assert_eq!((refused.outcome(), sequences(&node).len()), (Some(Outcome::NotApplied), 1));
}

#[tokio::test]
async fn a_write_without_an_answer_is_in_doubt() {
    let node = TestNode::start().await;
    let client = Client::connect(node.options().timeout(Duration::from_millis(60))).await.unwrap();
    let silent = client.raw_map("m").put("k", "v").await.unwrap_err();
    assert!(matches!(silent, Error::InDoubt(_)), "{silent:?}");
    assert_eq!(silent.outcome(), Some(Outcome::InDoubt));
}

#[tokio::test]
async fn a_write_that_was_refused_until_the_end_changed_nothing() {
    let node = TestNode::start().await;
    let policy = RetryPolicy::new(Duration::from_millis(100), Duration::from_millis(100));
    let options = node.options().retry(policy).timeout(Duration::from_millis(500));
    let client = Client::connect(options).await.unwrap();
    let busy = std::iter::repeat_with(|| Err(refusal(Code::ResourceExhausted, "OVERLOADED")));
    node.script.puts.lock().unwrap().extend(busy.take(1000));
    let refused = client.raw_map("m").put("k", "v").await.unwrap_err();
    assert!(matches!(refused, Error::Overloaded(_)), "{refused:?}");
    assert_eq!(refused.outcome(), Some(Outcome::NotApplied));
    assert!(sequences(&node).len() > 2, "{:?}", sequences(&node));
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let options = Options::new(&endpoint).connect_timeout(Duration::from_millis(50));
    let refused = Client::connect(options).await.unwrap_err();
    assert!(matches!(&refused, Error::Unavailable(_)), "{refused:?}");
    assert!(refused.to_string().contains("refused"), "{refused}");
    let client = Client::prepare(Options::new(&endpoint).timeout(Duration::from_millis(50))).unwrap();
    let refused = client.maps().delete("m").await.unwrap_err();
    assert!(matches!(&refused, Error::Unavailable(_)), "{refused:?}");
    assert_eq!(refused.outcome(), Some(Outcome::NotApplied));
}

#[tokio::test]
async fn a_change_without_a_request_id_is_repeated_only_when_it_changed_nothing() {
    let node = TestNode::start().await;
    let client = node.client().await;
    node.script.deletes.lock().unwrap().extend([
        refusal(Code::Unavailable, "OVERLOADED"),
        Status::unknown("the connection broke"),
        refusal(Code::NotFound, "MAP_NOT_FOUND"),
    ]);
    let in_doubt = client.maps().delete("m").await.unwrap_err();
    assert!(matches!(in_doubt, Error::InDoubt(_)), "{in_doubt:?}");
    assert_eq!(*node.script.delete_requests.lock().unwrap(), 2);
}

fn ran() -> v1::ModuleExport {
    v1::ModuleExport { module: "5c".repeat(32), export: "f".to_owned() }
}

fn part(partition: u32, processed: u64, key: &'static str, complete: bool) -> Result<v1::InvokePart, Status> {
    let entry = v1::EntryResult { key: Bytes::from_static(key.as_bytes()), ..Default::default() };
    let entries = if key.is_empty() { Vec::new() } else { vec![entry] };
    let export = Some(ran());
    Ok(v1::InvokePart {
        partition,
        processed,
        entries,
        complete,
        partitions: 2,
        export,
        ..Default::default()
    })
}

/// Of each part: the partition, the new entries, whose answers there are, whether it went on.
async fn read_parts(mut parts: InvokeStream) -> Vec<(u32, u64, Vec<Bytes>, bool)> {
    let mut read = Vec::new();
    while let Some(part) = parts.next().await.unwrap() {
        let keys = part.entries.into_iter().map(|entry| entry.key).collect();
        read.push((part.partition, part.processed, keys, part.resumed));
    }
    read
}

/// Of each call on many entries: its sequence, the partitions that it named, and whether it goes on with what ran.
fn invoked(node: &TestNode) -> Vec<(u64, Vec<u32>, bool)> {
    let requests = node.script.invoke_requests.lock().unwrap();
    let goes_on = |export: &v1::ModuleExport| *export == ran();
    let of = |request: &InvokeRequest| {
        (request.sequence, request.partitions.clone(), request.export.as_ref().is_some_and(goes_on))
    };
    requests.iter().map(of).collect()
}

#[tokio::test]
async fn a_broken_call_on_all_entries_goes_on_under_the_same_id() {
    let node = TestNode::start().await;
    let client = node.client().await;
    node.script.invokes.lock().unwrap().extend([
        vec![part(0, 3, "a", true), part(1, 2, "b", false), Err(Status::unknown("the connection broke"))],
        // It ends too early.
        vec![part(1, 1, "", false)],
        vec![part(1, 6, "c", false), part(1, 1, "", true)],
    ]);
    let parts = client.raw_map("m").invoke_all("f", "", Responses::Collect).await.unwrap();
    let expected = [
        (0, 3, vec![Bytes::from("a")], false),
        (1, 2, vec![Bytes::from("b")], false),
        (1, 4, vec![Bytes::from("c")], true),
        (1, 1, vec![], true),
    ];
    assert_eq!(read_parts(parts).await, expected);
    // Where it is to run.
    assert_eq!(invoked(&node), [(2, vec![], false), (2, vec![1], true), (2, vec![1], true)]);
}

#[tokio::test]
async fn a_broken_call_on_keys_answers_each_key_once() {
    let node = TestNode::start().await;
    let client = node.client().await;
    node.script.invokes.lock().unwrap().extend([
        // It ends too early.
        vec![part(1, 1, "a", false)],
        vec![part(1, 1, "a", false), part(0, 1, "z", true), Err(Status::unavailable("restarting"))],
        vec![part(1, 1, "a", false), part(1, 1, "b", true)],
    ]);
    let parts = client.raw_map("m").invoke_keys("f", ["a", "b", "z"], "").await.unwrap();
    let expected =
        [(0, 1, vec![Bytes::from("z")], false), (1, 2, vec![Bytes::from("a"), Bytes::from("b")], false)];
    assert_eq!(read_parts(parts).await, expected);
    // Whose keys it leaves out.
    assert_eq!(invoked(&node), [(2, vec![], false), (2, vec![], false), (2, vec![0], true)]);
}

#[tokio::test]
async fn a_call_that_breaks_again_and_again_is_in_doubt() {
    let node = TestNode::start().await;
    let client = Client::connect(node.options().timeout(Duration::from_millis(500))).await.unwrap();
    let broken = std::iter::repeat_with(|| vec![part(0, 3, "", true), Err(Status::unavailable("no"))]);
    node.script.invokes.lock().unwrap().extend(broken.take(1000));
    let mut parts = client.raw_map("m").invoke_all("f", "", Responses::Discard).await.unwrap();
    assert_eq!(parts.next().await.unwrap().unwrap().processed, 3);
    let error = parts.next().await.unwrap_err();
    assert!(matches!(error, Error::InDoubt(_)), "{error:?}");
    let attempts = invoked(&node).len();
    assert!((2..1000).contains(&attempts), "{attempts}");
}

#[tokio::test]
async fn a_repetition_that_is_refused_leaves_the_call_in_doubt() {
    let node = TestNode::start().await;
    let client = node.client().await;
    let refused = refusal(Code::NotFound, "FUNCTION_NOT_FOUND");
    node.script
        .invokes
        .lock()
        .unwrap()
        .extend([vec![part(0, 3, "", true), Err(Status::unavailable("restarting"))], vec![Err(refused)]]);
    let parts = client.raw_map("m").invoke_all("f", "", Responses::Discard).await.unwrap();
    let error = parts.finish().await.unwrap_err();
    assert!(
        matches!(&error, Error::InDoubt(failure) if failure.reason() == Some("FUNCTION_NOT_FOUND")),
        "{error:?}"
    );
}

fn page(keys: &[&'static str], cursor: &'static str) -> Result<v1::ScanResponse, Status> {
    let entry = |key: &&'static str| v1::ScannedEntry {
        key: Bytes::from_static(key.as_bytes()),
        ..Default::default()
    };
    Ok(v1::ScanResponse {
        entries: keys.iter().map(entry).collect(),
        cursor: Bytes::from_static(cursor.as_bytes()),
    })
}

#[tokio::test]
async fn a_broken_scan_goes_on_where_it_stood() {
    let node = TestNode::start().await;
    let client = node.client().await;
    node.script.scans.lock().unwrap().extend([
        vec![page(&["a", "b"], "2"), Err(refusal(Code::Unavailable, "NOT_OWNER"))],
        vec![page(&["c"], "3"), page(&["d"], "")],
    ]);
    let mut scan = client.raw_map("m").scan(ScanOptions::new().limit(9));
    let mut keys = Vec::new();
    let mut cursors = Vec::new();
    while let Some(entry) = scan.next().await.unwrap() {
        keys.push(entry.key);
        cursors.push(scan.cursor());
    }
    assert_eq!(keys, ["a", "b", "c", "d"]);
    let at = |cursor: &'static str| Some(Bytes::from_static(cursor.as_bytes()));
    assert_eq!(cursors, [at(""), at("2"), at("3"), None]);
    let asked = node.script.scan_requests.lock().unwrap();
    let asked = asked.iter().map(|request| (request.cursor.clone(), request.limit)).collect::<Vec<_>>();
    assert_eq!(asked, [(Bytes::new(), 9), (Bytes::from_static(b"2"), 7)]);
}

#[tokio::test]
async fn a_broken_watch_goes_on_after_its_token_or_says_what_it_missed() {
    let node = TestNode::start().await;
    let client = node.client().await;
    let message = |token: &'static str| {
        Ok(v1::WatchResponse { token: Bytes::from_static(token.as_bytes()), ..Default::default() })
    };
    let broken = || Err(Status::unavailable("restarting"));
    node.script.watches.lock().unwrap().extend([
        vec![broken()],
        vec![message("1"), broken()],
        vec![message("2")],
    ]);
    let mut watch = client.raw_map("m").watch("", WatchFrom::Now);
    let (first, second) = (watch.next().await.unwrap(), watch.next().await.unwrap());
    assert_eq!((first.missed, second.missed), (true, false));
    let asked = node.script.watch_requests.lock().unwrap();
    assert_eq!(asked.iter().map(|request| request.token.clone()).collect::<Vec<_>>(), ["", "", "1"]);
}

fn results(request: &v1::PipelineRequest, results: &[OperationResult<'_>]) -> v1::PipelineResponse {
    let mut buffer = Vec::new();
    let mut writer = ResultsWriter::new(&mut buffer, results.len()).unwrap();
    for (place, result) in results.iter().enumerate() {
        writer.set(place, result).unwrap();
    }
    writer.finish().unwrap();
    let frame = v1::pipeline_response::Results::Frame(buffer.into());
    v1::PipelineResponse { tag: request.tag, results: Some(frame) }
}

const PUT: OperationResult<'static> = OperationResult::Put { version: 5, previous: None };

fn answer(with: &'static [OperationResult<'static>]) -> PipelineStep {
    PipelineStep::Answer(Box::new(move |request| results(request, with)))
}

fn batch(count: usize) -> Batch {
    let put = || Operation::Put { key: "k".into(), value: "v".into(), options: PutOptions::new() };
    Batch::new("m", &std::iter::repeat_with(put).take(count).collect::<Vec<_>>()).unwrap()
}

fn pipelined(node: &TestNode) -> Vec<(u64, u64)> {
    let requests = node.script.pipeline_requests.lock().unwrap();
    requests.iter().map(|request| (request.tag, request.request_id.as_ref().unwrap().sequence)).collect()
}

async fn versions(pipeline: &Pipeline, count: usize) -> Vec<u64> {
    let answers = pipeline.submit(batch(count)).await.unwrap().await.unwrap();
    let version = |answer| match answer {
        Ok(Answer::Written(written)) => written.version,
        other => panic!("{other:?}"),
    };
    answers.answers().map(version).collect()
}

#[tokio::test]
async fn a_batch_is_answered_in_the_order_of_its_operations() {
    let node = TestNode::start().await;
    let pipeline = node.client().await.pipeline(PipelineOptions::new());
    let later = OperationResult::Put { version: 6, previous: None };
    node.script
        .pipeline
        .lock()
        .unwrap()
        .push_back(PipelineStep::Answer(Box::new(move |request| results(request, &[PUT, later]))));
    assert_eq!(versions(&pipeline, 2).await, [5, 6]);
    pipeline.close().await;
}

#[tokio::test]
async fn a_broken_pipeline_sends_what_was_in_flight_again_under_the_same_id() {
    let node = TestNode::start().await;
    let pipeline = node.client().await.pipeline(PipelineOptions::new());
    let broken = [Status::unavailable("restarting"), Status::unknown("the connection broke")];
    let steps = broken.map(PipelineStep::Break).into_iter().chain([answer(&[PUT])]);
    node.script.pipeline.lock().unwrap().extend(steps);
    assert_eq!(versions(&pipeline, 1).await, [5]);
    assert_eq!(pipelined(&node), [(1, 2); 3]);
}

#[tokio::test]
async fn an_overloaded_operation_sends_its_batch_again() {
    let node = TestNode::start().await;
    let pipeline = node.client().await.pipeline(PipelineOptions::new());
    let busy = OperationResult::Failed(PackedFailure {
        code: Code::ResourceExhausted as u32,
        reason: "OVERLOADED",
        message: "the inbox is full",
        outcome: PackedOutcome::NotApplied,
        facts: Facts::default(),
    });
    let partly = PipelineStep::Answer(Box::new(move |request| results(request, &[PUT, busy])));
    node.script.pipeline.lock().unwrap().extend([partly, answer(&[PUT, PUT])]);
    assert_eq!(versions(&pipeline, 2).await, [5, 5]);
    assert_eq!(pipelined(&node), [(1, 2), (1, 2)]);
}

#[tokio::test]
async fn the_window_bounds_what_is_in_flight() {
    let node = TestNode::start().await;
    let pipeline = node.client().await.pipeline(PipelineOptions::new().window(1));
    let first = pipeline.submit(batch(1)).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(30), pipeline.submit(batch(1))).await;
    assert!(waited.is_err(), "the window is full");
    // The node waits for its script; what it was asked stays unanswered until the first batch's turn comes.
    drop(first);
    assert_eq!(pipelined(&node).len(), 1);
}

#[tokio::test]
async fn a_batch_without_an_answer_is_in_doubt() {
    let node = TestNode::start().await;
    let client = Client::connect(node.options().timeout(Duration::from_millis(60))).await.unwrap();
    let pipeline = client.pipeline(PipelineOptions::new());
    node.script.pipeline.lock().unwrap().push_back(PipelineStep::Ignore);
    let silent = pipeline.submit(batch(1)).await.unwrap().await.unwrap_err();
    assert!(matches!(silent, Error::InDoubt(_)), "{silent:?}");
}

#[tokio::test]
async fn a_stream_that_is_refused_says_nothing_about_batches_on_their_way() {
    let node = TestNode::start().await;
    let pipeline = node.client().await.pipeline(PipelineOptions::new());
    let end = PipelineStep::Break(refusal(Code::InvalidArgument, "BAD_FRAME"));
    node.script.pipeline.lock().unwrap().push_back(end);
    let unknown = pipeline.submit(batch(1)).await.unwrap().await.unwrap_err();
    assert!(matches!(unknown, Error::InDoubt(_)), "{unknown:?}");
}

#[tokio::test]
async fn what_waits_when_a_pipeline_is_dropped_is_told() {
    let node = TestNode::start().await;
    let pipeline = node.client().await.pipeline(PipelineOptions::new());
    let pending = pipeline.submit(batch(1)).await.unwrap();
    drop(pipeline);
    let closed = pending.await.unwrap_err();
    assert!(matches!(closed, Error::PipelineClosed), "{closed:?}");
}
