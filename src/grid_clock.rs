//! Grid time on this node: what [`Slew`] makes of a clock that never goes back and goes on while the machine sleeps.

use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use wattle_core::ids::GridTime;
use wattle_core::replication::{LocalTime, Now};
use wattle_core::slew::Slew;

/// Tells grid time.
#[derive(Debug, Clone)]
pub(crate) struct GridClock(Arc<Shared>);

/// A sequence lock: every operation reads the clock, and nobody who does so writes to memory that others read.
#[derive(Debug)]
struct Shared {
    /// Odd while the words are being written.
    sequence: AtomicU64,
    words: [AtomicU64; 4],
    /// Held to write them.
    slew: Mutex<Slew>,
}

impl GridClock {
    /// A clock that agrees with the wall clock until it hears of the grid's time.
    pub(crate) fn start() -> Self {
        let slew = Slew::by_wall(local(), wall());
        let words = slew.to_words().map(AtomicU64::new);
        Self(Arc::new(Shared { sequence: AtomicU64::new(0), words, slew: Mutex::new(slew) }))
    }

    pub(crate) fn now(&self) -> GridTime {
        self.read().grid
    }

    /// This machine's clock, which goes on while it sleeps.
    pub(crate) fn local(&self) -> LocalTime {
        local()
    }

    /// Both, read once.
    pub(crate) fn read(&self) -> Now {
        let (local, slew) = self.look();
        Now { local, grid: slew.read(local) }
    }

    /// Whether it has heard of the grid's time.
    pub(crate) fn is_set(&self) -> bool {
        self.look().1.is_set()
    }

    /// Grid time, if it is not only what the wall says.
    pub(crate) fn known(&self) -> Option<GridTime> {
        let (local, slew) = self.look();
        slew.is_set().then(|| slew.read(local))
    }

    /// Another has said what grid time it is.
    pub(crate) fn follow(&self, grid: GridTime) {
        self.change(|slew, local| slew.follow(local, grid));
    }

    /// As [`Self::follow`], unless it has heard of it before.
    pub(crate) fn begin_with(&self, grid: GridTime) {
        self.change(|slew, local| {
            if !slew.is_set() {
                slew.follow(local, grid);
            }
        });
    }

    /// It is for this node to say: it leads.
    pub(crate) fn follow_wall(&self) {
        self.follow(wall());
    }

    /// What the machine's clock shows while this counts: never a time by which something newer has counted already.
    fn look(&self) -> (LocalTime, Slew) {
        let Shared { sequence, words, .. } = &*self.0;
        loop {
            let before = sequence.load(Ordering::Acquire);
            let read = words.each_ref().map(|word| word.load(Ordering::Relaxed));
            let local = local();
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && sequence.load(Ordering::Relaxed) == before {
                return (local, Slew::from_words(read));
            }
            std::hint::spin_loop();
        }
    }

    fn change(&self, change: impl FnOnce(&mut Slew, LocalTime)) {
        let Shared { sequence, words, slew } = &*self.0;
        let mut slew = slew.lock();
        let before = sequence.load(Ordering::Relaxed);
        sequence.store(before + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        change(&mut slew, local());
        words.iter().zip(slew.to_words()).for_each(|(word, new)| word.store(new, Ordering::Relaxed));
        sequence.store(before + 2, Ordering::Release);
    }
}

fn wall() -> GridTime {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    GridTime(0).after(wall)
}

fn local() -> LocalTime {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).expect("the boot clock starts at zero");
    let nanos = u32::try_from(time.tv_nsec).expect("below a second");
    LocalTime(0) + Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn grid_time_starts_at_wall_time_and_never_goes_back() {
        let clock = GridClock::start();
        let first = clock.now();
        assert!(first.0.abs_diff(wall().0) < 1000, "{first:?}");
        let mut last = first;
        for _ in 0..1000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn the_first_word_of_the_grid_counts_and_later_ones_never_make_it_jump() {
        let clock = GridClock::start();
        assert_eq!(clock.known(), None);
        let of_grid = GridTime(wall().0 - HOUR);
        clock.begin_with(of_grid);
        clock.begin_with(wall());
        assert!(clock.known().is_some_and(|known| known.0.abs_diff(of_grid.0) < 1000));
        clock.follow_wall();
        assert!(clock.now().0.abs_diff(of_grid.0) < 1000, "the wall is an hour ahead of the grid");
    }

    #[test]
    fn who_reads_while_the_clock_is_told_the_time_sees_no_half_of_it() {
        let (clock, done) = (GridClock::start(), AtomicBool::new(false));
        clock.follow_wall();
        let first = clock.now();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut last = first;
                while !done.load(Ordering::Relaxed) {
                    let now = clock.now();
                    assert!(now >= last && now.0 - first.0 < HOUR / 2, "{last:?} {now:?}");
                    last = now;
                }
            });
            for turn in 0..20_000 {
                clock.follow(GridTime(if turn % 2 == 0 { first.0 + HOUR } else { first.0 - HOUR }));
            }
            done.store(true, Ordering::Relaxed);
            reader.join().expect("it has seen no half");
        });
    }
}
