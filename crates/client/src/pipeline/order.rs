//! [`Order`]: what goes straight to who decides about a key keeps its order, also when the way there becomes another: what would go by
//! the new way waits until what went by the old one is answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use wattle_frame::pipeline::Operations;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::batch::Batch;

/// The keys that are to be waited for. Usually there are none: who goes by the same way keeps the order anyway.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// How many batches hold a key of a map, by a hash of both. A leaf.
    held: Mutex<HashMap<u64, usize>>,
    freed: Notify,
}

/// The keys of a batch, held until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    order: Arc<Order>,
    keys: Vec<u64>,
}

impl Order {
    /// Has others wait for a batch that is on its way.
    pub(super) fn hold(self: &Arc<Self>, batch: &Batch) -> Held {
        let keys: Vec<u64> = keys(batch).collect();
        let mut held = self.lock();
        for key in &keys {
            *held.entry(*key).or_default() += 1;
        }
        Held { order: Arc::clone(self), keys }
    }

    /// Whether a batch need not wait.
    pub(super) fn is_free(&self, batch: &Batch) -> bool {
        let held = self.lock();
        held.is_empty() || !keys(batch).any(|key| held.contains_key(&key))
    }

    /// Ends when keys are held no more, from the time on that it is enabled.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Nothing panics while it is held, and it is whole at every step.
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.order.lock();
        for key in &self.keys {
            if let Some(count) = held.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    held.remove(key);
                }
            }
        }
        drop(held);
        self.order.freed.notify_waiters();
    }
}

fn keys(batch: &Batch) -> impl Iterator<Item = u64> {
    // The client has written the frame.
    let operations = Operations::parse(&batch.frame).ok();
    let names = operations.iter().flat_map(Operations::names);
    let maps: Vec<u64> = names.map(|name| name.map_or(0, |name| xxh3_64(name.as_bytes()))).collect();
    let operations = operations.into_iter().flat_map(|operations| operations.operations()).flatten();
    operations.map(move |operation| {
        let map = maps.get(usize::from(operation.map().0)).copied().unwrap_or_default();
        xxh3_64_with_seed(operation.key(), map)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Operation;

    fn gets(map: &str, keys: &[&'static str]) -> Batch {
        let gets: Vec<_> = keys.iter().map(|key| Operation::Get { key: (*key).into() }).collect();
        Batch::new(map, &gets).unwrap()
    }

    #[tokio::test]
    async fn a_key_is_held_until_all_that_hold_it_are_answered() {
        let order = Arc::new(Order::default());
        let (first, second) = (order.hold(&gets("m", &["a", "b", "a"])), order.hold(&gets("m", &["b"])));
        let free = || {
            [("m", "a"), ("m", "b"), ("n", "a"), ("m", "c")]
                .map(|(map, key)| order.is_free(&gets(map, &[key])))
        };
        assert_eq!(free(), [false, false, true, true]);
        assert!(!order.is_free(&gets("m", &["c", "a"])));
        let mut freed = std::pin::pin!(order.freed());
        freed.as_mut().enable();
        drop(first);
        freed.await;
        assert_eq!(free(), [true, false, true, true]);
        drop(second);
        assert_eq!(free(), [true; 4]);
    }
}
