//! What the benchmarks share: a million entries of 16 + 100 bytes over 271 partitions, keys in a random order, and how a
//! figure is taken (the median of five rounds) and told (`figure: …`, which `cargo xtask bench` collects).

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wattle_core::ids::{GridTime, MapId, PartitionId, ReplicationClass, Version};
use wattle_core::limits::PARTITIONS;
use wattle_core::map::{MapDescriptor, MapOptions};
use wattle_core::name::Name;
use wattle_core::partition::{Access, Condition, Partition, Previous, Put, Room, TtlChoice};

/// The allocator of the node.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Entries in all.
pub const ENTRIES: usize = 1_000_000;
/// Bytes of a key.
pub const KEY_BYTES: usize = 16;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 100;
/// Rounds of which the median is told.
pub const ROUNDS: usize = 5;
/// The time that every operation sees.
pub const NOW: GridTime = GridTime(1_700_000_000_000);

/// A key.
pub type Key = [u8; KEY_BYTES];

/// Uniform numbers: Marsaglia's xorshift64*.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let random = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        // The high half of a product with 32 random bits is uniform enough for a bound of a million.
        usize::try_from((random * bound as u64) >> 32).expect("below a usize")
    }
}

/// The key of a number: its order among the others has nothing to do with the number's.
#[must_use]
pub fn key(number: usize) -> Key {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
    }
    key
}

/// All keys once, in a random order.
#[must_use]
pub fn shuffled_keys() -> Vec<Key> {
    let mut keys: Vec<Key> = (0..ENTRIES).map(key).collect();
    let mut random = Random::new(1);
    for place in (1..keys.len()).rev() {
        keys.swap(place, random.below(place + 1));
    }
    keys
}

/// As many keys as there are entries, each drawn from all.
#[must_use]
pub fn drawn_keys(seed: u64) -> Vec<Key> {
    let mut random = Random::new(seed);
    (0..ENTRIES).map(|_| key(random.below(ENTRIES))).collect()
}

/// A map without limits.
///
/// # Panics
/// Never: the name is a name.
#[must_use]
pub fn map() -> MapDescriptor {
    let name = Name::new("records").expect("letters");
    MapDescriptor { id: MapId(1), name, revision: 1, options: MapOptions::default() }
}

/// Access to a map at [`NOW`].
#[must_use]
pub fn access(map: &MapDescriptor) -> Access<'_> {
    Access { map, now: NOW, room: Room::UNLIMITED, record: 0 }
}

/// A plain write.
#[must_use]
pub fn put<'a>(key: &'a Key, value: &'a [u8]) -> Put<'a> {
    Put { key, value, ttl: TtlChoice::OfMap, condition: Condition::Always, previous: Previous::Ignore }
}

/// Empty partitions.
#[must_use]
pub fn partitions() -> Vec<Partition> {
    let id = |index| PartitionId { class: ReplicationClass(0), index };
    (0..PARTITIONS).map(|index| Partition::new(id(index), PARTITIONS, 0x5eed, Version::NONE)).collect()
}

/// Nanoseconds of this thread's CPU time for each of `count` things that `work` does: what else runs on the machine then
/// takes cache, and no time.
pub fn nanoseconds_each(count: usize, work: impl FnOnce()) -> f64 {
    let started = cpu_time();
    work();
    cpu_time().saturating_sub(started).as_secs_f64() * 1e9 / count as f64
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Never negative, and nanoseconds are below a second.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The figures of some rounds.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// The middle one.
    pub median: f64,
    /// The lowest.
    pub least: f64,
    /// The highest.
    pub most: f64,
}

/// Takes a figure [`ROUNDS`] times.
pub fn rounds(mut round: impl FnMut(usize) -> f64) -> Figure {
    let mut figures: [f64; ROUNDS] = std::array::from_fn(&mut round);
    figures.sort_by(f64::total_cmp);
    Figure { median: figures[ROUNDS / 2], least: figures[0], most: figures[ROUNDS - 1] }
}

/// Tells a figure, and what it should be.
pub fn tell(name: &str, figure: Figure, (unit, target): (&str, &str)) {
    let Figure { median, least, most } = figure;
    println!("figure: {name:<44} {median:>8.1} {unit:<5} [{least:.1}-{most:.1}]  target {target}");
}

/// Tells what the working set and the order of keys are.
pub fn tell_working_set() {
    println!(
        "figure: {ENTRIES} entries of {KEY_BYTES} + {VALUE_BYTES} bytes, {PARTITIONS} partitions, keys uniformly random, \
         CPU time of one thread, median of {ROUNDS} rounds [least-most]"
    );
}

/// Resident memory of this process in bytes.
///
/// # Panics
/// Where there is no `/proc`.
#[must_use]
pub fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    let kibibytes: usize = line.trim().trim_end_matches(" kB").trim().parse().expect("a number");
    kibibytes * 1024
}
