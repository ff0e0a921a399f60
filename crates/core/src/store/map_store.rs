//! [`MapStore`]: slots and the index over them.

use std::hash::{BuildHasher, Hasher};

use bytes::Bytes;
use foldhash::fast::FixedState;

use super::entry::{ENTRY_PLACE, Entry, EntryRef, Tick, entry_cost};
use super::expiry::Expiry;
use super::index::Index;
use super::slots::Slots;
use super::tail::{Change, ChangeKind, Tail, TailRead};
use crate::ids::{GridTime, Slot, Version};
use crate::limits::FREE_ENTRIES;
use crate::map::{EvictionPolicy, MapOptions};

/// The entries of one map in one partition.
#[derive(Debug)]
pub(crate) struct MapStore {
    slots: Slots,
    /// Slots by the hash of their keys.
    index: Index,
    expiry: Expiry,
    /// Entries from this slot on may have no check of their idleness: the map has not always had a longest idle time.
    unchecked: Option<Slot>,
    /// Idleness counts from here at the earliest: whose copy this was did not tell when entries were used.
    idle_from: Tick,
    tail: Option<Tail>,
    hash: FixedState,
    random: u64,
    /// Keys, values and overhead, in bytes.
    bytes: u64,
    options: MapOptions,
    revision: u64,
    pub(crate) evictions: u64,
    pub(crate) expirations: u64,
}

/// Where a key is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Located {
    /// Its entry is in this slot.
    At(Slot),
    /// It has no entry.
    Nowhere(Vacant),
}

/// Where an entry would go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vacant {
    hash: u64,
    /// The slot that it had, if it went in this step.
    slot: Option<Slot>,
}

impl Located {
    /// Of a key in a map without a store, which will be made with this seed.
    pub(crate) fn nowhere(seed: u64, key: &[u8]) -> Self {
        Self::Nowhere(Vacant { hash: hash_of(&FixedState::with_seed(seed), key), slot: None })
    }

    pub(crate) fn slot(self) -> Option<Slot> {
        match self {
            Self::At(slot) => Some(slot),
            Self::Nowhere(_) => None,
        }
    }
}

/// Entries that are gone for everybody and wait to be freed.
#[derive(Debug)]
pub(crate) struct Doomed {
    slots: Slots,
    index: Index,
    expiry: Expiry,
    bytes: u64,
}

impl Doomed {
    /// What they cost in memory, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Frees a slice of them; whether that was all.
    pub(crate) fn free_some(&mut self) -> bool {
        self.slots.free_some(FREE_ENTRIES)
            && self.index.free_some(FREE_ENTRIES)
            && self.expiry.free_some(FREE_ENTRIES)
    }
}

fn hash_of(state: &FixedState, key: &[u8]) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write(key);
    hasher.finish()
}

impl MapStore {
    /// An empty store. The seed keys its hashes and the samples of its evictions: hidden from clients, or they could choose
    /// colliding keys.
    pub(crate) fn new(seed: u64, options: MapOptions, revision: u64) -> Self {
        Self {
            slots: Slots::default(),
            index: Index::default(),
            expiry: Expiry::default(),
            unchecked: None,
            idle_from: Tick::default(),
            tail: None,
            hash: FixedState::with_seed(seed),
            random: seed | 1,
            bytes: 0,
            options,
            revision,
            evictions: 0,
            expirations: 0,
        }
    }

    /// Takes newer options. What a new longest idle time means for the entries is found out later, in slices.
    pub(crate) fn update(&mut self, options: &MapOptions, revision: u64) {
        if revision <= self.revision {
            return;
        }
        match (self.options.max_idle, options.max_idle) {
            (_, None) => self.unchecked = None,
            (None, Some(_)) => self.unchecked = Some(Slot(0)),
            (Some(_), Some(_)) => {}
        }
        (self.options, self.revision) = (options.clone(), revision);
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// What the entries cost in memory, what is kept beside them and for watchers, and the store itself, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let places = self.slots.bytes() + self.index.bytes();
        let unused = places.saturating_sub(self.len() * ENTRY_PLACE);
        let tail = self.tail.as_ref().map_or(0, Tail::bytes);
        self.bytes + (size_of::<Self>() + unused + self.expiry.bytes() + tail) as u64
    }

