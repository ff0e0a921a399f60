//! Batches whose operations go to those who decide about their keys.

use std::pin::pin;

use futures_util::FutureExt;
use wattle_frame::pipeline::Operations;

use super::doubt::repeated;
use super::*;
use crate::{BatchAnswers, partition_of};

/// A key in a partition: the first of two members decides about the first one, the second about the second, and nobody about the third.
fn key(partition: usize, number: usize) -> String {
    let keys = (0..).map(|n| format!("k{n}"));
    keys.filter(|key| partition_of(key.as_bytes(), 3) == Some(partition)).nth(number).unwrap()
}

/// Two members, of which the first is given.
async fn two() -> [TestNode; 2] {
    let nodes = [TestNode::start().await, TestNode::start().await];
    let member =
        |(node, at): (u64, &TestNode)| v1::MemberAddress { node, incarnation: 1, address: at.address() };
    for (node, at) in (1..).zip(&nodes) {
        at.script.tables.lock().unwrap().push(v1::WatchTableResponse {
            grid_id: Bytes::from_static(b"g"),
            node,
            incarnation: 1,
            generation: 1,
            version: 1,
            members: (1..).zip(&nodes).map(member).collect(),
            classes: vec![v1::ClassTable { class: 0, primaries: vec![1, 2, 0] }],
            maps: Vec::new(),
        });
    }
    nodes
}

/// Writes of these keys.
fn puts(keys: &[&str]) -> Batch {
    let put = |key: &&str| Operation::Put {
        key: key.to_string().into(),
        value: "v".into(),
        options: PutOptions::new(),
    };
    Batch::new("m", &keys.iter().map(put).collect::<Vec<_>>()).unwrap()
}

