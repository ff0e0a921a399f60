//! What can go wrong with a call, as variants that a program branches on.

use crate::failure::{Failure, Outcome};

/// Why a call failed. Variants that come from a node carry its [`Failure`]: reason, outcome, message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No map has this name. Writes create maps, reads do not.
    #[error("{0}")]
    MapNotFound(Box<Failure>),
    /// A map of this name exists already.
    #[error("{0}")]
    MapExists(Box<Failure>),
    /// No function has this name.
    #[error("{0}")]
    FunctionNotFound(Box<Failure>),
    /// The uploaded bytes are not a module that the grid can run.
    #[error("{0}")]
    ModuleRefused(Box<Failure>),
    /// A write asked for another version than the entry has.
    #[error("{failure}")]
    VersionMismatch {
        /// The entry's version; `Some(0)` when there is no entry, `None` when the node did not say.
        current: Option<u64>,
        /// What the node said.
        failure: Box<Failure>,
    },
    /// A write asked for there to be no entry, and there is one.
    #[error("{0}")]
    AlreadyExists(Box<Failure>),
    /// The function itself refused: nothing changed.
    #[error("{failure}")]
    FunctionFailed {
        /// The function's own code; `None` when the node did not say.
        code: Option<u32>,
        /// The function's own message.
        message: String,
        /// What the node said.
        failure: Box<Failure>,
    },
    /// The function trapped or went past its budget or its memory: nothing changed.
    #[error("{0}")]
    FunctionStopped(Box<Failure>),
    /// The function was stopped too often and is not run until a version is promoted or another one is uploaded.
    #[error("{0}")]
    FunctionSuspended(Box<Failure>),
    /// The node has more work than it takes, and had so until the call's timeout.
    #[error("{0}")]
    Overloaded(Box<Failure>),
    /// The node or the map is full: nothing changed.
    #[error("{0}")]
    Full(Box<Failure>),
    /// A name, a key, a value, a batch or an argument is longer than the limit.
    #[error("{0}")]
    TooLarge(Box<Failure>),
    /// The value is not what the operation or the map's content type asks for.
    #[error("{0}")]
    InvalidValue(Box<Failure>),
    /// No node answered in time, and nothing changed.
    #[error("{0}")]
    Unavailable(Box<Failure>),
    /// The time ended without an answer: the change was made, or will be, or neither.
    #[error("{0}; whether it took effect is unknown")]
    InDoubt(Box<Failure>),
    /// Any other refusal: see [`Failure::reason`].
    #[error("{0}")]
    Refused(Box<Failure>),
    /// Not a URL that a client can connect to.
    #[error("the endpoint {endpoint:?} is not a URL like http://127.0.0.1:7117")]
    InvalidEndpoint {
        /// As it was given.
        endpoint: String,
    },
    /// A key, a value, an argument or a response could not be encoded or decoded.
    #[error(transparent)]
    Codec(#[from] crate::codec::CodecError),
    /// A node's answer breaks the protocol.
    #[error("the node's answer is malformed: {what}")]
    MalformedAnswer {
        /// What was expected.
        what: &'static str,
    },
    /// A packed frame could not be written or read.
    #[error("malformed frame: {0}")]
    Frame(#[from] wattle_frame::FrameError),
    /// The pipeline was closed while the call waited.
    #[error("the pipeline is closed")]
    PipelineClosed,
}

impl Error {
    /// What the node said, for errors that come from one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::MapNotFound(failure)
            | Self::MapExists(failure)
            | Self::FunctionNotFound(failure)
            | Self::ModuleRefused(failure)
            | Self::VersionMismatch { failure, .. }
            | Self::AlreadyExists(failure)
            | Self::FunctionFailed { failure, .. }
            | Self::FunctionStopped(failure)
            | Self::FunctionSuspended(failure)
            | Self::Overloaded(failure)
            | Self::Full(failure)
            | Self::TooLarge(failure)
            | Self::InvalidValue(failure)
            | Self::Unavailable(failure)
            | Self::InDoubt(failure)
            | Self::Refused(failure) => Some(failure),
            Self::InvalidEndpoint { .. }
            | Self::Codec(_)
            | Self::MalformedAnswer { .. }
            | Self::Frame(_)
            | Self::PipelineClosed => None,
        }
    }

    /// The stable reason, such as `MAP_NOT_FOUND`.
    pub fn reason(&self) -> Option<&str> {
        self.failure().and_then(Failure::reason)
    }

    /// What became of the change that the call asked for, where that is known.
    pub fn outcome(&self) -> Option<Outcome> {
        self.failure().and_then(Failure::outcome)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        if failure.outcome() == Some(Outcome::InDoubt) {
            return Self::InDoubt(Box::new(failure));
        }
        match failure.reason() {
            Some("MAP_NOT_FOUND") => Self::MapNotFound(Box::new(failure)),
            Some("MAP_EXISTS") => Self::MapExists(Box::new(failure)),
            Some("FUNCTION_NOT_FOUND") => Self::FunctionNotFound(Box::new(failure)),
            Some(reason) if reason.starts_with("MODULE_") => Self::ModuleRefused(Box::new(failure)),
            Some("VERSION_MISMATCH") => {
                Self::VersionMismatch { current: failure.number("version"), failure: Box::new(failure) }
            }
            Some("ALREADY_EXISTS") => Self::AlreadyExists(Box::new(failure)),
            Some("FUNCTION_FAILED") => {
                let code = failure.number("function_code").and_then(|code| u32::try_from(code).ok());
                let message = failure.fact("function_message").unwrap_or(failure.message()).to_owned();
                Self::FunctionFailed { code, message, failure: Box::new(failure) }
            }
            Some("FUNCTION_STOPPED") => Self::FunctionStopped(Box::new(failure)),
            Some("FUNCTION_SUSPENDED") => Self::FunctionSuspended(Box::new(failure)),
            Some("OVERLOADED") => Self::Overloaded(Box::new(failure)),
            Some("NODE_FULL" | "MAP_FULL") => Self::Full(Box::new(failure)),
            Some("TOO_LARGE") => Self::TooLarge(Box::new(failure)),
            Some("INVALID_VALUE" | "NOT_AN_INTEGER") => Self::InvalidValue(Box::new(failure)),
            Some("DEADLINE_BEFORE_START" | "SHUTTING_DOWN") => Self::Unavailable(Box::new(failure)),
            _ if failure.is_unavailable() => Self::Unavailable(Box::new(failure)),
            _ => Self::Refused(Box::new(failure)),
        }
    }
}
