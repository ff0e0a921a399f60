//! Which slot holds a key: linear hashing (Litwin, VLDB 1980).
//!
//! It grows by one bucket at a time, with the insertion that makes it too full: no write waits until a table of all keys is
//! copied, which for a partition of a million entries takes longer than a heartbeat; and it shrinks by one with the removal that
//! leaves it too empty. A bucket is one cache line; what does not fit spills over into further buckets, and for one key in ten a
//! look-up follows it there.

use smallvec::SmallVec;

use super::pieces::Pieces;
use super::prefetch::prefetch;
use crate::ids::Slot;

/// Slots of a bucket.
const BUCKET: usize = 12;
/// Slots for each bucket at which the index grows: three quarters, for a bucket that has its split still to come has more than
/// one that was split.
const LOAD: usize = 9;
/// Slots for each bucket below which the index shrinks: far enough from where it grows that it does neither for long.
const SPARSE: usize = 4;
/// Buckets of a piece: 1 KiB.
const PIECE: usize = 16;

/// A cache line. Its slots are filled from the front; only the last bucket of a chain is not full.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Bucket {
    /// A byte of the hash of each slot's key; 0 where no slot is.
    tags: [u8; BUCKET],
    /// Where the chain goes on: one more than the number of a spilled bucket; 0 is nowhere.
    next: u32,
    slots: [Slot; BUCKET],
}

const _: () = assert!(size_of::<Bucket>() == 64);

/// Slots by the hashes of their keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    buckets: Pieces<Bucket, PIECE>,
    spilled: Pieces<Bucket, PIECE>,
    /// Spilled buckets that are not in use, as `next`.
    free: u32,
    /// Spilled buckets that are in use.
    spills: usize,
    len: usize,
}

/// Never 0. The bits are not those that choose the bucket.
fn tag(hash: u64) -> u8 {
    (hash >> 56).max(1) as u8
}

/// The bucket of a hash among `count`: the low bits of the hash, one less where that bucket is still to come.
fn home(hash: u64, count: usize) -> usize {
    let mask = count.next_power_of_two() - 1;
    #[allow(clippy::cast_possible_truncation, reason = "the mask takes the low bits only")]
    let home = hash as usize & mask;
    if home < count { home } else { home & (mask >> 1) }
}

impl Bucket {
    /// The places with a tag: bit by bit, from the first place on.
    fn tagged(&self, tag: u8) -> u32 {
        let places = self.tags.iter().enumerate();
        places.fold(0, |found, (place, other)| found | u32::from(*other == tag) << place)
    }

    fn len(&self) -> usize {
        self.tags.iter().position(|tag| *tag == 0).unwrap_or(BUCKET)
    }

    fn find(&self, tag: u8, mut is: impl FnMut(Slot) -> bool) -> Option<usize> {
        let mut tagged = self.tagged(tag);
        while tagged != 0 {
            let place = tagged.trailing_zeros() as usize;
            if is(self.slots[place]) {
                return Some(place);
            }
            tagged &= tagged - 1;
        }
        None
    }
}

