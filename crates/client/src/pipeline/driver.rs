//! The task that keeps a pipeline's stream open and reads what comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wattle_proto::v1;

use super::state::Shared;
use crate::call::Caller;
use crate::connection::Course;
use crate::failure::Failure;
use crate::retry::random;

/// How exactly deadlines and repetitions are kept.
const TICK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Driver {
    caller: Arc<Caller>,
    shared: Arc<Shared>,
}

impl Driver {
    pub(super) fn new(caller: Arc<Caller>, shared: Arc<Shared>) -> Self {
        Self { caller, shared }
    }

    /// Ends when it is aborted. Batches end by their own deadlines, so a stream may be opened again for ever.
    pub(super) async fn run(self) {
        let mut backoff = self.caller.retry().backoff();
        loop {
            self.shared.wanted().await;
            let mut answered = false;
            let failure = self.ticking(self.converse(&mut answered)).await;
            if answered {
                backoff = self.caller.retry().backoff();
            }
            let pause = backoff.pause(failure.retry_after(), random());
            self.shared.disconnect(failure);
            self.ticking(tokio::time::sleep(pause)).await;
        }
    }

    /// Opens a stream and reads it until it breaks.
    async fn converse(&self, answered: &mut bool) -> Failure {
        let receiver = self.shared.connect(Instant::now());
        let mut stream = match self.open(ReceiverStream::new(receiver)).await {
            Ok(stream) => stream,
            Err(failure) => return failure,
        };
        loop {
            match stream.message().await {
                Ok(Some(answer)) => {
                    *answered = true;
                    self.shared.receive(answer, Instant::now());
                }
                // A node that shuts down ends its streams.
                Ok(None) => return Failure::from(&Status::unknown("the node ended the pipeline")),
                Err(status) => return Failure::from(&status),
            }
        }
    }

    async fn open(
        &self,
        requests: ReceiverStream<v1::PipelineRequest>,
    ) -> Result<Streaming<v1::PipelineResponse>, Failure> {
        let mut course = Course::default();
        let (attempt, way) = self.caller.stream_attempt(&course);
        let mut maps = attempt.maps();
        let opened = match timeout(self.caller.timeout(), maps.pipeline(attempt.request(requests))).await {
            Ok(opened) => opened.map(tonic::Response::into_inner).map_err(|status| Failure::from(&status)),
            Err(_) => Err(Failure::timed_out(self.caller.timeout())),
        };
        course.note(&way, opened.as_ref().err());
        opened
    }

    /// Keeps the deadlines while something else goes on.
    async fn ticking<T>(&self, work: impl Future<Output = T>) -> T {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = ticks.tick() => self.shared.tick(Instant::now(), self.caller.timeout()),
            }
        }
    }
}
