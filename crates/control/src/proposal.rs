//! What is proposed, and what becomes of it.

use std::fmt;

use serde::{Deserialize, Serialize};
use wattle_core::limits::{CONTROL_COMMAND_BYTES, CONTROL_PROPOSALS};

use crate::identity::VoterId;
use crate::{Applied, Command, Refusal};

/// How many proposals were decided before a state: the same on all voters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct ControlVersion(pub u64);

impl fmt::Display for ControlVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a proposal, so that it is decided once although it is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalId {
    /// The version of the state when it was made. After [`CONTROL_DECISIONS`](wattle_core::limits::CONTROL_DECISIONS) more decisions,
    /// or fewer large ones, nobody remembers whether it was decided, so it is not decided any more.
    pub made_at: ControlVersion,
    /// Tells it from all others that are remembered.
    pub nonce: u64,
}

/// A command, and how to recognise it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Stays the same however often it is proposed.
    pub id: ProposalId,
    /// What is proposed.
    pub command: Command,
}

/// What the log has decided about a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// It was carried out.
    Applied(Applied),
    /// It makes no sense in the state that it met.
    Refused(Refusal),
    /// It is too old to be decided.
    Expired,
}

/// Why a proposal was not carried out, or is not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ProposeError {
    /// It makes no sense in the state that it met. It has changed nothing and never will.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too much was decided since it was made to know whether it was. It changes nothing from now on: it has done so already, or
    /// never will.
    #[error("too many decisions were made since this proposal to know about it: look at the state")]
    Expired,
    /// It has changed nothing and never will.
    #[error("the command has {bytes} bytes, at most {CONTROL_COMMAND_BYTES} are allowed")]
    TooLarge {
        /// Bytes of the command.
        bytes: usize,
    },
    /// It was not proposed: too many others wait.
    #[error("{CONTROL_PROPOSALS} proposals wait already: try again later")]
    Busy,
    /// This node decides nothing, or not any more. The proposal may be decided all the same: repeat it where the leader is.
    #[error("this node does not lead the control group; {}", whereabouts(*leader))]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<VoterId>,
    },
    /// This voter has ended, for what its status says. The proposal may be decided all the same: repeat it where the leader is.
    #[error("this voter of the control group has ended")]
    Ended,
}

fn whereabouts(leader: Option<VoterId>) -> String {
    leader.map_or_else(|| "it knows no leader".into(), |leader| format!("voter {leader} does"))
}

impl Outcome {
    /// How many partitions it names: nothing else in it is long.
    pub(crate) fn partitions(&self) -> usize {
        match self {
            Self::Applied(applied) => applied.partitions(),
            Self::Refused(_) | Self::Expired => 0,
        }
    }
}

impl From<Outcome> for Result<Applied, ProposeError> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Applied(applied) => Ok(applied),
            Outcome::Refused(refusal) => Err(ProposeError::Refused(refusal)),
            Outcome::Expired => Err(ProposeError::Expired),
        }
    }
}