fn frame(request: &v1::PipelineRequest) -> &Bytes {
    match &request.operations {
        Some(v1::pipeline_request::Operations::Frame(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

/// Answers each write with this version.
fn writes(version: u64) -> PipelineStep {
    PipelineStep::Answer(Box::new(move |request| {
        let count = Operations::parse(frame(request)).unwrap().len();
        results(request, &vec![OperationResult::Put { version, previous: None }; count])
    }))
}

fn then(node: &TestNode, steps: impl IntoIterator<Item = PipelineStep>) {
    *node.script.pipeline.lock().unwrap() = steps.into_iter().collect();
}

/// From now on the first answers every write with version 1, the second with version 2.
fn answer_all(nodes: &[TestNode; 2]) {
    for (version, node) in (1..).zip(nodes) {
        then(node, std::iter::repeat_with(|| writes(version)).take(100_000));
    }
}

/// The version of each write, or what became of it.
fn versions_of(answers: &BatchAnswers) -> Vec<Result<u64, Option<Outcome>>> {
    let told = answers.answers().map(|answer| match answer {
        Ok(Answer::Written(written)) => Ok(written.version),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.outcome()),
    });
    told.collect()
}

async fn told(pipeline: &Pipeline, keys: &[&str]) -> Vec<Result<u64, Option<Outcome>>> {
    versions_of(&pipeline.submit(puts(keys)).await.unwrap().await.unwrap())
}

/// Waits for what happens by itself.
async fn until(has_happened: impl AsyncFn() -> bool) {
    let until = async { while !has_happened().await {} };
    tokio::time::timeout(Duration::from_secs(20), until).await.expect("it happens by itself");
}

/// A pipeline that goes straight to both.
async fn straight(nodes: &[TestNode; 2], options: Options) -> Pipeline {
    answer_all(nodes);
    let pipeline = Client::connect(options).await.unwrap().pipeline(PipelineOptions::new());
    let (first, second) = (key(0, 9), key(1, 9));
    // By the given node all are answered with its version.
    until(async || told(&pipeline, &[&first, &second]).await == [Ok(1), Ok(2)]).await;
    nodes.iter().for_each(|node| node.script.pipeline_requests.lock().unwrap().clear());
    pipeline
}

/// What a node was asked: the keys of each message.
fn asked(node: &TestNode) -> Vec<Vec<String>> {
    let requests = node.script.pipeline_requests.lock().unwrap();
    let keys = |request: &v1::PipelineRequest| {
        let operations = Operations::parse(frame(request)).unwrap();
        let key = |operation: usize| operations.operation(operation).unwrap().key().to_vec();
        (0..operations.len()).map(|place| String::from_utf8(key(place)).unwrap()).collect()
    };
    requests.iter().map(keys).collect()
}

#[tokio::test]
async fn each_operation_goes_to_who_decides_about_its_key() {
    let nodes = two().await;
    let pipeline = straight(&nodes, nodes[0].options()).await;
    let (a, b, c) = (&*key(0, 0), &*key(1, 0), &*key(0, 1));
    assert_eq!(told(&pipeline, &[c, b, a, b]).await, [Ok(1), Ok(2), Ok(1), Ok(2)]);
    assert_eq!(told(&pipeline, &[b]).await, [Ok(2)]);
    assert_eq!(asked(&nodes[0]), [[c, a]]);
    assert_eq!(asked(&nodes[1]), [vec![b, b], vec![b]]);
    pipeline.close().await;
}

#[tokio::test]
async fn nothing_overtakes_by_a_new_way_what_goes_by_the_old_one() {
    let nodes = two().await;
    answer_all(&nodes);
    nodes[0].script.pipeline.lock().unwrap().push_front(PipelineStep::Ignore);
    let pipeline = nodes[0].client().await.pipeline(PipelineOptions::new());
    let (a, b, anywhere) = (&*key(1, 0), &*key(1, 1), &*key(2, 0));
    // Nothing is known of the second yet.
    let first = pipeline.submit(puts(&[a])).await.unwrap();
    until(async || told(&pipeline, &[b]).await == [Ok(2)]).await;
    let mut behind = pin!(pipeline.submit(puts(&[b, a])));
    assert!((&mut behind).now_or_never().is_none(), "what it is behind has another way");
    let broken = PipelineStep::Break(Status::unknown("the connection broke"));
    nodes[0].script.pipeline.lock().unwrap().push_front(broken);
    // By that stream everything is sent again.
    assert_eq!(told(&pipeline, &[anywhere]).await, [Ok(1)]);
    assert_eq!(versions_of(&first.await.unwrap()), [Ok(1)]);
    assert_eq!(versions_of(&behind.await.unwrap().await.unwrap()), [Ok(2); 2]);
}

/// What the second says to two puts, and whether what the first is asked instead is said to be repeated.
async fn check_asked_instead(said: PipelineStep, expected: bool) {
    let nodes = two().await;
    let pipeline = straight(&nodes, nodes[0].options()).await;
    nodes[1].script.pipeline.lock().unwrap().push_front(said);
    let (a, b, c) = (&*key(0, 0), &*key(1, 0), &*key(1, 1));
    assert_eq!(told(&pipeline, &[b, a, c]).await, [Ok(1); 3]);
    assert_eq!(asked(&nodes[1]), [[b, c]]);
    let id = |node: &TestNode, keys: &[&str]| {
        let place = asked(node).iter().position(|asked| asked == keys).unwrap();
        node.script.pipeline_requests.lock().unwrap()[place].request_id.clone()
    };
    let (first, second) = (id(&nodes[1], &[b, c]), id(&nodes[0], &[b, c]));
    assert_eq!(repeated([&first, &second].into_iter()), [false, expected]);
    let sequence = |id: Option<v1::RequestId>| id.unwrap().sequence;
    let other = sequence(id(&nodes[0], &[a]));
    assert_eq!(sequence(first.clone()), sequence(second));
    assert_ne!(sequence(first), other, "it is a request of its own");
}

#[tokio::test]
async fn what_was_on_its_way_when_a_stream_broke_is_sent_again_by_any_node_under_the_same_id() {
    check_asked_instead(PipelineStep::Break(Status::unknown("the connection broke")), true).await;
}

#[tokio::test]
async fn what_a_member_does_not_decide_any_more_is_sent_again_by_any_node_under_the_same_id() {
    let not_owner = OperationResult::Failed(PackedFailure {
        code: Code::Unavailable as u32,
        reason: "NOT_OWNER",
        message: "told",
        outcome: PackedOutcome::NotApplied,
        facts: Facts::default(),
    });
    let refused = move |request: &v1::PipelineRequest| results(request, &[not_owner, not_owner]);
    check_asked_instead(PipelineStep::Answer(Box::new(refused)), false).await;
}

#[tokio::test]
async fn a_member_that_is_merely_busy_is_asked_again() {
    let nodes = two().await;
    let pipeline = straight(&nodes, nodes[0].options()).await;
    let busy = |request: &v1::PipelineRequest| v1::PipelineResponse {
        tag: request.tag,
        results: Some(v1::pipeline_response::Results::Error(v1::OperationError {
            code: Code::ResourceExhausted as i32,
            reason: "OVERLOADED".to_owned(),
            outcome: v1::Outcome::NotApplied.into(),
            ..Default::default()
        })),
    };
    nodes[1].script.pipeline.lock().unwrap().push_front(PipelineStep::Answer(Box::new(busy)));
    let b = &*key(1, 0);
    assert_eq!(told(&pipeline, &[b]).await, [Ok(2)]);
    assert_eq!(asked(&nodes[0]).len(), 0);
    assert_eq!(asked(&nodes[1]), [[b], [b]]);
}

#[tokio::test]
async fn what_one_member_does_not_answer_says_nothing_of_what_another_has_done() {
    let nodes = two().await;
    let pipeline = straight(&nodes, nodes[0].options().timeout(Duration::from_millis(200))).await;
    nodes[1].script.pipeline.lock().unwrap().push_front(PipelineStep::Ignore);
    let (a, b) = (&*key(0, 0), &*key(1, 0));
    assert_eq!(told(&pipeline, &[b, a]).await, [Err(Some(Outcome::InDoubt)), Ok(1)]);
}

#[tokio::test]
async fn a_member_whose_stream_broke_is_asked_again_when_it_has_rested() {
    let nodes = two().await;
    let pipeline = straight(&nodes, nodes[0].options()).await;
    let broken = PipelineStep::Break(Status::unknown("the connection broke"));
    nodes[1].script.pipeline.lock().unwrap().push_front(broken);
    let b = &*key(1, 0);
    assert_eq!(told(&pipeline, &[b]).await, [Ok(1)]);
    until(async || told(&pipeline, &[b]).await == [Ok(2)]).await;
}

fn done(versions: &[u64]) -> Result<v1::BatchResponse, Status> {
    use v1::operation_result::Result as Wire;
    let result = |version: &u64| v1::OperationResult { result: Some(Wire::Put(written(*version))) };
    Ok(v1::BatchResponse { results: versions.iter().map(result).collect() })
}

/// Writes of keys in a call; their versions.
async fn batch_of(client: &Client, keys: &[&str]) -> Vec<u64> {
    let put = |key: &&str| Operation::Put {
        key: key.to_string().into(),
        value: "v".into(),
        options: PutOptions::new(),
    };
    let told = client.raw_map("m").batch(keys.iter().map(put).collect()).await.unwrap();
    let version = |told| match told {
        Ok(Answer::Written(written)) => written.version,
        other => panic!("{other:?}"),
    };
    told.into_iter().map(version).collect()
}

#[tokio::test]
async fn the_operations_of_a_call_go_to_who_decides_as_well() {
    let nodes = two().await;
    let client = nodes[0].client().await;
    let (a, b, c) = (&*key(0, 0), &*key(1, 0), &*key(0, 1));
    // As soon as both are connected.
    answer_all(&nodes);
    let pipeline = client.pipeline(PipelineOptions::new());
    until(async || told(&pipeline, &[a, b]).await == [Ok(1), Ok(2)]).await;
    nodes[0].script.batches.lock().unwrap().push_back(done(&[5, 6]));
    nodes[1].script.batches.lock().unwrap().push_back(done(&[7]));
    assert_eq!(batch_of(&client, &[c, b, a]).await, [5, 7, 6]);
    // What the second does not decide any more the first is asked, under the same id.
    nodes.iter().for_each(|node| node.script.batch_requests.lock().unwrap().clear());
    nodes[0].script.batches.lock().unwrap().extend([done(&[8]), done(&[8])]);
    nodes[1].script.batches.lock().unwrap().push_back(Err(refusal(Code::Unavailable, "NOT_OWNER")));
    assert_eq!(batch_of(&client, &[a, b]).await, [8, 8]);
    let asked = |node: &TestNode| {
        let requests = node.script.batch_requests.lock().unwrap();
        let asked = requests
            .iter()
            .map(|request| (request.request_id.as_ref().unwrap().sequence, request.operations.clone()));
        asked.collect::<Vec<_>>()
    };
    let (first, second) = (asked(&nodes[0]), asked(&nodes[1]));
    assert_eq!((first.len(), second.len()), (2, 1));
    assert!(first.contains(&second[0]));
}
