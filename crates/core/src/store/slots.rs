//! Entries by their slots.

use super::entry::Entry;
use super::pieces::Pieces;
use super::prefetch::prefetch;
use crate::ids::Slot;

/// Slots of a piece: 3 KiB.
const PIECE: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Slots(Pieces<Option<Entry>, PIECE>);

impl Slots {
    /// Slots that were ever in use.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// One past the highest slot.
    pub(super) fn end(&self) -> Slot {
        Slot::at(self.len())
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Entry> {
        self.0.get(slot.index())?.as_ref()
    }

    /// Asks for the entry in a slot, which may lie across two cache lines.
    pub(super) fn prefetch(&self, slot: Slot) {
        if let Some(entry) = self.0.get(slot.index()) {
            prefetch(std::slice::from_ref(entry));
        }
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.0.get_mut(slot.index())?.as_mut()
    }

    pub(super) fn take(&mut self, slot: Slot) -> Option<Entry> {
        self.0.get_mut(slot.index())?.take()
    }

    /// Puts an entry into a slot that was in use before.
    pub(super) fn refill(&mut self, slot: Slot, entry: Entry) {
        *self.0.get_mut(slot.index()).expect("the slot was in use before") = Some(entry);
    }

    /// Puts an entry into a new slot.
    pub(super) fn push(&mut self, entry: Entry) -> Slot {
        Slot::at(self.0.push(Some(entry)))
    }

    /// The entries from a slot on, by rising slots.
    pub(super) fn from(&self, from: Slot) -> impl Iterator<Item = (Slot, &Entry)> {
        self.0.from(from.index()).filter_map(|(index, entry)| Some((Slot::at(index), entry.as_ref()?)))
    }

    /// Frees at most about so many slots; whether none is left.
    pub(super) fn free_some(&mut self, slots: usize) -> bool {
        self.0.free_some(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::GridTime;

    fn filled(count: u32) -> Slots {
        let mut slots = Slots::default();
        for i in 0..count {
            assert_eq!(slots.push(Entry::new(&i.to_be_bytes(), b"", GridTime(0))), Slot(i));
        }
        slots
    }

    #[test]
    fn entries_are_found_across_pieces() {
        let mut slots = filled(200);
        assert_eq!((slots.len(), slots.end()), (200, Slot(200)));
        assert_eq!(slots.get(Slot(130)).map(Entry::key), Some(&130_u32.to_be_bytes()[..]));
        assert!(slots.get(Slot(200)).is_none() && slots.get(Slot(u32::MAX)).is_none());
        assert!(slots.take(Slot(64)).is_some() && slots.take(Slot(64)).is_none());
        let from = |from| slots.from(Slot(from)).map(|(slot, _)| slot.0).collect::<Vec<_>>();
        assert_eq!(from(62)[..4], [62, 63, 65, 66]);
        assert_eq!(from(199), [199]);
        assert!(from(200).is_empty() && from(100_000).is_empty());
        assert_eq!(from(0).len(), 199);
    }

    #[test]
    fn slots_are_freed_in_pieces() {
        let mut slots = filled(200);
        assert_eq!([slots.free_some(100), slots.free_some(100)], [false, true]);
    }
}
