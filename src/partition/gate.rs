//! What an answer waits for before it leaves its node: until the other copies hold what it tells of, and, if it has changed nothing,
//! until it is sure that nobody else has decided more.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tokio::time::Instant;
use wattle_core::ids::{Epoch, PartitionId, Version};
use wattle_core::limits::CALL_TIMEOUT;
use wattle_core::replication::{LocalTime, Unavailable};

use super::partitions::Partitions;
use super::ticket::NoReply;

/// What an answer waits for.
#[derive(Debug)]
#[must_use]
pub(crate) struct Gate {
    /// In which the work was done.
    pub(super) epoch: Epoch,
    /// What it has changed, or seen, is committed; `None` if it is already.
    pub(super) committed: Option<oneshot::Receiver<()>>,
    /// The work has changed something.
    pub(super) changed: bool,
    /// What was seen may be told until then; after that only a round trip tells whether it may. `None` is for ever.
    pub(super) not_after: Option<LocalTime>,
}

/// All copies have confirmed a primary.
pub(super) type Confirmed = oneshot::Receiver<()>;

/// The answers that wait in a strand. When they are dropped nobody knows what becomes of what they tell of.
#[derive(Debug, Default)]
pub(super) struct WaitingAnswers {
    for_commit: Waiting<Version>,
    for_confirmation: Waiting<u64>,
}

/// Those who wait for something that rises.
#[derive(Debug)]
struct Waiting<T> {
    /// By what they wait for.
    senders: VecDeque<(T, oneshot::Sender<()>)>,
    /// When there are so many, those go who wait no longer: what they wait for may not come for hours.
    full: usize,
}

/// Fewer than these are not worth a look.
const FEW: usize = 64;

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { senders: VecDeque::new(), full: FEW }
    }
}

impl<T: PartialOrd + Copy> Waiting<T> {
    fn until(&mut self, mark: T) -> oneshot::Receiver<()> {
        if self.senders.len() >= self.full {
            self.senders.retain(|(_, sender)| !sender.is_closed());
            // Twice as many as there are: each is looked at once or twice.
            self.full = (2 * self.senders.len()).max(FEW);
        }
        let (sender, receiver) = oneshot::channel();
        self.senders.push_back((mark, sender));
        receiver
    }

    fn reached(&mut self, mark: T) {
        while let Some((_, sender)) = self.senders.pop_front_if(|(of, _)| *of <= mark) {
            // Who has gone wants no answer.
            sender.send(()).ok();
        }
    }
}

impl WaitingAnswers {
    /// Until a position is committed. Positions never fall before [`Self::depose`].
    pub(super) fn until(&mut self, position: Version) -> oneshot::Receiver<()> {
        self.for_commit.until(position)
    }

    /// Until a confirmation has come. Probes never fall before [`Self::depose`].
    pub(super) fn until_confirmed(&mut self, probe: u64) -> Confirmed {
        self.for_confirmation.until(probe)
    }

    /// Everything up to a position is committed.
    pub(super) fn answer(&mut self, position: Version) {
        self.for_commit.reached(position);
    }

    /// Confirmations have come, up to the one that `confirmed` tells.
    pub(super) fn confirm(&mut self, confirmed: impl FnOnce() -> u64) {
        if !self.for_confirmation.senders.is_empty() {
            self.for_confirmation.reached(confirmed());
        }
    }

    /// Another decides now.
    pub(super) fn depose(&mut self) {
        self.for_commit.senders.clear();
        self.for_confirmation.senders.clear();
    }
}

impl Gate {
    /// Whether what is committed may be told, whatever time it is by then.
    pub(crate) fn is_timeless(&self) -> bool {
        self.not_after.is_none()
    }
}

impl Partitions {
    /// Waits until an answer may leave.
    pub(crate) async fn pass(&self, partition: PartitionId, gate: Option<Gate>) -> Result<(), NoReply> {
        match gate {
            Some(gate) => self.pass_until(partition, gate, Instant::now() + CALL_TIMEOUT).await,
            None => Ok(()),
        }
    }

    /// As [`Self::pass`], with a time when it is waited no longer for what is to be committed.
    pub(crate) async fn pass_until(
        &self,
        partition: PartitionId,
        gate: Gate,
        deadline: Instant,
    ) -> Result<(), NoReply> {
        let Gate { epoch, committed, changed, not_after } = gate;
        if let Some(committed) = committed {
            let waited = tokio::time::timeout_at(deadline, committed).await;
            match waited {
                Ok(Ok(())) => {}
                Ok(Err(_)) if changed => return Err(NoReply::Deposed),
                Ok(Err(_)) => return Err(Unavailable::NotPrimary.into()),
                Err(_elapsed) if changed => return Err(NoReply::NotCommitted),
                Err(_elapsed) => return Err(NoReply::NotConfirmed),
            }
        }
        if not_after.is_none_or(|not_after| self.clock().local() < not_after) {
            return Ok(());
        }
        self.confirm(partition, epoch).await
    }

    /// Asks the other copies whether this node still decided in an epoch.
    async fn confirm(&self, partition: PartitionId, epoch: Epoch) -> Result<(), NoReply> {
        let (sender, receiver) = oneshot::channel();
        let asked = move |confirmed| drop(sender.send(confirmed));
        self.strand(partition).submit_urgent(move |shard| shard.confirm(epoch), asked);
        let confirmed = async {
            let confirmed = receiver.await.map_err(|_| NoReply::NotConfirmed)??;
            confirmed.await.map_err(|_| Unavailable::NotPrimary.into())
        };
        tokio::time::timeout(CALL_TIMEOUT, confirmed).await.unwrap_or(Err(NoReply::NotConfirmed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_no_longer_is_not_kept() {
        let mut waiting = WaitingAnswers::default();
        let mut last = waiting.until(Version(0));
        for position in 1..10_000 {
            drop(waiting.until(Version(position)));
            drop(waiting.until_confirmed(position));
        }
        assert!(waiting.for_commit.senders.len() <= FEW && waiting.for_confirmation.senders.len() <= FEW);
        let many: Vec<_> = (0..1000).map(|n| waiting.until(Version(10_000 + n))).collect();
        assert!(last.try_recv().is_err());
        waiting.answer(Version(10_998));
        last.try_recv().unwrap();
        let answered = many.into_iter().filter_map(|mut receiver| receiver.try_recv().ok()).count();
        assert_eq!(answered, 999);
    }
}
