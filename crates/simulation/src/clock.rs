//! [`Time`]: the time of the simulation, which nobody in it sees; and [`Clock`]: what a machine makes of it.

use std::ops::Add;

use wattle_core::replication::LocalTime;

/// Microseconds since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Time(
    /// So many.
    pub u64,
);

pub(crate) const MILLISECOND: u64 = 1000;
pub(crate) const SECOND: u64 = 1000 * MILLISECOND;

/// The wall time of the beginning, in milliseconds.
pub(crate) const WALL: u64 = 1_790_000_000_000;

impl Add<u64> for Time {
    type Output = Self;

    fn add(self, microseconds: u64) -> Self {
        Self(self.0 + microseconds)
    }
}

/// The clocks of a machine: one that goes on while it sleeps, at a speed of its own, and one on the wall, which may jump.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Microseconds that it was ahead at the beginning.
    ahead: u64,
    /// Millionths of the real speed.
    speed: u64,
    /// Milliseconds by which the clock on the wall is wrong.
    pub(crate) wall_error: i64,
}

impl Clock {
    pub(crate) fn new(ahead: u64, speed: u64, wall_error: i64) -> Self {
        Self { ahead, speed, wall_error }
    }

    pub(crate) fn local(&self, time: Time) -> LocalTime {
        LocalTime((self.ahead + time.0 * self.speed / 1_000_000) / MILLISECOND)
    }

    /// The first moment at which this clock shows so much.
    pub(crate) fn when(&self, local: LocalTime) -> Time {
        let shown = (local.0 * MILLISECOND).saturating_sub(self.ahead);
        Time((shown * 1_000_000).div_ceil(self.speed))
    }

    /// The time on the wall, in milliseconds.
    pub(crate) fn wall(&self, time: Time) -> u64 {
        (WALL + time.0 / MILLISECOND).saturating_add_signed(self.wall_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_when_it_says_so_and_not_before() {
        for speed in [980_000, 1_000_000, 1_019_999] {
            let clock = Clock::new(12_345_678, speed, 0);
            for local in [12_346, 20_000, 99_999] {
                let when = clock.when(LocalTime(local));
                assert_eq!(clock.local(when), LocalTime(local));
                assert!(clock.local(Time(when.0 - 1)) < LocalTime(local));
            }
        }
    }
}
