//! The task that keeps a lane's stream open and reads what comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wattle_proto::v1;

use super::state::Lane;
use crate::call::Caller;
use crate::connection::Course;
use crate::failure::Failure;
use crate::retry::random;
use crate::routes::Member;

/// How exactly deadlines and repetitions are kept.
const TICK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Driver {
    pub(super) caller: Arc<Caller>,
    pub(super) lane: Arc<Lane>,
    /// `None`: any node.
    pub(super) to: Option<Arc<Member>>,
    /// Counts ends of rests.
    pub(super) changes: Arc<AtomicU64>,
}

impl Driver {
    /// Ends when it is aborted. Batches end by their own deadlines, so a stream may be opened again for ever.
    pub(super) async fn run(self) {
        let mut backoff = self.caller.retry().backoff();
        loop {
            self.lane.wanted().await;
            let mut answered = false;
            let failure = self.ticking(self.converse(&mut answered)).await;
            if answered {
                backoff = self.caller.retry().backoff();
            }
            let pause = backoff.pause(failure.retry_after(), random());
            self.lane.disconnect(failure);
            self.ticking(tokio::time::sleep(pause)).await;
            if self.to.is_some() {
                self.lane.end_rest();
                self.changes.fetch_add(1, Ordering::Release);
            }
        }
    }

    /// Opens a stream and reads it until it breaks.
    async fn converse(&self, answered: &mut bool) -> Failure {
        let receiver = self.lane.connect(Instant::now());
        let mut stream = match self.open(ReceiverStream::new(receiver)).await {
            Ok(stream) => stream,
            Err(failure) => return failure,
        };
        loop {
            match stream.message().await {
                Ok(Some(answer)) => {
                    *answered = true;
                    self.lane.receive(answer, Instant::now());
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
        let attempt = self.caller.stream_attempt(self.to.as_deref());
        let (attempt, way) = attempt.ok_or_else(Failure::not_connected)?;
        let mut maps = attempt.maps();
        let opened = match timeout(self.caller.timeout(), maps.pipeline(attempt.request(requests))).await {
            Ok(opened) => opened.map(tonic::Response::into_inner).map_err(|status| Failure::from(&status)),
            Err(_) => Err(Failure::timed_out(self.caller.timeout())),
        };
        Course::default().note(&way, opened.as_ref().err());
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
                _ = ticks.tick() => self.lane.tick(Instant::now(), self.caller.timeout()),
            }
        }
    }
}
