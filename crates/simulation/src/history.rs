//! What clients have asked and were shown.

use std::collections::BTreeMap;

use wattle_core::ids::Epoch;

use crate::clock::Time;
use crate::letter::{Action, Key, Shown};

/// One operation of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) action: Action,
    pub(crate) asked: Time,
    pub(crate) answer: Option<Answer>,
}

/// Without one, it may have taken effect at any time after it was asked, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) at: Time,
    pub(crate) shown: Shown,
    /// Of the primary that gave it.
    pub(crate) epoch: Epoch,
}

/// All operations, by key.
#[derive(Debug, Default)]
pub(crate) struct History {
    operations: BTreeMap<Key, Vec<Operation>>,
}

impl History {
    pub(crate) fn push(&mut self, key: Key, operation: Operation) {
        self.operations.entry(key).or_default().push(operation);
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (Key, &[Operation])> {
        self.operations.iter().map(|(key, operations)| (*key, operations.as_slice()))
    }
}
