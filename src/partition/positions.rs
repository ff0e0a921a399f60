//! How far each partition's log has come, for those who wait for changes without asking every partition.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use wattle_core::ids::Version;

/// The positions of all partitions; kept up to date while somebody waits.
#[derive(Debug)]
pub(crate) struct Positions {
    positions: Box<[AtomicU64]>,
    waiters: AtomicUsize,
    moved: Notify,
}

/// Somebody who waits for changes.
#[derive(Debug)]
pub(crate) struct Waiter<'a>(&'a Positions);

impl Positions {
    pub(super) fn new(partitions: u16) -> Self {
        let positions = (0..partitions).map(|_| AtomicU64::new(0)).collect();
        Self { positions, waiters: AtomicUsize::new(0), moved: Notify::new() }
    }

    /// A partition has come this far.
    pub(super) fn moved(&self, index: u16, position: Version) {
        self.positions[usize::from(index)].store(position.0, Ordering::Release);
        if self.waiters.load(Ordering::Acquire) > 0 {
            self.moved.notify_waiters();
        }
    }

    pub(crate) fn waiter(&self) -> Waiter<'_> {
        self.waiters.fetch_add(1, Ordering::AcqRel);
        Waiter(self)
    }

    /// Partitions that are past the given positions.
    pub(crate) fn past(&self, positions: &[Version]) -> Vec<u16> {
        let pairs = self.positions.iter().zip(positions).enumerate();
        let moved = pairs.filter(|(_, (now, then))| now.load(Ordering::Acquire) > then.0);
        moved.map(|(index, _)| u16::try_from(index).expect("made from a u16")).collect()
    }
}

impl Waiter<'_> {
    /// Waits until some partition is past these positions, or for a while; whichever are.
    pub(crate) async fn past(&self, positions: &[Version], patience: Duration) -> Vec<u16> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let mut notified = std::pin::pin!(self.0.moved.notified());
            // From here on no move is missed.
            notified.as_mut().enable();
            let past = self.0.past(positions);
            if !past.is_empty() || tokio::time::timeout_at(deadline, notified).await.is_err() {
                return past;
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_waiter_learns_of_every_move() {
        let positions = Positions::new(3);
        let waiter = positions.waiter();
        let start = [Version(0); 3];
        assert_eq!(waiter.past(&start, Duration::from_secs(1)).await, [0_u16; 0]);
        positions.moved(2, Version(1));
        assert_eq!(waiter.past(&start, Duration::from_secs(1)).await, [2]);
        let wait = waiter.past(&[Version(0), Version(0), Version(1)], Duration::from_secs(1));
        let (past, ()) = tokio::join!(wait, async { positions.moved(0, Version(7)) });
        assert_eq!(past, [0]);
    }
}
