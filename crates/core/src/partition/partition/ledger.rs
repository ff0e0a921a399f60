//! What the maps of a partition have in common: the log position of their last change, the memory that they hold, and which
//! watched ones have changed.

use crate::ids::{MapId, Slot, Version};
use crate::store::{ChangeKind, MapStore};

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) position: Version,
    /// What all stores hold, in bytes.
    pub(super) bytes: u64,
    /// Watched maps that have changed, each once.
    pub(super) changed: Vec<MapId>,
}

impl Ledger {
    pub(super) fn new(position: Version) -> Self {
        Self { position, bytes: 0, changed: Vec::new() }
    }

    /// Lets `change` work on the store of a map, and notes what became of it.
    pub(super) fn change<R>(
        &mut self,
        map: MapId,
        store: &mut MapStore,
        change: impl FnOnce(&mut MapStore, &mut Version) -> R,
    ) -> R {
        let (bytes, position) = (store.bytes(), self.position);
        let result = change(store, &mut self.position);
        self.bytes = self.bytes - bytes + store.bytes();
        if self.position != position && store.is_watched() && !self.changed.contains(&map) {
            self.changed.push(map);
        }
        result
    }

    /// Takes an entry away.
    pub(super) fn erase(&mut self, map: MapId, store: &mut MapStore, slot: Slot, kind: ChangeKind) {
        self.change(map, store, |store, position| store.remove(slot, kind, position.advance()));
    }
}
