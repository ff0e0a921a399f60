//! [`Queue`]: what waits to be sent, bounded in bytes and in number. Many put in and never wait; one takes out.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;
use wattle_core::limits::{PEER_QUEUE_BYTES, PEER_QUEUE_MESSAGES};

/// What waits in a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queued {
    /// Messages.
    pub messages: usize,
    /// What they take in memory, in bytes.
    pub bytes: usize,
}

impl Queued {
    /// Whether something of that many bytes may be added. Whatever it takes, it may be alone.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.messages == 0
            || (self.messages < PEER_QUEUE_MESSAGES && self.bytes.saturating_add(bytes) <= PEER_QUEUE_BYTES)
    }
}

/// Why something is not put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotQueued {
    Full(Queued),
    /// Nobody will take it out.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// Held for a push or a take, and never across an await.
    state: Mutex<State<T>>,
    filled: Notify,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    open: bool,
}

impl<T> Queue<T> {
    /// An open queue: what is put in before the link's first attempt waits for it.
    pub(crate) fn new() -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, open: true };
        Self { state: Mutex::new(state), filled: Notify::new() }
    }

    /// Puts something in, whose weight is given in bytes.
    pub(crate) fn push(&self, item: T, weight: usize) -> Result<(), NotQueued> {
        let mut state = self.state.lock();
        if !state.open {
            return Err(NotQueued::Closed);
        }
        let queued = state.queued();
        if !queued.has_room(weight) {
            return Err(NotQueued::Full(queued));
        }
        state.items.push_back((item, weight));
        state.bytes += weight;
        drop(state);
        // Who takes out looks again before it waits: it is told of the first alone.
        if queued.messages == 0 {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for something, and takes what weighs up to `bytes`, or one thing that weighs more. Whatever else runs on this thread first
    /// may put in more: it is taken together.
    pub(crate) async fn take(&self, bytes: usize) -> Vec<T> {
        loop {
            let taken = self.state.lock().take(bytes);
            if !taken.is_empty() {
                return taken;
            }
            self.filled.notified().await;
            tokio::task::yield_now().await;
        }
    }

    /// Takes things in from now on.
    pub(crate) fn open(&self) {
        self.state.lock().open = true;
    }

    /// Throws away what waits and takes nothing in any more; says how many things it threw away.
    pub(crate) fn close(&self) -> usize {
        let mut state = self.state.lock();
        state.open = false;
        state.bytes = 0;
        // The memory too: a link that is down is to take none.
        let items = std::mem::take(&mut state.items);
        drop(state);
        items.len()
    }

    pub(crate) fn queued(&self) -> Queued {
        self.state.lock().queued()
    }
}

impl<T> State<T> {
    fn queued(&self) -> Queued {
        Queued { messages: self.items.len(), bytes: self.bytes }
    }

    fn take(&mut self, bytes: usize) -> Vec<T> {
        let mut taken = Vec::new();
        let mut room = bytes;
        while let Some((item, weight)) =
            self.items.pop_front_if(|(_, weight)| *weight <= room || taken.is_empty())
        {
            room = room.saturating_sub(weight);
            self.bytes -= weight;
            taken.push(item);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_fill(queue: &Queue<usize>, weight: usize, expected: usize) {
        let pushed = (0..=expected).take_while(|item| queue.push(*item, weight).is_ok()).count();
        assert_eq!(pushed, expected);
        let full = Queued { messages: expected, bytes: expected * weight };
        assert_eq!(queue.push(0, weight), Err(NotQueued::Full(full)));
        assert_eq!(queue.queued(), full);
    }

    #[test]
    fn a_queue_is_full_at_its_bytes_and_at_its_number() {
        let queue = Queue::new();
        check_fill(&queue, PEER_QUEUE_BYTES / 4, 4);
        assert_eq!(queue.close(), 4);
        queue.open();
        check_fill(&queue, 1, PEER_QUEUE_MESSAGES);
    }

    #[test]
    fn what_is_larger_than_a_queue_may_be_alone_in_it() {
        let queue = Queue::new();
        check_fill(&queue, PEER_QUEUE_BYTES + 1, 1);
    }

    #[test]
    fn a_closed_queue_takes_nothing() {
        let queue = Queue::new();
        queue.push(1, 1).unwrap();
        assert_eq!(queue.close(), 1);
        assert_eq!((queue.push(2, 1), queue.queued()), (Err(NotQueued::Closed), Queued::default()));
        queue.open();
        assert_eq!(queue.push(3, 1), Ok(()));
    }

    #[tokio::test]
    async fn what_waits_is_taken_in_order_and_together() {
        let queue = Queue::new();
        for (item, weight) in [(1, 4), (2, 4), (3, 100), (4, 1)] {
            queue.push(item, weight).unwrap();
        }
        assert_eq!(queue.take(10).await, [1, 2]);
        assert_eq!(queue.take(10).await, [3]);
        assert_eq!(queue.take(10).await, [4]);
        let (taken, pushed) = tokio::join!(queue.take(10), async { queue.push(5, 1) });
        assert_eq!((taken, pushed), (vec![5], Ok(())));
    }
}
