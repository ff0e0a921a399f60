//! Operations and partitions that are refused for a moment while others are not, as in a failover.

use super::doubt::repeated;
use super::*;

fn operation_error(code: Code, reason: &str, outcome: v1::Outcome) -> v1::OperationError {
    let (code, reason) = (code as i32, reason.to_owned());
    v1::OperationError { code, reason, outcome: outcome.into(), ..Default::default() }
}

fn busy() -> v1::OperationError {
    operation_error(Code::ResourceExhausted, "OVERLOADED", v1::Outcome::NotApplied)
}

fn not_owner() -> v1::OperationError {
    operation_error(Code::Unavailable, "NOT_OWNER", v1::Outcome::NotApplied)
}

fn unreachable() -> v1::OperationError {
    operation_error(Code::Unavailable, "OWNER_UNREACHABLE", v1::Outcome::InDoubt)
}

/// Answers two puts: the first is done.
fn batch_answer(second: Option<v1::OperationError>) -> Result<v1::BatchResponse, Status> {
    use v1::operation_result::Result as Wire;
    let second = second.map_or(Wire::Put(written(6)), Wire::Error);
    let results = [Wire::Put(written(5)), second].map(|result| v1::OperationResult { result: Some(result) });
    Ok(v1::BatchResponse { results: results.into() })
}

/// Two puts in a call; the version of each, or why it was refused.
async fn put_two(client: &Client) -> [Result<u64, (Option<Outcome>, String)>; 2] {
    let map = client.raw_map("m");
    let told = map.put_many([("a", "1"), ("b", "2")], PutOptions::new()).await.unwrap();
    let told = told.into_iter();
    let told = told.map(|told| told.map_err(|error| (error.outcome(), error.reason().unwrap().to_owned())));
    told.collect::<Vec<_>>().try_into().unwrap()
}

#[tokio::test]
async fn a_batch_is_repeated_as_a_whole_until_no_operation_is_refused_for_a_moment() {
    let node = TestNode::start().await;
    let client = node.client().await;
    let answers = [Some(busy()), Some(not_owner()), Some(unreachable()), Some(busy()), None];
    node.script.batches.lock().unwrap().extend(answers.map(batch_answer));
    assert_eq!(put_two(&client).await, [Ok(5), Ok(6)]);
    let requests = node.script.batch_requests.lock().unwrap();
    let ids = requests.iter().map(|request| request.request_id.as_ref().unwrap().sequence);
    assert_eq!(ids.collect::<Vec<_>>(), [2; 5]);
    // Once an operation may have been done.
    let said = repeated(requests.iter().map(|request| &request.request_id));
    assert_eq!(said, [false, false, false, true, true]);
    assert!(requests.iter().all(|request| request.operations.len() == 2));
}

#[tokio::test]
async fn an_operation_that_is_refused_until_the_end_is_told_as_what_it_is() {
    for (first, expected) in [
        (batch_answer(Some(busy())), Outcome::NotApplied),
        (batch_answer(Some(unreachable())), Outcome::InDoubt),
        (Err(Status::unknown("the connection broke")), Outcome::InDoubt),
    ] {
        let node = TestNode::start().await;
        let client = Client::connect(node.options().timeout(Duration::from_secs(1))).await.unwrap();
        let refused = std::iter::repeat_with(|| batch_answer(Some(not_owner()))).take(2000);
        node.script.batches.lock().unwrap().extend(std::iter::once(first).chain(refused));
        let [first, second] = put_two(&client).await;
        assert_eq!((first, second.unwrap_err().0), (Ok(5), Some(expected)));
        assert!(node.script.batch_requests.lock().unwrap().len() > 2);
    }
}

#[tokio::test]
async fn a_read_of_a_batch_that_is_not_answered_leaves_no_doubt() {
    let node = TestNode::start().await;
    let client = Client::connect(node.options().timeout(Duration::from_millis(500))).await.unwrap();
    let refused = v1::OperationResult { result: Some(v1::operation_result::Result::Error(unreachable())) };
    let refused = || Ok(v1::BatchResponse { results: vec![refused.clone()] });
    node.script.batches.lock().unwrap().extend(std::iter::repeat_with(refused).take(1000));
    let refused = client.raw_map("m").get_many(["k"]).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
}

fn refused(partition: u32, error: v1::OperationError) -> Result<v1::InvokePart, Status> {
    let part = v1::InvokePart { partition, complete: true, partitions: 2, ..Default::default() };
    Ok(v1::InvokePart { error: Some(error), ..part })
}

fn said_to_be_repeated(node: &TestNode) -> Vec<bool> {
    node.script.invoke_requests.lock().unwrap().iter().map(|request| request.repeated).collect()
}

