//! What can go wrong between two nodes.

use std::error::Error;
use std::io;

use wattle_core::ids::MemberId;
use wattle_core::limits::{
    PEER_CALL_BYTES, PEER_MESSAGE_BYTES, PEER_QUEUE_BYTES, PEER_QUEUE_MESSAGES, STRANGER_BYTES,
};

use crate::call::CallRefusal;
use crate::identity::name;
use crate::queue::{NotQueued, Queued};
use crate::refusal::Refusal;

/// Why a link could not be opened, or is closed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// An address is none.
    #[error("{address:?} is no HOST:PORT")]
    Address {
        /// As the directory has it.
        address: String,
    },
    /// There is no connection.
    #[error("{address} cannot be reached")]
    Connect {
        /// As the directory has it.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// It took too long to connect, or to open the link.
    #[error("{address} does not answer")]
    Timeout {
        /// As the directory has it.
        address: String,
    },
    /// The other has refused.
    #[error("refused by the other: {0}")]
    Refused(Refusal),
    /// This node has refused.
    #[error("refused here: {0}")]
    Denied(Refusal),
    /// The connection broke, or what is at its other end speaks something else.
    #[error("the connection broke")]
    Broken(#[source] Box<tonic::Status>),
    /// The other has ended it without a word.
    #[error("the other has ended the link")]
    Ended,
    /// No random numbers for a nonce.
    #[error("no random numbers")]
    Random(#[from] getrandom::Error),
}

impl LinkError {
    /// Whether the machine is there, but nobody listens: its process is dead, or not born yet.
    #[must_use]
    pub fn is_nobody_there(&self) -> bool {
        let mut source = self.source();
        while let Some(error) = source {
            let error_kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if error_kind == Some(io::ErrorKind::ConnectionRefused) {
                return true;
            }
            source = error.source();
        }
        false
    }
}

impl From<tonic::Status> for LinkError {
    fn from(status: tonic::Status) -> Self {
        Self::Broken(Box::new(status))
    }
}

/// A message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// This node is no member yet.
    #[error("this node is no member yet")]
    NotYet,
    /// The directory does not have this member.
    #[error("node {} is no member", name(.to))]
    UnknownMember {
        /// Who was meant.
        to: MemberId,
    },
    /// Too much waits.
    #[error(
        "{} messages of {} bytes wait: at most {PEER_QUEUE_MESSAGES} of {PEER_QUEUE_BYTES}",
        .0.messages, .0.bytes
    )]
    Full(Queued),
    /// There is no connection, and none is being made at this moment.
    #[error("the link is down")]
    Down,
    /// Nothing so large travels between nodes.
    #[error("{bytes} bytes are too many: at most {PEER_MESSAGE_BYTES}, {PEER_CALL_BYTES} in a call")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

impl From<NotQueued> for SendError {
    fn from(error: NotQueued) -> Self {
        match error {
            NotQueued::Full(queued) => Self::Full(queued),
            NotQueued::Closed => Self::Down,
        }
    }
}

/// A question to an address was not answered as it should be.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no answer. The question may have been heard.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The other does not do it.
    #[error(transparent)]
    Refused(#[from] CallRefusal),
    /// What came is the answer to another question.
    #[error("the answer is to another kind of question")]
    OtherKind,
    /// Nothing so large is heard of a stranger.
    #[error("{bytes} bytes are too many: at most {STRANGER_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// A call was not answered as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was not sent.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// The link broke: the request may have arrived.
    #[error("the link broke before the answer came")]
    Broken,
    /// The other does not do it.
    #[error(transparent)]
    Refused(#[from] CallRefusal),
    /// What came is the answer to another question.
    #[error("the answer is to another kind of call")]
    OtherKind,
}