/// A bucket's number: one of those that hashes lead to, or a spilled one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Home(usize),
    Spilled(usize),
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Asks for the bucket of a hash.
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(self.home(hash)) {
            prefetch(std::slice::from_ref(bucket));
        }
    }

    /// The slot of a hash that `is` says yes to; it is asked about few others.
    pub(super) fn find(&self, hash: u64, mut is: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let tag = tag(hash);
        let mut bucket = self.buckets.get(self.home(hash))?;
        loop {
            if let Some(place) = bucket.find(tag, &mut is) {
                return Some(bucket.slots[place]);
            }
            bucket = self.bucket(next(bucket)?);
        }
    }

    /// Adds a slot that is not there. `hash_of` is asked for the hashes of some others.
    pub(super) fn insert(&mut self, hash: u64, slot: Slot, hash_of: impl Fn(Slot) -> u64) {
        if self.len >= self.buckets.len() * LOAD {
            self.grow(hash_of);
        }
        self.add(hash, slot);
        self.len += 1;
    }

    /// Removes a slot.
    ///
    /// # Panics
    /// If it is not there.
    pub(super) fn remove(&mut self, hash: u64, slot: Slot) {
        let mut number = Number::Home(self.home(hash));
        let place = loop {
            let bucket = self.bucket(number);
            match bucket.find(tag(hash), |other| other == slot) {
                Some(place) => break place,
                None => number = next(bucket).expect("every entry is in the index"),
            }
        };
        // The chain's last slot takes the place, so that only its last bucket is not full.
        let last = self.last(number);
        let bucket = self.bucket_mut(last);
        let end = bucket.len() - 1;
        let moved = (std::mem::take(&mut bucket.tags[end]), bucket.slots[end]);
        if (number, place) != (last, end) {
            let bucket = self.bucket_mut(number);
            (bucket.tags[place], bucket.slots[place]) = moved;
        }
        if let (0, Number::Spilled(emptied)) = (end, last) {
            let before = self.before(hash, last);
            self.bucket_mut(before).next = 0;
            self.release(emptied);
        }
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        } else if self.len < (self.buckets.len() - 1) * SPARSE {
            self.shrink();
        }
    }

    /// Slots by chance, each about as likely as any other: those of a chain, from a random place on.
    pub(super) fn draw(&self, random: u64) -> SmallVec<[Slot; BUCKET]> {
        let mut slots = SmallVec::new();
        #[allow(clippy::cast_possible_truncation, reason = "below the number of buckets")]
        let home = (((random >> 32) * self.buckets.len() as u64) >> 32) as usize;
        let mut bucket = self.buckets.get(home);
        while let Some(found) = bucket {
            slots.extend_from_slice(&found.slots[..found.len()]);
            bucket = next(found).map(|number| self.bucket(number));
        }
        if !slots.is_empty() {
            let start = random % slots.len() as u64;
            slots.rotate_left(usize::try_from(start).expect("a place in a chain"));
        }
        slots
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.buckets.bytes() + self.spilled.bytes()
    }

    /// Frees a part of it; whether none is left. It is not to be used any more.
    pub(super) fn free_some(&mut self, slots: usize) -> bool {
        let buckets = slots / LOAD;
        self.buckets.free_some(buckets) && self.spilled.free_some(buckets)
    }

    /// The last bucket of a chain, from one of its buckets on.
    fn last(&self, mut number: Number) -> Number {
        while let Some(next) = next(self.bucket(number)) {
            number = next;
        }
        number
    }

    /// The bucket of a hash's chain that a spilled one follows.
    fn before(&self, hash: u64, spilled: Number) -> Number {
        let mut number = Number::Home(self.home(hash));
        loop {
            let next = next(self.bucket(number)).expect("a spilled bucket in use follows another");
            if next == spilled {
                return number;
            }
            number = next;
        }
    }

    fn home(&self, hash: u64) -> usize {
        home(hash, self.buckets.len())
    }

    fn bucket(&self, number: Number) -> &Bucket {
        let bucket = match number {
            Number::Home(index) => self.buckets.get(index),
            Number::Spilled(index) => self.spilled.get(index),
        };
        bucket.expect("only buckets that are there are in a chain")
    }

    fn bucket_mut(&mut self, number: Number) -> &mut Bucket {
        let bucket = match number {
            Number::Home(index) => self.buckets.get_mut(index),
            Number::Spilled(index) => self.spilled.get_mut(index),
        };
        bucket.expect("only buckets that are there are in a chain")
    }

    fn add(&mut self, hash: u64, slot: Slot) {
        self.append(self.home(hash), tag(hash), slot);
    }

    /// Adds a slot to a chain.
    fn append(&mut self, home: usize, tag: u8, slot: Slot) {
        let mut number = self.last(Number::Home(home));
        let mut place = self.bucket(number).len();
        if place == BUCKET {
            let spilled = self.spill();
            self.bucket_mut(number).next = u32::try_from(spilled + 1).expect("fewer buckets than slots");
            (number, place) = (Number::Spilled(spilled), 0);
        }
        let bucket = self.bucket_mut(number);
        (bucket.tags[place], bucket.slots[place]) = (tag, slot);
    }

    /// A spilled bucket that is empty.
    fn spill(&mut self) -> usize {
        self.spills += 1;
        if self.free == 0 {
            return self.spilled.push(Bucket::default());
        }
        let index = self.free as usize - 1;
        self.free = std::mem::take(&mut self.bucket_mut(Number::Spilled(index)).next);
        index
    }

    fn release(&mut self, spilled: usize) {
        self.spills -= 1;
        if self.spills == 0 {
            (self.spilled, self.free) = (Pieces::default(), 0);
            return;
        }
        let free = self.free;
        *self.bucket_mut(Number::Spilled(spilled)) = Bucket { next: free, ..Bucket::default() };
        self.free = u32::try_from(spilled + 1).expect("fewer buckets than slots");
    }

    /// Adds a bucket, and moves there what belongs to it: all from one other bucket.
    fn grow(&mut self, hash_of: impl Fn(Slot) -> u64) {
        let new = self.buckets.push(Bucket::default());
        if new == 0 {
            return;
        }
        let mut chain = Some(std::mem::take(self.bucket_mut(Number::Home(split_from(new)))));
        while let Some(bucket) = chain {
            chain = self.unchain(&bucket);
            for slot in &bucket.slots[..bucket.len()] {
                self.add(hash_of(*slot), *slot);
            }
        }
    }

    /// Takes the last bucket away: what is in it goes back to where it came from.
    fn shrink(&mut self) {
        let mut chain = self.buckets.pop();
        let home = split_from(self.buckets.len());
        while let Some(bucket) = chain {
            chain = self.unchain(&bucket);
            for (slot, tag) in bucket.slots.iter().zip(bucket.tags).take(bucket.len()) {
                self.append(home, tag, *slot);
            }
        }
    }

    /// Takes out the spilled bucket that follows one.
    fn unchain(&mut self, before: &Bucket) -> Option<Bucket> {
        let index = (before.next as usize).checked_sub(1)?;
        let bucket = std::mem::take(self.bucket_mut(Number::Spilled(index)));
        self.release(index);
        Some(bucket)
    }
}