#[tokio::test]
async fn a_call_on_all_entries_is_repeated_where_it_is_refused_for_a_moment() {
    let node = TestNode::start().await;
    let client = node.client().await;
    node.script.invokes.lock().unwrap().extend([
        vec![part(1, 2, "b", false), refused(1, not_owner()), part(0, 3, "a", true)],
        vec![refused(1, unreachable())],
        vec![part(1, 6, "c", true)],
    ]);
    let parts = client.raw_map("m").invoke_all("f", "", Responses::Collect).await.unwrap();
    let expected = [
        (1, 2, vec![Bytes::from("b")], false),
        (0, 3, vec![Bytes::from("a")], false),
        (1, 4, vec![Bytes::from("c")], true),
    ];
    assert_eq!(read_parts(parts).await, expected);
    assert_eq!(invoked(&node), [(2, vec![], false), (2, vec![1], true), (2, vec![1], true)]);
    assert_eq!(said_to_be_repeated(&node), [false, false, true]);
}

#[tokio::test]
async fn a_call_on_keys_is_repeated_where_it_is_refused_for_a_moment() {
    let node = TestNode::start().await;
    let client = node.client().await;
    let found_no_room = |part: Result<v1::InvokePart, Status>| {
        let mut part = part.unwrap();
        part.entries[1].error = Some(busy());
        Ok(part)
    };
    let both = |complete| {
        let mut parts = [part(1, 2, "a", complete).unwrap(), part(1, 2, "b", complete).unwrap()];
        let last = parts[1].entries.remove(0);
        parts[0].entries.push(last);
        let [part, _] = parts;
        Ok(part)
    };
    node.script.invokes.lock().unwrap().extend([
        vec![found_no_room(both(true)), part(0, 1, "z", true)],
        vec![refused(1, not_owner())],
        vec![both(true)],
    ]);
    let parts = client.raw_map("m").invoke_keys("f", ["a", "b", "z"], "").await.unwrap();
    let expected =
        [(0, 1, vec![Bytes::from("z")], false), (1, 2, vec![Bytes::from("a"), Bytes::from("b")], false)];
    assert_eq!(read_parts(parts).await, expected);
    assert_eq!(invoked(&node), [(2, vec![], false), (2, vec![0], true), (2, vec![0], true)]);
    // One of the keys was answered.
    assert_eq!(said_to_be_repeated(&node), [false, true, true]);
}

#[tokio::test]
async fn partitions_that_are_refused_until_the_end_are_told_as_what_they_are() {
    let broken = || Err(Status::unavailable("restarting"));
    for (first, expected) in [
        (vec![part(0, 3, "", true), refused(1, not_owner())], Outcome::NotApplied),
        (vec![part(0, 3, "", true), refused(1, unreachable())], Outcome::InDoubt),
        (vec![part(0, 3, "", true), broken()], Outcome::InDoubt),
    ] {
        let node = TestNode::start().await;
        let client = Client::connect(node.options().timeout(Duration::from_secs(1))).await.unwrap();
        let later = std::iter::repeat_with(|| vec![refused(1, not_owner())]).take(2000);
        node.script.invokes.lock().unwrap().extend(std::iter::once(first).chain(later));
        let parts = client.raw_map("m").invoke_all("f", "", Responses::Discard).await.unwrap();
        let summary = parts.finish().await.unwrap();
        assert_eq!((summary.processed, summary.complete, summary.partitions), (3, 2, 2));
        let told = summary.errors.iter().map(|(partition, error)| (*partition, error.outcome()));
        assert_eq!(told.collect::<Vec<_>>(), [(1, Some(expected))]);
        assert!(invoked(&node).len() > 2);
    }
}

#[tokio::test]
async fn partitions_that_are_refused_for_good_are_told_at_once() {
    let node = TestNode::start().await;
    let client = node.client().await;
    let gone = operation_error(Code::NotFound, "MAP_NOT_FOUND", v1::Outcome::NotApplied);
    node.script.invokes.lock().unwrap().push_back(vec![refused(1, gone), part(0, 3, "", true)]);
    let parts = client.raw_map("m").invoke_all("f", "", Responses::Discard).await.unwrap();
    let summary = parts.finish().await.unwrap();
    assert!(matches!(&summary.errors[..], [(1, Error::MapNotFound(_))]), "{summary:?}");
    assert_eq!((summary.complete, invoked(&node).len()), (2, 1));
}

#[tokio::test]
async fn a_pipelined_batch_with_an_operation_in_doubt_says_that_it_is_repeated() {
    let node = TestNode::start().await;
    let pipeline = node.client().await.pipeline(PipelineOptions::new());
    let unreachable = OperationResult::Failed(PackedFailure {
        code: Code::Unavailable as u32,
        reason: "OWNER_UNREACHABLE",
        message: "told",
        outcome: PackedOutcome::InDoubt,
        facts: Facts::default(),
    });
    let partly = PipelineStep::Answer(Box::new(move |request| results(request, &[PUT, unreachable])));
    node.script.pipeline.lock().unwrap().extend([partly, answer(&[PUT, PUT])]);
    assert_eq!(versions(&pipeline, 2).await, [5, 5]);
    let requests = node.script.pipeline_requests.lock().unwrap();
    assert_eq!(repeated(requests.iter().map(|request| &request.request_id)), [false, true]);
}
