//! Why something could not be done.

use std::error::Error as _;
use std::time::Duration;

use kube::runtime::finalizer;

use crate::forbidden::Forbidden;
use crate::reach::Unreachable;

/// Why an object could not be reconciled. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Forbidden(Box<Forbidden>),
    #[error("the API server refuses: {message}")]
    Refused { code: u16, message: String },
    #[error("the API server cannot be asked: {}", with_causes(.0))]
    Kube(kube::Error),
    #[error(
        "{kind} {name} is there and does not belong to this Grid: delete it, or give the Grid another name"
    )]
    NotOurs { kind: String, name: String },
    #[error(
        "secret {name} is not there, or has no key `secret` of at least 16 bytes: put it back as it was, for the nodes go by it"
    )]
    NoSecret { name: String },
    #[error("malformed object: {what}")]
    Malformed { what: &'static str },
    #[error("no random numbers can be had")]
    Random,
    /// Not a fault: it is asked again after a while.
    #[error("{why}")]
    DeletionRefused { why: String, retry: Duration },
    #[error("the API server does not answer in time")]
    TooLate,
    #[error("the lease is over: another operator may act")]
    LeaseOver,
    #[error("the grid cannot be asked: {0}")]
    Unreachable(#[from] Unreachable),
    #[error("{0}")]
    Grid(#[from] wattle_client::Error),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 403 => {
                Self::Forbidden(Box::new(Forbidden::parse(&status.message)))
            }
            kube::Error::Api(status) => Self::Refused { code: status.code, message: status.message },
            // The operator's own client may have failed with its own error.
            kube::Error::Service(error) => match error.downcast::<Self>() {
                Ok(error) => *error,
                Err(error) => Self::Kube(kube::Error::Service(error)),
            },
            other => Self::Kube(other),
        }
    }
}

/// The error behind the finalizer's.
impl From<finalizer::Error<Self>> for Error {
    fn from(error: finalizer::Error<Self>) -> Self {
        match error {
            finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error) => error,
            finalizer::Error::AddFinalizer(error) | finalizer::Error::RemoveFinalizer(error) => error.into(),
            finalizer::Error::UnnamedObject => Self::Malformed { what: "no name" },
            finalizer::Error::InvalidFinalizer => Self::Malformed { what: "no finalizer" },
        }
    }
}

impl Error {
    /// For conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Forbidden(_) => "Forbidden",
            Self::Refused { .. } => "Refused",
            Self::Kube(_) => "ApiServerUnreachable",
            Self::NotOurs { .. } => "NameTaken",
            Self::NoSecret { .. } => "SecretMissing",
            Self::Malformed { .. } => "Malformed",
            Self::DeletionRefused { .. } => "DeletionRefused",
            Self::Random => "NoRandomNumbers",
            Self::TooLate => "ApiServerUnreachable",
            Self::LeaseOver => "LeaseOver",
            Self::Unreachable(_) => "GridNotReady",
            Self::Grid(_) => "GridRefuses",
        }
    }
}

/// An error and what is behind it: that of a connection says little by itself.
fn with_causes(error: &kube::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text += &format!(": {said}");
        }
        cause = error.source();
    }
    text
}

/// Why the operator ends.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("there is no cluster: neither is this a pod, nor is there a kubeconfig that can be used")]
    NoCluster(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{address} cannot be listened on")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("the probes' server has failed: {0}")]
    Serve(std::io::Error),
    #[error("another operator leads now: this one ends, so that only one acts")]
    LeadershipLost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("client error (Connect)")]
    struct Connect(#[source] std::io::Error);

    #[test]
    fn what_is_behind_an_error_of_the_connection_is_said() {
        let cause = Connect(std::io::Error::other("invalid peer certificate: UnknownIssuer"));
        let error = Error::from(kube::Error::Service(Box::new(cause)));
        assert_eq!(
            error.to_string(),
            "the API server cannot be asked: ServiceError: client error (Connect): invalid peer certificate: UnknownIssuer"
        );
    }
}
