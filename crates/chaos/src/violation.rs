//! [`Violation`]: what must not be.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

/// What must not be; or what has kept us from finding out.
#[derive(Debug, Error)]
pub enum Violation {
    /// No order of the operations explains what clients were shown.
    #[error(
        "key {key}: only {explained} of {answered} answers can be explained; its history is in {}",
        history.display()
    )]
    NotLinearizable {
        /// Which one.
        key: String,
        /// Answers that an order explains.
        explained: usize,
        /// All answers.
        answered: usize,
        /// A file.
        history: PathBuf,
    },
    /// The checker has given up.
    #[error("key {key}: its history is too long to be judged; it is in {}", history.display())]
    Undecided {
        /// Which one.
        key: String,
        /// A file.
        history: PathBuf,
    },
    /// An entry cannot be read when everything is well again.
    #[error("key {key} cannot be read at the end: {error}")]
    Unreadable {
        /// Which one.
        key: String,
        /// Why.
        error: Box<wattle_client::Error>,
    },
    /// A call ran code that was replaced before the call began.
    #[error(
        "a call of {asked:?} to {answered:?} on key {key} ran module {module}, which was replaced before"
    )]
    OldCode {
        /// Its key.
        key: String,
        /// The module that ran.
        module: String,
        /// When the call began.
        asked: Duration,
        /// When it was answered.
        answered: Duration,
    },
    /// Partitions do not get their copies back.
    #[error("the grid has not come to rest within {waited:?}: {seen}")]
    NotSettled {
        /// How long.
        waited: Duration,
        /// What nodes say.
        seen: String,
    },
    /// A client is not answered although everything is well again.
    #[error("client {client} was answered {answered} times within {waited:?} after the last fault")]
    NoProgress {
        /// Which one.
        client: usize,
        /// How often.
        answered: u64,
        /// How long.
        waited: Duration,
    },
    /// A node has ended by itself, or badly.
    #[error("node {node} has ended: {status:?}")]
    NodeEnded {
        /// Which one.
        node: usize,
        /// How, if that is known.
        status: Option<ExitStatus>,
    },
    /// A node has panicked.
    #[error("node {node} has panicked: {line}")]
    NodePanicked {
        /// Which one.
        node: usize,
        /// What it said.
        line: String,
    },
    /// A node does not serve.
    #[error("node {node} does not serve: {error}")]
    NotStarted {
        /// Which one.
        node: usize,
        /// What a client was told.
        error: Box<wattle_client::Error>,
    },
    /// A node does not end.
    #[error("node {node} goes on after it was told to stop")]
    NotStopped {
        /// Which one.
        node: usize,
    },
    /// The grid does not take what every run begins with.
    #[error("the grid cannot be prepared: {0}")]
    NotPrepared(Box<wattle_client::Error>),
    /// The system refuses what a run needs.
    #[error("the system: {0}")]
    System(#[source] std::io::Error),
}
