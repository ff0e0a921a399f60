//! Pauses between attempts: exponential, jittered, never shorter than what the node asked for.

use std::time::Duration;

/// How long to pause before a call is tried again. The number of attempts is bounded by the call's timeout alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    first: Duration,
    longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { first: Duration::from_millis(10), longest: Duration::from_secs(1) }
    }
}

impl RetryPolicy {
    /// Pauses begin at about `first` and double up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        let first = first.max(Duration::from_millis(1));
        Self { first, longest: longest.max(first) }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff { next: self.first, longest: self.longest }
    }
}

/// The pauses of one call.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// The next pause: between half of the current step and all of it, but at least the node's own `hint`.
    /// `random` is any number; it spreads the clients that failed together.
    pub(crate) fn pause(&mut self, hint: Option<Duration>, random: u64) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.longest);
        let half = step / 2;
        // The upper 32 bits as a fraction of one.
        let jitter = half.mul_f64((random >> 32) as f64 / f64::from(u32::MAX));
        let hinted = hint.map_or(Duration::ZERO, |hint| hint + jitter);
        (half + jitter).max(hinted)
    }
}

/// A number for jitter. Nothing depends on its quality.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(policy: &RetryPolicy, random: u64, count: usize) -> Vec<u64> {
        let mut backoff = policy.backoff();
        (0..count).map(|_| backoff.pause(None, random).as_millis() as u64).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = RetryPolicy::new(Duration::from_millis(10), Duration::from_millis(60));
        assert_eq!(pauses(&policy, u64::MAX, 5), [10, 20, 40, 60, 60]);
    }

    #[test]
    fn jitter_takes_at_most_half() {
        let policy = RetryPolicy::new(Duration::from_millis(10), Duration::from_millis(60));
        assert_eq!(pauses(&policy, 0, 5), [5, 10, 20, 30, 30]);
    }

    #[test]
    fn a_hint_is_a_lower_bound() {
        let mut backoff = RetryPolicy::default().backoff();
        assert_eq!(backoff.pause(Some(Duration::from_millis(300)), 0), Duration::from_millis(300));
        assert_eq!(backoff.pause(Some(Duration::from_millis(1)), 0), Duration::from_millis(10));
    }

    #[test]
    fn a_policy_cannot_be_made_to_spin() {
        let policy = RetryPolicy::new(Duration::ZERO, Duration::ZERO);
        assert_eq!(
            policy,
            RetryPolicy { first: Duration::from_millis(1), longest: Duration::from_millis(1) }
        );
    }
}
