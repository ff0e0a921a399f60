//! What guests say: lines that go to `tracing` under the target `guest`, so many a second for each module
//! and no longer than a line should be. The rest is dropped and counted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crate::limits::{LOG_LINE_BYTES, LOG_LINES_PER_SECOND};

/// How urgent a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The log of one module, shared by its instances.
#[derive(Debug)]
pub(crate) struct GuestLog {
    /// The names of its functions, once its manifest is read.
    names: OnceLock<Vec<String>>,
    /// A small leaf, locked for a few instructions per line.
    allowance: Mutex<Allowance>,
}

impl GuestLog {
    pub(crate) fn new(now: Instant) -> Self {
        Self { names: OnceLock::new(), allowance: Mutex::new(Allowance::new(now)) }
    }

    /// Called once, when the manifest is known.
    pub(crate) fn name_functions(&self, names: Vec<String>) {
        self.names.get_or_init(|| names);
    }

    /// A line of the function at this place in the manifest.
    pub(crate) fn write(&self, function: usize, level: Level, line: &str) {
        let Some(dropped) = self.take() else { return };
        let names = self.names.get().map(Vec::as_slice).unwrap_or_default();
        let function = names.get(function).map_or("", String::as_str);
        if dropped > 0 {
            tracing::warn!(target: "guest", function, dropped, "log lines dropped");
        }
        let line = &line[..line.floor_char_boundary(LOG_LINE_BYTES)];
        match level {
            Level::Error => tracing::error!(target: "guest", function, "{line}"),
            Level::Warn => tracing::warn!(target: "guest", function, "{line}"),
            Level::Info => tracing::info!(target: "guest", function, "{line}"),
            Level::Debug => tracing::debug!(target: "guest", function, "{line}"),
            Level::Trace => tracing::trace!(target: "guest", function, "{line}"),
        }
    }

    /// Lines dropped since the module was loaded.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Room for one line: how many were dropped since the last one, or nothing when there is no room.
    fn take(&self) -> Option<u64> {
        self.lock().take(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Allowance> {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log of a module as one of its instances writes to it.
#[derive(Debug)]
pub(crate) struct InstanceLog {
    module: Arc<GuestLog>,
    /// The function that runs, by its place in the manifest. What WASI writes comes without the store that could tell.
    function: AtomicUsize,
}

impl InstanceLog {
    pub(crate) fn new(module: &Arc<GuestLog>) -> Arc<Self> {
        Arc::new(Self { module: Arc::clone(module), function: AtomicUsize::new(0) })
    }

    /// What is written from now on comes from this function.
    pub(crate) fn enter(&self, function: usize) {
        self.function.store(function, Ordering::Relaxed);
    }

    pub(crate) fn function(&self) -> usize {
        self.function.load(Ordering::Relaxed)
    }

    pub(crate) fn write(&self, function: usize, level: Level, line: &str) {
        self.module.write(function, level, line);
    }
}

/// A token bucket that holds one second's worth of lines.
#[derive(Debug)]
struct Allowance {
    left: f64,
    refilled: Instant,
    dropped: u64,
    reported: u64,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: f64::from(LOG_LINES_PER_SECOND), refilled: now, dropped: 0, reported: 0 }
    }

    fn take(&mut self, now: Instant) -> Option<u64> {
        let rate = f64::from(LOG_LINES_PER_SECOND);
        let earned = now.saturating_duration_since(self.refilled).as_secs_f64() * rate;
        self.left = (self.left + earned).min(rate);
        self.refilled = now;
        if self.left < 1.0 {
            self.dropped += 1;
            return None;
        }
        self.left -= 1.0;
        let unreported = self.dropped - self.reported;
        self.reported = self.dropped;
        Some(unreported)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_dropped_counted_and_reported_with_the_next_line() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        for _ in 0..LOG_LINES_PER_SECOND {
            assert_eq!(allowance.take(start), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(allowance.take(start), None);
        }
        assert_eq!(allowance.take(start + Duration::from_millis(50)), Some(7));
        assert_eq!(allowance.take(start + Duration::from_millis(50)), Some(0));
        assert_eq!(allowance.dropped, 7);
    }

    #[test]
    fn a_quiet_guest_saves_up_one_second_at_most() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let later = start + Duration::from_secs(3600);
        let passed = (0..1000).filter(|_| allowance.take(later).is_some()).count();
        assert_eq!(passed, 100);
    }
}
