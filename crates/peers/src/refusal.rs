//! [`Refusal`]: why a node has nothing to do with another.

use wattle_core::ids::{MemberId, NodeId};
use wattle_core::limits::NAME_BYTES;
use wattle_proto::internal as wire;
use wire::refusal::{self, Reason};

use crate::codec::{decode_member, encode_member};
use crate::identity::{Grid, describe, name};

/// The protocols that a node speaks, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

/// Why a link is not opened, or not kept. It names what one said and what the other has found; never the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// They speak different protocols.
    #[error(
        "no common protocol: one speaks {} to {}, the other {} to {}: upgrade the older node",
        .asked.oldest, .asked.newest, .here.oldest, .here.newest
    )]
    NoCommonVersion {
        /// Spoken by the one who was refused.
        asked: Versions,
        /// Spoken by the one who refuses.
        here: Versions,
    },
    /// They are in different grids.
    #[error("this is grid {here}, not {asked}")]
    OtherGrid {
        /// Of the one who was refused.
        asked: Grid,
        /// Of the one who refuses.
        here: Grid,
    },
    /// At this address is another node now, or another life of it.
    #[error("this is node {}, not {}", name(.here), name(.asked))]
    OtherMember {
        /// Who was meant.
        asked: MemberId,
        /// Who is here.
        here: MemberId,
    },
    /// The one who was refused is no member, as far as is known here.
    #[error("node {} is no member{}", name(.asked), known(.incarnation))]
    UnknownMember {
        /// Who it said it is.
        asked: MemberId,
        /// The life in which its node is known, if it is.
        incarnation: Option<u64>,
    },
    /// They do not know the same secret.
    #[error("{} and {} have different secrets", describe(.asked), describe(.here))]
    OtherSecret {
        /// Who it said it is.
        asked: MemberId,
        /// Who refuses.
        here: MemberId,
    },
    /// A link for something that is not known here.
    #[error("links for purpose {asked} are not known here")]
    UnknownPurpose {
        /// Its number.
        asked: i32,
    },
    /// What was said cannot be understood.
    #[error("what was said makes no sense: {problem:?}")]
    Malformed {
        /// In words.
        problem: String,
    },
    /// The same member has opened another link of this kind.
    #[error("a newer link of the same node has taken over")]
    Replaced,
    /// Others are opening so many links that it was not this one's turn any more.
    #[error("too many links are being opened: try again")]
    Busy,
    /// The node is in no grid yet, or has yet to hear who it is there.
    #[error("the node is no member yet: try again")]
    NotYet,
    /// The node stops.
    #[error("the node stops")]
    Stopping,
    /// A reason that only newer nodes know.
    #[error("for a reason that is not known here: is the other node newer?")]
    Unrecognised,
}

fn known(incarnation: &Option<u64>) -> String {
    incarnation.map_or_else(String::new, |known| format!(": its incarnation is {known}"))
}

impl Refusal {
    pub(crate) fn malformed(problem: &impl ToString) -> Self {
        Self::Malformed { problem: problem.to_string() }
    }

    pub(crate) fn encode(self) -> wire::Refusal {
        let reason = match self {
            Self::NoCommonVersion { asked, here } => Reason::NoCommonVersion(refusal::NoCommonVersion {
                asked: Some(encode_versions(asked)),
                here: Some(encode_versions(here)),
            }),
            Self::OtherGrid { asked, here } => Reason::OtherGrid(refusal::OtherGrid {
                asked: Some(encode_grid(&asked)),
                here: Some(encode_grid(&here)),
            }),
            Self::OtherMember { asked, here } => Reason::OtherMember(refusal::OtherMember {
                asked: Some(encode_member(asked)),
                here: Some(encode_member(here)),
            }),
            Self::UnknownMember { asked, incarnation } => Reason::UnknownMember(refusal::UnknownMember {
                asked: Some(encode_member(asked)),
                incarnation,
            }),
            Self::OtherSecret { asked, here } => Reason::OtherSecret(refusal::OtherSecret {
                asked: Some(encode_member(asked)),
                here: Some(encode_member(here)),
            }),
            Self::UnknownPurpose { asked } => Reason::UnknownPurpose(refusal::UnknownPurpose { asked }),
            Self::Malformed { problem } => Reason::Malformed(refusal::Malformed { problem }),
            Self::Replaced => Reason::Replaced(refusal::Replaced {}),
            Self::Stopping => Reason::Stopping(refusal::Stopping {}),
            Self::Busy => Reason::Busy(refusal::Busy {}),
            Self::NotYet => Reason::NotYet(refusal::NotYet {}),
            Self::Unrecognised => return wire::Refusal { reason: None },
        };
        wire::Refusal { reason: Some(reason) }
    }

