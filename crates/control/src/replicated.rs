//! [`Replicated`]: what every voter has after the same entries, and what it tells its node of every change.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wattle_core::limits::CONTROL_DECISIONS;

use crate::proposal::{ControlVersion, Outcome, Proposal, ProposalId};
use crate::{Applied, State};

/// The state, and as much of its past as is needed to decide no proposal twice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replicated {
    /// Whether the group has its first state.
    pub(crate) begun: bool,
    pub(crate) version: ControlVersion,
    pub(crate) state: Arc<State>,
    /// The last decisions, oldest first: one for each version.
    decisions: VecDeque<(ProposalId, Outcome)>,
}

impl Replicated {
    pub(crate) fn new(state: State) -> Self {
        Self { begun: true, version: ControlVersion(0), state: Arc::new(state), decisions: VecDeque::new() }
    }

    /// Gives the group its first state, and says so, if it has none.
    pub(crate) fn begin(&mut self, first: &Self) -> bool {
        if self.begun {
            return false;
        }
        *self = first.clone();
        true
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
        let outcome = match Arc::make_mut(&mut self.state).apply(&proposal.command) {
            Ok(applied) => Outcome::Applied(applied),
            Err(refusal) => Outcome::Refused(refusal),
        };
        self.version.0 += 1;
        if self.decisions.len() == CONTROL_DECISIONS {
            self.decisions.pop_front();
        }
        self.decisions.push_back((proposal.id, outcome.clone()));
        outcome
    }
}

/// A state, and how many proposals were decided before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decided {
    /// Whether the group has its first state.
    pub created: bool,
    /// Rises with every decision, also with a refusal.
    pub version: ControlVersion,
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

/// Is told every change in order, with the state after it, once it is durable on a majority of the voters. Called on the runtime
/// of the group, and must not block.
pub type Observer = Box<dyn FnMut(&Decided, Change) + Send + Sync>;
