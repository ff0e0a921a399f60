//! What is told of an operation that an earlier attempt may have applied.

use super::*;
use crate::call::Doubt;
use crate::failure::Failure;

const BUSY: &str = "OVERLOADED";
const LATE: &str = "DEADLINE_BEFORE_START";

/// Answers two puts: what came of the first, and why the second was refused.
fn refuse(first: Option<&'static str>, second: &'static str) -> PipelineStep {
    let failed = |reason| {
        let code = match reason {
            LATE => Code::DeadlineExceeded,
            BUSY => Code::ResourceExhausted,
            _ => Code::AlreadyExists,
        };
        let (code, message, outcome, facts) =
            (code as u32, "told", PackedOutcome::NotApplied, Facts::default());
        OperationResult::Failed(PackedFailure { code, reason, message, outcome, facts })
    };
    let answers = [first.map_or(PUT, failed), failed(second)];
    PipelineStep::Answer(Box::new(move |request| results(request, &answers)))
}

/// Submits two puts and reads what is told of each.
async fn outcomes(pipeline: &Pipeline) -> Vec<Result<u64, (Outcome, String)>> {
    let answers = pipeline.submit(batch(2)).await.unwrap().await.unwrap();
    let told = answers.answers().map(|answer| match answer {
        Ok(Answer::Written(written)) => Ok(written.version),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err((error.outcome().unwrap(), error.reason().unwrap().to_owned())),
    });
    told.collect()
}

#[tokio::test]
async fn an_operation_that_was_applied_stays_so_when_its_batch_is_refused_later() {
    let node = TestNode::start().await;
    let client = Client::connect(node.options().timeout(Duration::from_millis(200))).await.unwrap();
    let pipeline = client.pipeline(PipelineOptions::new());
    let busy = std::iter::repeat_with(|| refuse(Some(BUSY), BUSY)).take(1000);
    node.script.pipeline.lock().unwrap().extend(std::iter::once(refuse(None, BUSY)).chain(busy));
    let refused = Err((Outcome::NotApplied, "OVERLOADED".to_owned()));
    assert_eq!(outcomes(&pipeline).await, [Ok(5), refused]);
    assert!(pipelined(&node).len() > 2, "{:?}", pipelined(&node));
}

#[tokio::test]
async fn an_operation_that_was_refused_before_a_silence_is_in_doubt() {
    let node = TestNode::start().await;
    let client = Client::connect(node.options().timeout(Duration::from_millis(200))).await.unwrap();
    let pipeline = client.pipeline(PipelineOptions::new());
    node.script.pipeline.lock().unwrap().extend([refuse(None, BUSY), PipelineStep::Ignore]);
    let unknown = Err((Outcome::InDoubt, "OVERLOADED".to_owned()));
    assert_eq!(outcomes(&pipeline).await, [Ok(5), unknown]);
}

#[tokio::test]
async fn an_operation_that_is_refused_after_a_broken_attempt_is_in_doubt() {
    let node = TestNode::start().await;
    let pipeline = node.client().await.pipeline(PipelineOptions::new());
    let broken = PipelineStep::Break(Status::unavailable("restarting"));
    node.script.pipeline.lock().unwrap().extend([broken, refuse(None, LATE)]);
    let unknown = Err((Outcome::InDoubt, "DEADLINE_BEFORE_START".to_owned()));
    assert_eq!(outcomes(&pipeline).await, [Ok(5), unknown]);
}

/// Of the calls that came: whether they said that an earlier attempt may still be on its way.
pub(super) fn repeated<'a>(ids: impl Iterator<Item = &'a Option<v1::RequestId>>) -> Vec<bool> {
    ids.map(|id| id.as_ref().unwrap().repeated).collect()
}

#[tokio::test]
async fn an_attempt_after_one_that_was_not_answered_says_so() {
    let node = TestNode::start().await;
    let client = node.client().await;
    let busy = || Err(refusal(Code::ResourceExhausted, BUSY));
    let broken = || Err(Status::unknown("the connection broke"));
    let refused = Err(refusal(Code::AlreadyExists, "ALREADY_EXISTS"));
    node.script.puts.lock().unwrap().extend([busy(), broken(), busy(), refused]);
    let told = client.raw_map("m").put("k", "v").await.unwrap_err();
    assert_eq!((told.reason(), told.outcome()), (Some("ALREADY_EXISTS"), Some(Outcome::NotApplied)));
    let requests = node.script.put_requests.lock().unwrap();
    assert_eq!(repeated(requests.iter().map(|request| &request.request_id)), [false, false, true, true]);
}

#[tokio::test]
async fn a_batch_after_one_that_was_not_answered_says_so() {
    let node = TestNode::start().await;
    let pipeline = node.client().await.pipeline(PipelineOptions::new());
    let broken = PipelineStep::Break(Status::unavailable("restarting"));
    // The answer in between says nothing of the attempt before it.
    let steps = [refuse(None, BUSY), broken, refuse(None, BUSY), refuse(None, "ALREADY_EXISTS")];
    node.script.pipeline.lock().unwrap().extend(steps);
    let refused = Err((Outcome::NotApplied, "ALREADY_EXISTS".to_owned()));
    assert_eq!(outcomes(&pipeline).await, [Ok(5), refused]);
    let requests = node.script.pipeline_requests.lock().unwrap();
    assert_eq!(repeated(requests.iter().map(|request| &request.request_id)), [false, false, true, true]);
}

#[test]
fn a_refusal_without_a_request_id_says_nothing_of_an_attempt_that_was_not_answered() {
    let refused = Failure::from(&refusal(Code::ResourceExhausted, "TOO_MANY"));
    let broken = Failure::from(&Status::unknown("the connection broke"));
    for (mut doubt, expected) in
        [(Doubt::of_a_change(), Outcome::NotApplied), (Doubt::of_an_unidentified_change(), Outcome::InDoubt)]
    {
        assert_eq!(doubt.settle(refused.clone()).outcome(), Some(Outcome::NotApplied));
        doubt.note(&broken);
        assert_eq!(doubt.settle(refused.clone()).outcome(), Some(expected), "{doubt:?}");
    }
}
