//! What a node asks of another and waits for: what the control group needs, and to be known to live.
//!
//! What the group's members say to each other, proposals and what was decided are bytes here, in the group's own formats.

use bytes::Bytes;
use wattle_core::ids::{GridTime, MemberId, NodeId};

use crate::identity::Purpose;

/// What a call or an answer takes in memory beside what is in it, in bytes.
const OVERHEAD: usize = 256;
/// What each of many byte strings takes on the wire beside its bytes, at most.
const CHANGE_OVERHEAD: usize = 8;

/// What a member takes on the wire beside its address, at most.
const PLACE_OVERHEAD: usize = 32;

/// How far a copy of the control group's state is. A later generation is further, whatever the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ControlPosition {
    /// Of the control group: rises when it is built anew.
    pub generation: u32,
    /// Of the state: rises with every decision.
    pub version: u64,
}

/// That a member lives. Who it is, the link knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// How far it follows the control group.
    pub position: ControlPosition,
    /// Grid time by its clock, if it has heard of that before.
    pub time: Option<GridTime>,
}

/// A leader's answer to a heartbeat: the member's session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// How far the leader's state is: who is behind it follows.
    pub position: ControlPosition,
    /// By the leader's clock, when it answered.
    pub time: GridTime,
}

/// Asks for what was decided behind a position. Who has nothing newer answers when it has, or says so after
/// [`FOLLOW_TIME`](wattle_core::limits::FOLLOW_TIME).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follow {
    /// What the asking node has.
    pub after: ControlPosition,
    /// Of a snapshot of which it has pieces: what it lacks.
    pub rest_of: Option<SnapshotRest>,
}

/// A snapshot but for its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotRest {
    /// Where the snapshot was taken.
    pub position: ControlPosition,
    /// So many bytes are there.
    pub offset: u64,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// One after the other, all that is between.
    Changes {
        /// What one has with them.
        position: ControlPosition,
        /// In the control group's format, oldest first, at most [`FOLLOW_CHANGES`](wattle_core::limits::FOLLOW_CHANGES). None: there
        /// is nothing newer.
        changes: Vec<Bytes>,
    },
    /// Nobody remembers all that is between: a piece of the whole state.
    Piece(SnapshotPiece),
}

/// Some bytes of a snapshot, at most [`CONTROL_PIECE_BYTES`](wattle_core::limits::CONTROL_PIECE_BYTES).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPiece {
    /// Where the snapshot was taken.
    pub position: ControlPosition,
    /// So many bytes come before.
    pub offset: u64,
    /// Bytes of the whole snapshot.
    pub total: u64,
    /// Those from there on.
    pub content: Bytes,
}

/// A question to whoever is at an address: how are things?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Drawn by the asking process: among the addresses that it knows may be its own.
    pub process: u128,
    /// It wants to create the grid, and asks for the promise that no other one may.
    pub founds: bool,
}

/// How things are where somebody is asked. Who that is and in which grid, the link says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Situation {
    /// Drawn by the process that answers.
    pub process: u128,
    /// The process that may create the grid, as far as this one is concerned: it has promised so.
    pub promised: Option<u128>,
    /// Who leads the control group, as far as is known.
    pub leader: Option<NodeId>,
    /// Who votes in it and where, as far as is known; at most [`VOTERS`](wattle_core::limits::VOTERS), or twice as many while they
    /// change.
    pub voters: Vec<(MemberId, String)>,
    /// Which control group it is, if there is one yet.
    pub generation: Option<Generation>,
}

/// Which of the control groups of a grid: one that was lost is built anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// From 1.
    pub number: u32,
    /// The node that has built it.
    pub founder: NodeId,
}

impl Generation {
    /// That of a grid before its control group was ever built anew.
    pub const FIRST: Self = Self { number: 1, founder: NodeId(1) };
}

/// What became of the wish to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The process is a member.
    Admitted {
        /// Which one.
        member: MemberId,
        /// All members and where they are, itself too.
        members: Vec<(MemberId, String)>,
    },
    /// It is not, for this reason, in the control group's format.
    Refused(Bytes),
}

/// Why a node does not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallRefusal {
    /// Only the leader of the control group does that.
    #[error("the node does not lead the control group; {}", whereabouts(.leader))]
    NotLeader {
        /// Who leads, as far as it knows.
        leader: Option<NodeId>,
    },
    /// It has no part in the control group, or nothing of its state, yet or any more.
    #[error("the node has no part in the control group")]
    NoPart,
    /// The answer is larger than an answer may be.
    #[error("the answer has {bytes} bytes, more than travel between nodes")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// It took too long. It may be done all the same.
    #[error("the node has found no answer in time: ask again")]
    Late,
    /// It does not know what it was asked: it is older than this node.
    #[error("the node does not know this kind of call: upgrade it")]
    Unknown,
    /// For a reason that only newer nodes know.
    #[error("for a reason that is not known here: is the other node newer?")]
    Unrecognised,
}

fn whereabouts(leader: &Option<NodeId>) -> String {
    leader.map_or_else(|| "it knows no leader".to_owned(), |leader| format!("node {} does", leader.0))
}

/// Whatever is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Control(Bytes),
    Propose(Bytes),
    Heartbeat(Heartbeat),
    AskHeartbeat,
    Follow(Follow),
    Ask(Ask),
    Join(Bytes),
    AskPosition,
}

/// Whatever is answered, to the call of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Control(Bytes),
    Propose(Bytes),
    Heartbeat(HeartbeatAnswer),
    AskHeartbeat(Heartbeat),
    Follow(Decided),
    Ask(Situation),
    Join(Admission),
    AskPosition(ControlPosition),
    Refused(CallRefusal),
}

impl Call {
    /// What the link that carries it is for.
    pub(crate) fn purpose(&self) -> Purpose {
        match self {
            Self::Heartbeat(_) | Self::AskHeartbeat => Purpose::Heartbeats,
            Self::Propose(_) | Self::Follow(_) | Self::AskPosition => Purpose::Calls,
            Self::Control(_) => Purpose::Control,
            Self::Ask(_) | Self::Join(_) => Purpose::Stranger,
        }
    }

    /// Of what it carries, in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Control(bytes) | Self::Propose(bytes) | Self::Join(bytes) => bytes.len(),
            Self::Heartbeat(_) | Self::AskHeartbeat | Self::AskPosition | Self::Follow(_) | Self::Ask(_) => 0,
        }
    }

    /// What it counts for in a queue, in bytes.
    pub(crate) fn weight(&self) -> usize {
        OVERHEAD + self.len()
    }
}

impl Answer {
    /// Of what it carries, in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Control(bytes)
            | Self::Propose(bytes)
            | Self::Join(Admission::Refused(bytes))
            | Self::Follow(Decided::Piece(SnapshotPiece { content: bytes, .. })) => bytes.len(),
            Self::Follow(Decided::Changes { changes, .. }) => {
                changes.iter().map(|change| CHANGE_OVERHEAD + change.len()).sum()
            }
            Self::Ask(Situation { voters: places, .. })
            | Self::Join(Admission::Admitted { members: places, .. }) => {
                places.iter().map(|(_, address)| PLACE_OVERHEAD + address.len()).sum()
            }
            Self::Heartbeat(_) | Self::AskHeartbeat(_) | Self::AskPosition(_) | Self::Refused(_) => 0,
        }
    }
}
