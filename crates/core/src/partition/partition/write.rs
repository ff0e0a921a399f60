//! Writing an entry: where it goes, and what makes room for it.

use std::time::Duration;

use super::Partition;
use super::ledger::Changes;
use crate::ids::{GridTime, Slot, Version};
use crate::limits::EVICTIONS_PER_WRITE;
use crate::partition::{Access, Refusal, TtlChoice};
use crate::store::{ChangeKind, Located, MapStore, entry_cost};

#[derive(Clone, Copy)]
pub(super) struct NewValue<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) ttl: TtlChoice,
}

impl Partition {
    /// Where the entry of a key is, or would go; an expired one is removed first.
    pub(super) fn locate(&mut self, at: &Access<'_>, key: &[u8]) -> Located {
        let Some(store) = self.maps.get_mut(&at.map.id) else {
            return Located::nowhere(self.seed_of(at.map.id), key);
        };
        match store.locate(key) {
            Located::At(slot) if store.is_expired(slot, at.now) => {
                self.ledger.erase(at.map.id, store, slot, ChangeKind::Expired);
                store.locate(key)
            }
            located @ (Located::At(_) | Located::Nowhere(_)) => located,
        }
    }

    /// As [`Self::locate`], of a key that had an entry in a slot earlier in the same step.
    pub(super) fn locate_in(&self, at: &Access<'_>, slot: Slot, key: &[u8]) -> Located {
        match self.maps.get(&at.map.id) {
            Some(store) => store.locate_in(slot, key),
            None => Located::nowhere(self.seed_of(at.map.id), key),
        }
    }

    /// Makes room and writes; the key is that of an entry to be created. Evictions that are not enough stay done: they were due.
    pub(super) fn write(
        &mut self,
        at: &Access<'_>,
        located: Located,
        key: &[u8],
        new: NewValue<'_>,
    ) -> Result<Version, Refusal> {
        let share = at.map.options.max_bytes.map(|bytes| bytes / u64::from(self.siblings));
        let deadline = deadline(at, new.ttl);
        let created = entry_cost(key, new.bytes, deadline);
        let held = self.bytes();
        if let Located::Nowhere(_) = located {
            // Before the store is made: a write that is refused leaves nothing.
            check_room(at, held, created)?;
        }
        let (store, ledger) = self.store_and_ledger(at.map);
        let growth = match located {
            Located::At(slot) => store.growth(slot, new.bytes, deadline),
            Located::Nowhere(_) => created,
        };
        check_room(at, held, growth)?;
        ledger.change(at.map.id, store, |store, changes| {
            if let Some(share) = share.filter(|_| growth > 0) {
                let room = share.checked_sub(growth).ok_or(NoRoom);
                room.and_then(|target| make_room(store, changes, at, (located.slot(), target)))
                    .map_err(|NoRoom| Refusal::MapFull { share })?;
            }
            Ok(changes.put(store, (located, key), (new.bytes, deadline), at.now))
        })
    }
}

/// Whether the node has room for what an operation adds to the `held` bytes of a partition, and for what is kept of it.
pub(super) fn check_room(at: &Access<'_>, held: u64, growth: u64) -> Result<(), Refusal> {
    let (needed, headroom) = (growth + at.record, at.room.left(held));
    if needed <= headroom { Ok(()) } else { Err(Refusal::NodeFull { needed, headroom }) }
}

struct NoRoom;

/// Evicts until the map holds at most `target` bytes here.
fn make_room(
    store: &mut MapStore,
    changes: &mut Changes<'_>,
    at: &Access<'_>,
    (keep, target): (Option<Slot>, u64),
) -> Result<(), NoRoom> {
    for _ in 0..EVICTIONS_PER_WRITE {
        if store.entry_bytes() <= target {
            return Ok(());
        }
        let victim = store.victim(at.now, at.map.options.eviction, keep).ok_or(NoRoom)?;
        changes.remove(store, victim, ChangeKind::Evicted);
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
