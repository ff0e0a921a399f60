//! What completion records say later: after the function's name has moved on, where the invocation ran on the thread that it
//! arrived on, when the answer was full; and what is said when there is no room for more of them.

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::Code;
use wattle::config::RawConfig;
use wattle_client::UploadOptions;
use wattle_core::limits::{ANSWER_BYTES, COMPLETIONS_PER_CLIENT, VALUE_BYTES};
use wattle_core::partition::partition_of;
use wattle_proto::v1;
use wattle_proto::v1::operation::Operation as One;
use wattle_proto::v1::operation_result::Result as Answer;
use wattle_proto::v1::pipeline_request::Operations;

use crate::harness::TestNode;
use crate::harness::guest::Guest;
use crate::harness::wire::{Wire, eventually, facts, put, refusal};

const M: &str = "m";

/// Adds one to a binary number, and answers with it.
async fn upload_counter(node: &TestNode, guest: &Guest) -> String {
    let functions = node.client().await.functions();
    let uploaded = functions.upload("count", guest.module(), &UploadOptions::new()).await.unwrap();
    let version = uploaded.function.versions.into_iter().find(|version| version.number == uploaded.version);
    version.unwrap().module
}

fn count(key: &str, request_id: Option<v1::RequestId>) -> v1::InvokeRequest {
    let key = Bytes::copy_from_slice(key.as_bytes());
    v1::InvokeRequest { function: "count".into(), map: M.into(), key, argument: Bytes::new(), request_id }
}

#[tokio::test]
async fn a_retry_names_the_module_that_ran_and_not_the_one_that_the_name_has_now() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    let first_module = upload_counter(&node, &Guest::counter()).await;
    let first = wire.compute.invoke(count("k", wire.id(1))).await.unwrap().into_inner();
    assert_eq!((first.response.as_ref(), &first.module), (&1u64.to_le_bytes()[..], &first_module));
    let second_module = upload_counter(&node, &Guest::counter().before_allocation("(nop)")).await;
    assert_ne!(second_module, first_module);
    let second = wire.compute.invoke(count("k", wire.id(2))).await.unwrap().into_inner();
    assert_eq!((second.response.as_ref(), &second.module), (&2u64.to_le_bytes()[..], &second_module));
    assert_eq!(wire.compute.invoke(count("k", wire.id(1))).await.unwrap().into_inner(), first);
    node.client().await.functions().rollback("count").await.unwrap();
    assert_eq!(wire.compute.invoke(count("k", wire.id(2))).await.unwrap().into_inner(), second);
    assert_eq!(wire.value(M, "k").await.unwrap().as_ref(), 2u64.to_le_bytes());
}

