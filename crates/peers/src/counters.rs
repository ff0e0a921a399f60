//! [`Counters`]: what all links of a node have done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// Only ever rises.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Count,)*
        }

        /// What all links have done since the node's start.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Figures {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            pub(crate) fn figures(&self) -> Figures {
                Figures { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Batches that were handed to a connection.
    sent_batches,
    /// Messages in them.
    sent_messages,
    /// What they weigh, in bytes: payloads, and a little for each message and record.
    sent_bytes,
    /// Batches that have come.
    received_batches,
    /// Messages in them.
    received_messages,
    /// What they weigh, in bytes, as above.
    received_bytes,
    /// Messages of a kind that is not known here, of newer nodes.
    skipped,
    /// Messages that were not taken because the queue was full, the link down or they were too large.
    refused,
    /// Messages and requests that waited when their link broke.
    dropped,
    /// Requests that were handed to a connection.
    calls,
    /// Requests that have come.
    answers,
    /// Links that were opened from here.
    opened,
    /// Attempts to open one that failed.
    failed,
    /// Links that others have opened.
    admitted,
    /// Questions of nodes that need not be members.
    strangers,
    /// Links of others that were refused or ended here.
    denied,
}
