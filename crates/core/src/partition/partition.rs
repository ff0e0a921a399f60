//! [`Partition`]: decides operations on single keys and applies them.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::completions::{Admission, Completion, Completions};
use super::mutation::Mutation;
use super::operation::{
    Access, Answer, Condition, Effect, PartRefusal, Previous, Put, Refusal, Remove, Room, TtlChange,
    TtlChoice,
};
use crate::ids::{MapId, PartitionId, RequestId, Slot, Version};
use crate::map::{ContentType, MapDescriptor};
use crate::store::{ChangeKind, DEADLINE_OVERHEAD, EntryRef, Located, MapStore, TailRead};

mod expire;
mod follow;
mod ledger;
mod number;
mod undo;
mod write;

pub use follow::CopyCursor;
use ledger::Ledger;
use undo::Undo;
use write::{NewValue, check_room};

/// What a partition knows of a map's entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Entries, also expired ones that nobody has seen since.
    pub entries: u64,
    /// What they cost in memory, in bytes.
    pub bytes: u64,
    /// Entries that made room for others.
    pub evictions: u64,
    /// Entries whose time had come.
    pub expirations: u64,
}

/// One partition: entries of all maps, log position and completion records.
#[derive(Debug)]
pub struct Partition {
    id: PartitionId,
    /// How many partitions share the limits of a map.
    siblings: u16,
    seed: u64,
    pub(super) maps: HashMap<MapId, MapStore, FixedState>,
    completions: Completions,
    ledger: Ledger,
}

impl Partition {
    /// An empty partition, one of `siblings`, whose changes come after `start`. The seed must be random and unknown to clients.
    #[must_use]
    pub fn new(id: PartitionId, siblings: u16, seed: u64, start: Version) -> Self {
        Self {
            id,
            siblings,
            seed,
            maps: HashMap::with_hasher(FixedState::with_seed(seed)),
            completions: Completions::new(seed),
            ledger: Ledger::new(start),
        }
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// The log position of its last change.
    #[must_use]
    pub fn position(&self) -> Version {
        self.ledger.position
    }

    /// Where the last change is that is committed: watchers see nothing behind it.
    #[must_use]
    pub fn committed_position(&self) -> Version {
        self.ledger.committed()
    }

    /// Whether a request may run; a known one must be answered from its record instead.
    pub fn admit(&mut self, id: &RequestId) -> Admission<'_> {
        if cfg!(mutant = "rule-9-retries") {
            return Admission::Fresh;
        }
        self.completions.admit(id)
    }

    /// Makes a place for a result of `record` bytes of the client of a request.
    ///
    /// # Errors
    /// The client has too many of them, or the node is full; the request must not run.
    pub fn reserve(&mut self, id: &RequestId, room: Room, record: u64) -> Result<(), PartRefusal> {
        // What writes asks again, for itself; what only takes entries away goes on a little past the limit.
        let headroom = room.for_records().left(self.bytes());
        match self.completions.reserve(&id.client, record, headroom) {
            // Of the attempt before it that would say too much.
            Err(PartRefusal::NodeFull { needed, headroom }) if id.repeated => {
                Err(PartRefusal::NoRoomToRepeat { needed, headroom })
            }
            reserved => reserved,
        }
    }

    /// Keeps what a request has done, in the same step as its changes.
    pub fn complete(&mut self, id: &RequestId, completion: Completion) {
        let Self { ledger, completions, .. } = self;
        let noted = Mutation::Complete { request: *id, completion: Cow::Borrowed(&completion) };
        ledger.note(&noted, || {
            let before = completions.of_request(id);
            Some(Undo::Completion { client: id.client, sequence: id.sequence, before })
        });
        completions.replace(id, completion);
    }