/// The bucket whose slots a bucket took half of when it was added.
fn split_from(bucket: usize) -> usize {
    bucket - (1 << bucket.ilog2())
}

fn next(bucket: &Bucket) -> Option<Number> {
    (bucket.next as usize).checked_sub(1).map(Number::Spilled)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    impl Index {
        fn check_invariants(&self, hash_of: impl Fn(Slot) -> u64) {
            let (mut slots, mut spilled) = (0, 0);
            for home in 0..self.buckets.len() {
                let mut number = Some(Number::Home(home));
                while let Some(found) = number {
                    let bucket = self.bucket(found);
                    number = next(bucket);
                    spilled += usize::from(matches!(found, Number::Spilled(_)));
                    slots += bucket.len();
                    assert!(
                        number.is_none() || bucket.len() == BUCKET,
                        "only the last of a chain is not full"
                    );
                    assert!(bucket.len() > 0 || found == Number::Home(home), "no spilled bucket is empty");
                    assert!(bucket.tags[bucket.len()..].iter().all(|tag| *tag == 0), "filled from the front");
                    let mut kept = bucket.slots.iter().zip(bucket.tags).take(bucket.len());
                    let fits = |(hash, kept): (u64, u8)| self.home(hash) == home && tag(hash) == kept;
                    assert!(kept.all(|(slot, kept)| fits((hash_of(*slot), kept))), "kept where it is found");
                }
            }
            assert_eq!((slots, spilled), (self.len, self.spills), "nothing is lost");
            let mut free = self.free;
            while free != 0 {
                spilled += 1;
                free = self.bucket(Number::Spilled(free as usize - 1)).next;
            }
            assert_eq!(spilled, self.spilled.len(), "what is not in use is free");
            assert!(
                self.len >= self.buckets.len().saturating_sub(1) * SPARSE,
                "it is as small as it should be"
            );
        }
    }

    /// A mixer of 64 bits (splitmix64: Steele et al., 2014).
    fn mixed(slot: Slot) -> u64 {
        let mixed = (u64::from(slot.0) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    proptest! {
        /// Some hashes are equal, for keys may collide: `coarse` hashes make long chains.
        #[test]
        fn it_is_a_map_from_hashes_to_slots(
            steps in prop::collection::vec((any::<bool>(), 0_u32..400), 1..1500),
            coarse in 1_u64..2000,
        ) {
            let hash_of = |slot: Slot| mixed(Slot(u32::try_from(u64::from(slot.0) % coarse).unwrap()));
            let (mut index, mut model) = (Index::default(), HashMap::new());
            for (add, number) in steps {
                let slot = Slot(number);
                let hash = hash_of(slot);
                prop_assert_eq!(index.find(hash, |found| found == slot), model.get(&number).copied());
                match (add, model.contains_key(&number)) {
                    (true, false) => {
                        index.insert(hash, slot, hash_of);
                        model.insert(number, slot);
                    }
                    (false, true) => {
                        index.remove(hash, slot);
                        model.remove(&number);
                    }
                    (true, true) | (false, false) => {}
                }
            }
            prop_assert_eq!(index.len(), model.len());
            index.check_invariants(hash_of);
            for slot in model.values() {
                prop_assert_eq!(index.find(hash_of(*slot), |found| found == *slot), Some(*slot));
            }
            for (removed, slot) in model.values().enumerate() {
                index.remove(hash_of(*slot), *slot);
                if removed % 16 == 0 {
                    index.check_invariants(hash_of);
                }
            }
            prop_assert_eq!((index.len(), index.bytes()), (0, 0));
        }
    }

    #[test]
    fn no_insertion_moves_more_than_a_chain() {
        let (mut index, hashed) = (Index::default(), Cell::new(0));
        let mut most = 0;
        for number in 0..20_000 {
            hashed.set(0);
            index.insert(mixed(Slot(number)), Slot(number), |slot| {
                hashed.set(hashed.get() + 1);
                mixed(slot)
            });
            most = most.max(hashed.get());
        }
        index.check_invariants(mixed);
        assert!(most > LOAD && most < 4 * BUCKET, "{most} slots were moved by one insertion");
    }

    #[test]
    fn spilled_buckets_are_used_again() {
        let same = |_| 7;
        let mut index = Index::default();
        (0..100).for_each(|number| index.insert(7, Slot(number), same));
        let spilled = index.spilled.len();
        assert!(spilled >= 100 / BUCKET, "{spilled} buckets");
        (0..100).rev().for_each(|number| index.remove(7, Slot(number)));
        (100..200).for_each(|number| index.insert(7, Slot(number), same));
        assert_eq!((index.len(), index.spilled.len()), (100, spilled));
        index.check_invariants(same);
    }

    #[test]
    fn an_index_shrinks_with_what_is_in_it() {
        let mut index = Index::default();
        (0..20_000).for_each(|number| index.insert(mixed(Slot(number)), Slot(number), mixed));
        let full = index.bytes();
        (0..20_000).filter(|n| n % 10 != 0).for_each(|n| index.remove(mixed(Slot(n)), Slot(n)));
        index.check_invariants(mixed);
        assert!(index.bytes() < full * 2 / 5, "{} of {full}", index.bytes());
        (0..20_000).step_by(10).for_each(|n| index.remove(mixed(Slot(n)), Slot(n)));
        assert_eq!((index.bytes(), index.draw(1).len()), (0, 0));
    }

    #[test]
    fn every_slot_is_drawn_about_as_often() {
        let mut index = Index::default();
        (0..1000).for_each(|number| index.insert(mixed(Slot(number)), Slot(number), mixed));
        let mut drawn = vec![0; 1000];
        for draw in 0..100_000 {
            // As eviction does: no more than so many of a draw.
            for slot in index.draw(mixed(Slot(draw))).iter().take(8) {
                drawn[slot.index()] += 1;
            }
        }
        let (least, most) = (drawn.iter().min(), drawn.iter().max());
        assert!(least > Some(&300) && most < Some(&1300), "{least:?} to {most:?}");
    }

    #[test]
    fn a_hash_is_asked_about_few_other_slots() {
        let mut index = Index::default();
        (0..10_000).for_each(|number| index.insert(mixed(Slot(number)), Slot(number), mixed));
        let mut asked = 0;
        for number in 0..10_000 {
            let found = index.find(mixed(Slot(number)), |slot| {
                asked += 1;
                slot == Slot(number)
            });
            assert_eq!(found, Some(Slot(number)));
        }
        assert!((10_000..10_500).contains(&asked), "{asked}");
    }
}
