//! One entry of a map: its key, its value and what the grid keeps about it, in 48 bytes beside the value's buffer.

use std::time::Duration;

use super::block::Block;
use crate::ids::{GridTime, Version};

/// Keys up to this many bytes live in the entry itself: a lookup then compares without another cache miss.
pub(super) const INLINE_KEY: usize = 18;
const LONG_KEY: u8 = u8::MAX;
const FOR_EVER: u64 = u64::MAX;

/// Marks on the clock of last use: 128 ms each, so that 32 bits tell times of 8 years from each other, either way.
const TICK_SHIFT: u32 = 7;

/// What an entry counts in memory over its key and value: the entry, its share of the index, the buffer's rounding.
pub const ENTRY_OVERHEAD: usize = ENTRY_PLACE + 8;
/// Of that, the entry and its share of the index.
pub(super) const ENTRY_PLACE: usize = size_of::<Option<Entry>>() + 8;
/// What a deadline counts in memory: its place in the order of deadlines, in a tree that is as empty as it may be.
pub const DEADLINE_OVERHEAD: usize = 40;

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The value; behind the key if that is a long one.
    block: Block,
    pub(super) version: Version,
    /// Grid time in ms at which the entry ends.
    deadline: u64,
    /// Last use, in ticks.
    accessed: u32,
    /// How often it was used: Redis's logarithmic counter.
    frequency: u8,
    /// The key's length, or `LONG_KEY`: then the length is in `key[..4]`, and the key in `block`.
    key_length: u8,
    key: [u8; INLINE_KEY],
}

const _: () = assert!(size_of::<Option<Entry>>() == 48);

/// An entry as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// The partition's log position of its last change.
    pub version: Version,
    /// When it ends; `None` is never.
    pub deadline: Option<GridTime>,
}

impl EntryRef<'_> {
    /// What is left to live; `None` is for ever.
    #[must_use]
    pub fn ttl(&self, now: GridTime) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.since(now))
    }
}

/// A mark on the clock of last use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Tick(u64);

impl Tick {
    pub(super) fn of(time: GridTime) -> Self {
        Self(time.0 >> TICK_SHIFT)
    }

    /// The end of what was last used in this tick: never earlier than `max_idle` after that, and at most two ticks later.
    pub(super) fn idle_deadline(self, max_idle: Duration) -> GridTime {
        GridTime((self.0 + 1) << TICK_SHIFT).after(max_idle)
    }
}

fn tick(now: GridTime) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "ticks are compared modulo 2^32")]
    let tick = (now.0 >> TICK_SHIFT) as u32;
    tick
}

impl Entry {
    pub(super) fn new(key: &[u8], value: &[u8], now: GridTime) -> Self {
        let mut inline = [0; INLINE_KEY];
        let (block, key_length) = match u8::try_from(key.len()) {
            Ok(length) if key.len() <= INLINE_KEY => {
                inline[..key.len()].copy_from_slice(key);
                (Block::new(&[], value), length)
            }
            _ => {
                let length = u32::try_from(key.len()).expect("keys are at most limits::KEY_BYTES");
                inline[..4].copy_from_slice(&length.to_ne_bytes());
                (Block::new(key, value), LONG_KEY)
            }
        };
        Self {
            block,
            version: Version::NONE,
            deadline: FOR_EVER,
            accessed: tick(now),
            frequency: frequency::NEW,
            key_length,
            key: inline,
        }
    }

    #[inline]
    fn long_key_length(&self) -> usize {
        if self.key_length == LONG_KEY {
            u32::from_ne_bytes([self.key[0], self.key[1], self.key[2], self.key[3]]) as usize
        } else {
            0
        }
    }

    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        match self.key_length {
            LONG_KEY => &self.block.bytes()[..self.long_key_length()],
            length => &self.key[..usize::from(length)],
        }
    }

    pub(super) fn prefetch_value(&self) {
        self.block.prefetch();
    }

    #[inline]
    pub(super) fn value(&self) -> &[u8] {
        &self.block.bytes()[self.long_key_length()..]
    }

    pub(super) fn set_value(&mut self, value: &[u8]) {
        let front = self.long_key_length();
        if self.block.bytes().len() == front + value.len() {
            self.block.bytes_mut()[front..].copy_from_slice(value);
        } else {
            self.block = Block::new(&self.block.bytes()[..front], value);
        }
    }

    #[inline]
    pub(super) fn deadline(&self) -> Option<GridTime> {
        (self.deadline != FOR_EVER).then_some(GridTime(self.deadline))
    }

    pub(super) fn set_deadline(&mut self, deadline: Option<GridTime>) {
        self.deadline = deadline.map_or(FOR_EVER, |deadline| deadline.0);
    }

    /// Notes a use of the entry; `chance` is a random number for the frequency's logarithm.
    pub(super) fn touch(&mut self, now: GridTime, chance: u64) {
        self.frequency = frequency::used(self.frequency(now), chance);
        if self.idle_ticks(now) > 0 {
            self.accessed = tick(now);
        }
    }

    /// Ticks since the last use. A message may have begun before the last use and come here after it: that is no idleness.
    pub(super) fn idle_ticks(&self, now: GridTime) -> u32 {
        let ticks = tick(now).wrapping_sub(self.accessed);
        if ticks <= u32::MAX / 2 { ticks } else { 0 }
    }

    /// As it comes from another copy of the partition, which does not tell when it was used.
    pub(crate) fn copied(
        key: &[u8],
        value: &[u8],
        (version, deadline): (Version, Option<GridTime>),
        now: GridTime,
    ) -> Self {
        let mut entry = Self::new(key, value, now);
        entry.version = version;
        entry.set_deadline(deadline);
        entry
    }

    /// The tick of the last use.
    pub(super) fn last_used(&self, now: GridTime) -> Tick {
        Tick(Tick::of(now).0 - u64::from(self.idle_ticks(now)))
    }

    /// How often the entry is used, less what it lost while it was not.
    pub(super) fn frequency(&self, now: GridTime) -> u8 {
        let idle_minutes = (u64::from(self.idle_ticks(now)) << TICK_SHIFT) / 60_000;
        self.frequency.saturating_sub(u8::try_from(idle_minutes).unwrap_or(u8::MAX))
    }

    pub(crate) fn cost(&self) -> u64 {
        entry_cost(self.key(), self.value(), self.deadline())
    }

    #[inline]
    pub(super) fn view(&self) -> EntryRef<'_> {
        EntryRef { key: self.key(), value: self.value(), version: self.version, deadline: self.deadline() }
    }
}

