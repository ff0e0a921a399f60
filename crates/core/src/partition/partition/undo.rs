//! What takes back the steps that are not committed: a primary shows its own writes to those behind them before all copies have
//! them, and must forget them if another becomes primary.

use std::collections::VecDeque;

use super::Partition;
use crate::ids::{ClientId, GridTime, MapId, Slot, Version};
use crate::partition::Completion;
use crate::store::{Doomed, Entry};

/// Takes one change back.
#[derive(Debug)]
pub(super) enum Undo {
    /// A slot had this.
    Entry { map: MapId, slot: Slot, before: Option<Entry> },
    /// A map had these entries.
    Cleared { map: MapId, cleared: Doomed },
    /// A request had done this, or nothing.
    Completion { client: ClientId, sequence: u64, before: Option<Completion> },
}

/// The steps behind the last that is committed.
#[derive(Debug)]
pub(super) struct UndoLog {
    /// The last position of each step, and what takes it back, in the order of the changes.
    steps: VecDeque<(Version, Vec<Undo>)>,
    /// Of the step that has not ended.
    current: Vec<Undo>,
    /// The position before the first of the steps.
    start: Version,
    /// What is kept, in bytes.
    bytes: u64,
}

impl Undo {
    fn bytes(&self) -> u64 {
        let kept = match self {
            Self::Entry { before, .. } => before.as_ref().map_or(0, Entry::cost),
            Self::Cleared { cleared, .. } => cleared.bytes(),
            // Beside the sweep's, which is small, a request has one result.
            Self::Completion { .. } => 0,
        };
        kept + size_of::<Self>() as u64
    }
}

impl UndoLog {
    /// Notes a change of the current step.
    pub(super) fn push(&mut self, undo: Option<Undo>) {
        if let Some(undo) = undo {
            self.bytes += undo.bytes();
            self.current.push(undo);
        }
    }

    /// The step has come to this position.
    pub(super) fn end_step(&mut self, position: Version) {
        let undo = std::mem::take(&mut self.current);
        self.steps.push_back((position, undo));
    }

    /// Begins behind a position: everything up to it is committed.
    pub(super) fn new(position: Version) -> Self {
        Self { steps: VecDeque::new(), current: Vec::new(), start: position, bytes: 0 }
    }

    /// Where the last step ended.
    pub(super) fn end(&self) -> Version {
        self.steps.back().map_or(self.start, |(position, _)| *position)
    }

    /// Where the last committed step ended.
    pub(super) fn committed(&self) -> Version {
        self.start
    }

    /// Begins behind a position, unless there is something to be taken back.
    pub(super) fn restart(&mut self, position: Version) {
        if self.steps.is_empty() && self.current.is_empty() {
            self.start = position;
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first step, if it is committed with everything up to a position.
    fn pop_committed(&mut self, through: Version) -> Option<Vec<Undo>> {
        let (position, undo) = self.steps.pop_front_if(|(position, _)| *position <= through)?;
        self.start = position;
        self.bytes -= undo.iter().map(Undo::bytes).sum::<u64>();
        Some(undo)
    }

    /// The last change behind a position.
    fn pop_after(&mut self, position: Version) -> Option<Undo> {
        loop {
            if let Some(undo) = self.current.pop() {
                self.bytes -= undo.bytes();
                return Some(undo);
            }
            self.current = self.steps.pop_back_if(|(end, _)| *end > position)?.1;
        }
    }

    pub(super) fn check_invariants(&self, position: Version) {
        let ends = self.steps.iter().map(|(position, _)| *position);
        assert!(std::iter::once(self.start).chain(ends).is_sorted_by(|a, b| a < b), "steps rise");
        assert!(self.end() <= position, "no step ends behind the last change");
        let all = self.steps.iter().flat_map(|(_, undo)| undo).chain(&self.current);
        assert_eq!(all.map(Undo::bytes).sum::<u64>(), self.bytes);
    }
}

impl Partition {
    /// Everything up to a position is committed: it is not taken back any more, and watchers may see it.
    pub fn committed(&mut self, through: Version) {
        while let Some(undo) = self.ledger.undo.pop_committed(through) {
            for undo in undo {
                let map = match undo {
                    Undo::Entry { map, .. } => map,
                    Undo::Cleared { map, cleared } => {
                        self.ledger.doomed.push(cleared);
                        map
                    }
                    Undo::Completion { .. } => continue,
                };
                if let Some(store) = self.maps.get(&map) {
                    self.ledger.tell_watchers(map, store);
                }
            }
        }
    }

    /// Takes back everything behind a position: it was never committed, and another decides now.
    pub fn undo_after(&mut self, position: Version, now: GridTime) {
        while let Some(undo) = self.ledger.undo.pop_after(position) {
            match undo {
                Undo::Entry { map, slot, before } => self.put_back(map, |store| {
                    drop(store.exchange(slot, before, now));
                    store.take_back(position);
                }),
                Undo::Cleared { map, cleared } => self.put_back(map, |store| {
                    store.revive(cleared);
                    store.take_back(position);
                }),
                Undo::Completion { .. } if cfg!(mutant = "rule-8-undo-records") => {}
                Undo::Completion { client, sequence, before } => {
                    self.completions.restore(&client, sequence, before);
                }
            }
        }
        self.ledger.position = position;
        self.ledger.undo.restart(position);
    }
}
