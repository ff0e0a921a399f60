//! [`Lane`]: what is in flight on one stream, shared by those who submit and the driver that reads answers. Time is an argument here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use wattle_proto::v1;

use super::attempts::{Answered, Attempts, Progress};
use super::batch::{Batch, BatchAnswers};
use super::order::{Held, Order};
use super::together::Reply;
use crate::error::Error;
use crate::failure::Failure;
use crate::request_ids::AwaitedRequest;
use crate::retry::{Backoff, RetryPolicy, random};
use crate::wire::to_wire;

/// A batch that waits for its answers.
#[derive(Debug)]
pub(super) struct InFlight {
    batch: Batch,
    request: AwaitedRequest,
    deadline: Instant,
    backoff: Backoff,
    attempts: Attempts,
    /// When to send it again.
    again_at: Option<Instant>,
    /// Why it was not answered yet.
    failure: Option<Failure>,
}

/// A batch with the one who waits for it.
#[derive(Debug)]
pub(super) struct Awaited {
    in_flight: InFlight,
    reply: Reply,
    /// Whatever is about the same keys must not go by another way until it is answered.
    held: Option<Held>,
}

impl InFlight {
    pub(super) fn new(batch: Batch, request: AwaitedRequest, deadline: Instant, retry: &RetryPolicy) -> Self {
        let (backoff, attempts) = (retry.backoff(), Attempts::new());
        Self { batch, request, deadline, backoff, attempts, again_at: None, failure: None }
    }

    pub(super) fn answering(self, reply: Reply) -> Awaited {
        Awaited { in_flight: self, reply, held: None }
    }

    fn message(&self, tag: u64, now: Instant) -> v1::PipelineRequest {
        v1::PipelineRequest {
            tag,
            request_id: Some(self.request.id(self.attempts.are_open())),
            timeout: Some(to_wire(self.deadline.saturating_duration_since(now))),
            operations: Some(v1::pipeline_request::Operations::Frame(self.batch.frame.clone())),
        }
    }

    /// Notes a failure that another attempt may cure; false when there is no time for one.
    fn try_again(&mut self, failure: Failure, now: Instant) -> bool {
        let again_at = now + self.backoff.pause(failure.retry_after(), random());
        self.failure = Some(failure);
        self.again_at = Some(again_at);
        again_at < self.deadline
    }
}

impl Awaited {
    fn answer(self, answer: Result<BatchAnswers, Error>) {
        self.reply.answer(answer);
    }

    fn hold(&mut self, order: &Arc<Order>) {
        self.held.get_or_insert_with(|| order.hold(&self.in_flight.batch));
    }

    /// There is no time for another attempt.
    fn give_up(self, failure: Failure) {
        let answer = self.in_flight.attempts.give_up(failure);
        self.answer(answer);
    }
}

/// Batches that go to the same place, one behind the other.
#[derive(Debug)]
pub(super) struct Lane {
    /// A leaf, but for what goes on to another lane: held to look up, to queue a message, to hand an answer over.
    state: Mutex<State>,
    /// Something wants to be sent and there is no stream.
    wanted: Notify,
    window: usize,
    /// Where goes what a member cannot do: to any node.
    instead: Option<Arc<Lane>>,
    order: Arc<Order>,
}

#[derive(Debug, Default)]
struct State {
    last_tag: u64,
    stream: Option<mpsc::Sender<v1::PipelineRequest>>,
    in_flight: HashMap<u64, Awaited>,
    /// The stream to a member has broken, and is not to be opened yet.
    resting: bool,
    closed: bool,
}

impl Lane {
    /// To any node.
    pub(super) fn to_any(window: usize, order: &Arc<Order>) -> Self {
        let (state, wanted, order) = (Mutex::default(), Notify::new(), Arc::clone(order));
        Self { state, wanted, window, instead: None, order }
    }

    /// To a member. What it cannot do goes to any node.
    pub(super) fn straight(any: &Arc<Self>) -> Self {
        Self { instead: Some(Arc::clone(any)), ..Self::to_any(any.window, &any.order) }
    }

