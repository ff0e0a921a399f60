//! The maps that this node knows, by name: what every call on a map looks up first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use wattle_core::ids::{MapId, ReplicationClass};
use wattle_core::map::MapDescriptor;
use wattle_core::name::Name;
use wattle_core::partition::Operation;

use crate::partition::Action;

/// A map as calls hold it while they run.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) descriptor: MapDescriptor,
    /// Shared by all revisions of the map.
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    deleted: AtomicBool,
    counters: Counters,
}

/// Calls on a map since the node started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) gets: AtomicU64,
    pub(crate) puts: AtomicU64,
    pub(crate) removals: AtomicU64,
    pub(crate) others: AtomicU64,
    pub(crate) invocations: AtomicU64,
}

impl Map {
    /// In whose partitions its entries are.
    pub(crate) fn class(&self) -> ReplicationClass {
        self.descriptor.options.class
    }

    /// Whether it was deleted since the call looked it up. Checked on the strand, where the deletion arrives after the mark is
    /// set: an operation that does not see the mark runs before the entries are dropped.
    pub(crate) fn is_deleted(&self) -> bool {
        self.shared.deleted.load(Ordering::Acquire)
    }

    /// Counts the operations of a message.
    pub(crate) fn count(&self, tally: &Tally) {
        let counters = &self.shared.counters;
        for (counter, count) in [
            (&counters.gets, tally.gets),
            (&counters.puts, tally.puts),
            (&counters.removals, tally.removals),
            (&counters.others, tally.others),
            (&counters.invocations, tally.invocations),
        ] {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

/// The operations of one message on a map.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    gets: u64,
    puts: u64,
    removals: u64,
    others: u64,
    invocations: u64,
}

impl Tally {
    pub(crate) fn note(&mut self, action: &Action<'_>) {
        let count = match action {
            Action::Keyed(Operation::Get { .. }) => &mut self.gets,
            Action::Keyed(Operation::Put(_)) => &mut self.puts,
            Action::Keyed(Operation::Remove(_)) => &mut self.removals,
            Action::Keyed(Operation::Increment { .. } | Operation::Touch { .. }) => &mut self.others,
            Action::Invoke { .. } => &mut self.invocations,
        };
        *count += 1;
    }
}

/// All maps by name.
#[derive(Debug, Default)]
pub(crate) struct Maps {
    by_name: DashMap<Name, Arc<Map>>,
}

impl Maps {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Map>> {
        self.by_name.get(name).map(|map| Arc::clone(&map))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Map>> {
        let mut maps: Vec<_> = self.by_name.iter().map(|map| Arc::clone(&map)).collect();
        maps.sort_by(|a, b| a.descriptor.name.cmp(&b.descriptor.name));
        maps
    }

    /// Takes a new map, or a new revision of one.
    pub(crate) fn publish(&self, descriptor: &MapDescriptor) -> Arc<Map> {
        let known = self.get(descriptor.name.as_str()).filter(|known| known.descriptor.id == descriptor.id);
        let shared = known.map_or_else(Arc::default, |known| Arc::clone(&known.shared));
        let map = Arc::new(Map { descriptor: descriptor.clone(), shared });
        self.by_name.insert(descriptor.name.clone(), Arc::clone(&map));
        map
    }

    /// Marks a map as deleted and forgets its name.
    pub(crate) fn delete(&self, id: MapId) {
        self.by_name.retain(|_, map| {
            let deleted = map.descriptor.id == id;
            if deleted {
                map.shared.deleted.store(true, Ordering::Release);
            }
            !deleted
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattle_core::map::MapOptions;

    fn descriptor(id: u64, revision: u64) -> MapDescriptor {
        MapDescriptor {
            id: MapId(id),
            name: Name::new("m").unwrap(),
            revision,
            options: MapOptions::default(),
        }
    }

    #[test]
    fn a_deletion_is_seen_by_all_revisions_and_not_by_the_next_map() {
        let maps = Maps::default();
        let first = maps.publish(&descriptor(1, 1));
        let second = maps.publish(&descriptor(1, 2));
        first.counters().gets.fetch_add(1, Ordering::Relaxed);
        assert_eq!(second.counters().gets.load(Ordering::Relaxed), 1);
        maps.delete(MapId(1));
        assert!(first.is_deleted() && second.is_deleted() && maps.get("m").is_none());
        let next = maps.publish(&descriptor(2, 1));
        maps.delete(MapId(1));
        assert!(!next.is_deleted() && maps.get("m").is_some());
    }
}
