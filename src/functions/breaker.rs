//! The circuit breaker of a function: so many stops within so long, and its name is suspended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use wattle_core::limits::{BREAKER_STOPS, BREAKER_WINDOW, SUSPENSION_REASON_BYTES};

/// What people are told about a function whose breaker is open.
pub(crate) const TOO_OFTEN: &str = "it was stopped too often";
const _: () =
    assert!(TOO_OFTEN.len() <= SUSPENSION_REASON_BYTES, "a suspension is not refused for its reason");

/// Counts the stops of one function, on all threads.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// Read before every call, so not behind the mutex.
    open: AtomicBool,
    /// A small leaf, locked only when a function is stopped.
    recent: Mutex<Recent>,
}

/// When the last stops were; the oldest is where the next one goes.
#[derive(Debug, Default)]
struct Recent {
    stops: [Option<Instant>; BREAKER_STOPS],
    next: usize,
}

/// What a stop did to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trip {
    /// It was one too many: the function is to be suspended. Said once.
    Now,
    /// Nothing is to be done about it.
    No,
}

impl Breaker {
    /// A function was stopped, and it was its own fault.
    pub(crate) fn stopped(&self, now: Instant) -> Trip {
        let mut recent = self.recent.lock();
        let place = recent.next;
        recent.stops[place] = Some(now);
        recent.next = (place + 1) % BREAKER_STOPS;
        let in_window = |stop: &Option<Instant>| {
            stop.is_some_and(|stop| now.saturating_duration_since(stop) <= BREAKER_WINDOW)
        };
        if recent.stops.iter().all(in_window) && !self.open.swap(true, Ordering::Relaxed) {
            Trip::Now
        } else {
            Trip::No
        }
    }

    /// Whether calls are refused.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(seconds: &[u64], expected: &[Trip]) {
        let start = Instant::now();
        let breaker = Breaker::default();
        let trips: Vec<Trip> =
            seconds.iter().map(|&seconds| breaker.stopped(start + Duration::from_secs(seconds))).collect();
        assert_eq!(trips, expected);
        assert_eq!(breaker.is_open(), expected.contains(&Trip::Now));
    }

    #[test]
    fn five_stops_in_ten_seconds_trip_once() {
        use Trip::{No, Now};
        check(&[0, 1, 2, 3, 10, 10], &[No, No, No, No, Now, No]);
    }

    #[test]
    fn four_stops_or_five_in_longer_do_not() {
        use Trip::No;
        check(&[0, 1, 2, 3], &[No; 4]);
        check(&[0, 1, 2, 3, 11], &[No; 5]);
    }

    #[test]
    fn the_window_moves_on() {
        use Trip::{No, Now};
        check(&[0, 5, 9, 12, 13, 14, 15], &[No, No, No, No, No, Now, No]);
    }
}
