//! [`Records`]: everything that clients have asked for, and what they were shown.

use std::collections::BTreeMap;
use std::fmt;

use wattle_client::{Error, Outcome};
use wattle_core::ids::Version;
use wattle_simulation::linearizability::{Action, Answer, Operation, Shown, Time};

/// Keys that are asked for all the time; the others of a round are cold.
pub(crate) const HOT_KEYS: u16 = 4;
/// All keys of a round.
pub(crate) const KEYS: u16 = 200;

/// Every round has keys of its own: so histories stay short, and what was written early is not written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) round: u64,
    pub(crate) place: u16,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.round, self.place)
    }
}

/// What has become of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Shown(Shown),
    /// It has taken effect, or will, or never will.
    InDoubt,
    /// It has not, and never will; or it only wanted to read.
    Nothing,
}

/// A function ran, in a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) key: Key,
    pub(crate) module: String,
    pub(crate) asked: Time,
    pub(crate) answered: Time,
}

/// What some clients were told.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) operations: BTreeMap<Key, Vec<Operation>>,
    pub(crate) runs: Vec<Run>,
    pub(crate) shown: u64,
    pub(crate) in_doubt: u64,
    /// By the reason.
    pub(crate) nothing: BTreeMap<String, u64>,
    /// Of this round and those before it nothing can be there any more.
    pub(crate) lost: Option<u64>,
}

impl Records {
    pub(crate) fn note(&mut self, key: Key, action: Action, asked: Time, (at, told): (Time, Told)) {
        let answer = match told {
            Told::Shown(shown) => {
                self.shown += 1;
                Some(Answer { at, shown })
            }
            Told::InDoubt => {
                self.in_doubt += 1;
                None
            }
            Told::Nothing => return,
        };
        self.operations.entry(key).or_default().push(Operation { action, asked, answer });
    }

    /// The entries of a round, and of those before it, were lost at a time: their histories end there.
    pub(crate) fn lose(&mut self, round: u64, at: Time) {
        self.lost = Some(round);
        for (_, operations) in self.operations.iter_mut().filter(|(key, _)| key.round <= round) {
            for operation in operations.iter_mut() {
                operation.answer = operation.answer.take().filter(|answer| answer.at < at);
            }
            operations.retain(|operation| {
                operation.asked < at && (operation.answer.is_some() || operation.action != Action::Get)
            });
        }
    }

    /// The keys that must be as they were shown.
    pub(crate) fn kept(&self) -> impl Iterator<Item = Key> {
        self.operations.keys().copied().filter(|key| Some(key.round) > self.lost)
    }

    pub(crate) fn append(&mut self, other: Self) {
        for (key, operations) in other.operations {
            self.operations.entry(key).or_default().extend(operations);
        }
        self.runs.extend(other.runs);
        (self.shown, self.in_doubt) = (self.shown + other.shown, self.in_doubt + other.in_doubt);
        for (reason, count) in other.nothing {
            *self.nothing.entry(reason).or_default() += count;
        }
    }

    /// What an error tells.
    pub(crate) fn told(&mut self, action: Action, error: &Error) -> Told {
        if let Error::VersionMismatch { current: Some(current), .. } = error {
            return Told::Shown(Shown::Mismatch(Version(*current)));
        }
        let changes = action != Action::Get;
        if changes && error.outcome() != Some(Outcome::NotApplied) {
            return Told::InDoubt;
        }
        let reason = error.reason().map_or_else(|| error.to_string(), str::to_owned);
        *self.nothing.entry(reason).or_default() += 1;
        Told::Nothing
    }
}
