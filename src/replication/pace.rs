//! [`Pace`]: so many bytes in a second, as a virtual schedule (the generic cell rate algorithm of ITU-T I.371).

use std::time::Duration;

use wattle_core::replication::LocalTime;

/// What may be sent at once after a while without anything: longer than a partition waits until it is asked again.
const BURST: Duration = Duration::from_millis(250);

/// Tells when more may be sent.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    /// When what was sent would have been, at the given rate, in microseconds.
    due: u64,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, due: 0 }
    }

    /// Whether something may be sent, however much: the next waits for it.
    pub(super) fn allows(&self, now: LocalTime) -> bool {
        self.due <= micros(now) + BURST.as_micros() as u64
    }

    /// So much was sent.
    pub(super) fn spend(&mut self, now: LocalTime, bytes: u64) {
        self.due = self.due.max(micros(now)) + bytes.saturating_mul(1_000_000) / self.bytes_per_second;
    }
}

fn micros(LocalTime(millis): LocalTime) -> u64 {
    millis.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_second_goes_what_may_and_a_burst_before_it() {
        let mut pace = Pace::new(1000);
        let mut sent = 0;
        for millis in 5000..=6000 {
            while pace.allows(LocalTime(millis)) {
                pace.spend(LocalTime(millis), 10);
                sent += 10;
            }
        }
        assert_eq!(sent, 1000 + 250 + 10);
        // What is not used is not saved for later.
        assert!(pace.allows(LocalTime(60_000)));
        pace.spend(LocalTime(60_000), 260);
        assert!(!pace.allows(LocalTime(60_000)) && pace.allows(LocalTime(60_010)));
    }
}
