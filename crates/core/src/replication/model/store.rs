//! A store small enough to be compared as a whole: some slots, and which requests are done.

use std::collections::BTreeMap;

use crate::ids::Version;

/// A write: its request, and the slot that it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Write {
    pub(super) request: u32,
    pub(super) slot: u8,
    /// The slot is empty after it.
    pub(super) removes: bool,
}

pub(super) const SLOTS: u8 = 3;

/// Slots from `from` to `to`, exclusive; the last chunk has the completion records too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Chunk {
    from: u8,
    to: u8,
    entries: BTreeMap<u8, (u32, Version)>,
    done: Option<BTreeMap<u32, Version>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Store {
    entries: BTreeMap<u8, (u32, Version)>,
    done: BTreeMap<u32, Version>,
    pub(super) position: Version,
}

impl Store {
    pub(super) fn apply(&mut self, write: Write, position: Version) {
        self.entries.remove(&write.slot);
        if !write.removes {
            self.entries.insert(write.slot, (write.request, position));
        }
        let before = self.done.insert(write.request, position);
        assert_eq!(before, None, "request {} takes effect once", write.request);
        self.position = position;
    }

    pub(super) fn done(&self, request: u32) -> Option<Version> {
        self.done.get(&request).copied()
    }

    pub(super) fn read_chunk(&self, number: u32) -> (Chunk, bool) {
        let from = u8::try_from(number).unwrap();
        let last = from + 1 == SLOTS;
        let to = if last { u8::MAX } else { from + 1 };
        let entries = self.entries.range(from..to).map(|(slot, entry)| (*slot, *entry)).collect();
        let done = last.then(|| self.done.clone());
        (Chunk { from, to, entries, done }, last)
    }

    pub(super) fn replace(&mut self, chunk: Chunk) {
        self.entries.retain(|slot, _| *slot < chunk.from || *slot >= chunk.to);
        for (slot, entry) in chunk.entries {
            self.entries.insert(slot, entry);
        }
        if let Some(done) = chunk.done {
            self.done = done;
        }
    }

    /// An expansion begins.
    pub(super) fn begin(&mut self, position: Version) {
        *self = Self { position, ..Self::default() };
    }

    /// Whether both show the same.
    pub(super) fn same(&self, other: &Self) -> bool {
        (&self.entries, &self.done) == (&other.entries, &other.done)
    }
}
