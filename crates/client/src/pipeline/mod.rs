//! The fast path: batches of operations as packed frames, many in flight on one stream.

mod attempts;
mod batch;
mod driver;
mod lanes;
mod order;
mod state;
mod together;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

pub(crate) use attempts::{Answered, Attempts, Progress};
pub use batch::{Batch, BatchAnswers};
pub(crate) use together::together;

use crate::call::Caller;
use crate::error::Error;
use crate::failure::Failure;
use lanes::{Lanes, Submission};
use together::Waiter;

/// More batches in flight than this gain nothing and only wait in the node's inboxes.
const MAX_WINDOW: usize = 4096;

/// How much a pipeline has in flight.
#[derive(Debug, Clone, Copy)]
pub struct PipelineOptions {
    window: usize,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self { window: 64 }
    }
}

impl PipelineOptions {
    /// 64 batches.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many batches may be in flight before [`Pipeline::submit`] waits.
    #[must_use]
    pub fn window(mut self, batches: usize) -> Self {
        self.window = batches.clamp(1, MAX_WINDOW);
        self
    }
}

/// Many batches in flight. From [`Client::pipeline`](crate::Client::pipeline).
///
/// A batch is dealt to the members that decide about its keys, each of which has a stream of its own; what cannot go straight goes by
/// any node. What each is sent has a request id: after a broken connection, or when a node had no room for all of it, all of that is
/// sent again, and what was applied is not applied twice.
///
/// Batches are answered in any order. What goes straight reaches whoever decides about a key in the order in which it was submitted, and
/// overtakes nothing that went by another way. There what is short may overtake invocations, and writes one another that make their map;
/// what goes by any node is in no order, and what has to be sent again may come behind what was submitted later.
///
/// ```no_run
/// # async fn example(client: wattle_client::Client) -> Result<(), wattle_client::Error> {
/// use wattle_client::{Batch, Operation, PipelineOptions, PutOptions};
///
/// let pipeline = client.pipeline(PipelineOptions::new());
/// let mut pending = Vec::new();
/// for hundred in 0..100 {
///     let puts = (0..100).map(|n| Operation::Put {
///         key: format!("key-{}", hundred * 100 + n).into(),
///         value: "value".into(),
///         options: PutOptions::new(),
///     });
///     pending.push(pipeline.submit(Batch::new("flights", &puts.collect::<Vec<_>>())?).await?);
/// }
/// for batch in pending {
///     for answer in batch.await?.answers() {
///         answer?;
///     }
/// }
/// pipeline.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pipeline {
    caller: Arc<Caller>,
    lanes: Lanes,
    window: Arc<Semaphore>,
    window_size: u32,
}

/// The answers of a batch, once they are there. Dropped, they are thrown away; the batch is carried out all the same.
#[derive(Debug)]
#[must_use = "a batch may have failed"]
pub struct Pending {
    answers: oneshot::Receiver<Result<BatchAnswers, Error>>,
}

impl Future for Pending {
    type Output = Result<BatchAnswers, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = Pin::new(&mut self.answers).poll(context);
        answered.map(|answered| answered.unwrap_or(Err(Error::PipelineClosed)))
    }
}

impl Pipeline {
    pub(crate) fn open(caller: Arc<Caller>, options: PipelineOptions) -> Self {
        let lanes = Lanes::open(Arc::clone(&caller), options.window);
        let window = Arc::new(Semaphore::new(options.window));
        // Clamped to `MAX_WINDOW`.
        Self { caller, lanes, window, window_size: options.window as u32 }
    }

    /// Sends a batch, as soon as the window has room for it. When a key of it has come to be decided about by another member, it waits
    /// until what was submitted before about that key is answered.
    ///
    /// # Errors
    /// When the batch was not sent, because that took as long as the client's timeout or no request id could be had:
    /// nothing changed.
    pub async fn submit(&self, batch: Batch) -> Result<Pending, Error> {
        let deadline = Instant::now() + self.caller.timeout();
        let room = timeout_at(deadline, self.window.clone().acquire_owned()).await;
        let room = room.map_err(|_| Failure::timed_out(self.caller.timeout()))?;
        let permit = room.map_err(|_| Error::PipelineClosed)?;
        let (reply, answers) = oneshot::channel();
        let waiter = Some(Waiter { reply, _permit: permit });
        self.lanes.send(Submission { batch, deadline, waiter, requests: Vec::new() }).await?;
        Ok(Pending { answers })
    }

    /// Waits until everything in flight is answered, then closes the streams.
    pub async fn close(mut self) {
        if let Ok(all) = self.window.clone().acquire_many_owned(self.window_size).await {
            drop(all);
        }
        self.lanes.close().await;
    }
}
