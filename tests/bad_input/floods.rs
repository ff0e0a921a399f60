//! More than one client may take of a node: refused, while others are served.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, select_all};
use futures_util::stream::{self, StreamExt};
use http_body::Body as _;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use wattle::config::RawConfig;
use wattle_client::{Operation, PutOptions, UploadOptions};
use wattle_core::limits::{BATCH_BYTES, CALL_BYTES, IN_FLIGHT_BYTES_MIN, NAMES, UPLOADS};
use wattle_proto::v1;
use wattle_proto::v1::function_service_client::FunctionServiceClient;
use wattle_proto::v1::map_service_client::MapServiceClient;
use wattle_proto::v1::operation::Operation as One;
use wattle_proto::v1::operation_result::Result as Answer;
use wattle_proto::v1::pipeline_request::Operations;
use wattle_proto::v1::pipeline_response::Results;
use wattle_proto::v1::upload_request::Part;

use super::resources::{BUSY, ROOM};
use super::{KEY, MAP, Scene, VALUE};
use crate::harness::guest::Guest;
use crate::harness::wire::{Wire, eventually, facts, refusal};

/// A read of each of so many maps, none of which exists.
fn gets_of_maps(count: usize) -> v1::BatchRequest {
    let get = |n| One::Get(v1::GetRequest { map: format!("none-{n}"), key: "k".into() });
    let operations = (0..count).map(|n| v1::Operation { operation: Some(get(n)) });
    v1::BatchRequest { operations: operations.collect(), request_id: None }
}

#[tokio::test]
async fn a_message_uses_at_most_1024_names() {
    let scene = Scene::start().await;
    let mut wire = Wire::to(&scene.node).await;
    let answer = wire.maps.batch(gets_of_maps(NAMES)).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), NAMES);
    for (n, result) in answer.results.into_iter().enumerate() {
        let Some(Answer::Error(error)) = result.result else { panic!("there is no map {n}") };
        assert_eq!((error.reason.as_str(), &error.metadata["map"]), ("MAP_NOT_FOUND", &format!("none-{n}")));
    }
    let refused = wire.maps.batch(gets_of_maps(NAMES + 1)).await.unwrap_err();
    assert_eq!(facts(&refused), refusal(Code::InvalidArgument, "TOO_LARGE", "NOT_APPLIED"));
    assert_eq!(refused.message(), "1025 names are more than the 1024 allowed");
    scene.check_unharmed().await;
}

/// A node that allows the least in flight: half of it for what is large.
async fn small() -> Scene {
    Scene::with(RawConfig { memory_bytes: Some(32 << 20), ..RawConfig::default() }).await
}

/// What requests and answers in flight hold of the node's memory, by its metrics.
async fn in_flight(scene: &Scene) -> usize {
    usize::try_from(scene.node.metric("wattle_in_flight_bytes").await).unwrap()
}

/// All that was in flight is gone, and what was refused is not any more.
async fn check_relieved(scene: &Scene) {
    eventually(async || (in_flight(scene).await == 0).then_some(())).await;
    let value = vec![7; BATCH_BYTES / 8 - 64];
    let put = |n| Operation::Put {
        key: format!("k{n}").into(),
        value: value.clone().into(),
        options: PutOptions::new(),
    };
    let answers = scene.client.raw_map("large").batch((0..8).map(put).collect()).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    scene.check_unharmed().await;
}

/// Eight invocations with large arguments, each in a partition of its own.
fn large_invocations(tag: u64) -> v1::PipelineRequest {
    let argument = Bytes::from(vec![0; BATCH_BYTES / 8 - 64]);
    let invoke = |n| v1::OperationInvoke {
        map: MAP.into(),
        key: format!("key-{tag}-{n}").into(),
        function: "busy".into(),
        argument: argument.clone(),
    };
    let operations = (0..8).map(|n| v1::Operation { operation: Some(One::Invoke(invoke(n))) }).collect();
    let list = Some(Operations::List(v1::OperationList { operations }));
    v1::PipelineRequest { tag, operations: list, ..Default::default() }
}

