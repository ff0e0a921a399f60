//! How long a guest may run: thread CPU time, with a wall cap. The clocks are read in the engine's epoch
//! callback alone, for reading thread CPU time costs more than a short call does. So time counts from the
//! first tick that a call sees, and a stop comes up to two ticks late.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::limits::{DEFAULT_CPU_BUDGET, TICK, WALL_CAP_FACTOR};

/// What one call, with one entry or a batch of them, may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Thread CPU time.
    pub cpu: Duration,
    /// Time on the wall clock.
    pub wall: Duration,
}

impl Budget {
    /// A budget of CPU time, with the usual wall cap.
    pub fn of_cpu(cpu: Duration) -> Self {
        Self { cpu, wall: cpu * WALL_CAP_FACTOR }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::of_cpu(DEFAULT_CPU_BUDGET)
    }
}

/// Which part of its budget a guest has used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Overrun {
    #[error("{spent:?} of CPU time, {budget:?} allowed")]
    Cpu { spent: Duration, budget: Duration },
    #[error("{spent:?} on the wall clock, {cap:?} allowed")]
    Wall { spent: Duration, cap: Duration },
}

/// Watches over one call at a time.
#[derive(Debug)]
pub(crate) struct Meter {
    budget: Budget,
    first_tick: Option<Reading>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    cpu: Duration,
    wall: Instant,
}

impl Meter {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, first_tick: None }
    }

    pub(crate) fn start(&mut self, budget: Budget) {
        *self = Self::new(budget);
    }

    /// Called by the engine about once per [`TICK`] while the guest runs.
    pub(crate) fn tick(&mut self) -> Result<(), Overrun> {
        self.tick_at(Reading { cpu: thread_cpu_time(), wall: Instant::now() })
    }

    fn tick_at(&mut self, now: Reading) -> Result<(), Overrun> {
        let Budget { cpu: budget, wall: cap } = self.budget;
        let first = *self.first_tick.get_or_insert(now);
        // What ran before the first tick is charged as one tick.
        let spent = now.cpu.saturating_sub(first.cpu) + TICK;
        if spent > budget {
            return Err(Overrun::Cpu { spent, budget });
        }
        let spent = now.wall.saturating_duration_since(first.wall) + TICK;
        if spent > cap {
            return Err(Overrun::Wall { spent, cap });
        }
        Ok(())
    }
}

fn thread_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    // The clock starts at zero with the thread, so neither part can be negative.
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(readings: &[(u64, u64)], expected: Result<(), Overrun>) {
        let start = Instant::now();
        let mut meter = Meter::new(Budget::default());
        let mut last = Ok(());
        for &(cpu, wall) in readings {
            assert_eq!(last, Ok(()), "stopped before the last reading");
            last = meter.tick_at(Reading {
                cpu: Duration::from_millis(cpu),
                wall: start + Duration::from_millis(wall),
            });
        }
        assert_eq!(last, expected);
    }

    #[test]
    fn time_before_the_first_tick_is_not_the_guests() {
        check(&[(5_000, 5_000)], Ok(()));
    }

    #[test]
    fn cpu_time_up_to_the_budget_is_fine_and_past_it_stops() {
        check(&[(100, 0), (109, 9)], Ok(()));
        let ten = Duration::from_millis(10);
        check(&[(100, 0), (110, 10)], Err(Overrun::Cpu { spent: Duration::from_millis(11), budget: ten }));
    }

    #[test]
    fn a_descheduled_guest_goes_on_until_the_wall_cap() {
        check(&[(100, 0), (101, 99)], Ok(()));
        let cap = Duration::from_millis(100);
        check(&[(100, 0), (101, 100)], Err(Overrun::Wall { spent: Duration::from_millis(101), cap }));
    }

    #[test]
    fn a_new_call_starts_afresh() {
        let start = Instant::now();
        let mut meter = Meter::new(Budget::default());
        let at = |millis| Reading { cpu: Duration::from_millis(millis), wall: start };
        assert_eq!(meter.tick_at(at(0)), Ok(()));
        meter.start(Budget::default());
        assert_eq!(meter.tick_at(at(500)), Ok(()));
    }
}
