//! Whether work that waits in a strand is still wanted: either it starts, or its caller gives up, never both. And what its
//! caller can say about it when there is no reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::oneshot;
use wattle_core::limits::CALL_TIMEOUT;
use wattle_core::replication::Unavailable;
use wattle_strand::Refused;

const WAITING: u8 = 0;
const STARTED: u8 = 1;
const ABANDONED: u8 = 2;

/// Why work has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoReply {
    /// It was not queued, or dropped from the queue: it has not run, and never will.
    #[error("the partition takes no more work: {0}")]
    Refused(#[from] Refused),
    /// It did not start in time, and never will.
    #[error("the call did not get its turn within {CALL_TIMEOUT:?}")]
    NotStarted,
    /// It was dropped between two of its turns: some of it is done, and nobody knows how much.
    #[error("the node stopped in the middle of the call: some of it may have taken effect")]
    Interrupted,
    /// The partition does not serve here: it has not run.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// There are no other copies, and the grid may have given this one up: it has not run.
    #[error(
        "this node was not heard by the grid for a while, and the partition may have begun anew elsewhere"
    )]
    Fenced,
    /// Nobody has told this node yet what grid time it is: it has not run.
    #[error("this node does not know the grid's time yet")]
    NoGridTime,
    /// Other copies are too far behind: it has not run.
    #[error("other copies are {bytes} bytes behind")]
    Behind {
        /// So many.
        bytes: usize,
    },
    /// It has run, and then another node has taken the partition over: what it has changed may be lost or kept.
    #[error(
        "another node took the partition over before the change was safe there: it may have taken effect"
    )]
    Deposed,
    /// It has run, and other copies do not answer.
    #[error("the other copies did not confirm the change within {CALL_TIMEOUT:?}: it may have taken effect")]
    NotCommitted,
    /// It has only read, and other copies do not answer.
    #[error("the other copies did not confirm within {CALL_TIMEOUT:?} that this node still decides")]
    NotConfirmed,
}

/// The caller's end: dropping it abandons work that has not started.
#[derive(Debug)]
pub(super) struct Ticket(Arc<AtomicU8>);

/// The work's end.
#[derive(Debug)]
pub(super) struct Start(Arc<AtomicU8>);

pub(super) fn ticket() -> (Ticket, Start) {
    let state = Arc::new(AtomicU8::new(WAITING));
    (Ticket(Arc::clone(&state)), Start(state))
}

fn settle(state: &AtomicU8, to: u8) -> bool {
    state.compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

impl Start {
    /// Whether the work may start; from then on nothing cancels it. Asked again, for further turns, it says the same.
    pub(super) fn start(&self) -> bool {
        settle(&self.0, STARTED) || self.0.load(Ordering::Acquire) == STARTED
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        settle(&self.0, ABANDONED);
    }
}

impl Ticket {
    /// Waits for the reply, or for the end of the caller's patience if the work has not started by then.
    pub(super) async fn reply<T>(self, mut receiver: oneshot::Receiver<T>) -> Result<T, NoReply> {
        let reply = match tokio::time::timeout(CALL_TIMEOUT, &mut receiver).await {
            Ok(reply) => reply,
            Err(_elapsed) if settle(&self.0, ABANDONED) => return Err(NoReply::NotStarted),
            Err(_elapsed) => receiver.await,
        };
        // Only a pool that shuts down drops work.
        let not_started = || settle(&self.0, ABANDONED);
        reply.map_err(|_dropped| if not_started() { Refused::Closed.into() } else { NoReply::Interrupted })
    }
}

#[cfg(test)]
mod tests {
    use wattle_proto::v1::Outcome;

    use super::*;
    use crate::failure::Failure;

    #[tokio::test(start_paused = true)]
    async fn what_did_not_start_in_time_never_does() {
        let (ticket, start) = ticket();
        let (_sender, receiver) = oneshot::channel::<()>();
        assert_eq!(ticket.reply(receiver).await, Err(NoReply::NotStarted));
        assert!(!start.start());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_started_is_waited_for() {
        let (ticket, start) = ticket();
        let (sender, receiver) = oneshot::channel();
        assert!(start.start() && start.start());
        let late = tokio::spawn(async move {
            tokio::time::sleep(CALL_TIMEOUT * 2).await;
            sender.send(7).unwrap();
        });
        assert_eq!(ticket.reply(receiver).await, Ok(7));
        late.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_dropped_before_it_started_is_not_applied() {
        let (ticket, start) = ticket();
        let (sender, receiver) = oneshot::channel::<()>();
        drop(sender);
        let reply = ticket.reply(receiver).await;
        assert_eq!(reply, Err(NoReply::Refused(Refused::Closed)));
        assert!(!start.start());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_dropped_after_it_started_is_in_doubt() {
        for dropped_after in [CALL_TIMEOUT / 2, CALL_TIMEOUT * 2] {
            let (ticket, start) = ticket();
            let (sender, receiver) = oneshot::channel::<()>();
            assert!(start.start());
            let drops = tokio::spawn(async move {
                tokio::time::sleep(dropped_after).await;
                drop(sender);
            });
            let reply = ticket.reply(receiver).await;
            assert_eq!(reply, Err(NoReply::Interrupted));
            let failure = Failure::from(NoReply::Interrupted);
            let facts = failure.facts();
            assert_eq!((facts.reason, facts.outcome), ("INTERRUPTED", Outcome::InDoubt));
            drops.await.unwrap();
        }
    }

    #[test]
    fn a_caller_that_is_gone_abandons() {
        let (ticket, start) = ticket();
        drop(ticket);
        assert!(!start.start());
    }
}
