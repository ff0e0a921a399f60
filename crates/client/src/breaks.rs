//! How often a stream may break without progress before its reader is told.

use crate::call::Caller;
use crate::error::Error;
use crate::failure::Failure;
use crate::retry::{Backoff, RetryPolicy, random};

/// With the longest pauses, about ten seconds.
const MAX_BREAKS: u32 = 16;

#[derive(Debug)]
pub(crate) struct Breaks {
    policy: RetryPolicy,
    backoff: Backoff,
    count: u32,
}

impl Breaks {
    pub(crate) fn new(caller: &Caller) -> Self {
        let policy = caller.retry().clone();
        Self { backoff: policy.backoff(), policy, count: 0 }
    }

    /// The stream made progress.
    pub(crate) fn healed(&mut self) {
        if self.count > 0 {
            self.count = 0;
            self.backoff = self.policy.backoff();
        }
    }

    /// Waits before the stream is opened again, or says why that is no use.
    pub(crate) async fn pause_after(&mut self, failure: Failure) -> Result<(), Error> {
        if !failure.is_transient() || self.count >= MAX_BREAKS {
            return Err(failure.into());
        }
        self.count += 1;
        tokio::time::sleep(self.backoff.pause(failure.retry_after(), random())).await;
        Ok(())
    }
}
