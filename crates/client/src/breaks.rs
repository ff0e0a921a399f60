//! How long a stream may break without progress before its reader is told.

use std::time::Duration;

use tokio::time::Instant;

use crate::call::Caller;
use crate::error::Error;
use crate::failure::Failure;
use crate::retry::{Backoff, RetryPolicy, random};

#[derive(Debug)]
pub(crate) struct Breaks {
    policy: RetryPolicy,
    /// As long as any other call.
    patience: Duration,
    backoff: Backoff,
    /// Without progress since it broke first, its reader is told then.
    deadline: Option<Instant>,
}

impl Breaks {
    pub(crate) fn new(caller: &Caller) -> Self {
        let policy = caller.retry().clone();
        Self { backoff: policy.backoff(), policy, patience: caller.timeout(), deadline: None }
    }

    /// The stream made progress.
    pub(crate) fn healed(&mut self) {
        if self.deadline.take().is_some() {
            self.backoff = self.policy.backoff();
        }
    }

    /// Waits before the stream is opened again, or says why that is no use.
    pub(crate) async fn pause_after(&mut self, failure: Failure) -> Result<(), Error> {
        let now = Instant::now();
        let deadline = *self.deadline.get_or_insert(now + self.patience);
        let pause = self.backoff.pause(failure.retry_after(), random());
        if !failure.is_transient() || now + pause > deadline {
            return Err(failure.into());
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