    /// What the entries cost in memory, in bytes: what a map's limit is about.
    pub(crate) fn entry_bytes(&self) -> u64 {
        self.bytes
    }

    /// One past the highest slot with an entry.
    pub(crate) fn slot_count(&self) -> Slot {
        self.slots.end()
    }

    /// Asks for the part of the index that a key is in, and returns what the next step needs. See [`super::prefetch`].
    pub(crate) fn prefetch_index(&self, key: &[u8]) -> u64 {
        let hash = hash_of(&self.hash, key);
        self.index.prefetch(hash);
        hash
    }

    /// Asks for the entry of a key, by its hash.
    pub(crate) fn prefetch_entry(&self, hash: u64) -> Option<Slot> {
        // The first with the hash's tag; that it is another's costs a needless prefetch in one of 30 cases.
        let slot = self.index.find(hash, |_| true)?;
        self.slots.prefetch(slot);
        Some(slot)
    }

    /// Asks for the value of the entry in a slot.
    pub(crate) fn prefetch_value(&self, slot: Slot) {
        if let Some(entry) = self.slot(slot) {
            entry.prefetch_value();
        }
    }

    pub(crate) fn locate(&self, key: &[u8]) -> Located {
        let hash = hash_of(&self.hash, key);
        let found = self.index.find(hash, |slot| self.slots.get(slot).is_some_and(|e| e.key() == key));
        found.map_or(Located::Nowhere(Vacant { hash, slot: None }), Located::At)
    }

    /// Where a key is that was in `slot` earlier in the same step. One that made room for others gets its slot again: in another
    /// one, the pass that it belongs to might come to it once more.
    pub(crate) fn locate_in(&self, slot: Slot, key: &[u8]) -> Located {
        let entry = self.slot(slot);
        if entry.is_some_and(|entry| entry.key() == key) {
            return Located::At(slot);
        }
        match self.locate(key) {
            Located::Nowhere(vacant) if entry.is_none() => {
                Located::Nowhere(Vacant { slot: Some(slot), ..vacant })
            }
            located @ (Located::At(_) | Located::Nowhere(_)) => located,
        }
    }

    pub(super) fn slot(&self, slot: Slot) -> Option<&Entry> {
        self.slots.get(slot)
    }

