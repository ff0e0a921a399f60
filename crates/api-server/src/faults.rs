//! What a test makes go wrong: nothing listens, answers are late or are refusals, watch streams break.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::ApiError;

/// How a watch stream breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// In the middle of a line, with the connection.
    MidLine,
    /// Nothing more comes, and nothing ends.
    Silent,
    /// It ends in good order, as after its timeout.
    Close,
}

/// What answers are instead of what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 429 with `Retry-After`.
    TooManyRequests { retry_after_seconds: u64 },
    /// 500.
    InternalError,
    /// 503.
    Unavailable,
}

/// What becomes of connections during an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// Nothing listens: connections are refused. Those that were open are cut.
    Refused,
    /// Connections are accepted and reset at once. Those that were open are cut.
    Reset,
}

#[derive(Debug, Default)]
struct Plan {
    /// Only requests whose path contains this are late or refused.
    scope: String,
    delay: Duration,
    /// Answers that were late, or are.
    late_answers: u64,
    refusal: Option<Refusal>,
    /// Refusals left; `None` until it is switched off.
    refusals_left: Option<u64>,
    expired_watches: u64,
}

/// Switches for faults; clones work on the same server.
#[derive(Debug, Clone)]
pub struct Faults {
    // A leaf: taken for a few lines in requests and tests, never across an await.
    plan: Arc<Mutex<Plan>>,
    breaks: watch::Sender<Option<Break>>,
    outage: watch::Sender<Option<Outage>>,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self {
            plan: Arc::new(Mutex::new(Plan::default())),
            breaks: watch::Sender::new(None),
            outage: watch::Sender::new(None),
        }
    }

    /// Delays and refusals concern only requests whose path contains this text; the empty text means all.
    pub fn only_on_paths_with(&self, text: &str) {
        self.plan.lock().scope = text.to_owned();
    }

    /// Every answer is this late from now on; zero switches it off.
    pub fn delay_answers(&self, delay: Duration) {
        self.plan.lock().delay = delay;
    }

    /// How many requests have been taken so far whose answers are late: also those that still wait.
    pub fn late_answers(&self) -> u64 {
        self.plan.lock().late_answers
    }

    /// Every request is refused until [`Faults::refuse_nothing`].
    pub fn refuse_all(&self, refusal: Refusal) {
        let mut plan = self.plan.lock();
        plan.refusal = Some(refusal);
        plan.refusals_left = None;
    }

    /// The next requests are refused, so many of them.
    pub fn refuse_next(&self, count: u64, refusal: Refusal) {
        let mut plan = self.plan.lock();
        plan.refusal = Some(refusal);
        plan.refusals_left = Some(count);
    }

    pub fn refuse_nothing(&self) {
        self.plan.lock().refusal = None;
    }

    /// The next watches begin with 410, so many of them.
    pub fn expire_next_watches(&self, count: u64) {
        self.plan.lock().expired_watches = count;
    }

    /// Breaks all watch streams that are open now.
    pub fn break_watches(&self, how: Break) {
        self.breaks.send_replace(Some(how));
    }

    /// Nobody reaches the server until [`Faults::end_outage`].
    pub fn start_outage(&self, outage: Outage) {
        self.outage.send_replace(Some(outage));
    }

    pub fn end_outage(&self) {
        self.outage.send_replace(None);
    }

    pub(crate) fn subscribe_breaks(&self) -> watch::Receiver<Option<Break>> {
        self.breaks.subscribe()
    }

    pub(crate) fn subscribe_outage(&self) -> watch::Receiver<Option<Outage>> {
        self.outage.subscribe()
    }

    /// How late the answer to a request is that has just come.
    pub(crate) fn take_delay(&self, path: &str) -> Duration {
        let mut plan = self.plan.lock();
        if plan.delay.is_zero() || !path.contains(&plan.scope) {
            return Duration::ZERO;
        }
        plan.late_answers += 1;
        plan.delay
    }

    pub(crate) fn take_refusal(&self, path: &str) -> Option<ApiError> {
        let mut plan = self.plan.lock();
        if !path.contains(&plan.scope) {
            return None;
        }
        let refusal = plan.refusal?;
        if let Some(left) = plan.refusals_left {
            if left == 0 {
                plan.refusal = None;
                return None;
            }
            plan.refusals_left = Some(left - 1);
        }
        Some(match refusal {
            Refusal::TooManyRequests { retry_after_seconds } => {
                ApiError::TooManyRequests { retry_after: retry_after_seconds }
            }
            Refusal::InternalError => ApiError::Broken { code: 500 },
            Refusal::Unavailable => ApiError::Broken { code: 503 },
        })
    }

    pub(crate) fn take_expired_watch(&self) -> bool {
        let mut plan = self.plan.lock();
        let is_expired = plan.expired_watches > 0;
        plan.expired_watches = plan.expired_watches.saturating_sub(1);
        is_expired
    }
}
