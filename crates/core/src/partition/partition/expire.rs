//! What is due by time in a partition.

use super::Partition;
use super::ledger::Changes;
use crate::ids::{GridTime, MapId, Slot};
use crate::limits::{CLIENT_ID_LIFE, EXPIRE_ENTRIES, HORIZON_STEP};
use crate::partition::Access;
use crate::partition::mutation::Mutation;
use crate::store::{ChangeKind, Doomed, MapStore};

impl Partition {
    /// Does what is due by time: expires entries, frees memory, drops what nobody asks for any more. Bounded; whether to call
    /// again soon because more is due.
    pub fn tick(&mut self, now: GridTime) -> bool {
        let horizon = now.before(CLIENT_ID_LIFE).down_to(HORIZON_STEP);
        if horizon > self.completions.horizon() {
            self.completions.raise_horizon(horizon);
            self.ledger.note(&Mutation::RaiseHorizon { to: horizon }, || None);
        }
        let all_freed = self.free_some();
        let mut left = EXPIRE_ENTRIES;
        for (map, store) in &mut self.maps {
            self.ledger.change(*map, store, |store, changes| {
                store.drop_abandoned_tail(now);
                expire_some(store, changes, now, &mut left);
            });
        }
        left == 0 || !all_freed
    }

    /// Frees a slice of what is gone for everybody; whether that was all.
    pub fn free_some(&mut self) -> bool {
        let doomed = &mut self.ledger.doomed;
        doomed.pop_if(Doomed::free_some);
        doomed.is_empty()
    }

    /// Expires what is due in a map, within the bound of one turn; whether nothing due is left.
    pub fn expire_due(&mut self, map: MapId, now: GridTime) -> bool {
        let mut left = EXPIRE_ENTRIES;
        if let Some(store) = self.maps.get_mut(&map) {
            self.ledger.change(map, store, |store, changes| expire_some(store, changes, now, &mut left));
        }
        left > 0
    }

    /// The slot of a key that has a live entry. An expired one is removed, as a change of its own, before it counts as absent.
    pub(super) fn live_slot(&mut self, at: &Access<'_>, key: &[u8]) -> Option<Slot> {
        let slot = self.maps.get(&at.map.id)?.locate(key).slot()?;
        (!self.expire_if_due(at, slot)).then_some(slot)
    }

    pub(in crate::partition) fn expire_if_due(&mut self, at: &Access<'_>, slot: Slot) -> bool {
        let due = self.maps.get(&at.map.id).is_some_and(|store| store.is_expired(slot, at.now));
        if due {
            self.erase(at.map.id, slot, ChangeKind::Expired);
        }
        due
    }
}

fn expire_some(store: &mut MapStore, changes: &mut Changes<'_>, now: GridTime, left: &mut usize) {
    let mut checks = *left;
    while *left > 0 {
        let Some(slot) = store.next_expired(now, &mut checks) else { break };
        *left -= 1;
        changes.remove(store, slot, ChangeKind::Expired);
    }
    *left = (*left).min(checks);
}
