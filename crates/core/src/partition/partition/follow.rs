//! A partition that follows another: it takes over what that one has changed, and whole ranges of what is there.

use std::borrow::Cow;

use super::Partition;
use super::ledger::Ledger;
use super::undo::Undo;
use crate::ids::{ClientId, GridTime, MapId, Slot, Version};
use crate::limits::CHUNK_BYTES;
use crate::map::MapOptions;
use crate::partition::mutation::{Encoder, Mutation, Mutations};
use crate::store::{Entry, EntryRef, MapStore};

/// What of a partition is still to be copied. What was created since it began is not in it: the log has that.
#[derive(Debug)]
pub struct CopyCursor {
    /// The last is next.
    maps: Vec<MapId>,
    /// In the next map.
    slot: Slot,
    /// The last is next.
    clients: Vec<ClientId>,
}

impl Partition {
    /// Whether what changes is recorded for copies from now on.
    pub fn record_changes(&mut self, records: bool) {
        self.ledger.record(records);
    }

    /// What has changed since this was asked last, if anything is recorded and has: the record of a step. It ends at
    /// [`Self::position`].
    #[must_use]
    pub fn take_record(&mut self) -> Option<Mutations> {
        self.ledger.take_record()
    }

    /// Changes what another has changed in a step that ended at `position`. Can be taken back until it is committed.
    pub fn apply_record(&mut self, position: Version, record: &Mutations, now: GridTime) {
        self.replay(record, now, true);
        self.ledger.position = position;
        self.ledger.undo.end_step(position);
    }

    /// Takes over a part of what another has. Here is only what has changed there since this copy began, so nothing is in the way.
    pub fn place_chunk(&mut self, chunk: &Mutations, now: GridTime) {
        self.replay(chunk, now, false);
    }

    /// Begins to copy the partition.
    #[must_use]
    pub fn copy_cursor(&self) -> CopyCursor {
        let maps = self.maps.iter().filter(|(_, store)| store.len() > 0).map(|(map, _)| *map).collect();
        let mut clients = self.completions.clients();
        if cfg!(mutant = "rule-9-records") {
            clients.clear();
        }
        CopyCursor { maps, slot: Slot(0), clients }
    }

    /// The next part as it is now, of at most so many entries and clients, and whether it is the last.
    #[must_use]
    pub fn copy_chunk(&self, cursor: &mut CopyCursor, limit: usize) -> (Mutations, bool) {
        let mut chunk = Chunk { encoded: Encoder::default(), left: limit };
        while let Some(map) = cursor.maps.last()
            && chunk.has_room()
        {
            let next = self.maps.get(map).and_then(|store| chunk.copy_range(*map, store, cursor.slot));
            cursor.slot = next.unwrap_or_default();
            if next.is_none() {
                cursor.maps.pop();
            }
        }
        while cursor.maps.is_empty()
            && chunk.has_room()
            && let Some(id) = cursor.clients.pop()
        {
            chunk.left -= 1;
            // One that was forgotten since has nothing that is still to be copied.
            if let Some((watermark, results)) = self.completions.of_client(&id) {
                chunk.encoded.push(&Mutation::Client { id, watermark, results: Cow::Owned(results) });
            }
        }
        let last = cursor.maps.is_empty() && cursor.clients.is_empty();
        if last {
            chunk.encoded.push(&Mutation::RaiseHorizon { to: self.completions.horizon() });
        }
        (chunk.encoded.finish(), last)
    }

    /// From now on this copy decides. When entries were used is not known here, so they are idle from now on; and positions go on
    /// behind those that another may have given out since.
    pub fn begin_reign(&mut self, now: GridTime) {
        for store in self.maps.values_mut() {
            let bytes = store.bytes();
            store.activate(now);
            self.ledger.bytes = self.ledger.bytes - bytes + store.bytes();
        }
        self.ledger.position = self.ledger.position.max(Version::at_start(now));
    }

    /// The same partition with nothing in it, at a position.
    #[must_use]
    pub fn emptied(&self, position: Version) -> Self {
        Self::new(self.id, self.siblings, self.seed, position)
    }

