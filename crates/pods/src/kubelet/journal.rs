//! What is known of a container's log file beside its bytes: where in it the container's lives begin and end, and when it
//! was how long. Processes write to the file themselves, so that they need nobody who takes what they say.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// How often it is looked at: times of lines are as late as that.
const LOOK: Duration = Duration::from_millis(100);
/// Of one life; when there are as many, every other one is forgotten.
const MAX_MARKS: usize = 4096;
/// The present one and the one before.
const LIVES: usize = 2;

/// All bytes before this place were there by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    end: u64,
    seen: Timestamp,
}

/// One process of a container, from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) start: u64,
    /// None while it lasts.
    pub(crate) end: Option<u64>,
    marks: Vec<Mark>,
}

impl Life {
    fn seen(&self) -> u64 {
        self.marks.last().map_or(self.start, |mark| mark.end)
    }

    fn see(&mut self, end: u64, now: Timestamp) {
        if self.marks.len() == MAX_MARKS {
            let mut is_second = true;
            self.marks.retain(|_| {
                is_second = !is_second;
                is_second
            });
        }
        self.marks.push(Mark { end, seen: now });
    }

    /// When the line that begins here was seen.
    pub(crate) fn time_of(&self, place: u64) -> Timestamp {
        let at = self.marks.partition_point(|mark| mark.end <= place);
        self.marks.get(at).map_or_else(Timestamp::now, |mark| mark.seen)
    }

    /// What was written before this place is older.
    pub(crate) fn place_at(&self, time: Timestamp) -> u64 {
        let at = self.marks.partition_point(|mark| mark.seen < time);
        at.checked_sub(1).map_or(self.start, |before| self.marks[before].end)
    }
}

/// Clones are of the same journal.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    path: PathBuf,
    lives: watch::Sender<Vec<Life>>,
}

impl Journal {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, lives: watch::Sender::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The latest comes last.
    pub(crate) fn lives(&self) -> watch::Receiver<Vec<Life>> {
        self.lives.subscribe()
    }

    /// Where in the log the latest life begins.
    pub(crate) fn start(&self) -> Option<u64> {
        self.lives.borrow().last().map(|life| life.start)
    }

    /// A process is about to be started.
    pub(crate) fn begin(&self) {
        let start = self.length();
        self.lives.send_modify(|lives| {
            if lives.len() == LIVES {
                lives.remove(0);
            }
            lives.push(Life { start, end: None, marks: Vec::new() });
        });
    }

    /// It is no more.
    pub(crate) fn end(&self) {
        let length = self.length();
        self.lives.send_modify(|lives| {
            let Some(life) = lives.last_mut() else { return };
            if length > life.seen() {
                life.see(length, Timestamp::now());
            }
            life.end = Some(length);
        });
    }

    /// Notes how the file grows.
    pub(crate) async fn keep(&self) -> Infallible {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let length = self.length();
            self.lives.send_if_modified(|lives| {
                let grown = lives.last_mut().filter(|life| length > life.seen());
                grown.map(|life| life.see(length, Timestamp::now())).is_some()
            });
        }
    }

    /// A file that is not there is empty: nothing was written yet.
    pub(crate) fn length(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |found| found.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn lines_have_the_time_when_they_were_seen() {
        let mut life = Life { start: 10, end: None, marks: Vec::new() };
        assert_eq!((life.seen(), life.place_at(at(5))), (10, 10));
        life.see(20, at(2));
        life.see(30, at(4));
        assert_eq!((life.time_of(10), life.time_of(19), life.time_of(20)), (at(2), at(2), at(4)));
        assert_eq!((life.place_at(at(2)), life.place_at(at(3)), life.place_at(at(9))), (10, 20, 30));
    }

    #[test]
    fn a_long_life_is_remembered_less_exactly() {
        let mut life = Life { start: 0, end: None, marks: Vec::new() };
        for second in 1..=3 * MAX_MARKS as i64 {
            life.see(second as u64, at(second));
        }
        assert!(life.marks.len() <= MAX_MARKS);
        assert_eq!(life.seen(), 3 * MAX_MARKS as u64);
        let (time, place) = (life.time_of(5000).as_second(), life.place_at(at(5000)));
        assert!((5001..=5008).contains(&time) && (4990..5000).contains(&place), "{time} {place}");
    }

    #[test]
    fn lives_follow_each_other_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path().join("log"));
        for text in ["one\n", "one\ntwo\n", "one\ntwo\nthree\n"] {
            journal.begin();
            std::fs::write(journal.path(), text).unwrap();
            journal.end();
        }
        let found = journal.lives().borrow().clone();
        let places: Vec<(u64, Option<u64>)> = found.iter().map(|life| (life.start, life.end)).collect();
        assert_eq!(places, [(4, Some(8)), (8, Some(14))]);
    }
}
