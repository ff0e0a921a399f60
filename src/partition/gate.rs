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
    /// By rising positions.
    for_commit: VecDeque<(Version, oneshot::Sender<()>)>,
    /// By rising probes.
    for_confirmation: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl WaitingAnswers {
    /// Until a position is committed. Positions never fall before [`Self::depose`].
    pub(super) fn until(&mut self, position: Version) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.for_commit.push_back((position, sender));
        receiver
    }

    /// Until a confirmation has come. Probes never fall before [`Self::depose`].
    pub(super) fn until_confirmed(&mut self, probe: u64) -> Confirmed {
        let (sender, receiver) = oneshot::channel();
        self.for_confirmation.push_back((probe, sender));
        receiver
    }

    /// Everything up to a position is committed.
    pub(super) fn answer(&mut self, position: Version) {
        while let Some((_, sender)) = self.for_commit.pop_front_if(|(at, _)| *at <= position) {
            // Who has gone wants no answer.
            sender.send(()).ok();
        }
    }

    /// Confirmations have come, up to the one that `confirmed` tells.
    pub(super) fn confirm(&mut self, confirmed: impl FnOnce() -> u64) {
        if self.for_confirmation.is_empty() {
            return;
        }
        let confirmed = confirmed();
        while let Some((_, sender)) = self.for_confirmation.pop_front_if(|(probe, _)| *probe <= confirmed) {
            sender.send(()).ok();
        }
    }

    /// Another decides now.
    pub(super) fn depose(&mut self) {
        self.for_commit.clear();
        self.for_confirmation.clear();
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