#[tokio::test]
async fn messages_in_flight_are_bounded_over_all_partitions() {
    const MESSAGES: u64 = 20;
    let scene = small().await;
    let patient = UploadOptions::new().cpu_budget(Duration::from_millis(100));
    let busy = Guest::doing(BUSY).before_allocation(ROOM).module();
    scene.client.functions().upload("busy", busy, &patient).await.unwrap();
    let mut wire = Wire::to(&scene.node).await;
    let messages = tokio_stream::iter((0..MESSAGES).map(large_invocations));
    let mut answers = wire.maps.pipeline(messages).await.unwrap().into_inner();
    let (mut done, mut refused) = (0, 0);
    while let Some(answer) = answers.next().await {
        assert_eq!(scene.map.get(KEY).await.unwrap().unwrap().value, VALUE, "short calls go on");
        match answer.unwrap().results {
            Some(Results::List(list)) => {
                let done_all = list.results.iter().all(|one| matches!(one.result, Some(Answer::Invoke(_))));
                assert!(done_all, "{list:?}");
                done += 1;
            }
            Some(Results::Error(error)) => {
                let found = (error.code, error.reason.as_str(), error.outcome());
                let expected = (Code::ResourceExhausted as i32, "OVERLOADED", v1::Outcome::NotApplied);
                assert_eq!(found, expected, "{error:?}");
                assert!(error.metadata["retry_after_ms"].parse::<u64>().unwrap() > 0);
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(done + refused, MESSAGES);
    let room = (IN_FLIGHT_BYTES_MIN / 2 / BATCH_BYTES) as u64;
    assert!(done >= room - 1 && refused > 0, "{done} done, {refused} refused, there is room for {room}");
    check_relieved(&scene).await;
}

/// The first message of a scan, or why there is none.
async fn scanned(wire: &Wire) -> Result<Option<v1::ScanResponse>, Status> {
    let request = v1::ScanRequest { map: "large".into(), ..Default::default() };
    wire.maps.clone().scan(request).await?.into_inner().message().await
}

#[tokio::test]
async fn scans_that_nobody_reads_are_bounded() {
    let scene = small().await;
    let large = scene.client.raw_map("large");
    for n in 0..4 {
        large.put(format!("{{t}}{n}"), vec![7; 512 << 10]).await.unwrap();
    }
    let wire = Wire::to(&scene.node).await;
    assert_eq!(scanned(&wire).await.unwrap().unwrap().entries.len(), 1);
    // Its streams take no more than a kilobyte before they are read.
    let narrow = Endpoint::from_shared(scene.node.endpoint()).unwrap().initial_stream_window_size(1024);
    let mut narrow = MapServiceClient::new(narrow.connect().await.unwrap());
    let (mut unread, mut refused) = (Vec::new(), None);
    // Some are refused for what others hold for a moment only: so until one is that is read, and in any case to an end.
    for _ in 0..8 * IN_FLIGHT_BYTES_MIN / (512 << 10) {
        let request = v1::ScanRequest { map: "large".into(), ..Default::default() };
        unread.push(narrow.scan(request).await.unwrap());
        refused = scanned(&wire).await.err();
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("nobody reads what is in flight");
    assert_eq!(facts(&refused), refusal(Code::ResourceExhausted, "OVERLOADED", "NOT_APPLIED"));
    let most = IN_FLIGHT_BYTES_MIN / 2 + (4 << 20);
    assert!(in_flight(&scene).await < most, "each thread may pass the limit once");
    assert_eq!(scene.map.get(KEY).await.unwrap().unwrap().value, VALUE, "short calls go on");
    drop(unread);
    check_relieved(&scene).await;
    assert_eq!(scanned(&wire).await.unwrap().unwrap().entries.len(), 1);
}

/// Calls a method with the beginning of a message, and nothing more until the end; answers how the call ends.
async fn unfinished(mut channel: Channel, uri: String, end: CancellationToken) -> Status {
    let length = u32::try_from(BATCH_BYTES).unwrap().to_be_bytes();
    let beginning = Bytes::from([&[0][..], &length, &vec![0; BATCH_BYTES - 1]].concat());
    let silence = stream::pending().take_until(end.cancelled_owned());
    let body = stream::iter([Ok::<_, Status>(beginning)]).chain(silence);
    poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let request =
        http::Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    let body = Body::new(axum::body::Body::from_stream(body));
    let response = channel.call(request.body(body).unwrap()).await.unwrap();
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let mut body = response.into_body();
    let frame = poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await;
    let trailers = frame.expect("a stream ends with trailers").unwrap().into_trailers().unwrap();
    Status::from_header_map(&trailers).expect("they tell the status")
}

#[tokio::test]
async fn messages_that_never_end_are_bounded() {
    for method in ["MapService/Batch", "MapService/Pipeline", "FunctionService/Upload"] {
        let scene = small().await;
        let end = CancellationToken::new();
        let channel = Channel::from_shared(scene.node.endpoint()).unwrap().connect().await.unwrap();
        let uri = format!("{}/wattle.v1.{method}", scene.node.endpoint());
        let calls = (0..=IN_FLIGHT_BYTES_MIN / BATCH_BYTES)
            .map(|_| Box::pin(unfinished(channel.clone(), uri.clone(), end.clone())));
        let first = tokio::time::timeout(Duration::from_secs(20), select_all(calls)).await;
        let (refused, _, others) = first.expect("one is refused");
        assert_eq!(
            facts(&refused),
            refusal(Code::ResourceExhausted, "OVERLOADED", "NOT_APPLIED"),
            "{method}"
        );
        let held = in_flight(&scene).await;
        assert!((IN_FLIGHT_BYTES_MIN / 2..=IN_FLIGHT_BYTES_MIN).contains(&held), "{held} bytes are held");
        end.cancel();
        drop(others);
        check_relieved(&scene).await;
    }
}

/// Calls a method, and sends nothing; the refusal.
async fn silent(mut channel: Channel, uri: String) -> Status {
    poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let body = Body::new(axum::body::Body::from_stream(stream::pending::<Result<Bytes, Status>>()));
    let request =
        http::Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    let response = channel.call(request.body(body).unwrap()).await.unwrap();
    Status::from_header_map(response.headers()).expect("nothing else is answered")
}

#[tokio::test]
async fn calls_that_say_nothing_are_bounded() {
    const CALLS: usize = 1000;
    let scene = small().await;
    let uri = format!("{}/wattle.v1.MapService/Get", scene.node.endpoint());
    let mut calls = Vec::new();
    for _ in 0..=IN_FLIGHT_BYTES_MIN / CALL_BYTES / CALLS {
        let channel = Channel::from_shared(scene.node.endpoint()).unwrap().connect().await.unwrap();
        calls.extend((0..CALLS).map(|_| Box::pin(silent(channel.clone(), uri.clone()))));
    }
    let first = tokio::time::timeout(Duration::from_secs(20), select_all(calls)).await;
    let (refused, _, others) = first.expect("one is refused");
    assert_eq!(facts(&refused), refusal(Code::ResourceExhausted, "OVERLOADED", "NOT_APPLIED"));
    let held = in_flight(&scene).await;
    assert!((IN_FLIGHT_BYTES_MIN / 2..=IN_FLIGHT_BYTES_MIN).contains(&held), "{held} bytes are held");
    drop(others);
    check_relieved(&scene).await;
}

#[tokio::test]
async fn short_answers_that_nobody_reads_are_counted() {
    const GETS: usize = 100;
    const BYTES: usize = 15 << 10;
    let scene = Scene::start().await;
    scene.map.put("k", vec![7; BYTES]).await.unwrap();
    let narrow = Endpoint::from_shared(scene.node.endpoint()).unwrap().initial_stream_window_size(1024);
    let mut narrow = narrow.connect().await.unwrap();
    let get = v1::GetRequest { map: MAP.into(), key: "k".into() }.encode_to_vec();
    let get = Bytes::from([&[0][..], &u32::try_from(get.len()).unwrap().to_be_bytes(), &get].concat());
    let mut unread = Vec::new();
    for _ in 0..GETS {
        let uri = format!("{}/wattle.v1.MapService/Get", scene.node.endpoint());
        let request =
            http::Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
        let body = Body::new(axum::body::Body::from(get.clone()));
        poll_fn(|context| narrow.poll_ready(context)).await.unwrap();
        unread.push(narrow.call(request.body(body).unwrap()).await.unwrap());
    }
    eventually(async || (in_flight(&scene).await >= GETS * BYTES).then_some(())).await;
    drop(unread);
    check_relieved(&scene).await;
}

/// Uploads a module of its own; the version, or the refusal.
async fn upload(functions: FunctionServiceClient<Channel>, n: usize) -> Result<u32, Status> {
    let guest = Guest::counter().with(&format!("(data (i32.const 4096) \"{n}\")")).module();
    let header = v1::UploadHeader { name: format!("f{n}"), ..Default::default() };
    let parts = [Part::Header(header), Part::Chunk(guest.into())];
    let parts = tokio_stream::iter(parts.map(|part| v1::UploadRequest { part: Some(part) }));
    let mut functions = functions;
    Ok(functions.upload(parts).await?.into_inner().version)
}

#[tokio::test]
async fn uploads_past_the_limit_are_refused_and_maps_are_made_meanwhile() {
    let scene = Scene::start().await;
    let channel = Channel::from_shared(scene.node.endpoint()).unwrap().connect().await.unwrap();
    let functions = FunctionServiceClient::new(channel);
    let uploads = join_all((0..3 * UPLOADS).map(|n| upload(functions.clone(), n)));
    let writes = async {
        for n in 0..8 {
            scene.client.raw_map(format!("new-{n}")).put("k", "v").await.unwrap();
        }
    };
    let (uploads, ()) = tokio::join!(uploads, writes);
    let (done, refused): (Vec<_>, Vec<_>) = uploads.into_iter().partition(Result::is_ok);
    assert!(done.len() >= UPLOADS && !refused.is_empty(), "{} done, {} refused", done.len(), refused.len());
    for refused in refused {
        let refused = refused.unwrap_err();
        assert_eq!(facts(&refused), refusal(Code::ResourceExhausted, "OVERLOADED", "NOT_APPLIED"));
        let retry = refused.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
        assert!(retry.is_some_and(|delay| !delay.is_zero()), "{refused}");
    }
    assert_eq!(scene.client.functions().list().await.unwrap().len(), done.len());
    upload(functions, 3 * UPLOADS).await.unwrap();
    scene.check_unharmed().await;
}
