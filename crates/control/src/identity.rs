//! Who takes part: in which group, and as which voter.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wattle_core::ids::NodeId;

/// A control group. The voters of one never listen to those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupId {
    /// The grid, as its creator has drawn it.
    pub grid: u128,
    /// Rises when a group is built anew from what survived of the one before.
    pub generation: u32,
    /// Who has built it: the first node its first generation. Two that were built on both sides of a cut are not the same.
    #[serde(default = "first_node", skip_serializing_if = "is_first_node")]
    pub founder: NodeId,
}

/// The first node of every grid, which founds it.
const FIRST_NODE: NodeId = NodeId(1);

fn first_node() -> NodeId {
    FIRST_NODE
}

fn is_first_node(node: &NodeId) -> bool {
    *node == FIRST_NODE
}

impl GroupId {
    /// That of a grid before it was ever built anew.
    #[must_use]
    pub const fn first(grid: u128) -> Self {
        Self { grid, generation: 1, founder: FIRST_NODE }
    }

    /// Whether it has taken the place of the other.
    #[must_use]
    pub fn succeeds(&self, other: &Self) -> bool {
        self.grid == other.grid && self.generation > other.generation
    }
}

/// A voter, as Raft counts it: a node and the incarnation of it that began the log.
///
/// A log that is on disk is continued by the same voter over all restarts of its node. A node that has lost its log is another
/// voter, which has no vote until the group gives it one: it cannot vote a second time in a term that it has forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct VoterId {
    /// The node; the transport finds it by this alone.
    pub node: NodeId,
    /// The node's incarnation when it began its log.
    pub incarnation: u64,
}

/// Who this process is in the control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The group.
    pub group: GroupId,
    /// The voter.
    pub voter: VoterId,
}

impl Default for VoterId {
    /// Nobody: Raft's vote of a voter that has not voted. Nodes are numbered from 1.
    fn default() -> Self {
        Self { node: NodeId(0), incarnation: 0 }
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x} in generation {}", self.grid, self.generation)?;
        if is_first_node(&self.founder) { Ok(()) } else { write!(f, " of node {}", self.founder.0) }
    }
}

/// As text, for the keys of JSON are text.
impl fmt::Display for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node.0, self.incarnation)
    }
}

impl fmt::Debug for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VoterId({self})")
    }
}

impl From<VoterId> for String {
    fn from(voter: VoterId) -> Self {
        voter.to_string()
    }
}

/// A text is no voter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoVoterId {
    /// Its parts are not two.
    #[error("a voter is NODE.INCARNATION")]
    Parts,
    /// A part is no number.
    #[error(transparent)]
    Number(#[from] ParseIntError),
}

impl FromStr for VoterId {
    type Err = NoVoterId;

    fn from_str(text: &str) -> Result<Self, NoVoterId> {
        let (node, incarnation) = text.split_once('.').ok_or(NoVoterId::Parts)?;
        Ok(Self { node: NodeId(node.parse()?), incarnation: incarnation.parse()? })
    }
}

impl TryFrom<String> for VoterId {
    type Error = NoVoterId;

    fn try_from(text: String) -> Result<Self, NoVoterId> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voter_is_text_in_json() {
        let voter = VoterId { node: NodeId(7), incarnation: 2 };
        assert_eq!(serde_json::to_string(&voter).unwrap(), "\"7.2\"");
        assert_eq!("7.2".parse(), Ok(voter));
        assert_eq!("7".parse::<VoterId>(), Err(NoVoterId::Parts));
        for text in ["", "7", "7.", ".2", "7.2.1", "-7.2"] {
            text.parse::<VoterId>().unwrap_err();
        }
    }
}
