//! Frames that are cut short or make no sense: HTTP/2's, gRPC's, and the packed ones within them.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic::codegen::{Service, http};
use tonic::transport::Channel;
use wattle_frame::pipeline::{Condition, NameIndex, Operation, OperationsWriter};
use wattle_proto::v1;
use wattle_proto::v1::pipeline_request::Operations;
use wattle_proto::v1::pipeline_response::Results;

use super::{KEY, MAP, Scene};

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

/// Calls Put with this body, and answers the status.
async fn put_of(scene: &Scene, body: Vec<u8>) -> (Code, String) {
    let mut channel = channel(scene).await;
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let request = http::Request::post(format!("{}/wattle.v1.MapService/Put", scene.node.endpoint()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(axum::body::Body::from(body)))
        .unwrap();
    let response = channel.call(request).await.unwrap();
    let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let code = header("grpc-status").expect("the answer is nothing but a status");
    (Code::from_bytes(code.as_bytes()), header("grpc-message").unwrap_or_default())
}

/// A put of another value, as gRPC frames it.
fn framed_put() -> Vec<u8> {
    let message = v1::PutRequest {
        map: MAP.to_owned(),
        key: KEY.into(),
        value: "another".into(),
        ..Default::default()
    };
    let message = prost::Message::encode_to_vec(&message);
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

#[tokio::test]
async fn a_grpc_frame_cut_short_anywhere_is_refused() {
    let scene = Scene::start().await;
    let whole = framed_put();
    for length in [0, 1, 4, 5, 6, whole.len() / 2, whole.len() - 1] {
        let (code, message) = put_of(&scene, whole[..length].to_vec()).await;
        assert_eq!(code, Code::Internal, "{length}: {message}");
    }
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_grpc_frame_that_holds_no_message_is_refused() {
    let scene = Scene::start().await;
    // A field of the key's number, whose length goes far beyond the message.
    let (code, message) = put_of(&scene, vec![0, 0, 0, 0, 3, 0x12, 0xff, 0x7f]).await;
    assert_eq!(code, Code::Internal, "{message}");
    // Compressed, although nothing was agreed on.
    let mut compressed = framed_put();
    compressed[0] = 1;
    let (code, message) = put_of(&scene, compressed).await;
    assert_eq!(code, Code::Internal, "{message}");
    // A length beyond everything that is decoded.
    let (code, message) = put_of(&scene, vec![0, 0xff, 0xff, 0xff, 0xff, 0]).await;
    assert_eq!(code, Code::OutOfRange, "{message}");
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
