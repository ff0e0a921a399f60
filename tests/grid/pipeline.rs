//! The pipeline: many messages in flight on one stream, each answered by its tag.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use wattle_client::packed::{NameIndex, Operation as Packed, OperationResult, OperationsWriter, Results};
use wattle_client::{Answer as ClientAnswer, Batch, Error, Operation, PipelineOptions, PutOptions};
use wattle_core::limits::PIPELINE_MESSAGES;
use wattle_proto::v1;
use wattle_proto::v1::operation::Operation as One;
use wattle_proto::v1::operation_result::Result as Answer;
use wattle_proto::v1::pipeline_request::Operations;
use wattle_proto::v1::pipeline_response::Results as Answers;

use crate::harness::TestNode;
use crate::harness::examples::upload;
use crate::harness::wire::Wire;

struct Stream {
    messages: mpsc::Sender<v1::PipelineRequest>,
    answers: Streaming<v1::PipelineResponse>,
}

impl Stream {
    async fn open(wire: &Wire) -> Self {
        let (messages, receiver) = mpsc::channel(4 * PIPELINE_MESSAGES);
        let answers = wire.maps.clone().pipeline(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { messages, answers }
    }

    async fn send(&self, tag: u64, operations: Option<Operations>) {
        let message = v1::PipelineRequest { tag, operations, ..Default::default() };
        self.messages.send(message).await.unwrap();
    }

    /// Closes this side and returns the answers by tag.
    async fn finish(self) -> BTreeMap<u64, Answers> {
        let Self { messages, mut answers } = self;
        drop(messages);
        let mut by_tag = BTreeMap::new();
        while let Some(answer) = answers.next().await {
            let answer = answer.unwrap();
            assert!(
                by_tag.insert(answer.tag, answer.results.unwrap()).is_none(),
                "each tag is answered once"
            );
        }
        by_tag
    }
}

fn increment_list(keys: &[&str]) -> Operations {
    let add = |key: &&str| {
        let key = Bytes::copy_from_slice(key.as_bytes());
        v1::IncrementRequest { map: "m".into(), key, delta: 1, request_id: None }
    };
    let operation = |key| v1::Operation { operation: Some(One::Increment(add(key))) };
    Operations::List(v1::OperationList { operations: keys.iter().map(operation).collect() })
}

fn frame(names: &[&str], operations: &[Packed<'_>]) -> Operations {
    let mut frame = Vec::new();
    let mut writer = OperationsWriter::new(&mut frame, names, operations.len()).unwrap();
    operations.iter().for_each(|operation| writer.push(operation).unwrap());
    writer.finish();
    Operations::Frame(frame.into())
}

#[tokio::test]
async fn a_full_window_of_frames_and_lists_is_answered_by_tag() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    let stream = Stream::open(&wire).await;
    let window = PIPELINE_MESSAGES as u64;
    for tag in 0..window {
        // The tag is what the message adds, so that the answer tells whose it is.
        let key = format!("k{tag}");
        let delta = i64::try_from(tag).unwrap();
        let operations = if tag % 2 == 0 {
            let add = Packed::Increment { map: NameIndex(0), key: key.as_bytes(), delta };
            frame(&["m"], &[add, Packed::Increment { map: NameIndex(0), key: b"all", delta: 1 }])
        } else {
            let Operations::List(mut list) = increment_list(&[&key, "all"]) else { unreachable!() };
            if let Some(One::Increment(add)) = &mut list.operations[0].operation {
                add.delta = delta;
            }
            Operations::List(list)
        };
        stream.send(tag * 3, Some(operations)).await;
    }
    let answers = stream.finish().await;
    assert_eq!(answers.len(), PIPELINE_MESSAGES);
    for (tag, answer) in answers {
        let value = match answer {
            Answers::Frame(frame) => match Results::parse(&frame, 2).unwrap().results().next() {
                Some(Ok(OperationResult::Increment { value, .. })) => value,
                other => panic!("{other:?}"),
            },
            Answers::List(list) => match &list.results[0].result {
                Some(Answer::Increment(counted)) => counted.value,
                other => panic!("{other:?}"),
            },
            Answers::Error(error) => panic!("{error:?}"),
        };
        assert_eq!(u64::try_from(value).unwrap() * 3, tag);
    }
    assert_eq!(wire.value("m", "all").await.unwrap(), window.to_string());
}

#[tokio::test]
async fn more_messages_than_the_window_are_answered_too() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    let stream = Stream::open(&wire).await;
    let count = 3 * PIPELINE_MESSAGES as u64;
    for tag in 0..count {
        stream.send(tag, Some(increment_list(&["k"]))).await;
    }
    assert_eq!(stream.finish().await.len() as u64, count);
    assert_eq!(wire.value("m", "k").await.unwrap(), count.to_string());
}