/// How often the counter ran on threads of this kind, as the node's metrics say.
async fn runs_on(node: &TestNode, thread: &str) -> u64 {
    let mut stream = TcpStream::connect(node.endpoint().trim_start_matches("http://")).await.unwrap();
    let ask = "GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).await.unwrap();
    let label = format!("thread=\"{thread}\"");
    let of_counter = |line: &&str| {
        line.starts_with("wattle_function_starts_total{function=\"count\"") && line.contains(&label)
    };
    let counts = metrics.lines().filter(of_counter);
    counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

/// Runs of the counter in batches, each of which shows how little time an entry takes; some hundred in a round. Other tests
/// take their share of the machine, so nobody can say after how many a single one is run where it arrives.
async fn prove_quick(wire: &mut Wire) {
    let request = v1::InvokeAllRequest {
        function: "count".into(),
        map: "many".into(),
        discard_responses: true,
        ..Default::default()
    };
    let mut parts = wire.compute.invoke_all(request).await.unwrap().into_inner();
    while let Some(part) = parts.message().await.unwrap() {
        assert_eq!((part.error, part.failed), (None, 0));
    }
}

/// A node whose counter is proven to be quick, almost.
async fn node_with_quick_counter() -> (TestNode, Wire) {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    upload_counter(&node, &Guest::counter()).await;
    let zero = |n: u32| {
        let put = put("many", &format!("key-{n}"), "\0\0\0\0\0\0\0\0", None);
        v1::Operation { operation: Some(One::Put(put)) }
    };
    let operations = (0..3000).map(zero).collect();
    wire.maps.batch(v1::BatchRequest { operations, request_id: None }).await.unwrap();
    prove_quick(&mut wire).await;
    (node, wire)
}

/// More rounds than it takes on any machine that can run the tests.
const ROUNDS: u64 = 100;

#[tokio::test]
async fn a_retry_of_an_invocation_that_ran_where_it_arrived_does_not_run() {
    let (node, mut wire) = node_with_quick_counter().await;
    for round in 1..=ROUNDS {
        prove_quick(&mut wire).await;
        let before = runs_on(&node, "io").await;
        let first = wire.compute.invoke(count("k", wire.id(round))).await.unwrap().into_inner();
        assert_eq!(first.response.as_ref(), round.to_le_bytes());
        if runs_on(&node, "io").await == before {
            continue;
        }
        let (on_io, on_compute) = (before + 1, runs_on(&node, "compute").await);
        assert_eq!(wire.compute.invoke(count("k", wire.id(round))).await.unwrap().into_inner(), first);
        let mut other = Wire::to(&node).await;
        assert_eq!(other.compute.invoke(count("k", wire.id(round))).await.unwrap().into_inner(), first);
        assert_eq!((runs_on(&node, "io").await, runs_on(&node, "compute").await), (on_io, on_compute));
        assert_eq!(wire.value(M, "k").await.unwrap().as_ref(), round.to_le_bytes());
        return;
    }
    panic!("in {ROUNDS} rounds the counter never ran where it was invoked");
}

#[tokio::test]
async fn duplicates_in_flight_of_a_quick_invocation_run_once_wherever_they_run() {
    let (node, mut wire) = node_with_quick_counter().await;
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(Wire::to(&node).await);
    }
    let mut on_io = 0;
    for round in 1..=ROUNDS {
        prove_quick(&mut wire).await;
        let before = (runs_on(&node, "io").await, runs_on(&node, "compute").await);
        let request = count("k", wire.id(round));
        let sent = connections.iter_mut().map(|wire| wire.compute.invoke(request.clone()));
        for answer in join_all(sent).await {
            assert_eq!(answer.unwrap().into_inner().response.as_ref(), round.to_le_bytes());
        }
        let after = (runs_on(&node, "io").await, runs_on(&node, "compute").await);
        assert_eq!(after.0 + after.1, before.0 + before.1 + 1, "one of them ran");
        on_io += after.0 - before.0;
        if on_io == 5 {
            return;
        }
    }
    panic!("in {ROUNDS} rounds the counter ran {on_io} times where it was invoked");
}

/// One partition, and more operations than run where they arrive, each of which answers with what was there before.
#[tokio::test]
async fn a_repeated_batch_whose_answer_was_full_does_no_more_than_before() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    wire.maps = wire.maps.max_decoding_message_size(4 * ANSWER_BYTES);
    let full = ANSWER_BYTES / VALUE_BYTES;
    let large = "v".repeat(VALUE_BYTES);
    for n in 0..full + 2 {
        wire.put_by_another(M, &format!("{{t}}{n}"), &large).await;
    }
    let replace = |n| {
        let put = put(M, &format!("{{t}}{n}"), "w", None);
        v1::Operation { operation: Some(One::Put(v1::PutRequest { return_previous: true, ..put })) }
    };
    let batch = v1::BatchRequest { operations: (0..100).map(replace).collect(), request_id: wire.id(1) };
    let first = wire.maps.batch(batch.clone()).await.unwrap().into_inner();
    assert!(matches!(&first.results[full - 1].result, Some(Answer::Put(put)) if put.previous.is_some()));
    for refused in &first.results[full..] {
        let Some(Answer::Error(error)) = &refused.result else { panic!("past the end of the answer") };
        assert_eq!((error.reason.as_str(), error.outcome()), ("TOO_LARGE", v1::Outcome::NotApplied));
    }
    assert!(wire.maps.batch(batch).await.unwrap().into_inner() == first, "the same, and not 8 MiB more");
    assert_eq!(wire.value(M, &format!("{{t}}{full}")).await.unwrap(), large);
}

