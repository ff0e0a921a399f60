//! Asks the memory for what several operations will touch, before the first of them runs.

use smallvec::SmallVec;

use super::partition::Partition;
use crate::ids::{MapId, Slot};
use crate::limits::PREFETCHED_KEYS;
use crate::store::MapStore;

/// Asks for the entries of keys and for their values, so that the operations wait for the memory together and not one
/// after the other. It changes nothing, and need not hit: with one key or with a hundred, it is of no use.
pub fn prefetch<'a>(keys: impl Iterator<Item = (&'a Partition, MapId, &'a [u8])>) {
    let stores = keys.filter_map(|(partition, map, key)| Some((partition.maps.get(&map)?, key)));
    let hashed: SmallVec<[(&MapStore, u64); PREFETCHED_KEYS]> =
        stores.map(|(store, key)| (store, store.prefetch_index(key))).collect();
    let entries = hashed.into_iter().filter_map(|(store, hash)| Some((store, store.prefetch_entry(hash)?)));
    let entries: SmallVec<[(&MapStore, Slot); PREFETCHED_KEYS]> = entries.collect();
    entries.into_iter().for_each(|(store, slot)| store.prefetch_value(slot));
}
