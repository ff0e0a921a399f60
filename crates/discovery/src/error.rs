//! Why nobody is found.

use std::sync::Arc;

use hickory_resolver::net::NetError;
use kube::config::InferConfigError;
use kube::core::Status;
use kube::runtime::watcher;
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
    /// In Kubernetes it has a name of one label.
    #[error(
        "{text:?} is no name of a service in a namespace: say its name alone, and the namespace with --namespace"
    )]
    NoLabel {
        /// What was said.
        text: String,
    },
    /// The system does not say whom to ask.
    #[error("/etc/resolv.conf cannot be used: say which DNS server is to be asked")]
    System(#[source] Box<NetError>),
    /// Nothing says where the API server of a cluster is.
    #[error("neither a service account of a pod nor a kubeconfig says where the API server is")]
    NoCluster(#[source] Box<InferConfigError>),
    /// What says where the API server is cannot be used.
    #[error("the API server cannot be asked")]
    NoClient(#[source] Box<kube::Error>),
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
    /// The API server of the cluster has given no answer.
    #[error("this node cannot {asked} in namespace {namespace}{}", hint(source))]
    NoApiServer {
        /// What was asked for, as verbs and resources.
        asked: &'static str,
        /// Where.
        namespace: String,
        /// What is in the way.
        source: Arc<Unanswered>,
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

/// What the API server has said in place of an answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Nothing.
    #[error("it says nothing")]
    Silent,
    /// A question was not answered.
    #[error(transparent)]
    Asked(kube::Error),
    /// A list or a watch was not.
    #[error(transparent)]
    Watch(watcher::Error),
}

impl Unanswered {
    fn status(&self) -> Option<&Status> {
        match self {
            Self::Asked(kube::Error::Api(status))
            | Self::Watch(
                watcher::Error::WatchError(status)
                | watcher::Error::InitialListFailed(kube::Error::Api(status))
                | watcher::Error::WatchStartFailed(kube::Error::Api(status))
                | watcher::Error::WatchFailed(kube::Error::Api(status)),
            ) => Some(status),
            Self::Silent | Self::Asked(_) | Self::Watch(_) => None,
        }
    }
}

/// What to do about it.
fn hint(source: &Unanswered) -> &'static str {
    match source.status() {
        Some(status) if status.is_forbidden() => {
            ": a Role that allows it must be bound to the pod's service account"
        }
        Some(_) | None => "",
    }
}
