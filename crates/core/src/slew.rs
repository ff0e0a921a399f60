//! [`Slew`]: grid time by the clock of a machine.
//!
//! A process takes the wall clock's word for it until it hears of its grid's time, and then that. From there on its grid time never
//! jumps and never goes back: until it agrees with what it is told it runs half a per cent faster or slower than the machine's clock
//! does, as with adjtime. So a clock on the wall that is wrong, or is set right, makes no entries expire together.

use crate::ids::GridTime;
use crate::limits::{GRID_TIME_MAX, SLEW_PART};
use crate::replication::LocalTime;

/// How grid time follows from the clock of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slew {
    /// When it was last told the time, by the machine's clock.
    told: LocalTime,
    /// Grid time then.
    grid: GridTime,
    /// By how much that was less than what it was told, in milliseconds.
    behind: i64,
    is_set: bool,
}

impl Slew {
    /// Of a process that knows only what the wall says.
    #[must_use]
    pub fn by_wall(local: LocalTime, wall: GridTime) -> Self {
        Self { told: local, grid: wall.min(GRID_TIME_MAX), behind: 0, is_set: false }
    }

    /// Whether it has heard of the grid's time.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.is_set
    }

    /// Grid time by the machine's clock.
    #[must_use]
    pub fn read(&self, local: LocalTime) -> GridTime {
        let passed = local.0.saturating_sub(self.told.0);
        let most = i64::try_from(passed / SLEW_PART).unwrap_or(i64::MAX);
        let most = if cfg!(mutant = "slew-limit") { i64::MAX } else { most };
        let made_up = self.behind.clamp(-most, most);
        GridTime(self.grid.0.saturating_add(passed).saturating_add_signed(made_up))
    }

    /// Somebody who knows says what grid time it is.
    pub fn follow(&mut self, local: LocalTime, grid: GridTime) {
        let grid = grid.min(GRID_TIME_MAX);
        let before = if self.is_set { self.read(local) } else { grid };
        let behind = i64::try_from(i128::from(grid.0) - i128::from(before.0)).unwrap_or(i64::MAX);
        *self = Self { told: local, grid: before, behind, is_set: true };
    }

    /// What it is made of, for whoever shares it between threads without a lock.
    #[must_use]
    pub fn to_words(&self) -> [u64; 4] {
        [self.told.0, self.grid.0, self.behind.cast_unsigned(), u64::from(self.is_set)]
    }

    /// As [`Self::to_words`] has given it.
    #[must_use]
    pub fn from_words([told, grid, behind, is_set]: [u64; 4]) -> Self {
        let (told, grid) = (LocalTime(told), GridTime(grid));
        Self { told, grid, behind: behind.cast_signed(), is_set: is_set != 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;
    const WALL: GridTime = GridTime(1_790_000_000_000);
    const START: LocalTime = LocalTime(5_000_000);

    fn at(millis: u64) -> LocalTime {
        LocalTime(START.0 + millis)
    }

    fn set() -> Slew {
        let mut slew = Slew::by_wall(START, WALL);
        slew.follow(START, WALL);
        slew
    }

    #[test]
    fn a_process_takes_the_first_word_of_its_grid_whatever_its_wall_says() {
        for wall in [WALL.0 - HOUR, WALL.0 + HOUR, 0, u64::MAX] {
            let mut slew = Slew::by_wall(START, GridTime(wall));
            assert!(!slew.is_set());
            slew.follow(at(10), WALL);
            assert!(slew.is_set());
            assert_eq!(slew.read(at(250)), GridTime(WALL.0 + 240));
        }
    }

    /// A clock that is told so every half second; what it shows after so many of them.
    fn told(error: i64, beats: u64) -> u64 {
        let mut slew = set();
        for beat in 1..=beats {
            slew.follow(at(beat * 500), GridTime((WALL.0 + beat * 500).saturating_add_signed(error)));
        }
        slew.read(at((beats + 1) * 500)).0 - WALL.0
    }

    #[test]
    fn a_wall_clock_that_jumps_an_hour_moves_grid_time_by_half_a_per_cent() {
        let hour = i64::try_from(HOUR).unwrap();
        let seconds = 60;
        let (fast, slow) = (told(hour, 2 * seconds), told(-hour, 2 * seconds));
        let passed = 500 * (2 * seconds + 1);
        // Two milliseconds in each half second.
        assert_eq!((fast, slow), (passed + 4 * seconds, passed - 4 * seconds));
    }

    #[test]
    fn what_is_wrong_by_little_is_made_up_for() {
        assert_eq!(told(30, 100), 500 * 101 + 30);
        assert_eq!(told(-30, 100), 500 * 101 - 30);
        // Told once, it goes on until it agrees, and no further.
        let mut slew = set();
        slew.follow(START, GridTime(WALL.0 + 100));
        assert_eq!(slew.read(at(10_000)), GridTime(WALL.0 + 10_050));
        assert_eq!(slew.read(at(20_000)), GridTime(WALL.0 + 20_100));
        assert_eq!(slew.read(at(90_000)), GridTime(WALL.0 + 90_100));
    }

    proptest! {
        #[test]
        fn grid_time_never_goes_back_and_never_jumps(
            words in proptest::collection::vec((0..2_000_u64, any::<Option<u64>>()), 1..50),
        ) {
            let mut slew = set();
            let (mut local, mut last) = (START, slew.read(START));
            for (passed, told) in words {
                local.0 += passed;
                let now = slew.read(local);
                prop_assert!(now >= last);
                prop_assert!(now.0 - last.0 <= passed + passed / SLEW_PART + 1);
                if let Some(told) = told {
                    slew.follow(local, GridTime(told));
                    prop_assert_eq!(slew.read(local), now);
                    prop_assert_eq!(Slew::from_words(slew.to_words()), slew);
                }
                last = now;
            }
        }
    }
}
