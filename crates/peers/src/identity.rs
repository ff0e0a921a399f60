//! Who a node is, and what it knows that strangers do not.

use std::fmt;

use wattle_core::ids::{MemberId, NodeId};
use wattle_core::limits::SECRET_BYTES_MIN;

/// A grid. The name is for people; who has another id is in another grid, whatever its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// Drawn when the grid was created; 0 is none.
    pub id: u128,
    /// As its creator has named it.
    pub name: String,
}

impl Grid {
    /// Whether both can be the same: who is in none yet looks for a name, or for whatever there is.
    pub(crate) fn may_be(&self, other: &Self) -> bool {
        if self.id != 0 && other.id != 0 {
            return self.id == other.id;
        }
        self.name == other.name || self.name.is_empty() || other.name.is_empty()
    }
}

impl fmt::Display for Grid {
    /// The name may come from a stranger: it is shown escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            0 => write!(f, "{:?} (not created yet)", self.name),
            id => write!(f, "{:?} ({id:032x})", self.name),
        }
    }
}

/// What all nodes of a grid know.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

/// A secret is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret of {found} bytes is too easily guessed: at least {SECRET_BYTES_MIN}")]
pub struct ShortSecret {
    /// So many bytes it has.
    pub found: usize,
}

impl Secret {
    /// A secret.
    ///
    /// # Errors
    /// It is too short.
    pub fn new(bytes: &[u8]) -> Result<Self, ShortSecret> {
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(ShortSecret { found: bytes.len() });
        }
        Ok(Self(bytes.into()))
    }

    /// None at all: whoever reaches the port is a peer if it says so.
    #[must_use]
    pub fn none() -> Self {
        Self(Box::default())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who this node is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What it is to a grid.
    pub standing: Standing,
    /// What it shares with its peers.
    pub secret: Secret,
}

/// What a node is to a grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is in none, and asks others how things are.
    Fresh {
        /// What it looks for. Empty: whatever there is.
        name: String,
    },
    /// It was this node before its process began, and may vote as that; which of its lives this is, is to be decided.
    Returning {
        /// Its grid.
        grid: Grid,
        /// Which node of it.
        node: NodeId,
    },
    /// It is a member.
    Member {
        /// Its grid.
        grid: Grid,
        /// Which node of it, in which of its lives.
        member: MemberId,
    },
}

impl Standing {
    /// Which grid it is in.
    #[must_use]
    pub fn grid(&self) -> Option<&Grid> {
        match self {
            Self::Fresh { .. } => None,
            Self::Returning { grid, .. } | Self::Member { grid, .. } => Some(grid),
        }
    }

    /// As whom it takes part in links of a purpose, if it may.
    pub(crate) fn speaks_as(&self, purpose: Purpose) -> Option<MemberId> {
        match (self, purpose) {
            (_, Purpose::Stranger) | (Self::Fresh { .. }, _) => None,
            (
                Self::Returning { node, .. } | Self::Member { member: MemberId { node, .. }, .. },
                Purpose::Control,
            ) => Some(in_any_life(*node)),
            (Self::Returning { .. }, Purpose::Replication | Purpose::Calls | Purpose::Heartbeats) => None,
            (Self::Member { member, .. }, Purpose::Replication | Purpose::Calls | Purpose::Heartbeats) => {
                Some(*member)
            }
        }
    }

    /// Who it is, as it says to a stranger: [`NOBODY`], or a node in a life that is not known.
    pub(crate) fn known_as(&self) -> MemberId {
        match self {
            Self::Fresh { .. } => NOBODY,
            Self::Returning { node, .. } => in_any_life(*node),
            Self::Member { member, .. } => *member,
        }
    }

    /// The grid that it is in or looks for.
    pub(crate) fn looks_for(&self) -> Grid {
        match self {
            Self::Fresh { name } => Grid { id: 0, name: name.clone() },
            Self::Returning { grid, .. } | Self::Member { grid, .. } => grid.clone(),
        }
    }
}

/// Who is no member. Nodes are numbered from 1.
pub(crate) const NOBODY: MemberId = MemberId { node: NodeId(0), incarnation: 0 };

/// A node, whatever its life. Lives are numbered from 1.
pub(crate) fn in_any_life(node: NodeId) -> MemberId {
    MemberId { node, incarnation: 0 }
}

/// What a link is for. Each has a connection of its own: bulk in one does not hold up the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Messages that need no answer.
    Replication,
    /// Calls and their answers.
    Calls,
    /// Heartbeats and their answers: proposals that wait for a decision, or many bytes, are not to keep them waiting.
    Heartbeats,
    /// What members of the control group say to each other: a vote is not to wait behind proposals that wait for it. It is between
    /// nodes, whatever life they are in (the incarnation in its events is 0): a group that starts again has to decide before it
    /// can say who anybody is.
    Control,
    /// One question of a node that need not be a member, and its answer.
    Stranger,
}

/// A member as text.
pub(crate) fn name(member: &MemberId) -> String {
    format!("{}.{}", member.node.0, member.incarnation)
}

/// Whoever it is as text.
pub(crate) fn describe(whoever: &MemberId) -> String {
    if *whoever == NOBODY { "a node without a grid".to_owned() } else { format!("node {}", name(whoever)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_a_least_length_and_is_not_shown() {
        let found = SECRET_BYTES_MIN - 1;
        assert_eq!(Secret::new(&vec![b'x'; found]).map(|_| ()), Err(ShortSecret { found }));
        let secret = Secret::new(&[b'x'; SECRET_BYTES_MIN]).unwrap();
        assert_eq!(secret.as_bytes(), [b'x'; SECRET_BYTES_MIN]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }

    #[test]
    fn a_strangers_name_is_shown_escaped() {
        let grid = Grid { id: 10, name: "a\n\u{1b}b".to_owned() };
        assert_eq!(grid.to_string(), r#""a\n\u{1b}b" (0000000000000000000000000000000a)"#);
    }
}
