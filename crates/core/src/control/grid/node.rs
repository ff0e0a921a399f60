//! Nodes of the grid: who they are, where they are reached, and whether they stay.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::{MemberId, NodeId};
use crate::limits::NODE_TEXT_BYTES;

/// A grid, by 16 bytes that its creator has drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GridId(pub [u8; 16]);

impl fmt::Display for GridId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Drawn by a process once in its life: it may ask to join as often as it likes, and joins once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JoinNonce(pub [u8; 16]);

/// What a node is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It holds partitions.
    Data,
    /// It only votes.
    Arbiter,
}

/// Whether a node stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// It does.
    Joined,
    /// Its partitions move away, and then it leaves.
    Draining,
}

/// The formats of the control state and of what peers say to each other that a binary understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Formats {
    /// The lowest.
    pub oldest: u32,
    /// The highest.
    pub newest: u32,
}

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeDescription {
    /// `host:port` for other nodes.
    pub peer_address: String,
    /// `host:port` for clients.
    pub client_address: String,
    /// What fails together; `None` is a zone of its own.
    pub zone: Option<String>,
    /// For people: the machine or the pod.
    pub host: String,
    /// For people: the version of the binary.
    pub version: String,
    /// What the binary understands.
    pub formats: Formats,
    /// What it is there for.
    pub role: Role,
    /// It has not yet fetched and compiled the functions that it is to run: no partitions should be on it before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prepares: bool,
    /// It keeps nothing on disk: when its process has ended it does not come back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_memory: bool,
}

/// A text that a node says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeText {
    /// [`NodeDescription::peer_address`].
    PeerAddress,
    /// [`NodeDescription::client_address`].
    ClientAddress,
    /// [`NodeDescription::zone`].
    Zone,
    /// [`NodeDescription::host`].
    Host,
    /// [`NodeDescription::version`].
    Version,
}

impl fmt::Display for NodeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerAddress => "peer address",
            Self::ClientAddress => "client address",
            Self::Zone => "zone",
            Self::Host => "host",
            Self::Version => "version",
        })
    }
}

/// A text about a node that is longer than is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[error("the {field} of a node has {bytes} bytes, at most {NODE_TEXT_BYTES} are allowed")]
pub struct TextTooLong {
    /// Which one.
    pub field: NodeText,
    /// Its length.
    pub bytes: usize,
}

impl NodeDescription {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`TextTooLong`] names the field.
    pub fn validate(&self) -> Result<(), TextTooLong> {
        let texts = [
            (NodeText::PeerAddress, &self.peer_address),
            (NodeText::ClientAddress, &self.client_address),
            (NodeText::Host, &self.host),
            (NodeText::Version, &self.version),
        ];
        let zone = self.zone.as_ref().map(|zone| (NodeText::Zone, zone));
        match texts.into_iter().chain(zone).find(|(_, text)| text.len() > NODE_TEXT_BYTES) {
            Some((field, text)) => Err(TextTooLong { field, bytes: text.len() }),
            None => Ok(()),
        }
    }
}

/// A process that wants to be a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joining {
    /// The grid that it means.
    pub grid: GridId,
    /// Of this process.
    pub nonce: JoinNonce,
    /// Who it was, if it has a data directory that says so.
    pub known: Option<MemberId>,
    /// What it says about itself.
    pub description: NodeDescription,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The life of its memory that counts: an earlier one is nobody any more.
    pub member: MemberId,
    /// Of the process whose memory that is.
    pub nonce: JoinNonce,
    /// Whether it stays.
    pub state: NodeState,
    /// What it says about itself.
    pub description: NodeDescription,
    /// It was in an in-sync set in this life: its memory may hold what no set counts on any more.
    pub has_held: bool,
}

impl Node {
    pub(super) fn new(member: MemberId, joining: &Joining) -> Self {
        Self {
            member,
            nonce: joining.nonce,
            state: NodeState::Joined,
            description: joining.description.clone(),
            has_held: false,
        }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.member.node
    }

    /// Whether partitions should be on it, at the latest when it has prepared.
    #[must_use]
    pub fn takes_partitions(&self) -> bool {
        self.state == NodeState::Joined && self.description.role == Role::Data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_a_node_are_bounded() {
        let text = |bytes| "x".repeat(bytes);
        let mut node = NodeDescription {
            peer_address: text(NODE_TEXT_BYTES),
            client_address: text(NODE_TEXT_BYTES),
            zone: Some(text(NODE_TEXT_BYTES)),
            host: text(NODE_TEXT_BYTES),
            version: text(NODE_TEXT_BYTES),
            formats: Formats { oldest: 1, newest: 1 },
            role: Role::Data,
            prepares: false,
            in_memory: false,
        };
        assert_eq!(node.validate(), Ok(()));
        node.zone = Some(text(NODE_TEXT_BYTES + 1));
        assert_eq!(node.validate(), Err(TextTooLong { field: NodeText::Zone, bytes: NODE_TEXT_BYTES + 1 }));
        node.host = text(NODE_TEXT_BYTES + 1);
        assert_eq!(node.validate(), Err(TextTooLong { field: NodeText::Host, bytes: NODE_TEXT_BYTES + 1 }));
    }
}
