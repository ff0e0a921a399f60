//! What the maps of a partition have in common: the log position of their last change, and the memory that they hold.

use crate::ids::{Slot, Version};
use crate::store::{ChangeKind, MapStore};

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) position: Version,
    /// What all stores hold, in bytes.
    pub(super) bytes: u64,
}

impl Ledger {
    /// Lets `change` work on a store, and counts what the store then holds.
    pub(super) fn change<R>(
        &mut self,
        store: &mut MapStore,
        change: impl FnOnce(&mut MapStore, &mut Version) -> R,
    ) -> R {
        let before = store.bytes();
        let result = change(store, &mut self.position);
        self.bytes = self.bytes - before + store.bytes();
        result
    }

    /// Takes an entry away.
    pub(super) fn erase(&mut self, store: &mut MapStore, slot: Slot, kind: ChangeKind) {
        self.change(store, |store, position| store.remove(slot, kind, position.advance()));
    }
}
