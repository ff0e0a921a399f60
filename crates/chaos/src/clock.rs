//! [`Clock`]: the one clock by which everything is recorded.

use std::time::Instant;

use wattle_simulation::linearizability::Time;

/// Counts from the begin of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Time {
        Time(u64::try_from(self.0.elapsed().as_micros()).expect("a run does not take so long"))
    }

    pub(crate) fn seconds(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
