//! What requests take of this node's memory from their arrival until their answers have left. Partitions bound what waits for
//! them; this bounds what all of them, and all connections, hold together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wattle_core::limits::{IN_FLIGHT_BYTES_MIN, IN_FLIGHT_SHARE, SHORT_BYTES};

use crate::failure::Failure;

/// Bytes in flight, and the limit past which requests are refused.
#[derive(Debug)]
pub(crate) struct InFlight {
    held: AtomicUsize,
    limit: usize,
}

impl InFlight {
    /// For a node whose entries may take so much memory.
    pub(crate) fn new(memory_bytes: u64) -> Self {
        let share = usize::try_from(memory_bytes / IN_FLIGHT_SHARE).unwrap_or(usize::MAX);
        Self { held: AtomicUsize::new(0), limit: share.max(IN_FLIGHT_BYTES_MIN) }
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes so many bytes, if there is room.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<Held, Failure> {
        self.check(bytes)?;
        Ok(self.count(bytes))
    }

    /// Counts what is there already.
    pub(crate) fn count(self: &Arc<Self>, bytes: usize) -> Held {
        if bytes > 0 {
            self.held.fetch_add(bytes, Ordering::Relaxed);
        }
        Held { in_flight: Arc::clone(self), bytes: AtomicUsize::new(bytes) }
    }

    /// What is large may fill only half of the room, so that short calls go on. Threads that ask at the same time get the same
    /// answer: the limit is passed by a request of each at the most.
    fn check(&self, bytes: usize) -> Result<(), Failure> {
        let limit = if bytes > SHORT_BYTES { self.limit / 2 } else { self.limit };
        let held = self.held();
        if held.saturating_add(bytes) <= limit { Ok(()) } else { Err(Failure::Overloaded { held, limit }) }
    }
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    in_flight: Arc<InFlight>,
    bytes: AtomicUsize,
}

impl Held {
    /// Counts what is there already, and is given back by itself.
    pub(crate) fn beside(&self, bytes: usize) -> Self {
        self.in_flight.count(bytes)
    }

    /// Counts what has come to it.
    pub(crate) fn add(&self, bytes: usize) {
        self.in_flight.held.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// As [`Self::add`], if there is room.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Failure> {
        self.in_flight.check(bytes)?;
        self.add(bytes);
        Ok(())
    }

    /// Gives back what is more than this.
    pub(crate) fn keep(&mut self, bytes: usize) {
        let held = self.bytes.get_mut();
        if *held > bytes {
            self.in_flight.held.fetch_sub(*held - bytes, Ordering::Relaxed);
            *held = bytes;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.keep(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(taken: Result<Held, Failure>) -> usize {
        match taken {
            Err(Failure::Overloaded { limit, .. }) => limit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn large_requests_fill_half_and_short_ones_the_rest() {
        let in_flight = Arc::new(InFlight::new(0));
        let half = IN_FLIGHT_BYTES_MIN / 2;
        let large = in_flight.take(half).unwrap();
        assert_eq!(refused(in_flight.take(SHORT_BYTES + 1)), half);
        let mut short = Vec::new();
        while let Ok(held) = in_flight.take(SHORT_BYTES) {
            short.push(held);
        }
        assert_eq!(short.len(), half / SHORT_BYTES);
        assert_eq!(refused(in_flight.take(1)), 2 * half);
        drop(large);
        assert_eq!(in_flight.held(), half);
        drop(short);
        assert_eq!(in_flight.held(), 0);
    }

    #[test]
    fn answers_are_counted_with_their_requests() {
        let in_flight = Arc::new(InFlight::new(IN_FLIGHT_SHARE * 3 * IN_FLIGHT_BYTES_MIN as u64));
        let limit = 3 * IN_FLIGHT_BYTES_MIN;
        let mut held = in_flight.take(1).unwrap();
        held.add(limit - 1);
        assert!(held.take(0).is_ok());
        assert_eq!(refused(in_flight.take(1)), limit);
        held.keep(limit - 1);
        assert!(held.take(1).is_ok());
        held.add(1);
        assert!(held.take(0).is_err());
        drop(held);
        assert_eq!(in_flight.held(), 0);
    }
}
