//! Messages between voters, as bytes: version, kind, the length of the head, the head as JSON, and the bytes of a snapshot as the
//! rest. What changes here must be understood by the version before: the golden bytes in the tests say what that was.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wattle_core::limits::{CONTROL_MESSAGE_BYTES, CONTROL_PIECE_BYTES};

use crate::disk::json;
use crate::identity::{GroupId, Identity, VoterId};
use crate::raft::{AppendRequest, AppendResponse, SnapshotMeta, Vote, VoteRequest, VoteResponse};

const VERSION: u8 = 1;
/// Version, kind and the length of the head.
const PREFIX_BYTES: usize = 6;

const VOTE: u8 = 1;
const APPEND: u8 = 2;
const PIECE: u8 = 3;
/// Only as an answer.
const REFUSED: u8 = 255;

/// Who asks whom. Both are checked, for a connection leads to a node and not to a voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) group: GroupId,
    pub(crate) from: VoterId,
    pub(crate) to: VoterId,
}

impl Envelope {
    pub(crate) fn new(own: Identity, to: VoterId) -> Self {
        Self { group: own.group, from: own.voter, to }
    }
}

#[derive(Debug)]
pub(crate) enum Request {
    Vote(VoteRequest),
    Append(AppendRequest),
    Piece(Piece, Bytes),
}

/// Where bytes of a snapshot belong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// The leader's.
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) offset: u64,
    /// Bytes of the whole snapshot.
    pub(crate) total: u64,
}

#[derive(Debug)]
pub(crate) enum Answer {
    Vote(VoteResponse),
    Append(AppendResponse),
    Piece(PieceAnswer),
    Refused(PeerRefusal),
}

/// How far a snapshot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PieceAnswer {
    /// The piece from here is wanted next.
    Next(u64),
    /// The whole was installed, or the vote of the receiver is higher.
    Done(Vote),
}

/// Why a voter does not listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum PeerRefusal {
    #[error("the peer is of grid {here}")]
    OtherGroup { here: GroupId },
    #[error("the peer is voter {here}")]
    OtherVoter { here: VoterId },
    #[error("the peer cannot read the request")]
    Malformed,
    #[error("the peer says the request is not from whom it claims to be")]
    Impostor,
    #[error("the peer has ended")]
    Ended,
}

/// Bytes are no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a message has {bytes} bytes, at most {CONTROL_MESSAGE_BYTES} are allowed")]
    TooLong { bytes: usize },
    #[error("a message of {bytes} bytes is cut short")]
    Short { bytes: usize },
    #[error("a message has version {found}, this is version {VERSION}")]
    Version { found: u8 },
    #[error("a message is of the unknown kind {found}")]
    Kind { found: u8 },
    #[error("the head of a message cannot be read")]
    Head(#[from] serde_json::Error),
    #[error("a message has {bytes} bytes of a snapshot too many")]
    Tail { bytes: usize },
}

pub(crate) fn encode_request(envelope: Envelope, request: &Request) -> Bytes {
    match request {
        Request::Vote(vote) => frame(VOTE, &(envelope, vote), &[]),
        Request::Append(append) => frame(APPEND, &(envelope, append), &[]),
        Request::Piece(piece, bytes) => frame(PIECE, &(envelope, piece), bytes),
    }
}

pub(crate) fn decode_request(message: &Bytes) -> Result<(Envelope, Request), WireError> {
    let (kind, head, tail) = parts(message)?;
    let most = if kind == PIECE { CONTROL_PIECE_BYTES } else { 0 };
    if tail.len() > most {
        return Err(WireError::Tail { bytes: tail.len() });
    }
    match kind {
        VOTE => head_of(head).map(|(envelope, vote)| (envelope, Request::Vote(vote))),
        APPEND => head_of(head).map(|(envelope, append)| (envelope, Request::Append(append))),
        PIECE => head_of(head).map(|(envelope, piece)| (envelope, Request::Piece(piece, tail))),
        found => Err(WireError::Kind { found }),
    }
}

pub(crate) fn encode_answer(answer: &Answer) -> Bytes {
    match answer {
        Answer::Vote(vote) => frame(VOTE, vote, &[]),
        Answer::Append(append) => frame(APPEND, append, &[]),
        Answer::Piece(piece) => frame(PIECE, piece, &[]),
        Answer::Refused(refusal) => frame(REFUSED, refusal, &[]),
    }
}

pub(crate) fn decode_answer(message: &Bytes) -> Result<Answer, WireError> {
    let (kind, head, tail) = parts(message)?;
    if !tail.is_empty() {
        return Err(WireError::Tail { bytes: tail.len() });
    }
    match kind {
        VOTE => head_of(head).map(Answer::Vote),
        APPEND => head_of(head).map(Answer::Append),
        PIECE => head_of(head).map(Answer::Piece),
        REFUSED => head_of(head).map(Answer::Refused),
        found => Err(WireError::Kind { found }),
    }
}

fn frame(kind: u8, head: &impl Serialize, tail: &[u8]) -> Bytes {
    let head = json(head);
    let length = u32::try_from(head.len()).expect("entries are bounded far below 4 GiB");
    let mut message = Vec::with_capacity(PREFIX_BYTES + head.len() + tail.len());
    message.extend([VERSION, kind]);
    message.extend(length.to_le_bytes());
    message.extend(head);
    message.extend(tail);
    message.into()
}

fn parts(message: &Bytes) -> Result<(u8, &[u8], Bytes), WireError> {
    let bytes = message.len();
    if bytes > CONTROL_MESSAGE_BYTES {
        return Err(WireError::TooLong { bytes });
    }
    let Some((&[version, kind, ref length @ ..], rest)) = message.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(WireError::Short { bytes });
    };
    if version != VERSION {
        return Err(WireError::Version { found: version });
    }
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (head, _) = rest.split_at_checked(length).ok_or(WireError::Short { bytes })?;
    Ok((kind, head, message.slice(PREFIX_BYTES + length..)))
}

fn head_of<T: DeserializeOwned>(head: &[u8]) -> Result<T, WireError> {
    Ok(serde_json::from_slice(head)?)
}
