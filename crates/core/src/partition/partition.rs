//! [`Partition`]: decides operations on single keys and applies them.

use std::collections::HashMap;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::completions::{Admission, Completion, Completions};
use super::operation::{
    Access, Answer, Condition, Effect, PartRefusal, Previous, Put, Refusal, Remove, TtlChange, TtlChoice,
};
use crate::ids::{GridTime, MapId, PartitionId, RequestId, Slot, Version};
use crate::limits::{CLIENT_ID_LIFE, EVICTIONS_PER_WRITE, EXPIRE_ENTRIES, HORIZON_STEP};
use crate::map::{ContentType, MapDescriptor};
use crate::store::{ChangeKind, Doomed, EntryRef, Located, MapStore, TailRead, Write, entry_cost};

mod number;

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
    position: Version,
    seed: u64,
    pub(super) maps: HashMap<MapId, MapStore, FixedState>,
    doomed: Vec<Doomed>,
    completions: Completions,
    /// Of all stores together.
    store_bytes: u64,
}

impl Partition {
    /// An empty partition, one of `siblings`. The seed must be random and unknown to clients.
    #[must_use]
    pub fn new(id: PartitionId, siblings: u16, seed: u64) -> Self {
        Self {
            id,
            siblings,
            position: Version::NONE,
            seed,
            maps: HashMap::with_hasher(FixedState::with_seed(seed)),
            doomed: Vec::new(),
            completions: Completions::new(seed),
            store_bytes: 0,
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
        self.position
    }

    /// Whether a request may run; a known one must be answered from its record instead.
    pub fn admit(&mut self, id: &RequestId) -> Admission<'_> {
        self.completions.admit(id)
    }

    /// Whether another result can be kept for the client of a request.
    ///
    /// # Errors
    /// [`PartRefusal::TooManyPending`]: the request must not run.
    pub fn reserve(&self, id: &RequestId) -> Result<(), PartRefusal> {
        if self.completions.has_room(&id.client) { Ok(()) } else { Err(PartRefusal::TooManyPending) }
    }

    /// Keeps what a request has done, in the same step as its changes.
    pub fn complete(&mut self, id: &RequestId, completion: Completion) {
        self.completions.keep(id, completion);
    }

