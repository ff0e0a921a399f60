//! Why nobody is found.

use hickory_resolver::net::NetError;
use wattle_core::limits::NODES;

/// Why a service cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It has no name that DNS can have.
    #[error("{text:?} is no NAME or NAME:PORT of a service")]
    NoName {
        /// What was said.
        text: String,
    },
    /// The system does not say whom to ask.
    #[error("/etc/resolv.conf cannot be used: say which DNS server is to be asked")]
    System(#[source] Box<NetError>),
}

/// Why it is not known where a service is. It may be known later.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// No server has given an answer.
    #[error("no DNS server says what {name} stands for")]
    NoAnswer {
        /// Which name.
        name: String,
        /// What is in the way.
        source: Box<NetError>,
    },
    /// It is somewhere else, too.
    #[error("{name} stands for {found} addresses, and a grid has at most {NODES} nodes")]
    TooMany {
        /// Which name.
        name: String,
        /// How many there are.
        found: usize,
    },
}
