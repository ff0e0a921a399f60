//! The one task that proposes at this voter: what waits together becomes one entry of the log, so that under load many proposals
//! share an fsync and a round trip.

use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{mpsc, oneshot};
use wattle_core::limits::{CONTROL_BATCH, CONTROL_BATCH_BYTES};

use crate::Applied;
use crate::identity::VoterId;
use crate::proposal::{Outcome, Proposal, ProposeError};
use crate::raft::{Payload, Raft};

/// A proposal, and who waits for what becomes of it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) proposal: Proposal,
    /// Of the command.
    pub(crate) bytes: usize,
    pub(crate) caller: oneshot::Sender<Result<Applied, ProposeError>>,
}

/// Ends with the queue.
pub(crate) async fn run(own: VoterId, raft: Raft, mut queue: mpsc::Receiver<Waiting>) {
    let mut carried = None;
    loop {
        let first = match carried.take() {
            Some(waiting) => waiting,
            None => match queue.recv().await {
                Some(waiting) => waiting,
                None => return,
            },
        };
        let mut room = CONTROL_BATCH_BYTES.saturating_sub(first.bytes);
        let mut batch = vec![first];
        while batch.len() < CONTROL_BATCH
            && let Ok(waiting) = queue.try_recv()
        {
            if waiting.bytes > room {
                carried = Some(waiting);
                break;
            }
            room -= waiting.bytes;
            batch.push(waiting);
        }
        decide(own, &raft, batch).await;
    }
}

async fn decide(own: VoterId, raft: &Raft, batch: Vec<Waiting>) {
    let (proposals, callers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|waiting| (waiting.proposal, waiting.caller)).unzip();
    // A caller that has gone does not want to know.
    match write(own, raft, Payload::Proposals(proposals.into())).await {
        Ok(outcomes) => {
            for (caller, outcome) in callers.into_iter().zip(outcomes) {
                drop(caller.send(outcome.into()));
            }
        }
        Err(error) => callers.into_iter().for_each(|caller| drop(caller.send(Err(error.clone())))),
    }
}

/// Writes an entry and waits until it is applied here, as long as this voter leads: after that openraft may never say what became
/// of it, when a snapshot takes its place.
pub(crate) async fn write(own: VoterId, raft: &Raft, payload: Payload) -> Result<Vec<Outcome>, ProposeError> {
    let mut metrics = raft.metrics();
    metrics.mark_unchanged();
    let deposed = async {
        while metrics.changed().await.is_ok() {
            let leader = metrics.borrow_and_update().current_leader;
            if leader != Some(own) {
                return ProposeError::NotLeader { leader };
            }
        }
        ProposeError::Ended
    };
    tokio::select! {
        biased;
        written = raft.client_write(payload) => written.map(|response| response.data).map_err(propose_error),
        error = deposed => Err(error),
    }
}

fn propose_error<N: openraft::Node>(error: RaftError<VoterId, ClientWriteError<VoterId, N>>) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            ProposeError::NotLeader { leader: forward.leader_id }
        }
        // Only changes of the membership are answered so.
        RaftError::APIError(ClientWriteError::ChangeMembershipError(_)) => {
            ProposeError::NotLeader { leader: None }
        }
        RaftError::Fatal(_) => ProposeError::Ended,
    }
}

impl Waiting {
    /// With the other end for the caller.
    pub(crate) fn new(
        proposal: Proposal,
        bytes: usize,
    ) -> (Self, oneshot::Receiver<Result<Applied, ProposeError>>) {
        let (caller, decided) = oneshot::channel();
        (Self { proposal, bytes, caller }, decided)
    }
}
