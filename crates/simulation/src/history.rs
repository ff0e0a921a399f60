//! What clients have asked and were shown.

use std::collections::BTreeMap;
use std::fmt;

use wattle_core::ids::Epoch;

use crate::clock::Time;
use crate::letter::{Action, Key, Shown};

/// One operation of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// What was asked for.
    pub action: Action,
    /// When.
    pub asked: Time,
    /// None if nobody can say what became of it.
    pub answer: Option<Answer>,
}

/// Without one, it may have taken effect at any time after it was asked, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// When.
    pub at: Time,
    /// What the client was shown.
    pub shown: Shown,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12} {:?} -> ", self.asked.0, self.action)?;
        match self.answer {
            None => f.write_str("no answer"),
            Some(Answer { at, shown }) => write!(f, "{:>12} {shown:?}", at.0),
        }
    }
}

/// All operations, by key.
#[derive(Debug, Default)]
pub(crate) struct History {
    operations: BTreeMap<Key, Vec<Told>>,
}

/// An operation, and the reign of the primary that has answered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) operation: Operation,
    pub(crate) epoch: Option<Epoch>,
}

impl History {
    pub(crate) fn push(&mut self, key: Key, told: Told) {
        self.operations.entry(key).or_default().push(told);
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (Key, &[Told])> {
        self.operations.iter().map(|(key, operations)| (*key, operations.as_slice()))
    }
}
