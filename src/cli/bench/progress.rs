//! [`Progress`]: how long a load goes on, and how it goes. All workers share it, on one thread.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::signal::ctrl_c;

#[derive(Debug)]
pub(super) struct Progress {
    begun: Instant,
    duration: Duration,
    interrupted: Cell<bool>,
    last_answer: Cell<Instant>,
    longest_gap: Cell<Duration>,
}

impl Progress {
    pub(super) fn begin(duration: Duration) -> Self {
        let begun = Instant::now();
        Self {
            begun,
            duration,
            interrupted: Cell::new(false),
            last_answer: Cell::new(begun),
            longest_gap: Cell::new(Duration::ZERO),
        }
    }

    /// Whether there is more to do.
    pub(super) fn goes_on(&self) -> bool {
        !self.interrupted.get() && self.begun.elapsed() < self.duration
    }

    /// Something has been answered; returns when.
    pub(super) fn answered(&self) -> Instant {
        let now = Instant::now();
        let gap = now.saturating_duration_since(self.last_answer.replace(now));
        self.longest_gap.set(self.longest_gap.get().max(gap));
        now
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) fn longest_gap(&self) -> Duration {
        self.longest_gap.get()
    }

    /// With the first Ctrl-C nothing more is begun; the second does not wait for what was.
    pub(super) async fn watch_interrupts(&self) -> anyhow::Result<Infallible> {
        ctrl_c().await.context("signals")?;
        self.interrupted.set(true);
        ctrl_c().await.context("signals")?;
        bail!("interrupted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_without_an_answer_is_kept() {
        let progress = Progress::begin(Duration::MAX);
        let begun = progress.begun;
        progress.last_answer.set(begun - Duration::from_secs(3));
        let now = progress.answered();
        let longest = progress.longest_gap();
        assert_eq!(longest, now.duration_since(begun) + Duration::from_secs(3));
        progress.answered();
        assert_eq!(progress.longest_gap(), longest);
    }

    #[test]
    fn it_ends_in_time_or_earlier() {
        assert!(!Progress::begin(Duration::ZERO).goes_on());
        let progress = Progress::begin(Duration::MAX);
        assert!(progress.goes_on());
        progress.interrupted.set(true);
        assert!(!progress.goes_on());
    }
}