    pub(super) fn send(&self, awaited: Awaited) {
        let mut state = self.lock();
        if let Some(instead) = self.instead.as_ref().filter(|_| state.resting) {
            return instead.send(awaited);
        }
        if state.closed {
            return awaited.answer(Err(Error::PipelineClosed));
        }
        state.last_tag += 1;
        let tag = state.last_tag;
        let is_due = awaited.in_flight.again_at.is_none();
        state.in_flight.insert(tag, awaited);
        if state.stream.is_none() {
            self.wanted.notify_one();
        } else if is_due {
            state.transmit(tag, Instant::now());
        }
    }

    /// Whether nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().in_flight.is_empty()
    }

    /// Whether what is sent goes elsewhere for a while.
    pub(super) fn is_resting(&self) -> bool {
        self.lock().resting
    }

    /// The stream may be opened again.
    pub(super) fn end_rest(&self) {
        self.lock().resting = false;
    }

    /// Has everything wait that would overtake what is in flight by another way.
    pub(super) fn hold_all(&self) {
        self.lock().in_flight.values_mut().for_each(|awaited| awaited.hold(&self.order));
    }

    /// Waits until something is in flight.
    pub(super) async fn wanted(&self) {
        loop {
            let notified = self.wanted.notified();
            if !self.lock().in_flight.is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// A new stream: everything in flight goes out on it, but for what is to be sent later.
    pub(super) fn connect(&self, now: Instant) -> mpsc::Receiver<v1::PipelineRequest> {
        // Everything in flight, and once more what is sent again because the node had no room.
        let (sender, receiver) = mpsc::channel(self.window * 2);
        let mut state = self.lock();
        state.stream = Some(sender);
        for tag in state.tags(|in_flight| in_flight.again_at.is_none_or(|again_at| again_at <= now)) {
            state.transmit(tag, now);
        }
        receiver
    }

    /// The stream broke. What was on its way to a member goes to any node; what another stream cannot cure is told to all who wait.
    /// Whatever the stream ended with, it says nothing about the batches that were on their way.
    pub(super) fn disconnect(&self, failure: Failure) {
        let may_be_cured = failure.is_transient();
        let failure = if failure.never_connected() { failure } else { failure.in_doubt() };
        let mut state = self.lock();
        state.stream = None;
        for awaited in state.in_flight.values_mut() {
            awaited.in_flight.attempts.note(&failure);
            awaited.in_flight.failure = Some(failure.clone());
        }
        if let Some(instead) = &self.instead {
            state.resting = true;
            for tag in state.tags(|_| true) {
                let Some(mut awaited) = state.in_flight.remove(&tag) else { continue };
                awaited.hold(&self.order);
                instead.send(awaited);
            }
        } else if !may_be_cured {
            for (_, awaited) in state.in_flight.drain() {
                awaited.give_up(failure.clone());
            }
        }
    }

    pub(super) fn receive(&self, answer: v1::PipelineResponse, now: Instant) {
        let mut state = self.lock();
        // An answer without a waiter is a second one, or came too late.
        let Some(mut awaited) = state.in_flight.remove(&answer.tag) else { return };
        let InFlight { batch, attempts, .. } = &mut awaited.in_flight;
        let failure = match read(answer.results, batch.len()).and_then(|read| attempts.take(read)) {
            Ok(Progress::Done(answers)) => return awaited.answer(Ok(answers)),
            Ok(Progress::Transient(failure)) => failure,
            Err(error) => return awaited.answer(Err(error)),
        };
        if !awaited.in_flight.try_again(failure.clone(), now) {
            return awaited.give_up(failure);
        }
        // Who is merely busy is the right one.
        match self.instead.as_ref().filter(|_| failure.is_of_the_place()) {
            Some(instead) => {
                awaited.hold(&self.order);
                instead.send(awaited);
            }
            None => drop(state.in_flight.insert(answer.tag, awaited)),
        }
    }

    /// Gives up what is late and sends again what is due.
    pub(super) fn tick(&self, now: Instant, timeout: Duration) {
        let mut state = self.lock();
        for (_, mut awaited) in state.in_flight.extract_if(|_, awaited| awaited.in_flight.deadline <= now) {
            let timed_out = Failure::timed_out(timeout);
            let sent_and_silent = awaited.in_flight.failure.is_none();
            if sent_and_silent {
                awaited.in_flight.attempts.note(&timed_out);
            }
            let failure = awaited.in_flight.failure.take().unwrap_or(timed_out);
            awaited.give_up(failure);
        }
        for tag in state.tags(|in_flight| in_flight.again_at.is_some_and(|again_at| again_at <= now)) {
            state.transmit(tag, now);
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.stream = None;
        for (_, awaited) in state.in_flight.drain() {
            awaited.answer(Err(Error::PipelineClosed));
        }
    }

    /// Nothing panics while the lock is held, and the state is whole at every step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Of some batches, in the order in which they came.
    fn tags(&self, which: impl Fn(&InFlight) -> bool) -> Vec<u64> {
        let those = self.in_flight.iter().filter(|(_, awaited)| which(&awaited.in_flight));
        let mut tags: Vec<u64> = those.map(|(tag, _)| *tag).collect();
        tags.sort_unstable();
        tags
    }

    /// Queues a batch for the stream. When the queue is full or the stream is gone, the driver sends it later.
    fn transmit(&mut self, tag: u64, now: Instant) {
        let (Some(stream), Some(awaited)) = (&self.stream, self.in_flight.get_mut(&tag)) else { return };
        let message = awaited.in_flight.message(tag, now);
        let sent = stream.try_send(message).is_ok();
        awaited.in_flight.again_at = if sent { None } else { Some(now) };
        if sent {
            awaited.in_flight.failure = None;
        }
    }
}

fn read(results: Option<v1::pipeline_response::Results>, count: usize) -> Result<Answered, Error> {
    use v1::pipeline_response::Results;
    match results {
        Some(Results::Frame(frame)) => Ok(Answered::Each(BatchAnswers::parse(frame, count)?)),
        Some(Results::Error(error)) => Ok(Answered::Refused(error.into())),
        Some(Results::List(_)) | None => {
            Err(Error::MalformedAnswer { what: "a frame is answered by a frame" })
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, oneshot};
    use wattle_frame::pipeline::{
        Facts, Failure as PackedFailure, OperationResult, Outcome as PackedOutcome,
    };

    use super::*;
    use crate::failure::Outcome;
    use crate::operation::Operation;
    use crate::pipeline::together::Waiter;
    use crate::request_ids::{IssuedId, RequestIds};

    const PUT: OperationResult<'static> = OperationResult::Put { version: 5, previous: None };

    fn busy() -> OperationResult<'static> {
        let (code, reason, message) = (8, "OVERLOADED", "the inbox is full");
        let (outcome, facts) = (PackedOutcome::NotApplied, Facts::default());
        OperationResult::Failed(PackedFailure { code, reason, message, outcome, facts })
    }

    #[tokio::test]
    async fn an_operation_that_was_applied_stays_so_when_the_next_attempt_comes_too_late() {
        let issued = IssuedId { client_id: "c".into(), renew_after: Duration::from_secs(300) };
        let request = RequestIds::new().begin(|| async { Ok(issued.clone()) }).await.unwrap();
        let increment = Operation::Increment { key: "k".into(), delta: 1 };
        let batch = Batch::new("m", &[increment.clone(), increment]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let hasty = RetryPolicy::new(Duration::from_millis(1), Duration::from_millis(1));
        let (reply, mut answers) = oneshot::channel();
        let waiter = Waiter { reply, _permit: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap() };
        let reply = Reply::each(waiter, 2, vec![vec![0, 1]]).next().unwrap();
        let lane = Lane::to_any(1, &Arc::default());
        lane.send(InFlight::new(batch, request, deadline, &hasty).answering(reply));

        let told = BatchAnswers::collect(2, [PUT, busy()].into_iter()).unwrap();
        let frame = v1::pipeline_response::Results::Frame(told.frame);
        let answer = v1::PipelineResponse { tag: 1, results: Some(frame) };
        // Soon enough for another attempt, but the driver looks only after the deadline.
        lane.receive(answer, deadline - Duration::from_millis(10));
        assert!(answers.try_recv().is_err(), "it is to be sent again");
        lane.tick(deadline, Duration::from_secs(60));

        let told = answers.try_recv().unwrap().unwrap();
        assert_eq!(told.results().next(), Some(PUT));
        let refused = told.answers().nth(1).unwrap().unwrap_err();
        assert_eq!(refused.outcome(), Some(Outcome::NotApplied));
    }
}
