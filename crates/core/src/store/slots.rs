//! Entries by their slots, in pieces. A piece without entries takes no memory, and new entries go into the lowest slots that
//! are free: a map that shrinks gives back what it took.

use std::collections::BTreeSet;

use super::entry::Entry;
use super::prefetch::prefetch;
use crate::ids::Slot;

/// Slots of a piece: 3 KiB.
const PIECE: usize = 64;
/// How many slots ahead a pass asks for values.
const AHEAD: usize = 8;

#[derive(Debug, Default)]
struct Piece {
    /// One bit a slot: whether it has an entry.
    used: u64,
    /// `None` if no slot has one.
    entries: Option<Box<[Option<Entry>; PIECE]>>,
}

#[derive(Debug, Default)]
pub(super) struct Slots {
    /// The last one has an entry.
    pieces: Vec<Piece>,
    /// Those of them with a free slot.
    room: BTreeSet<u32>,
    /// Those of them with an entry.
    held: usize,
}

fn place(slot: Slot) -> (usize, usize) {
    (slot.index() / PIECE, slot.index() % PIECE)
}

impl Slots {
    /// One past the highest slot with an entry.
    pub(super) fn end(&self) -> Slot {
        let unused = self.pieces.last().map_or(0, |piece| piece.used.leading_zeros() as usize);
        Slot::at(self.pieces.len() * PIECE - unused)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Entry> {
        let (piece, place) = place(slot);
        self.pieces.get(piece)?.entries.as_ref()?[place].as_ref()
    }

    /// Asks for the entry in a slot, which may lie across two cache lines.
    pub(super) fn prefetch(&self, slot: Slot) {
        let (piece, place) = place(slot);
        if let Some(entries) = self.pieces.get(piece).and_then(|piece| piece.entries.as_ref()) {
            prefetch(std::slice::from_ref(&entries[place]));
        }
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        let (piece, place) = place(slot);
        self.pieces.get_mut(piece)?.entries.as_mut()?[place].as_mut()
    }

    /// Takes the entry of a slot out.
    pub(super) fn take(&mut self, slot: Slot) -> Option<Entry> {
        let (index, place) = place(slot);
        let piece = self.pieces.get_mut(index)?;
        let entry = piece.entries.as_mut()?[place].take()?;
        if piece.used == u64::MAX {
            self.room.insert(number(index));
        }
        piece.used &= !(1 << place);
        if piece.used == 0 {
            piece.entries = None;
            self.held -= 1;
            self.trim();
        }
        Some(entry)
    }

    /// Puts an entry into the lowest free slot.
    pub(super) fn insert(&mut self, entry: Entry) -> Slot {
        let index = self.room.first().map_or(self.pieces.len(), |piece| *piece as usize);
        let place = self.pieces.get(index).map_or(0, |piece| piece.used.trailing_ones() as usize);
        let slot = Slot::at(index * PIECE + place);
        self.fill(slot, entry);
        slot
    }

    /// Puts an entry into a free slot.
    pub(super) fn fill(&mut self, slot: Slot, entry: Entry) {
        let (index, place) = place(slot);
        while self.pieces.len() <= index {
            self.room.insert(number(self.pieces.len()));
            self.pieces.push(Piece::default());
        }
        let piece = &mut self.pieces[index];
        debug_assert!(piece.used & (1 << place) == 0, "only free slots are filled");
        self.held += usize::from(piece.entries.is_none());
        piece.entries.get_or_insert_with(|| Box::new([const { None }; PIECE]))[place] = Some(entry);
        piece.used |= 1 << place;
        if piece.used == u64::MAX {
            self.room.remove(&number(index));
        }
    }

    /// The entries from a slot on, by rising slots.
    pub(super) fn from(&self, from: Slot) -> impl Iterator<Item = (Slot, &Entry)> {
        let (first, skipped) = place(from);
        let pieces = self.pieces.iter().enumerate().skip(first);
        pieces.flat_map(move |(index, piece)| {
            let mut left = if index == first { piece.used & (u64::MAX << skipped) } else { piece.used };
            std::iter::from_fn(move || {
                let place = (left != 0).then_some(left.trailing_zeros() as usize)?;
                left &= left - 1;
                let entries = piece.entries.as_ref()?;
                if let Some(Some(soon)) = entries.get(place + AHEAD) {
                    soon.prefetch_value();
                }
                let entry = entries[place].as_ref()?;
                Some((Slot::at(index * PIECE + place), entry))
            })
        })
    }

    /// Frees the entries of at most so many slots, from the end; whether none is left. Slots are not to be used after that.
    pub(super) fn free_some(&mut self, slots: usize) -> bool {
        self.pieces.truncate(self.pieces.len().saturating_sub(slots.div_ceil(PIECE)));
        self.pieces.is_empty()
    }

    /// What it takes, in bytes, beside what entries point to.
    pub(super) fn bytes(&self) -> usize {
        self.held * size_of::<[Option<Entry>; PIECE]>() + self.pieces.len() * size_of::<Piece>()
    }

    /// Forgets the pieces behind the last entry.
    fn trim(&mut self) {
        while self.pieces.last().is_some_and(|piece| piece.used == 0) {
            self.pieces.pop();
            self.room.remove(&number(self.pieces.len()));
        }
        if self.pieces.capacity() > 4 * (self.pieces.len() + PIECE) {
            self.pieces.shrink_to(2 * self.pieces.len());
        }
    }

    /// Panics if the parts do not fit together.
    pub(super) fn check_invariants(&self) {
        for (index, piece) in self.pieces.iter().enumerate() {
            let entries = piece.entries.iter().flat_map(|entries| entries.iter());
            let used = entries.rev().fold(0_u64, |used, entry| (used << 1) | u64::from(entry.is_some()));
            assert_eq!(
                (piece.used, piece.used != 0),
                (used, piece.entries.is_some()),
                "bits are those of the entries"
            );
            assert_eq!(self.room.contains(&number(index)), used != u64::MAX, "free slots are found");
        }
        let held = self.pieces.iter().filter(|piece| piece.entries.is_some()).count();
        assert_eq!(held, self.held);
        assert!(
            self.pieces.last().is_none_or(|piece| piece.used != 0),
            "nothing is kept behind the last entry"
        );
        assert!(self.room.last().is_none_or(|piece| (*piece as usize) < self.pieces.len()));
    }
}

fn number(piece: usize) -> u32 {
    u32::try_from(piece).expect("there are fewer pieces than slots")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::GridTime;

    fn entry(number: u32) -> Entry {
        Entry::new(&number.to_be_bytes(), b"", GridTime(0))
    }

    fn filled(count: u32) -> Slots {
        let mut slots = Slots::default();
        for i in 0..count {
            assert_eq!(slots.insert(entry(i)), Slot(i));
        }
        slots.check_invariants();
        slots
    }

    #[test]
    fn entries_are_found_across_pieces() {
        let mut slots = filled(200);
        assert_eq!(slots.end(), Slot(200));
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

    #[test]
    fn pieces_without_entries_take_no_memory() {
        let mut slots = filled(64 * 64);
        let full = slots.bytes();
        (0..64 * 64).filter(|slot| slot % 256 != 0).for_each(|slot| drop(slots.take(Slot(slot)).unwrap()));
        slots.check_invariants();
        assert!(slots.bytes() < full / 3, "{} of {full}", slots.bytes());
        assert_eq!(slots.end(), Slot(64 * 60 + 1));
        (0..64).step_by(4).for_each(|piece| drop(slots.take(Slot(64 * piece)).unwrap()));
        slots.check_invariants();
        assert_eq!((slots.bytes(), slots.end()), (0, Slot(0)));
    }

    #[test]
    fn the_lowest_free_slot_is_taken_first() {
        let mut slots = filled(300);
        for slot in [299, 70, 250, 71, 3] {
            slots.take(Slot(slot)).unwrap();
        }
        let taken: Vec<u32> = (0..5).map(|i| slots.insert(entry(i)).0).collect();
        assert_eq!(taken, [3, 70, 71, 250, 299]);
        slots.check_invariants();
    }

    #[test]
    fn a_slot_behind_the_last_entry_can_be_filled_again() {
        let mut slots = filled(300);
        (0..300).for_each(|slot| drop(slots.take(Slot(slot)).unwrap()));
        slots.fill(Slot(199), entry(7));
        slots.check_invariants();
        assert_eq!((slots.end(), slots.insert(entry(8))), (Slot(200), Slot(0)));
        assert_eq!(slots.get(Slot(199)).map(Entry::key), Some(&7_u32.to_be_bytes()[..]));
    }
}
