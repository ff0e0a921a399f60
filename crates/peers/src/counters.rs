//! [`Counters`]: what all links of a node have done so far. Bytes are those of the messages that travel, without what gRPC, HTTP/2
//! and TCP add.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::identity::Purpose;

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
    /// Bytes of these batches.
    sent_bytes,
    /// Of these bytes, those that bring other copies in sync.
    sent_chunk_bytes,
    /// Batches that have come.
    received_batches,
    /// Messages in them.
    received_messages,
    /// Bytes of these batches.
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
    /// Bytes of requests and answers, beside heartbeats and the control group's.
    sent_call_bytes,
    /// Bytes of heartbeats and their answers.
    sent_heartbeat_bytes,
    /// Bytes of the control group's requests and answers.
    sent_control_bytes,
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

impl Counters {
    /// A request or an answer has been said on a link of this purpose.
    pub(crate) fn say(&self, purpose: Purpose, bytes: usize) {
        match purpose {
            Purpose::Calls => self.sent_call_bytes.add(bytes),
            Purpose::Heartbeats => self.sent_heartbeat_bytes.add(bytes),
            Purpose::Control => self.sent_control_bytes.add(bytes),
            // Batches are counted when they are made, and strangers have few words.
            Purpose::Replication | Purpose::Stranger => {}
        }
    }
}
