//! [`Network`]: what becomes of a letter: it is late, lost, doubled, overtaken, or cut off.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::clock::MILLISECOND;
use crate::letter::Address;
use crate::random::Random;

/// One direction between two addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) cut: bool,
    /// Microseconds, from and to: letters overtake each other.
    pub(crate) delay: (u64, u64),
    /// Of a thousand letters.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
}

#[derive(Debug)]
pub(crate) struct Network {
    usual: Link,
    /// Those that are not as usual.
    links: BTreeMap<(Address, Address), Link>,
}

/// A machine to itself, in microseconds.
const LOOPBACK: u64 = 20;

impl Network {
    pub(crate) fn new(usual: Link) -> Self {
        Self { usual, links: BTreeMap::new() }
    }

    pub(crate) fn usual(&self) -> Link {
        self.usual
    }

    pub(crate) fn set(&mut self, from: Address, to: Address, link: Link) {
        self.links.insert((from, to), link);
    }

    pub(crate) fn mend(&mut self, from: Address, to: Address) {
        self.links.remove(&(from, to));
    }

    /// All is well from now on.
    pub(crate) fn mend_all(&mut self) {
        self.links.clear();
        self.usual = Link { cut: false, delay: (MILLISECOND / 10, MILLISECOND), lost: 0, doubled: 0 };
    }

    /// Whether two machines reach each other.
    pub(crate) fn connects(&self, one: usize, other: usize) -> bool {
        let (one, other) = (Address::Machine(one), Address::Machine(other));
        one == other || !self.link(one, other).cut && !self.link(other, one).cut
    }

    /// How long each copy of a letter takes, in microseconds; none that is lost.
    pub(crate) fn carry(&self, from: Address, to: Address, random: &mut Random) -> SmallVec<[u64; 2]> {
        let mut delays = SmallVec::new();
        if from == to {
            delays.push(LOOPBACK);
            return delays;
        }
        let link = self.link(from, to);
        if link.cut || random.per_mille(link.lost) {
            return delays;
        }
        let copies = 1 + usize::from(random.per_mille(link.doubled));
        delays.extend((0..copies).map(|_| random.between(link.delay.0, link.delay.1)));
        // Now and then one is held up for long.
        if random.one_in(200) {
            delays[0] += random.between(0, 400 * MILLISECOND);
        }
        delays
    }

    fn link(&self, from: Address, to: Address) -> Link {
        self.links.get(&(from, to)).copied().unwrap_or(self.usual)
    }
}
