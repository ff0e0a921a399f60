//! Which entry makes room: the best of a small random sample, as Redis does it (approximated LRU and LFU).

use super::map_store::MapStore;
use crate::ids::{GridTime, Slot};
use crate::limits::EVICTION_SAMPLES;
use crate::map::EvictionPolicy;

/// Slots that are looked at to find a sample: more when many are empty.
const PROBES: usize = EVICTION_SAMPLES * 8;

impl MapStore {
    /// The entry that should go first, never `keep`. `None` when the policy evicts nothing or nothing else is there.
    pub(crate) fn victim(
        &mut self,
        now: GridTime,
        policy: EvictionPolicy,
        keep: Option<Slot>,
    ) -> Option<Slot> {
        let rank = |entry: &super::entry::Entry| match policy {
            EvictionPolicy::None | EvictionPolicy::Lru => u32::MAX - entry.idle_ticks(now),
            EvictionPolicy::Lfu => u32::from(entry.frequency(now)),
        };
        if policy == EvictionPolicy::None {
            return None;
        }
        let mut best: Option<(u32, Slot)> = None;
        let mut sampled = 0;
        for _ in 0..PROBES {
            let Some(slot) = self.random_slot() else { break };
            if let Some(entry) = self.slot(slot).filter(|_| Some(slot) != keep) {
                sampled += 1;
                let candidate = (rank(entry), slot);
                best = Some(best.map_or(candidate, |best| best.min(candidate)));
            }
            if sampled == EVICTION_SAMPLES {
                break;
            }
        }
        // Nearly empty after many removals: whatever is there.
        best.map(|(_, slot)| slot)
            .or_else(|| self.slots_from(Slot(0)).map(|(slot, _)| slot).find(|slot| Some(*slot) != keep))
    }
}
