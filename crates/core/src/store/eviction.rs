//! Which entry makes room: the best of a small random sample, as Redis does it (approximated LRU and LFU).

use super::entry::Entry;
use super::map_store::MapStore;
use crate::ids::{GridTime, Slot};
use crate::limits::EVICTION_SAMPLES;
use crate::map::EvictionPolicy;

/// How often a sample is drawn until it is large enough.
const DRAWS: usize = EVICTION_SAMPLES * 8;

impl MapStore {
    /// The entry that should go first, never `keep`. `None` when the policy evicts nothing or nothing else is there.
    pub(crate) fn victim(
        &mut self,
        now: GridTime,
        policy: EvictionPolicy,
        keep: Option<Slot>,
    ) -> Option<Slot> {
        let rank = |entry: &Entry| match policy {
            EvictionPolicy::None | EvictionPolicy::Lru => u32::MAX - entry.idle_ticks(now),
            EvictionPolicy::Lfu => u32::from(entry.frequency(now)),
        };
        if policy == EvictionPolicy::None || self.len() == usize::from(keep.is_some()) {
            return None;
        }
        let mut best: Option<(u32, Slot)> = None;
        let mut sampled = 0;
        for _ in 0..DRAWS {
            for slot in self.draw().filter(|slot| Some(*slot) != keep) {
                let Some(entry) = self.slot(slot) else { continue };
                let candidate = (rank(entry), slot);
                best = Some(best.map_or(candidate, |best| best.min(candidate)));
                sampled += 1;
                if sampled == EVICTION_SAMPLES {
                    return best.map(|(_, slot)| slot);
                }
            }
        }
        best.map(|(_, slot)| slot)
    }
}
