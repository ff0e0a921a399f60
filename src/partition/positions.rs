//! How far each watched map has come in each partition: who waits for changes of a map is woken by those, and by no others, and
//! need not ask every partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::Notify;
use wattle_core::ids::{MapId, Version};

/// The positions of all maps that somebody waits for.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    maps: DashMap<MapId, Watched>,
}

#[derive(Debug)]
struct Watched {
    waiters: usize,
    positions: Arc<MapPositions>,
}

#[derive(Debug)]
struct MapPositions {
    /// Of the last change in each partition since somebody has waited.
    positions: Box<[AtomicU64]>,
    moved: Notify,
}

/// Somebody who waits for changes of a map. What changed before it was made is not told.
#[derive(Debug)]
pub(crate) struct Waiter {
    all: Arc<Positions>,
    map: MapId,
    positions: Arc<MapPositions>,
}

impl Positions {
    /// A map has changed in a partition, which has come this far.
    pub(super) fn moved(&self, map: MapId, index: u16, position: Version) {
        let Some(positions) = self.maps.get(&map).map(|watched| Arc::clone(&watched.positions)) else {
            return;
        };
        // First the position, then the call: who is not called because it does not wait yet looks at the positions after that.
        // The lock of `Notify` stands between the two, whatever the order of the store itself.
        positions.positions[usize::from(index)].store(position.0, Ordering::Release);
        positions.moved.notify_waiters();
    }

    /// For changes of a map of so many partitions.
    pub(crate) fn waiter(self: &Arc<Self>, map: MapId, partitions: u16) -> Waiter {
        let mut watched = self.maps.entry(map).or_insert_with(|| {
            let positions = (0..partitions).map(|_| AtomicU64::new(0)).collect();
            Watched { waiters: 0, positions: Arc::new(MapPositions { positions, moved: Notify::new() }) }
        });
        watched.waiters += 1;
        Waiter { all: Arc::clone(self), map, positions: Arc::clone(&watched.positions) }
    }
}

impl Waiter {
    /// Waits until the map has changed in some partition past these positions, or for a while; whichever partitions those are.
    pub(crate) async fn past(&self, positions: &[Version], patience: Duration) -> Vec<u16> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let mut notified = std::pin::pin!(self.positions.moved.notified());
            // From here on no move is missed.
            notified.as_mut().enable();
            let past = self.positions.past(positions);
            if !past.is_empty() || tokio::time::timeout_at(deadline, notified).await.is_err() {
                return past;
            }
        }
    }
}

impl MapPositions {
    fn past(&self, positions: &[Version]) -> Vec<u16> {
        let pairs = self.positions.iter().zip(positions).enumerate();
        let moved = pairs.filter(|(_, (now, then))| now.load(Ordering::Acquire) > then.0);
        moved.map(|(index, _)| u16::try_from(index).expect("made from a u16")).collect()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Entry::Occupied(mut watched) = self.all.maps.entry(self.map) {
            watched.get_mut().waiters -= 1;
            if watched.get().waiters == 0 {
                watched.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::task::{Context, Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    const MAP: MapId = MapId(7);
    const PATIENCE: Duration = Duration::from_secs(1);
    const START: [Version; 3] = [Version(0); 3];

    #[tokio::test(start_paused = true)]
    async fn a_waiter_learns_of_every_move() {
        let positions = Arc::new(Positions::default());
        let waiter = positions.waiter(MAP, 3);
        assert_eq!(waiter.past(&START, PATIENCE).await, [0_u16; 0]);
        positions.moved(MAP, 2, Version(1));
        assert_eq!(waiter.past(&START, PATIENCE).await, [2]);
        let wait = waiter.past(&[Version(0), Version(0), Version(1)], PATIENCE);
        let (past, ()) = tokio::join!(wait, async { positions.moved(MAP, 0, Version(7)) });
        assert_eq!(past, [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_is_not_woken_by_other_maps() {
        let positions = Arc::new(Positions::default());
        let waiter = positions.waiter(MAP, 3);
        let mut wait = std::pin::pin!(waiter.past(&START, PATIENCE));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        positions.moved(MapId(8), 0, Version(1));
        assert!(!woken.0.load(Ordering::SeqCst));
        positions.moved(MAP, 0, Version(2));
        assert!(woken.0.load(Ordering::SeqCst));
        assert_eq!(wait.await, [0]);
    }

    #[test]
    fn positions_are_kept_as_long_as_somebody_waits() {
        let positions = Arc::new(Positions::default());
        let (first, second) = (positions.waiter(MAP, 3), positions.waiter(MAP, 3));
        positions.moved(MAP, 1, Version(5));
        drop(first);
        assert_eq!(second.positions.past(&START), [1]);
        drop(second);
        assert!(positions.maps.is_empty());
        positions.moved(MAP, 1, Version(6));
        assert_eq!(positions.waiter(MAP, 3).positions.past(&START), [0_u16; 0]);
    }
}
