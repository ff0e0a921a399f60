//! Grid time on this node: wall time at the start, advanced by a clock that never goes back and goes on while the machine
//! sleeps.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wattle_core::ids::GridTime;
use wattle_core::replication::{LocalTime, Now};

/// Tells grid time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GridClock {
    /// Grid time when the machine's boot clock stood at zero.
    origin: Duration,
}

impl GridClock {
    /// A clock that agrees with the wall clock now.
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { origin: wall.saturating_sub(since_boot()) }
    }

    pub(crate) fn now(self) -> GridTime {
        self.read().grid
    }

    /// This machine's clock, which goes on while it sleeps.
    pub(crate) fn local(self) -> LocalTime {
        self.read().local
    }

    /// Both, read once.
    pub(crate) fn read(self) -> Now {
        let since_boot = since_boot();
        Now { local: LocalTime(0) + since_boot, grid: GridTime(0).after(self.origin + since_boot) }
    }
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).expect("the boot clock starts at zero");
    let nanos = u32::try_from(time.tv_nsec).expect("below a second");
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_time_starts_at_wall_time_and_never_goes_back() {
        let clock = GridClock::start();
        let wall = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        let first = clock.now();
        assert!(first.0.abs_diff(wall) < 1000, "{first:?} {wall}");
        let mut last = first;
        for _ in 0..1000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