    pub(crate) fn view(&self, slot: Slot) -> Option<EntryRef<'_>> {
        self.slot(slot).map(Entry::view)
    }

    /// The entries from a slot on, by rising slots.
    pub(crate) fn slots_from(&self, from: Slot) -> impl Iterator<Item = (Slot, EntryRef<'_>)> {
        self.slots.from(from).map(|(slot, entry)| (slot, entry.view()))
    }

    /// Notes a use of the entry.
    pub(crate) fn touch(&mut self, slot: Slot, now: GridTime) {
        let chance = if self.options.eviction == EvictionPolicy::Lfu { self.next_random() } else { 1 };
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.touch(now, chance);
        }
    }

    /// Whether the entry has come to its end, by deadline or idleness.
    pub(crate) fn is_expired(&self, slot: Slot, now: GridTime) -> bool {
        self.slot(slot).is_some_and(|entry| {
            let used = entry.last_used(now).max(self.idle_from);
            let idle = self.options.max_idle.is_some_and(|max| used.idle_deadline(max) <= now);
            idle || entry.deadline().is_some_and(|deadline| deadline <= now)
        })
    }

    /// An entry that has come to its end, if there is one; looks at no more than `checks` entries that may be idle.
    pub(crate) fn next_expired(&mut self, now: GridTime, checks: &mut usize) -> Option<Slot> {
        if let Some(slot) = self.expiry.due(now) {
            return Some(slot);
        }
        // Without entries, or when they may be idle for ever, the checks are of no use any more.
        let max_idle = self.options.max_idle.filter(|_| self.len() > 0);
        while *checks > 0 {
            let slot = self.next_unchecked().or_else(|| self.expiry.take_check(now, max_idle))?;
            *checks -= 1;
            let (Some(entry), Some(max_idle)) = (self.slot(slot), max_idle) else { continue };
            let used = entry.last_used(now).max(self.idle_from);
            if used.idle_deadline(max_idle) <= now {
                return Some(slot);
            }
            self.expiry.check_idle(slot, used);
        }
        None
    }

    fn next_unchecked(&mut self) -> Option<Slot> {
        let next = self.slots.from(self.unchecked?).next().map(|(slot, _)| slot);
        self.unchecked = next.map(|slot| Slot(slot.0 + 1));
        next
    }

    /// The memory that a write into a slot would add, in bytes.
    pub(crate) fn growth(&self, slot: Slot, value: &[u8], deadline: Option<GridTime>) -> u64 {
        let grown = |entry: &Entry| entry_cost(entry.key(), value, deadline).saturating_sub(entry.cost());
        self.slot(slot).map_or(0, grown)
    }

    /// Gives the entry in a slot another value.
    pub(crate) fn replace(&mut self, slot: Slot, write: &Write<'_>, now: GridTime) {
        let entry = self.slots.get_mut(slot).expect("only slots with entries are written");
        self.bytes -= entry.cost();
        entry.set_value(write.value);
        self.settle(slot, write, now);
    }

    /// Writes the entry of a key that has none, and returns its slot.
    pub(crate) fn create(&mut self, at: Vacant, key: &[u8], write: &Write<'_>, now: GridTime) -> Slot {
        let slot = self.insert(at, Entry::new(key, write.value, now));
        self.settle(slot, write, now);
        slot
    }

    fn settle(&mut self, slot: Slot, write: &Write<'_>, now: GridTime) {
        let chance = if self.options.eviction == EvictionPolicy::Lfu { self.next_random() } else { 1 };
        let entry = self.slots.get_mut(slot).expect("written just now");
        entry.touch(now, chance);
        entry.version = write.version;
        self.expiry.reschedule(slot, entry.deadline(), write.deadline);
        entry.set_deadline(write.deadline);
        self.bytes += entry.cost();
        if self.options.max_idle.is_some() {
            self.expiry.check_idle(slot, entry.last_used(now));
        }
        push(&mut self.tail, ChangeKind::Put, entry.key(), write.value, write.version);
    }

    fn insert(&mut self, at: Vacant, entry: Entry) -> Slot {
        let slot = match at.slot {
            Some(slot) => {
                self.slots.fill(slot, entry);
                slot
            }
            None => self.slots.insert(entry),
        };
        let (slots, state) = (&self.slots, &self.hash);
        self.index.insert(at.hash, slot, |slot| {
            hash_of(state, slots.get(slot).expect("indexed slots hold entries").key())
        });
        slot
    }

    /// Sets or clears the deadline of an entry.
    pub(crate) fn set_deadline(&mut self, slot: Slot, deadline: Option<GridTime>, version: Version) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        self.bytes -= entry.cost();
        self.expiry.reschedule(slot, entry.deadline(), deadline);
        entry.set_deadline(deadline);
        self.bytes += entry.cost();
        entry.version = version;
        let (key, value) = (entry.key(), entry.value());
        push(&mut self.tail, ChangeKind::Put, key, value, version);
    }

    /// Takes an entry away.
    pub(crate) fn remove(&mut self, slot: Slot, kind: ChangeKind, version: Version) -> Entry {
        let entry = self.take(slot).expect("only slots with entries are removed");
        match kind {
            ChangeKind::Expired => self.expirations += 1,
            ChangeKind::Evicted => self.evictions += 1,
            ChangeKind::Put | ChangeKind::Removed | ChangeKind::Cleared => {}
        }
        self.record(kind, entry.key(), &[], version);
        entry
    }

    fn take(&mut self, slot: Slot) -> Option<Entry> {
        let entry = self.slots.take(slot)?;
        self.index.remove(hash_of(&self.hash, entry.key()), slot);
        self.expiry.reschedule(slot, entry.deadline(), None);
        self.bytes -= entry.cost();
        Some(entry)
    }

    /// Puts an entry, or none, in place of what is in a slot, and returns that. It was decided elsewhere or earlier: nobody is told.
    pub(crate) fn exchange(&mut self, slot: Slot, entry: Option<Entry>, now: GridTime) -> Option<Entry> {
        let before = self.take(slot);
        if let Some(entry) = entry {
            let hash = hash_of(&self.hash, entry.key());
            self.insert(Vacant { hash, slot: Some(slot) }, entry);
            let entry = self.slots.get(slot).expect("put there just now");
            self.bytes += entry.cost();
            self.expiry.reschedule(slot, None, entry.deadline());
            if self.options.max_idle.is_some() {
                self.expiry.check_idle(slot, entry.last_used(now));
            }
        }
        before
    }

    /// The entry in a slot, to be put back there.
    pub(crate) fn copy_of(&self, slot: Slot) -> Option<Entry> {
        self.slots.get(slot).cloned()
    }

    /// From now on this is the copy that decides: what is idle, and what watchers see. What it kept for them in an earlier reign lacks
    /// what others have decided since.
    pub(crate) fn activate(&mut self, now: GridTime) {
        self.idle_from = Tick::of(now);
        self.tail = None;
    }

    /// Takes all entries away at once; they are freed later.
    pub(crate) fn clear(&mut self, version: Version) -> Doomed {
        let doomed = Doomed {
            slots: std::mem::take(&mut self.slots),
            index: std::mem::take(&mut self.index),
            expiry: std::mem::take(&mut self.expiry),
            bytes: std::mem::take(&mut self.bytes),
        };
        self.record(ChangeKind::Cleared, &[], &[], version);
        doomed
    }

    /// Puts back what was cleared last; nothing has come since.
    pub(crate) fn revive(&mut self, cleared: Doomed) {
        debug_assert!(self.len() == 0, "what came since was taken back before");
        let Doomed { slots, index, expiry, bytes } = cleared;
        (self.slots, self.index, self.expiry, self.bytes) = (slots, index, expiry, bytes);
        // The options may have changed meanwhile.
        self.unchecked = self.options.max_idle.map(|_| Slot(0));
    }

    /// Forgets the changes after a position: they were taken back.
    pub(crate) fn take_back(&mut self, after: Version) {
        if let Some(tail) = &mut self.tail {
            tail.take_back(after);
        }
    }

    fn record(&mut self, kind: ChangeKind, key: &[u8], value: &[u8], version: Version) {
        push(&mut self.tail, kind, key, value, version);
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.tail.is_some()
    }

    /// Keeps changes for watchers from now on.
    pub(crate) fn keep_tail(&mut self, position: Version, now: GridTime) {
        self.tail.get_or_insert_with(|| Tail::new(position, now));
    }

    /// Changes after `from`; keeps the tail from now on if it was not kept.
    pub(crate) fn read_tail(
        &mut self,
        from: Version,
        (position, committed): (Version, Version),
        limit: usize,
        now: GridTime,
    ) -> TailRead {
        self.tail.get_or_insert_with(|| Tail::new(position, now)).read(from, committed, limit, now)
    }

    /// Drops the tail when nobody has read it for a while.
    pub(crate) fn drop_abandoned_tail(&mut self, now: GridTime) {
        self.tail = self.tail.take().filter(|tail| !tail.is_abandoned(now));
    }

    fn next_random(&mut self) -> u64 {
        // xorshift64 (Marsaglia, 2003): samples need no more.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Slots with entries, a few of them, by chance.
    pub(super) fn draw(&mut self) -> impl Iterator<Item = Slot> + use<> {
        let random = self.next_random();
        self.index.draw(random).into_iter()
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.from(Slot(0)).map(|(_, entry)| entry)
    }

    /// Panics if the parts do not fit together.
    pub(crate) fn check_invariants(&self) {
        self.slots.check_invariants();
        assert_eq!(self.entries().count(), self.index.len(), "every entry is indexed once");
        assert_eq!(
            self.bytes,
            self.entries().map(Entry::cost).sum::<u64>(),
            "bytes are those of the entries"
        );
        let deadlines = self.entries().filter(|entry| entry.deadline().is_some()).count();
        assert_eq!(deadlines, self.expiry.deadlines(), "every deadline is in the order once");
        for (slot, entry) in self.slots_from(Slot(0)) {
            assert_eq!(self.locate(entry.key).slot(), Some(slot), "every entry is found where it is");
            let checked = self.unchecked.is_some_and(|from| from <= slot) || self.expiry.is_checked(slot);
            assert!(checked || self.options.max_idle.is_none(), "every entry is looked at in time");
        }
    }
}

/// What to write into an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write<'a> {
    pub(crate) value: &'a [u8],
    pub(crate) version: Version,
    pub(crate) deadline: Option<GridTime>,
}

fn push(tail: &mut Option<Tail>, kind: ChangeKind, key: &[u8], value: &[u8], version: Version) {
    if let Some(tail) = tail {
        tail.push(Change {
            kind,
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            version,
        });
    }
}
