//! Frames that are cut short or make no sense: HTTP/2's, gRPC's, and the packed ones within them.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::Channel;
use tonic::{Code, Status};
use wattle_client::UploadOptions;
use wattle_core::limits::MESSAGE_BYTES;
use wattle_frame::pipeline::{Condition, NameIndex, Operation, OperationsWriter};
use wattle_proto::v1;
use wattle_proto::v1::pipeline_request::Operations;
use wattle_proto::v1::pipeline_response::Results;

use super::{KEY, MAP, Scene};
use crate::harness::guest::Guest;
use crate::harness::wire::{self, facts};

async fn channel(scene: &Scene) -> Channel {
    Channel::from_shared(scene.node.endpoint()).unwrap().connect().await.unwrap()
}

/// Two puts that overwrite the entry.
fn puts() -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut writer = OperationsWriter::new(&mut buffer, &[MAP], 2).unwrap();
    for value in [b"one", b"two"] {
        let put = Operation::Put {
            map: NameIndex(0),
            key: KEY.as_bytes(),
            value,
            ttl_ms: None,
            condition: Condition::Always,
            return_previous: false,
        };
        writer.push(&put).unwrap();
    }
    writer.finish();
    buffer
}

/// Sends packed frames on one stream and checks that each is refused as a whole.
async fn check_bad_frames(scene: &Scene, frames: Vec<Vec<u8>>) {
    let count = frames.len();
    let mut maps = v1::map_service_client::MapServiceClient::new(channel(scene).await);
    let messages = frames.into_iter().enumerate().map(|(tag, frame)| v1::PipelineRequest {
        tag: tag as u64,
        operations: Some(Operations::Frame(frame.into())),
        ..Default::default()
    });
    let messages = messages.collect::<Vec<_>>();
    let mut answers = maps.pipeline(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let mut tags = Vec::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        let Some(Results::Error(error)) = answer.results else { panic!("{answer:?}") };
        let facts = (error.code, error.reason.as_str(), error.outcome());
        assert_eq!(facts, (Code::InvalidArgument as i32, "BAD_FRAME", v1::Outcome::NotApplied), "{error:?}");
        tags.push(answer.tag);
    }
    tags.sort_unstable();
    assert_eq!(tags, (0..count as u64).collect::<Vec<_>>(), "each message is answered once");
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_packed_frame_cut_short_anywhere_is_refused_and_nothing_of_it_is_done() {
    let scene = Scene::start().await;
    let whole = puts();
    check_bad_frames(&scene, (0..whole.len()).map(|length| whole[..length].to_vec()).collect()).await;
}

#[tokio::test]
async fn a_packed_frame_with_a_wild_offset_is_refused() {
    let scene = Scene::start().await;
    let whole = puts();
    let wild = |at: usize| {
        let mut frame = whole.clone();
        frame[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        frame
    };
    // Of the header: the version of the format, the counts, the length.
    check_bad_frames(&scene, [0, 4, 8].map(wild).to_vec()).await;
}

#[tokio::test]
async fn a_pipeline_message_without_operations_is_refused_and_the_next_one_is_answered() {
    let scene = Scene::start().await;
    let mut maps = v1::map_service_client::MapServiceClient::new(channel(&scene).await);
    let get = v1::GetRequest { map: MAP.to_owned(), key: KEY.into() };
    let get = v1::Operation { operation: Some(v1::operation::Operation::Get(get)) };
    let list = Operations::List(v1::OperationList { operations: vec![get] });
    let empty = v1::PipelineRequest { tag: 7, ..Default::default() };
    let good = v1::PipelineRequest { tag: 8, operations: Some(list), ..Default::default() };
    let answers = maps.pipeline(tokio_stream::iter([empty, good])).await.unwrap().into_inner();
    let mut answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    answers.sort_by_key(|answer| answer.tag);
    let [Some(Results::Error(error)), Some(Results::List(list))] =
        [answers[0].results.clone(), answers[1].results.clone()]
    else {
        panic!("{answers:?}")
    };
    assert_eq!((error.reason.as_str(), error.outcome()), ("INVALID_ARGUMENT", v1::Outcome::NotApplied));
    let Some(v1::operation_result::Result::Get(found)) = &list.results[0].result else { panic!("{list:?}") };
    assert_eq!(
        (found.value.as_deref(), found.version),
        (Some(&scene.before.value[..]), scene.before.version)
    );
    scene.check_unharmed().await;
}

/// Calls a method with this body, and answers the status: of an answer that is nothing but a status.
async fn call_with(scene: &Scene, method: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Status {
    let mut channel = channel(scene).await;
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let mut request = http::Request::post(format!("{}/{method}", scene.node.endpoint()))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Body::new(axum::body::Body::from(body));
    let response = channel.call(request.body(body).unwrap()).await.unwrap();
    Status::from_header_map(response.headers()).expect("the answer is nothing but a status")
}

const PUT: &str = "wattle.v1.MapService/Put";

/// Calls Put with this body, which is refused with this code and reason.
async fn check_put(scene: &Scene, body: Vec<u8>, code: Code, reason: &str) {
    let status = call_with(scene, PUT, &[], body).await;
    assert_eq!(facts(&status), wire::refusal(code, reason, "NOT_APPLIED"), "{status}");
}

/// A message as gRPC frames it.
fn framed(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message].concat()
}

/// A put of another value.
fn framed_put() -> Vec<u8> {
    let (map, key) = (MAP.to_owned(), KEY.into());
    framed(&v1::PutRequest { map, key, value: "another".into(), ..Default::default() })
}

#[tokio::test]
async fn a_grpc_frame_cut_short_anywhere_is_refused() {
    let scene = Scene::start().await;
    let whole = framed_put();
    for length in [0, 1, 4, 5, 6, whole.len() / 2, whole.len() - 1] {
        check_put(&scene, whole[..length].to_vec(), Code::Internal, "MALFORMED_MESSAGE").await;
    }
    scene.check_unharmed().await;
}

/// A field of the key's number, whose length goes far beyond the message.
const NO_MESSAGE: [u8; 8] = [0, 0, 0, 0, 3, 0x12, 0xff, 0x7f];

#[tokio::test]
async fn a_grpc_frame_that_holds_no_message_is_refused() {
    let scene = Scene::start().await;
    check_put(&scene, NO_MESSAGE.to_vec(), Code::Internal, "MALFORMED_MESSAGE").await;
    // Compressed, although nothing was agreed on; and something that no protocol knows.
    for flag in [1, 2] {
        let mut compressed = framed_put();
        compressed[0] = flag;
        check_put(&scene, compressed, Code::Internal, "MALFORMED_MESSAGE").await;
    }
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_grpc_message_past_the_limit_is_refused_by_the_length_that_it_claims() {
    let scene = Scene::start().await;
    for length in [MESSAGE_BYTES + 1, u32::MAX as usize] {
        let length = u32::try_from(length).unwrap().to_be_bytes();
        let body = [&[0][..], &length, &[0]].concat();
        check_put(&scene, body, Code::OutOfRange, "TOO_LARGE").await;
    }
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_compression_that_the_node_does_not_know_is_refused() {
    let scene = Scene::start().await;
    let status = call_with(&scene, PUT, &[("grpc-encoding", "brotli")], framed_put()).await;
    assert_eq!(
        facts(&status),
        wire::refusal(Code::Unimplemented, "UNIMPLEMENTED", "NOT_APPLIED"),
        "{status}"
    );
    assert!(status.message().contains("brotli"), "{status}");
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_method_or_service_that_is_not_there_is_refused_with_a_reason() {
    let scene = Scene::start().await;
    for method in ["wattle.v1.MapService/Drop", "wattle.v9.MapService/Put", "nothing"] {
        let status = call_with(&scene, method, &[], framed_put()).await;
        assert_eq!(
            facts(&status),
            wire::refusal(Code::Unimplemented, "UNIMPLEMENTED", "NOT_APPLIED"),
            "{status}"
        );
        assert!(status.message().contains("no such method"), "{status}");
    }
    scene.check_unharmed().await;
}

#[tokio::test]
async fn an_upload_that_cannot_be_read_is_refused_with_a_reason() {
    let scene = Scene::start().await;
    let upload = "wattle.v1.FunctionService/Upload";
    let status = call_with(&scene, upload, &[], NO_MESSAGE.to_vec()).await;
    assert_eq!(facts(&status), wire::refusal(Code::Internal, "MALFORMED_MESSAGE", "NOT_APPLIED"), "{status}");
    let status = call_with(&scene, upload, &[], vec![0, 0xff, 0xff, 0xff, 0xff, 0]).await;
    assert_eq!(facts(&status), wire::refusal(Code::OutOfRange, "TOO_LARGE", "NOT_APPLIED"), "{status}");
    scene.check_unharmed().await;
}

/// Sends these bytes instead of what a client makes of its messages.
struct Forged {
    channel: Channel,
    body: Vec<u8>,
}

impl Service<http::Request<Body>> for Forged {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = <Channel as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let body = std::mem::take(&mut self.body);
        self.channel.call(request.map(|_| Body::new(axum::body::Body::from(body))))
    }
}

#[tokio::test]
async fn a_pipeline_that_breaks_off_answers_what_it_has_read_and_then_says_why_it_ends() {
    let scene = Scene::start().await;
    let message = |tag: u64| {
        let (map, key) = ("pipelined".to_owned(), format!("key {tag}").into());
        let put = v1::PutRequest { map, key, value: "value".into(), ..Default::default() };
        let operation = v1::Operation { operation: Some(v1::operation::Operation::Put(put)) };
        let list = Operations::List(v1::OperationList { operations: vec![operation] });
        framed(&v1::PipelineRequest { tag, operations: Some(list), ..Default::default() })
    };
    let good = [message(1), message(2)].concat();
    let cases: [(&[u8], Code, &str); 4] = [
        (&NO_MESSAGE, Code::Internal, "MALFORMED_MESSAGE"),
        (&[7, 0, 0, 0, 0], Code::Internal, "MALFORMED_MESSAGE"),
        (&[0, 0, 0], Code::Internal, "MALFORMED_MESSAGE"),
        (&[0, 0xff, 0xff, 0xff, 0xff], Code::OutOfRange, "TOO_LARGE"),
    ];
    for (bad, code, reason) in cases {
        let body = [&good, bad].concat();
        let forged = Forged { channel: channel(&scene).await, body };
        let mut maps = v1::map_service_client::MapServiceClient::new(forged);
        let answers = maps.pipeline(tokio_stream::empty()).await.unwrap().into_inner();
        let mut answers: Vec<_> = answers.collect().await;
        let status = answers.pop().unwrap().expect_err("it ends with a refusal");
        let mut tags = Vec::new();
        for answer in answers {
            let answer = answer.unwrap();
            assert!(matches!(answer.results, Some(Results::List(_))), "{answer:?}");
            tags.push(answer.tag);
        }
        tags.sort_unstable();
        assert_eq!(tags, [1, 2], "{reason}: what came before is answered");
        assert_eq!(facts(&status), wire::refusal(code, reason, "NOT_APPLIED"), "{status}");
    }
    scene.check_unharmed().await;
}

/// The framework of a client ends a call at its deadline by itself, so this one speaks HTTP/1.1 by hand.
#[tokio::test]
async fn a_call_past_its_deadline_is_answered_with_a_reason() {
    let scene = Scene::start().await;
    let patient = UploadOptions::new().cpu_budget(Duration::from_millis(100));
    let spin = Guest::doing("(loop $for-ever (br $for-ever)) (unreachable)");
    scene.client.functions().upload("spin", spin.module(), &patient).await.unwrap();
    let (function, map) = ("spin".to_owned(), MAP.to_owned());
    let invoke = framed(&v1::InvokeRequest { function, map, key: KEY.into(), ..Default::default() });
    let head = format!(
        "POST /wattle.v1.ComputeService/Invoke HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/grpc\r\ngrpc-timeout: 20m\r\ncontent-length: {}\r\n\r\n",
        invoke.len()
    );
    let address = scene.node.endpoint();
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    stream.write_all(&[head.as_bytes(), &invoke].concat()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await;
    read.expect("the node answers").unwrap();
    let headers = answer.lines().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let status = Status::from_header_map(&headers.collect()).expect("the answer is nothing but a status");
    assert_eq!(facts(&status), wire::refusal(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "IN_DOUBT"));
    scene.check_unharmed().await;
}

/// Sends bytes on a connection of their own, and waits until the node has closed it.
async fn check_closed(scene: &Scene, bytes: &[u8]) {
    let address = scene.node.endpoint();
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    // However it ends: a reset is an end too.
    drop(closed.expect("the node closes the connection"));
    scene.check_unharmed().await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn http2(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn bytes_that_are_not_http_close_their_connection_only() {
    let scene = Scene::start().await;
    check_closed(&scene, b"\x16\x03\x01 this is TLS, or so it says\r\n\r\n").await;
    check_closed(&scene, &Bytes::from(vec![0xff; 64 << 10])).await;
}

#[tokio::test]
async fn malformed_http2_frames_close_their_connection_only() {
    let scene = Scene::start().await;
    let settings = http2(4, 0, 0, &[]);
    for bad in [
        // Data on a stream that was never opened; headers that are no headers; settings of a length that cannot be.
        http2(0, 1, 1, b"data"),
        http2(1, 5, 1, &[0xff; 32]),
        http2(4, 0, 0, &[1, 2, 3]),
        // A frame of 16 MiB less one, of which nothing follows but more of the same.
        [&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1][..], &[0; 64]].concat(),
    ] {
        check_closed(&scene, &[PREFACE, &settings, &bad].concat()).await;
    }
}

#[tokio::test]
async fn a_call_that_breaks_off_is_not_done() {
    let scene = Scene::start().await;
    let body = framed_put();
    let mut headers = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/wattle.v1.MapService/Put"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // Literal, without an index and without compression.
        headers.push(0);
        for text in [name, value] {
            headers.push(u8::try_from(text.len()).unwrap());
            headers.extend(text.as_bytes());
        }
    }
    let half = http2(0, 0, 1, &body[..body.len() / 2]);
    let address = scene.node.endpoint();
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    let begin = [PREFACE, &http2(4, 0, 0, &[]), &http2(1, 4, 1, &headers), &half].concat();
    stream.write_all(&begin).await.unwrap();
    // A ping's answer tells that the node has read what came before it.
    stream.write_all(&http2(6, 0, 0, b"are here")).await.unwrap();
    let mut read: Vec<u8> = Vec::new();
    while !read.windows(8).any(|window| window == b"are here") {
        let mut buffer = [0; 1024];
        let count = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.unwrap();
        let count = count.unwrap();
        assert_ne!(count, 0, "the node takes the half");
        read.extend(&buffer[..count]);
    }
    drop(stream);
    scene.check_unharmed().await;
}
