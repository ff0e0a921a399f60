//! What the load consists of.

use bytes::Bytes;
use wattle_client::packed::{Condition, NameIndex, Operation};
use wattle_client::{Batch, Error, RawMap};

use super::Kind;

#[derive(Debug)]
pub(super) struct Operations {
    pub(super) kind: Kind,
    pub(super) map: String,
    pub(super) function: String,
    pub(super) argument: Bytes,
    pub(super) keys: Keys,
    pub(super) value: Bytes,
}

/// What keys are drawn from.
#[derive(Debug)]
pub(super) enum Keys {
    /// The numbers below this one.
    Below(u64),
    /// These numbers: there is one.
    These(Vec<u64>),
}

impl Keys {
    fn draw(&self, random: &mut Random) -> [u8; 16] {
        key(match self {
            Self::Below(bound) => random.below(*bound),
            Self::These(numbers) => numbers[random.below(numbers.len() as u64) as usize],
        })
    }
}

const MAP: NameIndex = NameIndex(0);
const FUNCTION: NameIndex = NameIndex(1);

/// Uniform, cheap, and different for each worker: Marsaglia's xorshift64*.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(worker: usize) -> Self {
        // Zero is the one state that xorshift never leaves.
        Self((worker as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let random = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        // The upper half of the product is uniform below the bound, to within the bound over 2^64.
        ((u128::from(random) * u128::from(bound)) >> 64) as u64
    }
}

/// 16 bytes, as in the benchmarks inside the process.
pub(super) fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

impl Operations {
    /// One operation as a call of its own.
    pub(super) async fn call(&self, map: &RawMap, random: &mut Random) -> Result<(), Error> {
        let key = Bytes::copy_from_slice(&self.keys.draw(random));
        match self.kind {
            Kind::Get => map.get(key).await.map(drop),
            Kind::Put => map.put(key, self.value.clone()).await.map(drop),
            Kind::Invoke => map.invoke(&self.function, key, self.argument.clone()).await.map(drop),
        }
    }

    /// Many operations as one message of a pipeline.
    pub(super) fn batch(&self, count: usize, random: &mut Random) -> Result<Batch, Error> {
        Batch::packed(&[&self.map, &self.function], count, |frame| {
            (0..count).try_for_each(|_| frame.push(&self.operation(&self.keys.draw(random))))
        })
    }

    fn operation<'a>(&'a self, key: &'a [u8]) -> Operation<'a> {
        match self.kind {
            Kind::Get => Operation::Get { map: MAP, key },
            Kind::Put => put(key, &self.value),
            Kind::Invoke => Operation::Invoke { map: MAP, function: FUNCTION, key, argument: &self.argument },
        }
    }

    /// Writes of these keys, in their order.
    pub(super) fn fill(&self, numbers: std::ops::Range<u64>) -> Result<Batch, Error> {
        let count = (numbers.end - numbers.start) as usize;
        Batch::packed(&[&self.map], count, |frame| {
            numbers.into_iter().try_for_each(|number| frame.push(&put(&key(number), &self.value)))
        })
    }
}

fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Operation<'a> {
    Operation::Put {
        map: MAP,
        key,
        value,
        ttl_ms: None,
        condition: Condition::Always,
        return_previous: false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_16_bytes_and_in_order() {
        assert_eq!(&key(0), b"key:000000000000");
        assert_eq!(&key(1_234_567), b"key:000001234567");
    }

    #[test]
    fn only_keys_that_are_named_are_drawn() {
        let (keys, mut random) = (Keys::These(vec![7, 9]), Random::new(0));
        let drawn: BTreeSet<_> = (0..100).map(|_| keys.draw(&mut random)).collect();
        assert_eq!(drawn, BTreeSet::from([key(7), key(9)]));
    }

    #[test]
    fn keys_are_drawn_uniformly() {
        let mut random = Random::new(0);
        let mut drawn = [0_u32; 10];
        for _ in 0..100_000 {
            drawn[random.below(10) as usize] += 1;
        }
        assert!(drawn.iter().all(|count| (9_500..10_500).contains(count)), "{drawn:?}");
    }
}