    /// The entry of a key. Counts as a use.
    pub fn get(&mut self, at: &Access<'_>, key: &[u8]) -> Option<EntryRef<'_>> {
        // One look at the map: this is the most frequent operation there is.
        let store = self.maps.get_mut(&at.map.id)?;
        let slot = store.locate(key).slot()?;
        if store.is_expired(slot, at.now) {
            self.position = self.position.next();
            erase(store, slot, (ChangeKind::Expired, self.position), &mut self.store_bytes);
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
    pub fn touch(&mut self, at: &Access<'_>, key: &[u8], change: TtlChange) -> Answer {
        let Some(slot) = self.live_slot(at, key) else {
            return Answer::Touched { found: false, ttl: None, version: Version::NONE };
        };
        let deadline = match change {
            TtlChange::Read => None,
            TtlChange::Clear => Some(None),
            TtlChange::Set(ttl) => Some(Some(at.now.after(ttl))),
        };
        let position = &mut self.position;
        let store = self.maps.get_mut(&at.map.id).expect("a live slot is one of its map");
        store.touch(slot, at.now);
        if let Some(deadline) = deadline {
            *position = position.next();
            let before = store.bytes();
            store.set_deadline(slot, deadline, *position);
            self.store_bytes = self.store_bytes - before + store.bytes();
        }
        let entry = store.view(slot).expect("a live slot holds an entry");
        Answer::Touched { found: true, ttl: entry.ttl(at.now), version: entry.version }
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
                Ok(self.position)
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
                let located = self.store(at).locate_in(slot, key);
                self.write(at, located, key, NewValue { bytes: value, ttl }).map(drop)
            }
            Effect::Remove => {
                if let Located::At(slot) = self.store(at).locate_in(slot, key) {
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
        let (removed, before) = (store.len() as u64, store.bytes());
        self.position = self.position.next();
        self.doomed.push(store.clear(self.position));
        self.store_bytes = self.store_bytes - before + store.bytes();
        removed
    }

    /// Forgets a map that was deleted.
    pub fn drop_map(&mut self, map: MapId) {
        if let Some(mut store) = self.maps.remove(&map) {
            self.store_bytes -= store.bytes();
            self.doomed.push(store.clear(self.position));
        }
    }

    /// Takes changed options of a map.
    pub fn update_map(&mut self, map: &MapDescriptor, now: GridTime) {
        if let Some(store) = self.maps.get_mut(&map.id) {
            store.update(&map.options, map.revision, now);
        }
    }

    /// Changes of a map after a position, for a watcher.
    pub fn read_changes(&mut self, at: &Access<'_>, from: Version, limit: usize) -> TailRead {
        let position = self.position;
        self.store(at).read_tail(from, position, limit, at.now)
    }

    /// Keeps the changes of a map for watchers from now on, and returns the position that this is.
    pub fn start_watch(&mut self, at: &Access<'_>) -> Version {
        let position = self.position;
        self.store(at).keep_tail(position, at.now);
        position
    }

    /// Whether changes of a map are kept for watchers.
    #[must_use]
    pub fn is_watched(&self, map: MapId) -> bool {
        self.maps.get(&map).is_some_and(MapStore::is_watched)
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
        self.store_bytes + self.completions.bytes()
    }

    /// Entries of all maps.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.maps.values().map(|store| store.len() as u64).sum()
    }

    /// Does what is due by time: expires entries, frees memory, drops what nobody asks for any more. Bounded; whether to call
    /// again soon because more is due.
    pub fn tick(&mut self, now: GridTime) -> bool {
        self.completions.raise_horizon(now.before(CLIENT_ID_LIFE).down_to(HORIZON_STEP));
        if let Some(doomed) = self.doomed.last_mut()
            && doomed.free_some()
        {
            self.doomed.pop();
        }
        let mut left = EXPIRE_ENTRIES;
        for store in self.maps.values_mut() {
            let before = store.bytes();
            store.drop_abandoned_tail(now);
            expire_some(store, &mut self.position, now, &mut left);
            self.store_bytes = self.store_bytes - before + store.bytes();
        }
        left == 0 || !self.doomed.is_empty()
    }

    /// Expires what is due in a map, within the bound of one turn; whether nothing due is left.
    pub fn expire_due(&mut self, map: MapId, now: GridTime) -> bool {
        let mut left = EXPIRE_ENTRIES;
        if let Some(store) = self.maps.get_mut(&map) {
            let before = store.bytes();
            expire_some(store, &mut self.position, now, &mut left);
            self.store_bytes = self.store_bytes - before + store.bytes();
        }
        left > 0
    }

    /// Panics if the parts do not fit together.
    pub fn check_invariants(&self) {
        self.completions.check_invariants();
        for store in self.maps.values() {
            store.check_invariants();
            let newest = store.slots_from(Slot(0)).map(|(_, entry)| entry.version).max();
            assert!(newest <= Some(self.position) || newest.is_none(), "no version is ahead of the log");
        }
        assert_eq!(self.store_bytes, self.maps.values().map(MapStore::bytes).sum::<u64>());
    }

    fn store(&mut self, at: &Access<'_>) -> &mut MapStore {
        let seed = self.seed ^ at.map.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let new = || MapStore::new(seed, at.map.options.clone(), at.map.revision);
        self.maps.entry(at.map.id).or_insert_with(new)
    }

    fn locate(&mut self, at: &Access<'_>, key: &[u8]) -> Located {
        let store = self.store(at);
        match store.locate(key) {
            Located::At(slot) if store.is_expired(slot, at.now) => {
                self.erase(at.map.id, slot, ChangeKind::Expired);
                self.store(at).locate(key)
            }
            located @ (Located::At(_) | Located::Nowhere(_)) => located,
        }
    }

    /// The slot of a key that has a live entry. An expired one is removed, as a change of its own, before it counts as absent.
    fn live_slot(&mut self, at: &Access<'_>, key: &[u8]) -> Option<Slot> {
        let slot = self.maps.get(&at.map.id)?.locate(key).slot()?;
        (!self.expire_if_due(at, slot)).then_some(slot)
    }

    pub(super) fn expire_if_due(&mut self, at: &Access<'_>, slot: Slot) -> bool {
        let due = self.maps.get(&at.map.id).is_some_and(|store| store.is_expired(slot, at.now));
        if due {
            self.erase(at.map.id, slot, ChangeKind::Expired);
        }
        due
    }

    fn erase(&mut self, map: MapId, slot: Slot, kind: ChangeKind) {
        let Some(store) = self.maps.get_mut(&map) else { return };
        self.position = self.position.next();
        erase(store, slot, (kind, self.position), &mut self.store_bytes);
    }

    /// Makes room and writes; the key is that of an entry to be created. Evictions that are not enough stay done: they were due.
    fn write(
        &mut self,
        at: &Access<'_>,
        located: Located,
        key: &[u8],
        new: NewValue<'_>,
    ) -> Result<Version, Refusal> {
        let share = at.map.options.max_bytes.map(|bytes| bytes / u64::from(self.siblings));
        let position = &mut self.position;
        let store = self.maps.get_mut(&at.map.id).expect("who located an entry has made the store");
        let before = store.bytes();
        let growth = match located {
            Located::At(slot) => store.growth(slot, new.bytes),
            Located::Nowhere(_) => entry_cost(key, new.bytes),
        };
        if growth > at.headroom {
            return Err(Refusal::NodeFull { needed: growth, headroom: at.headroom });
        }
        if let Some(share) = share.filter(|_| growth > 0) {
            let target = share.checked_sub(growth);
            let room = target
                .ok_or(NoRoom)
                .and_then(|target| make_room(store, position, at, (located.slot(), target)));
            if let Err(NoRoom) = room {
                self.store_bytes = self.store_bytes - before + store.bytes();
                return Err(Refusal::MapFull { share });
            }
        }
        *position = position.next();
        let write = Write { value: new.bytes, version: *position, deadline: deadline(at, new.ttl) };
        match located {
            Located::At(slot) => store.replace(slot, &write, at.now),
            Located::Nowhere(vacant) => drop(store.create(vacant, key, &write, at.now)),
        }
        self.store_bytes = self.store_bytes - before + store.bytes();
        Ok(*position)
    }
}

fn erase(store: &mut MapStore, slot: Slot, (kind, position): (ChangeKind, Version), all_bytes: &mut u64) {
    let before = store.bytes();
    store.remove(slot, kind, position);
    *all_bytes = *all_bytes - before + store.bytes();
}

#[derive(Clone, Copy)]
struct NewValue<'a> {
    bytes: &'a [u8],
    ttl: TtlChoice,
}

struct NoRoom;

/// Evicts until the map holds at most `target` bytes here.
fn make_room(
    store: &mut MapStore,
    position: &mut Version,
    at: &Access<'_>,
    (keep, target): (Option<Slot>, u64),
) -> Result<(), NoRoom> {
    for _ in 0..EVICTIONS_PER_WRITE {
        if store.entry_bytes() <= target {
            return Ok(());
        }
        let victim = store.victim(at.now, at.map.options.eviction, keep).ok_or(NoRoom)?;
        *position = position.next();
        store.remove(victim, ChangeKind::Evicted, *position);
    }
    if store.entry_bytes() <= target { Ok(()) } else { Err(NoRoom) }
}

fn deadline(at: &Access<'_>, ttl: TtlChoice) -> Option<GridTime> {
    let ttl: Option<Duration> = match ttl {
        TtlChoice::OfMap => at.map.options.ttl,
        TtlChoice::Of(ttl) => Some(ttl),
        TtlChoice::ForEver => None,
    };
    ttl.map(|ttl| at.now.after(ttl))
}

fn expire_some(store: &mut MapStore, position: &mut Version, now: GridTime, left: &mut usize) {
    let mut checks = *left;
    while *left > 0 {
        let Some(slot) = store.next_expired(now, &mut checks) else { break };
        *left -= 1;
        *position = position.next();
        store.remove(slot, ChangeKind::Expired, *position);
    }
    *left = (*left).min(checks);
}
