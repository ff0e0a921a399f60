//! What the maps of a partition have in common: the log position of their last change, the memory that they hold, which
//! watched ones have changed; and the log that copies of the partition follow.

use super::undo::{Undo, UndoLog};
use crate::ids::{GridTime, MapId, Slot, Version};
use crate::partition::mutation::{Encoder, Mutation, Mutations};
use crate::store::{ChangeKind, Doomed, Located, MapStore, Write};

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) position: Version,
    /// What all stores hold, in bytes.
    pub(super) bytes: u64,
    /// Watched maps that have changed, each once.
    pub(super) changed: Vec<MapId>,
    /// Entries that are gone for everybody and wait to be freed.
    pub(super) doomed: Vec<Doomed>,
    /// What takes back the steps that are not committed.
    pub(super) undo: UndoLog,
    /// What has changed in this step, if there are copies to be told.
    recording: Option<Encoder>,
}

/// Changes the store of one map: the only way in which a partition that decides does.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    map: MapId,
    position: &'a mut Version,
    doomed: &'a mut Vec<Doomed>,
    undo: &'a mut UndoLog,
    recording: Option<&'a mut Encoder>,
}

impl Ledger {
    pub(super) fn new(position: Version) -> Self {
        Self {
            position,
            bytes: 0,
            changed: Vec::new(),
            doomed: Vec::new(),
            undo: UndoLog::new(position),
            recording: None,
        }
    }

    /// Lets `change` work on the store of a map, and notes what became of it.
    pub(super) fn change<R>(
        &mut self,
        map: MapId,
        store: &mut MapStore,
        change: impl FnOnce(&mut MapStore, &mut Changes<'_>) -> R,
    ) -> R {
        let (bytes, position) = (store.bytes(), self.position);
        let Self { doomed, undo, recording, .. } = self;
        let recording = recording.as_mut();
        let is_recorded = recording.is_some();
        let result =
            change(store, &mut Changes { map, position: &mut self.position, doomed, undo, recording });
        self.bytes = self.bytes - bytes + store.bytes();
        // What is recorded is shown to watchers once it is committed.
        if self.position != position && !is_recorded {
            self.tell_watchers(map, store);
        }
        result
    }

    /// Takes an entry away.
    pub(super) fn erase(&mut self, map: MapId, store: &mut MapStore, slot: Slot, kind: ChangeKind) {
        self.change(map, store, |store, changes| changes.remove(store, slot, kind));
    }

    /// The watchers of a map have something to read.
    pub(super) fn tell_watchers(&mut self, map: MapId, store: &MapStore) {
        if store.is_watched() && !self.changed.contains(&map) {
            self.changed.push(map);
        }
    }

    /// Whether changes are recorded from now on. What was not taken by then is forgotten.
    pub(super) fn record(&mut self, records: bool) {
        if self.recording.is_some() != records {
            self.recording = records.then(Encoder::default);
            self.undo.restart(self.position);
        }
    }

    /// Everything up to here is committed.
    pub(super) fn committed(&self) -> Version {
        if self.recording.is_some() { self.undo.committed() } else { self.position }
    }

    /// Notes a change that is in no map.
    pub(super) fn note(&mut self, mutation: &Mutation<'_>, undo: impl FnOnce() -> Option<Undo>) {
        if let Some(recording) = self.recording.as_mut().filter(|_| !cfg!(mutant = "rule-9-log")) {
            recording.push(mutation);
            self.undo.push(undo());
        }
    }

    /// What has changed since this was asked last. Its position is the partition's.
    pub(super) fn take_record(&mut self) -> Option<Mutations> {
        let mutations = self.recording.as_mut()?.take()?;
        if self.position == self.undo.end() {
            // Only records of requests, say: they have a place in the log, too.
            self.position.advance();
        }
        self.undo.end_step(self.position);
        Some(mutations)
    }
}

impl Changes<'_> {
    /// Writes the entry of a key.
    pub(super) fn put(
        &mut self,
        store: &mut MapStore,
        (located, key): (Located, &[u8]),
        (value, deadline): (&[u8], Option<GridTime>),
        now: GridTime,
    ) -> Version {
        let version = self.position.advance();
        let write = Write { value, version, deadline };
        let (slot, before) = match located {
            Located::At(slot) => {
                let before = self.recording.as_ref().and_then(|_| store.copy_of(slot));
                store.replace(slot, &write, now);
                (slot, before)
            }
            Located::Nowhere(vacant) => (store.create(vacant, key, &write, now), None),
        };
        if let Some(recording) = &mut self.recording {
            recording.push(&Mutation::Put { map: self.map, slot, key, value, version, deadline });
            self.undo.push(Some(Undo::Entry { map: self.map, slot, before }));
        }
        version
    }

    /// Sets or clears the deadline of an entry.
    pub(super) fn set_deadline(&mut self, store: &mut MapStore, slot: Slot, deadline: Option<GridTime>) {
        let version = self.position.advance();
        let before = self.recording.as_ref().and_then(|_| store.copy_of(slot));
        store.set_deadline(slot, deadline, version);
        if let Some(recording) = &mut self.recording {
            recording.push(&Mutation::Deadline { map: self.map, slot, version, deadline });
            self.undo.push(Some(Undo::Entry { map: self.map, slot, before }));
        }
    }

    /// Takes an entry away.
    pub(super) fn remove(&mut self, store: &mut MapStore, slot: Slot, kind: ChangeKind) {
        let version = self.position.advance();
        let before = store.remove(slot, kind, version);
        if let Some(recording) = &mut self.recording {
            recording.push(&Mutation::Remove { map: self.map, slot, version, kind });
            self.undo.push(Some(Undo::Entry { map: self.map, slot, before: Some(before) }));
        }
    }

    /// Takes all entries away.
    pub(super) fn clear(&mut self, store: &mut MapStore) {
        let version = self.position.advance();
        let cleared = store.clear(version);
        match &mut self.recording {
            Some(recording) => {
                recording.push(&Mutation::Clear { map: self.map, version });
                self.undo.push(Some(Undo::Cleared { map: self.map, cleared }));
            }
            None => self.doomed.push(cleared),
        }
    }
}