#[tokio::test]
async fn operations_fail_one_by_one_and_bad_messages_alone() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    wire.put_by_another("m", "text", "no number").await;
    let stream = Stream::open(&wire).await;
    stream.send(1, Some(increment_list(&["a", "text", "b"]))).await;
    let map = NameIndex(0);
    let get = Packed::Get { map: NameIndex(1), key: b"k" };
    let add = |key| Packed::Increment { map, key, delta: 1 };
    stream.send(2, Some(frame(&["m", "none"], &[add(b"a"), get, add(b"text"), add(b"b")]))).await;
    stream.send(3, Some(Operations::Frame(Bytes::from_static(b"nonsense")))).await;
    stream.send(4, None).await;
    stream.send(5, Some(increment_list(&["a"]))).await;
    let answers = stream.finish().await;
    let Answers::List(list) = &answers[&1] else { panic!("{answers:?}") };
    let reason = |result: &v1::OperationResult| match &result.result {
        Some(Answer::Error(error)) => error.reason.clone(),
        _ => String::new(),
    };
    let reasons: Vec<_> = list.results.iter().map(reason).collect();
    assert_eq!(reasons, ["", "NOT_AN_INTEGER", ""]);
    let Answers::Frame(results) = &answers[&2] else { panic!("{answers:?}") };
    let results = Results::parse(results, 4).unwrap();
    let reason = |result: OperationResult<'_>| match result {
        OperationResult::Failed(failure) => failure.reason.to_owned(),
        _ => String::new(),
    };
    let reasons: Vec<_> = results.results().map(|result| reason(result.unwrap())).collect();
    assert_eq!(reasons, ["", "MAP_NOT_FOUND", "NOT_AN_INTEGER", ""]);
    for (tag, reason) in [(3, "BAD_FRAME"), (4, "INVALID_ARGUMENT")] {
        let Answers::Error(error) = &answers[&tag] else { panic!("{answers:?}") };
        assert_eq!((error.reason.as_str(), error.outcome()), (reason, v1::Outcome::NotApplied));
    }
    assert!(matches!(&answers[&5], Answers::List(_)));
    assert_eq!(wire.value("m", "a").await.unwrap(), "3");
    assert_eq!(wire.value("m", "text").await.unwrap(), "no number");
}

#[tokio::test]
async fn a_client_may_be_thousands_of_small_messages_ahead_of_the_answers() {
    const MESSAGES: u64 = 8192;
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    let value = "v".repeat(1024);
    wire.put_by_another("m", "k", &value).await;
    let stream = Stream::open(&wire).await;
    for tag in 0..MESSAGES {
        // Each in a piece of its own: answers fill the client's window after a few dozen, and the node reads no more of them.
        stream.send(tag, Some(frame(&["m"], &[Packed::Get { map: NameIndex(0), key: b"k" }]))).await;
        tokio::task::yield_now().await;
    }
    let answers = stream.finish().await;
    assert_eq!(answers.len() as u64, MESSAGES);
    for answer in answers.values() {
        let Answers::Frame(frame) = answer else { panic!("{answer:?}") };
        assert!(frame.ends_with(value.as_bytes()), "the value is read");
    }
}

#[tokio::test]
async fn every_operation_of_the_client_goes_through_a_pipeline() {
    let node = TestNode::start();
    let client = node.client().await;
    upload(&client, "counter", "add").await;
    let pipeline = client.pipeline(PipelineOptions::default());
    let put = |options| Operation::Put { key: "p".into(), value: "v".into(), options };
    let operations = [
        put(PutOptions::new()),
        put(PutOptions::new().if_absent()),
        Operation::Get { key: "p".into() },
        Operation::Increment { key: "n".into(), delta: 2 },
        Operation::Invoke { key: "n".into(), function: "add".into(), argument: "5".into() },
        Operation::Invoke { key: "p".into(), function: "add".into(), argument: "5".into() },
        Operation::GetAndRemove { key: "p".into() },
    ];
    let pending = pipeline.submit(Batch::new("m", &operations).unwrap()).await.unwrap();
    let answers = pending.await.unwrap();
    let answers: Vec<_> = answers.answers().collect();
    assert!(matches!(&answers[0], Ok(ClientAnswer::Written(_))));
    assert_eq!(answers[1].as_ref().unwrap_err().reason(), Some("ALREADY_EXISTS"));
    assert!(matches!(&answers[2], Ok(ClientAnswer::Value(Some(entry))) if entry.value == "v"));
    assert!(matches!(&answers[3], Ok(ClientAnswer::Incremented(counted)) if counted.value == 2));
    assert!(matches!(&answers[4], Ok(ClientAnswer::Response(response)) if response == "7"));
    assert_eq!(answers[5].as_ref().unwrap_err().reason(), Some("FUNCTION_FAILED"));
    assert!(matches!(&answers[6], Ok(ClientAnswer::Removed(gone)) if gone.previous.as_deref() == Some(b"v")));
    pipeline.close().await;
}

/// In both forms: the facts of an error are the entry's version, the function's own code and message.
#[tokio::test]
async fn a_failed_operation_of_a_message_says_as_much_as_a_single_call() {
    let node = TestNode::start();
    let client = node.client().await;
    upload(&client, "debit", "debit").await;
    let map = client.raw_map("m");
    let version = map.put("k", r#"{"balance":5}"#).await.unwrap();
    let put = Operation::Put {
        key: "k".into(),
        value: "v".into(),
        options: PutOptions::new().if_version(version + 1),
    };
    let invoke = Operation::Invoke { key: "k".into(), function: "debit".into(), argument: "9".into() };
    let Err(Error::FunctionFailed { code: Some(code), message: told, .. }) =
        map.invoke("debit", "k", "9").await
    else {
        panic!("it is refused")
    };
    let check = |stale: Result<ClientAnswer, Error>, poor: Result<ClientAnswer, Error>| {
        let current = match &stale {
            Err(Error::VersionMismatch { current, .. }) => *current,
            other => panic!("{other:?}"),
        };
        assert_eq!(current, Some(version));
        let Err(Error::FunctionFailed { code: own, message, .. }) = &poor else { panic!("{poor:?}") };
        assert_eq!((*own, message), (Some(code), &told));
    };
    let pipeline = client.pipeline(PipelineOptions::default());
    let pending = pipeline.submit(Batch::new("m", &[put.clone(), invoke.clone()]).unwrap()).await.unwrap();
    let answers = pending.await.unwrap();
    let mut answers = answers.answers();
    check(answers.next().unwrap(), answers.next().unwrap());
    let mut answers = map.batch(vec![put, invoke]).await.unwrap().into_iter();
    check(answers.next().unwrap(), answers.next().unwrap());
    pipeline.close().await;
}
