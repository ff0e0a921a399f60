//! Whether a function has proven so quick that waking a compute thread would cost more than running it.
//!
//! The average decides, not the worst call: how long a call may take at most is its budget's business.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wattle_core::limits::LIGHT_TIME;

/// Nobody is quick before some hundred calls have shown it.
const AT_FIRST: u32 = 1_000_000;
/// Calls over which the average is taken, as a power of two.
const CALLS: u32 = 7;

/// The moving average of the time for an entry, in nanoseconds.
#[derive(Debug)]
pub(super) struct Pace(AtomicU32);

impl Default for Pace {
    fn default() -> Self {
        Self(AtomicU32::new(AT_FIRST))
    }
}

impl Pace {
    /// A call has taken this long for each of its entries. Of two calls that end together one may go uncounted.
    pub(super) fn took(&self, each: Duration) {
        let each = u32::try_from(each.as_nanos()).unwrap_or(u32::MAX);
        let average = self.0.load(Ordering::Relaxed);
        self.0.store(average - (average >> CALLS) + (each >> CALLS), Ordering::Relaxed);
    }

    /// A call was stopped: all must be proven again.
    pub(super) fn stopped(&self) {
        self.0.store(AT_FIRST, Ordering::Relaxed);
    }

    pub(super) fn is_quick(&self) -> bool {
        u128::from(self.0.load(Ordering::Relaxed)) < LIGHT_TIME.as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many calls of this length it takes, out of a thousand.
    fn proven_after(each: Duration) -> Option<usize> {
        let pace = Pace::default();
        (0..1000).find(|_| {
            pace.took(each);
            pace.is_quick()
        })
    }

    #[test]
    fn only_quick_functions_prove_to_be_quick() {
        let calls = proven_after(Duration::from_micros(2)).expect("two microseconds are quick");
        assert!((200..600).contains(&calls), "{calls}");
        assert_eq!(proven_after(LIGHT_TIME * 2), None);
    }

    #[test]
    fn a_stop_and_a_slow_run_end_it() {
        let pace = Pace::default();
        (0..1000).for_each(|_| pace.took(Duration::from_micros(2)));
        assert!(pace.is_quick());
        pace.took(Duration::from_millis(10));
        assert!(!pace.is_quick());
        (0..1000).for_each(|_| pace.took(Duration::from_micros(2)));
        assert!(pace.is_quick());
        pace.stopped();
        assert!(!pace.is_quick());
    }
}