#[tokio::test]
async fn values_that_no_longer_fit_the_answer_are_not_taken_away() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    wire.maps = wire.maps.max_decoding_message_size(4 * ANSWER_BYTES);
    let count = 2 * ANSWER_BYTES / VALUE_BYTES;
    let large = "v".repeat(VALUE_BYTES);
    for n in 0..count {
        wire.put_by_another(M, &n.to_string(), &large).await;
    }
    let take = |n: usize| {
        let key = Bytes::from(n.to_string());
        let remove = v1::RemoveRequest { map: M.into(), key, return_previous: true, ..Default::default() };
        v1::Operation { operation: Some(One::Remove(remove)) }
    };
    let batch = v1::BatchRequest { operations: (0..count).map(take).collect(), request_id: wire.id(1) };
    let results = wire.maps.batch(batch).await.unwrap().into_inner().results;
    let mut taken = 0;
    for (n, result) in results.into_iter().enumerate() {
        match result.result {
            Some(Answer::Remove(removed)) => {
                assert_eq!(removed.previous.map(|value| value.len()), Some(VALUE_BYTES));
                taken += 1;
            }
            Some(Answer::Error(error)) => {
                assert_eq!((error.reason.as_str(), error.outcome()), ("TOO_LARGE", v1::Outcome::NotApplied));
                assert_eq!(wire.value(M, &n.to_string()).await.unwrap(), large);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(taken, ANSWER_BYTES / VALUE_BYTES);
}

/// Leaves as many results in the partition of a key as a client may.
async fn leave_results(wire: &Wire, name: &str) {
    let increment = |sequence: usize| {
        let key = Bytes::copy_from_slice(name.as_bytes());
        let one = One::Increment(v1::IncrementRequest { map: M.into(), key, delta: 1, request_id: None });
        let operations = vec![v1::Operation { operation: Some(one) }];
        let list = Some(Operations::List(v1::OperationList { operations }));
        let (tag, request_id) = (sequence as u64, wire.id(sequence as u64));
        v1::PipelineRequest { tag, request_id, timeout: None, operations: list }
    };
    let messages = tokio_stream::iter((1..=COMPLETIONS_PER_CLIENT).map(increment).collect::<Vec<_>>());
    let mut answers = wire.maps.clone().pipeline(messages).await.unwrap().into_inner();
    while let Some(answer) = answers.next().await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn a_clear_that_got_half_way_is_in_doubt_and_can_be_gone_on_with() {
    let node = TestNode::with(RawConfig { partitions: Some(2), ..RawConfig::default() });
    let mut wire = Wire::to(&node).await;
    let in_partition = |index| {
        let mut names = (0..).map(|n: u32| n.to_string());
        names.find(|name| partition_of(name.as_bytes(), 2) == index).unwrap()
    };
    let (first, second) = (in_partition(0), in_partition(1));
    let clear = |request_id| v1::ClearRequest { map: M.into(), request_id, partitions: Vec::new() };
    leave_results(&wire, &second).await;
    let sequence = COMPLETIONS_PER_CLIENT as u64 + 1;
    let refused = wire.maps.clear(clear(wire.id(sequence))).await.unwrap_err();
    assert_eq!(facts(&refused), refusal(Code::ResourceExhausted, "OVERLOADED", "NOT_APPLIED"));
    wire.put_by_another(M, &first, "v").await;
    let half = wire.maps.clear(clear(wire.id(sequence))).await.unwrap_err();
    assert_eq!(facts(&half), refusal(Code::ResourceExhausted, "OVERLOADED", "IN_DOUBT"));
    assert_eq!((wire.value(M, &first).await, wire.value(M, &second).await.is_some()), (None, true));
    let room = wire.acknowledging(sequence, sequence);
    assert_eq!(wire.maps.clear(clear(room)).await.unwrap().into_inner().removed, 2);
    assert_eq!(wire.value(M, &second).await, None);
}

/// Nothing is recorded of what only reads.
#[tokio::test]
async fn a_call_on_all_that_only_reads_goes_on_when_its_client_id_is_too_old_for_records() {
    let node = TestNode::with(RawConfig { partitions: Some(2), ..RawConfig::default() });
    let mut wire = Wire::to(&node).await;
    upload_counter(&node, &Guest::counter()).await;
    let reader = Guest::simple("(i32.const 2048)").read_only().module();
    node.client().await.functions().upload("read", reader, &UploadOptions::new()).await.unwrap();
    wire.put_by_another(M, "k", "\0\0\0\0\0\0\0\0").await;
    wire.client_id = [1_u64.to_be_bytes(), [7; 8]].concat().into();
    let errors = async |function: &str, request_id| {
        let all = v1::InvokeAllRequest {
            function: function.into(),
            map: M.into(),
            request_id,
            ..Default::default()
        };
        let parts = wire.compute.clone().invoke_all(all).await.unwrap().into_inner();
        let error = |part: Result<v1::InvokePart, _>| part.unwrap().error.map(|error| error.reason);
        parts.map(error).collect::<Vec<_>>().await
    };
    let in_doubt = vec![Some("IN_DOUBT".to_owned()); 2];
    // As soon as the partitions have forgotten ids of that age. Of a repetition, an earlier attempt may have written.
    eventually(async || (errors("read", wire.again(1)).await == in_doubt).then_some(())).await;
    assert_eq!(errors("read", wire.id(2)).await, [None, None]);
    assert_eq!(errors("count", wire.id(3)).await, in_doubt);
}
