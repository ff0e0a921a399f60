//! Whether work that waits in a strand is still wanted: either it starts, or its caller gives up, never both.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use wattle_core::limits::CALL_TIMEOUT;

const WAITING: u8 = 0;
const STARTED: u8 = 1;
const ABANDONED: u8 = 2;

/// The work did not start in time, and never will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotStarted;

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
    pub(super) async fn reply<T>(self, receiver: oneshot::Receiver<T>) -> Result<T, NotStarted> {
        self.reply_within(receiver, CALL_TIMEOUT).await
    }

    async fn reply_within<T>(
        self,
        mut receiver: impl Future<Output = Result<T, oneshot::error::RecvError>> + Unpin,
        patience: Duration,
    ) -> Result<T, NotStarted> {
        if let Ok(reply) = tokio::time::timeout(patience, &mut receiver).await {
            return reply.map_err(|_dropped| NotStarted);
        }
        if settle(&self.0, ABANDONED) {
            Err(NotStarted)
        } else {
            receiver.await.map_err(|_dropped| NotStarted)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_did_not_start_in_time_never_does() {
        let (ticket, start) = ticket();
        let (_sender, receiver) = oneshot::channel::<()>();
        assert_eq!(ticket.reply(receiver).await, Err(NotStarted));
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

    #[test]
    fn a_caller_that_is_gone_abandons() {
        let (ticket, start) = ticket();
        drop(ticket);
        assert!(!start.start());
    }
}
