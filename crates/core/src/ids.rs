//! The identities and counters that the rest of the system is keyed by: one type each, so that none is taken for another.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A replication class; each has partitions of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct ReplicationClass(pub u8);

impl ReplicationClass {
    /// Whether it is the one that every grid has.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.0 == 0
    }
}

/// A partition of the grid: its class and its number within the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartitionId {
    /// The class that the partition belongs to.
    pub class: ReplicationClass,
    /// From 0 to the number of partitions of the class, exclusive.
    pub index: u16,
}

/// A node of the grid, by the number that the control group gave it. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// A node and which life of its memory this is: after a restart it is another member, which holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemberId {
    /// The node.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: u64,
}

impl MemberId {
    /// The node after it has lost its memory.
    #[must_use]
    pub fn reborn(self) -> Self {
        if cfg!(mutant = "rule-1-incarnations") {
            return self;
        }
        Self { incarnation: self.incarnation + 1, ..self }
    }
}

/// The reign of a primary. The generation is that of the control group, so that a group built anew outranks the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Epoch {
    /// Of the control group.
    pub generation: u32,
    /// Rises with every new primary.
    pub number: u64,
}

impl Epoch {
    /// The reign after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self { number: self.number + 1, ..self }
    }
}

/// A map. Never reused: a deleted map's id stays deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MapId(pub u64);

/// The partition's log position of an entry's last change. Rises with every change of the partition; 0 is "no entry".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Version(pub u64);

const VERSIONS_PER_MILLISECOND: u64 = 4_000;

impl Version {
    /// The version of what is not there.
    pub const NONE: Self = Self(0);

    /// Where the positions of a node begin that starts at this time: past all that an earlier life of it has come to, unless a
    /// partition made more than 4,000 changes in each millisecond of that life, or the wall clock was put back. Until 2041 that is
    /// below 2^53: a reader of JSON that knows only doubles does not round it.
    #[must_use]
    pub fn at_start(now: GridTime) -> Self {
        Self(now.0 * VERSIONS_PER_MILLISECOND)
    }

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Goes on to the next position, and returns it.
    pub(crate) fn advance(&mut self) -> Self {
        *self = self.next();
        *self
    }
}

/// An entry's place in its partition's share of a map, the same on every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot of an index.
    pub(crate) fn at(index: usize) -> Self {
        Self(u32::try_from(index).expect("memory ends long before 2^32 entries of a partition"))
    }

    /// Its index.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Grid time in milliseconds since 1970-01-01T00:00:00Z: wall time that never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct GridTime(pub u64);

impl GridTime {
    /// This time and `duration` more, in whole milliseconds, rounded up so that nothing ends early.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let seconds = duration.as_secs().saturating_mul(1000);
        let millis = seconds.saturating_add(u64::from(duration.subsec_nanos().div_ceil(1_000_000)));
        Self(self.0.saturating_add(millis))
    }

    /// This time less `duration`, 0 at the least.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The last whole multiple of `step` that is not after this time.
    #[must_use]
    pub fn down_to(self, step: Duration) -> Self {
        let step = u64::try_from(step.as_millis()).unwrap_or(u64::MAX).max(1);
        Self(self.0 / step * step)
    }

    /// How long it is from `earlier` to this time; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A client, as issued by a node: the grid time of issue makes old ones recognisable, the random part makes it unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientId {
    /// When a node issued it.
    pub issued: GridTime,
    /// Drawn by that node.
    pub random: u64,
}

impl ClientId {
    /// The wire form: both parts big-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.issued.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.random.to_be_bytes());
        bytes
    }

    /// Reads the wire form.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let value = u128::from_be_bytes(bytes);
        #[allow(clippy::cast_possible_truncation, reason = "the halves are taken apart")]
        Self { issued: GridTime((value >> 64) as u64), random: value as u64 }
    }
}

/// Names one mutation, so that retries of it take effect once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// Who asks.
    pub client: ClientId,
    /// Which of the client's requests.
    pub sequence: u64,
    /// The lowest sequence whose answer the client still waits for.
    pub oldest_pending: u64,
    /// An earlier attempt was not answered, and may still come: a refusal has to be kept for it. Says nothing once the request has
    /// been decided, so it is no part of what is recorded.
    #[serde(skip)]
    pub repeated: bool,
}

impl RequestId {
    /// Whether the other names the same mutation: a retry may wait for fewer answers than the first attempt.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.client, self.sequence) == (other.client, other.sequence)
    }
}

/// A module: the SHA-256 of its bytes as uploaded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ModuleHash(pub [u8; 32]);

impl ModuleHash {
    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16).and_then(|v| u8::try_from(v).ok());
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(hash))
    }
}

/// What a version of a function runs: one of a module's functions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModuleExport {
    /// The module.
    pub module: ModuleHash,
    /// Which of its functions.
    pub name: String,
}

impl fmt::Display for ModuleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // At once, not byte by byte through the formatter: every answer of an invocation names its module.
        let mut digits = [0; 64];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [byte >> 4, byte & 0xf].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
        }
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for ModuleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModuleHash({self})")
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.class.0, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_id_survives_the_wire() {
        let id = ClientId { issued: GridTime(0x0102_0304_0506_0708), random: 0x1112_1314_1516_1718 };
        assert_eq!(ClientId::from_bytes(id.to_bytes()), id);
        assert_eq!(id.to_bytes()[..3], [1, 2, 3]);
    }

    #[test]
    fn module_hash_is_64_hexadecimal_digits() {
        let text = "00ff".repeat(16);
        assert_eq!(ModuleHash::parse(&text).map(|hash| hash.to_string()), Some(text));
        assert_eq!(ModuleHash::parse("00"), None);
        assert_eq!(ModuleHash::parse(&"zz".repeat(32)), None);
        assert_eq!(ModuleHash::parse(&"é".repeat(32)), None);
    }

    #[test]
    fn versions_are_exact_as_doubles_until_2041() {
        let end_of_2040 = GridTime(2_240_524_800_000);
        assert!(Version::at_start(end_of_2040).0 < 1 << 53);
        assert!(Version::at_start(GridTime(1)).0 > Version::NONE.0);
    }

    #[test]
    fn times_never_wrap() {
        assert_eq!(GridTime(5).before(Duration::from_secs(1)), GridTime(0));
        assert_eq!(GridTime(u64::MAX).after(Duration::from_secs(1)), GridTime(u64::MAX));
        assert_eq!(GridTime(5).after(Duration::from_nanos(1)), GridTime(6));
        assert_eq!(GridTime(5).since(GridTime(9)), Duration::ZERO);
    }
}