    /// Frees what another held, slice by slice: nobody needs it any more.
    pub fn bury(&mut self, gone: Self) {
        let Ledger { position, doomed, .. } = gone.ledger;
        self.ledger.doomed.extend(doomed);
        self.ledger.doomed.extend(gone.maps.into_values().map(|mut store| store.clear(position)));
    }

    fn replay(&mut self, mutations: &Mutations, now: GridTime, undoable: bool) {
        for mutation in mutations.iter() {
            let undo = self.replay_one(mutation, now);
            if undoable {
                self.ledger.undo.push(undo);
            } else if let Some(Undo::Cleared { cleared, .. }) = undo {
                self.ledger.doomed.push(cleared);
            }
        }
    }

    fn replay_one(&mut self, mutation: Mutation<'_>, now: GridTime) -> Option<Undo> {
        match mutation {
            Mutation::Put { map, slot, key, value, version, deadline } => {
                let entry = Entry::copied(key, value, (version, deadline), now);
                let before = self.follow(map, |store| store.exchange(slot, Some(entry), now));
                Some(Undo::Entry { map, slot, before })
            }
            Mutation::Deadline { map, slot, version, deadline } => self.follow(map, |store| {
                // In a range that is still to be copied there may be nothing.
                let before = store.copy_of(slot)?;
                store.set_deadline(slot, deadline, version);
                Some(Undo::Entry { map, slot, before: Some(before) })
            }),
            Mutation::Remove { map, slot, version: _, kind: _ } => {
                let before = self.follow(map, |store| store.exchange(slot, None, now));
                Some(Undo::Entry { map, slot, before })
            }
            Mutation::Clear { map, version } => {
                let cleared = self.follow(map, |store| store.clear(version));
                Some(Undo::Cleared { map, cleared })
            }
            Mutation::Complete { request, completion } => {
                let before = self.completions.replace(&request, completion.into_owned());
                Some(Undo::Completion { client: request.client, sequence: request.sequence, before })
            }
            Mutation::RaiseHorizon { to } => {
                self.completions.raise_horizon(to);
                None
            }
            Mutation::Client { id, watermark, results } => {
                self.completions.set_client(id, watermark, results.into_owned());
                None
            }
        }
    }

    /// Changes the store of a map that is known by its number only: its options come, if it is not deleted.
    fn follow<R>(&mut self, map: MapId, change: impl FnOnce(&mut MapStore) -> R) -> R {
        let seed = self.seed_of(map);
        let ledger = &mut self.ledger;
        let store = self.maps.entry(map).or_insert_with(|| {
            let store = MapStore::new(seed, MapOptions::default(), 0);
            ledger.bytes += store.bytes();
            store
        });
        let bytes = store.bytes();
        let result = change(store);
        ledger.bytes = ledger.bytes - bytes + store.bytes();
        result
    }

    /// Takes back a change of a map, if it is still there.
    pub(super) fn put_back(&mut self, map: MapId, change: impl FnOnce(&mut MapStore)) {
        if self.maps.contains_key(&map) {
            self.follow(map, change);
        }
    }
}

/// A chunk as it is gathered.
#[derive(Debug)]
struct Chunk {
    encoded: Encoder,
    /// Entries and clients that it may still take.
    left: usize,
}

impl Chunk {
    fn has_room(&self) -> bool {
        self.left > 0 && self.encoded.len() < CHUNK_BYTES
    }

    /// Copies entries of a map from a slot on; where to go on, if anything is left.
    fn copy_range(&mut self, map: MapId, store: &MapStore, from: Slot) -> Option<Slot> {
        let mut bytes = self.encoded.len();
        let fits = |(_, entry): &(Slot, EntryRef<'_>)| {
            let fits = self.left > 0 && bytes < CHUNK_BYTES;
            self.left -= usize::from(fits);
            bytes += entry.key.len() + entry.value.len();
            fits
        };
        let range: Vec<_> = store.slots_from(from).take_while(fits).collect();
        let behind = range.last().map_or(from, |(slot, _)| Slot(slot.0 + 1));
        let next = store.slots_from(behind).next().map(|(slot, _)| slot);
        for (slot, EntryRef { key, value, version, deadline }) in range {
            self.encoded.push(&Mutation::Put { map, slot, key, value, version, deadline });
        }
        next
    }
}
