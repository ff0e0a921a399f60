//! Who a node is, and what it knows that strangers do not.

use std::fmt;

use wattle_core::ids::MemberId;
use wattle_core::limits::SECRET_BYTES_MIN;

/// A grid. The name is for people; who has another id is in another grid, whatever its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// Drawn when the grid was created.
    pub id: u128,
    /// As its creator has named it.
    pub name: String,
}

impl fmt::Display for Grid {
    /// The name may come from a stranger: it is shown escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({:032x})", self.name, self.id)
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
    /// Its grid.
    pub grid: Grid,
    /// Which node of it, in which of its lives.
    pub member: MemberId,
    /// What it shares with its peers.
    pub secret: Secret,
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
}

/// A member as text.
pub(crate) fn name(member: &MemberId) -> String {
    format!("{}.{}", member.node.0, member.incarnation)
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
