//! Slots in pieces of a fixed size: they grow without being copied, and waste less than a piece. A vector that grows by a factor
//! leaves a part of itself unused, and its allocator what it grew out of.

use super::entry::Entry;
use crate::ids::Slot;

/// Slots of a piece: 3 KiB.
const PIECE: usize = 64;

type Piece = Box<[Option<Entry>; PIECE]>;

#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Boxed: growing copies pointers, not entries.
    pieces: Vec<Piece>,
    /// Slots that were ever in use; those behind are empty.
    len: usize,
}

fn place(slot: Slot) -> (usize, usize) {
    (slot.0 as usize / PIECE, slot.0 as usize % PIECE)
}

fn slot_at(index: usize) -> Slot {
    Slot(u32::try_from(index).expect("memory ends long before 2^32 entries of a partition"))
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One past the highest slot.
    pub(super) fn end(&self) -> Slot {
        slot_at(self.len)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Entry> {
        let (piece, place) = place(slot);
        self.pieces.get(piece)?[place].as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        let (piece, place) = place(slot);
        self.pieces.get_mut(piece)?[place].as_mut()
    }

    pub(super) fn take(&mut self, slot: Slot) -> Option<Entry> {
        let (piece, place) = place(slot);
        self.pieces.get_mut(piece)?[place].take()
    }

    /// Puts an entry into a slot that was in use before.
    pub(super) fn refill(&mut self, slot: Slot, entry: Entry) {
        let (piece, place) = place(slot);
        self.pieces[piece][place] = Some(entry);
    }

    /// Puts an entry into a new slot.
    pub(super) fn push(&mut self, entry: Entry) -> Slot {
        if self.len == self.pieces.len() * PIECE {
            self.pieces.push(Box::new([const { None }; PIECE]));
        }
        let slot = self.end();
        self.len += 1;
        self.refill(slot, entry);
        slot
    }

    /// The entries from a slot on, by rising slots.
    pub(super) fn from(&self, from: Slot) -> impl Iterator<Item = (Slot, &Entry)> {
        let (first, mut skip) = place(from);
        let pieces = self.pieces.iter().enumerate().skip(first);
        pieces.flat_map(move |(piece, slots)| {
            let skipped = std::mem::take(&mut skip);
            let numbered = slots.iter().enumerate().skip(skipped);
            numbered.filter_map(move |(place, entry)| Some((slot_at(piece * PIECE + place), entry.as_ref()?)))
        })
    }

    /// Frees at most about so many slots; whether none is left.
    pub(super) fn free_some(&mut self, slots: usize) -> bool {
        self.pieces.truncate(self.pieces.len().saturating_sub(slots.div_ceil(PIECE)));
        self.pieces.is_empty()
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
