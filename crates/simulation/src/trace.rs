//! [`Trace`]: what has happened, as a number that differs if anything does, and the last events in words if somebody wants them.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::clock::Time;

#[derive(Debug)]
pub(crate) struct Trace {
    hasher: DefaultHasher,
    /// The last of them, up to a number.
    lines: VecDeque<String>,
    told: usize,
    counts: BTreeMap<&'static str, u64>,
}

impl Trace {
    pub(crate) fn silent() -> Self {
        Self::in_words(0)
    }

    /// Keeps so many of the last events in words.
    pub(crate) fn in_words(told: usize) -> Self {
        Self { hasher: DefaultHasher::new(), lines: VecDeque::new(), told, counts: BTreeMap::new() }
    }

    /// Something has happened.
    pub(crate) fn note(&mut self, now: Time, what: &impl Hash, words: impl FnOnce() -> String) {
        (now, what).hash(&mut self.hasher);
        if self.told == 0 {
            return;
        }
        if self.lines.len() == self.told {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>12} {}", now.0, words()));
    }

    pub(crate) fn count(&mut self, event: &'static str) {
        *self.counts.entry(event).or_default() += 1;
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    pub(crate) fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