    /// Reads what another has refused. What it does not say is zero: this is only for people to read.
    pub(crate) fn decode(refusal: wire::Refusal) -> Self {
        let Some(reason) = refusal.reason else { return Self::Unrecognised };
        match reason {
            Reason::NoCommonVersion(reason) => Self::NoCommonVersion {
                asked: decode_versions(reason.asked.unwrap_or_default()),
                here: decode_versions(reason.here.unwrap_or_default()),
            },
            Reason::OtherGrid(reason) => {
                Self::OtherGrid { asked: shown_grid(reason.asked), here: shown_grid(reason.here) }
            }
            Reason::OtherMember(reason) => {
                Self::OtherMember { asked: shown_member(reason.asked), here: shown_member(reason.here) }
            }
            Reason::UnknownMember(reason) => {
                Self::UnknownMember { asked: shown_member(reason.asked), incarnation: reason.incarnation }
            }
            Reason::OtherSecret(reason) => {
                Self::OtherSecret { asked: shown_member(reason.asked), here: shown_member(reason.here) }
            }
            Reason::UnknownPurpose(reason) => Self::UnknownPurpose { asked: reason.asked },
            Reason::Malformed(reason) => Self::Malformed { problem: shown(&reason.problem) },
            Reason::Replaced(_) => Self::Replaced,
            Reason::Stopping(_) => Self::Stopping,
            Reason::Busy(_) => Self::Busy,
            Reason::NotYet(_) => Self::NotYet,
        }
    }
}

/// So much of a text as a sound node says: it may come from a stranger.
fn shown(text: &str) -> String {
    text.chars().take(NAME_BYTES).collect()
}

fn shown_grid(grid: Option<wire::Grid>) -> Grid {
    let grid = grid.unwrap_or_default();
    let id = decode_grid(&grid).map_or(0, |grid| grid.id);
    Grid { id, name: shown(&grid.name) }
}

fn shown_member(member: Option<wire::Member>) -> MemberId {
    member.map_or(MemberId { node: NodeId(0), incarnation: 0 }, decode_member)
}

pub(crate) fn encode_versions(versions: Versions) -> wire::Versions {
    wire::Versions { oldest: versions.oldest, newest: versions.newest }
}

pub(crate) fn decode_versions(versions: wire::Versions) -> Versions {
    Versions { oldest: versions.oldest, newest: versions.newest }
}

pub(crate) fn encode_grid(grid: &Grid) -> wire::Grid {
    wire::Grid { id: grid.id.to_be_bytes().to_vec().into(), name: grid.name.clone() }
}

/// What a stranger, or who answers it, is in or looks for.
pub(crate) fn encode_sought(grid: &Grid) -> wire::Grid {
    let id = if grid.id == 0 { Vec::new() } else { grid.id.to_be_bytes().to_vec() };
    wire::Grid { id: id.into(), name: grid.name.clone() }
}

/// Reads that; `None` if its id has neither 16 bytes nor none.
pub(crate) fn decode_sought(grid: &wire::Grid) -> Option<Grid> {
    if grid.id.is_empty() {
        return Some(Grid { id: 0, name: grid.name.clone() });
    }
    decode_grid(grid)
}

/// Reads a grid; `None` if its id has not 16 bytes.
pub(crate) fn decode_grid(grid: &wire::Grid) -> Option<Grid> {
    let id = <[u8; 16]>::try_from(&grid.id[..]).ok()?;
    Some(Grid { id: u128::from_be_bytes(id), name: grid.name.clone() })
}