/// What an entry counts in memory, in bytes.
pub(crate) fn entry_cost(key: &[u8], value: &[u8], deadline: Option<GridTime>) -> u64 {
    let deadline = if deadline.is_some() { DEADLINE_OVERHEAD } else { 0 };
    (key.len() + value.len() + ENTRY_OVERHEAD + deadline) as u64
}

/// Redis's approximated counter of use (its `LFULogIncr`, with `lfu-log-factor` 10 and `lfu-decay-time` 1): 255 stands for
/// about a million uses, and a minute without use takes one off.
mod frequency {
    pub(super) const NEW: u8 = 5;
    const LOG_FACTOR: u64 = 10;

    pub(super) fn used(counter: u8, chance: u64) -> u8 {
        let above = u64::from(counter.saturating_sub(NEW));
        if chance.is_multiple_of(above * LOG_FACTOR + 1) { counter.saturating_add(1) } else { counter }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: GridTime = GridTime(1_700_000_000_000);

    #[test]
    fn keys_of_every_length_come_back() {
        for length in [0, 1, INLINE_KEY - 1, INLINE_KEY, INLINE_KEY + 1, 254, 255, 256, 65_536] {
            let key = vec![7; length];
            let mut entry = Entry::new(&key, b"value", NOW);
            assert_eq!((entry.key(), entry.value()), (&key[..], &b"value"[..]), "{length}");
            entry.set_value(b"other");
            assert_eq!((entry.key(), entry.value()), (&key[..], &b"other"[..]), "{length}, in place");
            entry.set_value(b"a longer one");
            assert_eq!((entry.key(), entry.value()), (&key[..], &b"a longer one"[..]), "{length}, anew");
        }
    }

    #[test]
    fn idleness_never_ends_early_and_at_most_two_ticks_late() {
        let max_idle = Duration::from_secs(10);
        for offset in 0..300 {
            let used = GridTime(NOW.0 + offset);
            let entry = Entry::new(b"k", b"v", used);
            let end = entry.last_used(GridTime(used.0 + 5_000)).idle_deadline(max_idle);
            let (due, latest) = (used.after(max_idle), used.after(max_idle + Duration::from_millis(256)));
            assert!(due <= end && end <= latest, "{due:?} {end:?}");
        }
    }

    #[test]
    fn a_time_before_the_last_use_is_no_idleness() {
        let (before, used) = (NOW, NOW.after(Duration::from_millis(500)));
        let mut entry = Entry::new(b"k", b"v", used);
        (0..1000).for_each(|_| entry.touch(used, 0));
        let frequency = entry.frequency(used);
        assert_eq!((entry.idle_ticks(before), entry.frequency(before)), (0, frequency));
        assert!(entry.last_used(before).idle_deadline(Duration::from_secs(1)) > before);
        entry.touch(before, 1);
        let later = used.after(Duration::from_secs(60));
        assert_eq!(entry.idle_ticks(later), tick(later) - tick(used), "the last use is the latest");
    }

    #[test]
    fn frequency_rises_slowly_and_decays_by_the_minute() {
        let mut entry = Entry::new(b"k", b"v", NOW);
        (0..10_000_u64).for_each(|i| entry.touch(NOW, i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7));
        let hot = entry.frequency(NOW);
        assert!(hot > 30 && hot < 80, "{hot}");
        assert_eq!(entry.frequency(NOW.after(Duration::from_secs(181))), hot - 3);
        assert_eq!(entry.frequency(NOW.after(Duration::from_secs(86_400))), 0);
    }
}