    /// The entry of a key. Counts as a use.
    pub fn get(&mut self, at: &Access<'_>, key: &[u8]) -> Option<EntryRef<'_>> {
        // One look at the map: this is the most frequent operation there is.
        let store = self.maps.get_mut(&at.map.id)?;
        let slot = store.locate(key).slot()?;
        if store.is_expired(slot, at.now) {
            self.ledger.erase(at.map.id, store, slot, ChangeKind::Expired);
            return None;
        }
        store.touch(slot, at.now);
        store.view(slot)
    }

    /// The entry of a key, without counting as a use.
    pub fn peek(&mut self, at: &Access<'_>, key: &[u8]) -> Option<EntryRef<'_>> {
        let slot = self.live_slot(at, key)?;
        self.maps.get(&at.map.id)?.view(slot)
    }

    /// Writes a value.
    ///
    /// # Errors
    /// A condition that does not hold, or no room.
    pub fn put(&mut self, at: &Access<'_>, put: &Put<'_>) -> Result<Answer, Refusal> {
        let located = self.locate(at, put.key);
        let plain = put.condition == Condition::Always && put.previous == Previous::Ignore;
        let slot = located.slot().filter(|_| !plain);
        let (found, previous) = match slot.and_then(|slot| self.maps.get(&at.map.id)?.view(slot)) {
            Some(entry) => (entry.version, (put.previous == Previous::Return).then(|| entry.value.into())),
            None => (Version::NONE, None),
        };
        match put.condition {
            Condition::IfAbsent if found != Version::NONE => {
                return Err(Refusal::AlreadyExists { version: found });
            }
            Condition::IfVersion(expected) if found != expected => {
                return Err(Refusal::VersionMismatch { expected, found });
            }
            Condition::Always | Condition::IfAbsent | Condition::IfVersion(_) => {}
        }
        let at = &at.keeping(previous.as_deref().map_or(0, <[u8]>::len));
        let version = self.write(at, located, put.key, NewValue { bytes: put.value, ttl: put.ttl })?;
        Ok(Answer::Put { version, previous })
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// The entry has another version.
    pub fn remove(&mut self, at: &Access<'_>, remove: &Remove<'_>) -> Result<Answer, Refusal> {
        let slot = self.live_slot(at, remove.key);
        let entry = slot.and_then(|slot| self.maps.get(&at.map.id)?.view(slot));
        let found = entry.map_or(Version::NONE, |entry| entry.version);
        if let Some(expected) = remove.if_version.filter(|expected| *expected != found) {
            return Err(Refusal::VersionMismatch { expected, found });
        }
        let Some(slot) = slot else { return Ok(Answer::Removed { removed: false, previous: None }) };
        let previous = entry.filter(|_| remove.previous == Previous::Return).map(|entry| entry.value.into());
        self.erase(at.map.id, slot, ChangeKind::Removed);
        Ok(Answer::Removed { removed: true, previous })
    }

    /// Adds to an integer; a key without an entry counts as 0. The time to live stays as it is.
    ///
    /// # Errors
    /// The value is no integer, the sum is none, or no room.
    pub fn increment(&mut self, at: &Access<'_>, key: &[u8], delta: i64) -> Result<Answer, Refusal> {
        let located = self.locate(at, key);
        let entry = located.slot().and_then(|slot| self.maps.get(&at.map.id)?.view(slot));
        let binary = at.map.options.content_type == ContentType::MessagePack;
        let (old, ttl) = match entry {
            None => (0, TtlChoice::OfMap),
            Some(entry) => (
                number::read(entry.value, binary).ok_or(Refusal::NotAnInteger)?,
                entry.ttl(at.now).map_or(TtlChoice::ForEver, TtlChoice::Of),
            ),
        };
        let value = old.checked_add(delta).ok_or(Refusal::Overflow { value: old, delta })?;
        let encoded = number::encode(value, binary);
        let version = self.write(at, located, key, NewValue { bytes: &encoded, ttl })?;
        Ok(Answer::Incremented { value, version })
    }

    /// Reads, sets or clears the time to live of an entry. Counts as a use.
    ///
    /// # Errors
    /// No room.
    pub fn touch(&mut self, at: &Access<'_>, key: &[u8], change: TtlChange) -> Result<Answer, Refusal> {
        let Some(slot) = self.live_slot(at, key) else {
            return Ok(Answer::Touched { found: false, ttl: None, version: Version::NONE });
        };
        let deadline = match change {
            TtlChange::Read => None,
            TtlChange::Clear => Some(None),
            TtlChange::Set(ttl) => Some(Some(at.now.after(ttl))),
        };
        if let Some(deadline) = deadline {
            let had = self.maps.get(&at.map.id).and_then(|store| store.view(slot)?.deadline);
            let grows = had.is_none() && deadline.is_some();
            check_room(at, self.bytes(), if grows { DEADLINE_OVERHEAD as u64 } else { 0 })?;
        }
        let store = self.maps.get_mut(&at.map.id).expect("a live slot is one of its map");
        store.touch(slot, at.now);
        if let Some(deadline) = deadline {
            self.ledger
                .change(at.map.id, store, |store, changes| changes.set_deadline(store, slot, deadline));
        }
        let entry = store.view(slot).expect("a live slot holds an entry");
        Ok(Answer::Touched { found: true, ttl: entry.ttl(at.now), version: entry.version })
    }

    /// Applies what an entry processor asked for and returns the entry's version after it.
    ///
    /// # Errors
    /// No room.
    pub fn apply(&mut self, at: &Access<'_>, key: &[u8], effect: Effect<'_>) -> Result<Version, Refusal> {
        match effect {
            Effect::Keep => Ok(self.peek(at, key).map_or(Version::NONE, |entry| entry.version)),
            Effect::Put { value, ttl } => {
                let located = self.locate(at, key);
                self.write(at, located, key, NewValue { bytes: value, ttl })
            }
            Effect::Remove => {
                if let Some(slot) = self.live_slot(at, key) {
                    self.erase(at.map.id, slot, ChangeKind::Removed);
                }
                Ok(self.position())
            }
        }
    }

    /// Applies what an entry processor asked for to an entry that was found in a slot in the same step. If others have made room
    /// of it meanwhile, its key is written as any other.
    ///
    /// # Errors
    /// No room.
    pub fn apply_at(
        &mut self,
        at: &Access<'_>,
        (slot, key): (Slot, &[u8]),
        effect: Effect<'_>,
    ) -> Result<(), Refusal> {
        match effect {
            Effect::Keep => Ok(()),
            Effect::Put { value, ttl } => {
                let located = self.locate_in(at, slot, key);
                self.write(at, located, key, NewValue { bytes: value, ttl }).map(drop)
            }
            Effect::Remove => {
                if let Located::At(slot) = self.locate_in(at, slot, key) {
                    self.erase(at.map.id, slot, ChangeKind::Removed);
                }
                Ok(())
            }
        }
    }

    /// Removes all entries of a map and returns how many there were.
    pub fn clear(&mut self, map: MapId) -> u64 {
        let Some(store) = self.maps.get_mut(&map).filter(|store| store.len() > 0 || store.is_watched())
        else {
            return 0;
        };
        let removed = store.len() as u64;
        self.ledger.change(map, store, |store, changes| changes.clear(store));
        removed
    }

    /// Forgets a map that was deleted.
    pub fn drop_map(&mut self, map: MapId) {
        if let Some(mut store) = self.maps.remove(&map) {
            self.ledger.bytes -= store.bytes();
            let cleared = store.clear(self.ledger.position);
            self.ledger.doomed.push(cleared);
        }
    }

    /// Takes changed options of a map, also where it has no entries: a write that began before the change may still come, and must
    /// find the newer ones.
    pub fn update_map(&mut self, map: &MapDescriptor) {
        self.store(map).update(&map.options, map.revision);
    }

    /// Committed changes of a map after a position, for a watcher.
    pub fn read_changes(&mut self, at: &Access<'_>, from: Version, limit: usize) -> TailRead {
        let positions = (self.position(), self.ledger.committed());
        self.store(at.map).read_tail(from, positions, limit, at.now)
    }

    /// Keeps the changes of a map for watchers from now on, and returns the position that this is.
    pub fn start_watch(&mut self, at: &Access<'_>) -> Version {
        let position = self.position();
        self.store(at.map).keep_tail(position, at.now);
        position
    }

    /// Watched maps that have changed since this was asked last.
    pub fn changed_maps(&mut self) -> impl Iterator<Item = MapId> {
        self.ledger.changed.drain(..)
    }

    /// What is known of a map here.
    #[must_use]
    pub fn statistics(&self, map: MapId) -> Statistics {
        self.maps.get(&map).map_or_else(Statistics::default, |store| Statistics {
            entries: store.len() as u64,
            bytes: store.entry_bytes(),
            evictions: store.evictions,
            expirations: store.expirations,
        })
    }

    /// Memory held by entries, changes kept for watchers and completion records, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.ledger.bytes + self.ledger.undo.bytes() + self.completions.bytes()
    }

    /// Entries of all maps.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.maps.values().map(|store| store.len() as u64).sum()
    }

    /// The entries of a map in the order of their slots, also those whose time has come and that nobody has seen since.
    pub fn entries_of(&self, map: MapId) -> impl Iterator<Item = (Slot, EntryRef<'_>)> {
        self.maps.get(&map).into_iter().flat_map(|store| store.slots_from(Slot(0)))
    }

    /// Panics if the parts do not fit together.
    pub fn check_invariants(&self) {
        self.completions.check_invariants();
        self.ledger.undo.check_invariants(self.position());
        for store in self.maps.values() {
            store.check_invariants();
            let newest = store.slots_from(Slot(0)).map(|(_, entry)| entry.version).max();
            assert!(newest <= Some(self.position()) || newest.is_none(), "no version is ahead of the log");
        }
        assert_eq!(self.ledger.bytes, self.maps.values().map(MapStore::bytes).sum::<u64>());
    }

    /// What keys the hashes of a map.
    fn seed_of(&self, map: MapId) -> u64 {
        self.seed ^ map.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn store(&mut self, map: &MapDescriptor) -> &mut MapStore {
        self.store_and_ledger(map).0
    }

    /// The store of a map, which is made if need be, and what its changes are noted in.
    fn store_and_ledger(&mut self, map: &MapDescriptor) -> (&mut MapStore, &mut Ledger) {
        let seed = self.seed_of(map.id);
        let store = self.maps.entry(map.id).or_insert_with(|| {
            let store = MapStore::new(seed, map.options.clone(), map.revision);
            self.ledger.bytes += store.bytes();
            store
        });
        (store, &mut self.ledger)
    }

    fn erase(&mut self, map: MapId, slot: Slot, kind: ChangeKind) {
        if let Some(store) = self.maps.get_mut(&map) {
            self.ledger.erase(map, store, slot, kind);
        }
    }
}
