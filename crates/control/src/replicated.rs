//! [`Replicated`]: what every voter has after the same entries, and what it tells its node of every change.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wattle_core::limits::{CONTROL_DECIDED_PARTITIONS, CONTROL_DECISIONS, GENERATION_VERSIONS};

use crate::proposal::{ControlVersion, Outcome, Proposal, ProposalId};
use crate::{Applied, State};

/// The format of snapshots that is written: this byte, and then JSON.
const FORMAT: u8 = 1;

/// Why bytes are no snapshot of the control state.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Nothing can be said about the rest.
    #[error("format {found} of a snapshot is not known here, only up to {FORMAT}: use a newer version")]
    Format {
        /// What the bytes say.
        found: u8,
    },
    /// There is not even a format.
    #[error("a snapshot has no bytes")]
    Empty,
    /// They are no JSON, or say what is not understood.
    #[error("a snapshot of format {FORMAT} cannot be read")]
    Malformed(#[from] serde_json::Error),
}

/// The state, and as much of its past as is needed to decide no proposal twice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replicated {
    /// Whether the group has its first state.
    pub(crate) begun: bool,
    pub(crate) version: ControlVersion,
    /// The version of the last decision that has changed something.
    #[serde(default)]
    pub(crate) changed: ControlVersion,
    pub(crate) state: Arc<State>,
    /// The last decisions, oldest first: one for each version.
    decisions: VecDeque<(ProposalId, Outcome)>,
}

impl Replicated {
    /// Versions go on beyond those that the group can have come to which was before.
    pub(crate) fn new(state: State) -> Self {
        let earlier = state.grid().map_or(0, |grid| u64::from(grid.generation().saturating_sub(1)));
        let version = ControlVersion(earlier * GENERATION_VERSIONS);
        Self { begun: true, version, changed: version, state: Arc::new(state), decisions: VecDeque::new() }
    }

    /// Gives the group its first state, and says so, if it has none.
    pub(crate) fn begin(&mut self, first: &Self) -> bool {
        if self.begun {
            return false;
        }
        *self = first.clone();
        true
    }

    /// As it is kept and sent.
    pub(crate) fn to_snapshot(&self) -> Bytes {
        let mut bytes = vec![FORMAT];
        serde_json::to_writer(&mut bytes, self).expect("the keys of its maps are strings");
        bytes.into()
    }

    pub(crate) fn from_snapshot(snapshot: &[u8]) -> Result<Self, SnapshotError> {
        match snapshot.split_first() {
            Some((&FORMAT, json)) => Ok(serde_json::from_slice(json)?),
            Some((&found, _)) => Err(SnapshotError::Format { found }),
            None => Err(SnapshotError::Empty),
        }
    }

    /// Decides a proposal, unless it was decided before: then the answer is the same again.
    pub(crate) fn decide(&mut self, proposal: &Proposal) -> Outcome {
        if let Some((_, outcome)) = self.decisions.iter().find(|(id, _)| *id == proposal.id) {
            return outcome.clone();
        }
        let forgotten = self.version.0 - self.decisions.len() as u64;
        if proposal.id.made_at.0 < forgotten {
            return Outcome::Expired;
        }
        let before = self.state.moment();
        let outcome = match Arc::make_mut(&mut self.state).apply(&proposal.command) {
            Ok(applied) => Outcome::Applied(applied),
            Err(refusal) => Outcome::Refused(refusal),
        };
        self.version.0 += 1;
        if !self.state.is_at(&before) {
            self.changed = self.version;
        }
        self.decisions.push_back((proposal.id, outcome.clone()));
        self.forget();
        outcome
    }

    /// Forgets the oldest decisions beyond the bounds, but never the last one.
    fn forget(&mut self) {
        let mut named: usize = self.decisions.iter().map(|(_, outcome)| outcome.partitions()).sum();
        while self.decisions.len() > CONTROL_DECISIONS
            || named > CONTROL_DECIDED_PARTITIONS && self.decisions.len() > 1
        {
            let forgotten = self.decisions.pop_front();
            named -= forgotten.map_or(0, |(_, outcome)| outcome.partitions());
        }
    }
}

/// A state, and how many proposals were decided before it. To clone it costs next to nothing, and so does to keep it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decided {
    /// Whether the group has its first state.
    pub created: bool,
    /// Rises with every decision, also with a refusal.
    pub version: ControlVersion,
    /// Of the last decision that has changed something: who is told of changes hears of no later one.
    pub changed: ControlVersion,
    /// The state.
    pub state: Arc<State>,
}

/// What has happened to the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These changes were decided since the last one, in this order.
    Decided(Vec<Applied>),
    /// Everything may be different: the state is that of a snapshot, or the first one.
    Replaced,
}

/// Is told every change in order, with the state after it, once it is durable on a majority of the voters; not of what has changed
/// nothing. Called on the runtime of the group, and must not block.
pub type Observer = Box<dyn FnMut(&Decided, Change) + Send + Sync>;
