//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

use kube::config::KubeconfigError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("a selector cannot be read: {0}")]
    Selector(#[from] kube::core::ParseExpressionError),
    #[error("the kubeconfig leads nowhere: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    #[error("cannot use {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("no processes can be started: {0}")]
    Thread(io::Error),
    #[error("no network of loopback addresses is free")]
    NoNetwork,
    #[error("the kubelet at {address} cannot listen: {source}")]
    Kubelet { address: std::net::Ipv4Addr, source: io::Error },
    #[error("{found} nodes are wanted; there may be from 1 to {most}")]
    Nodes { found: usize, most: usize },
    #[error("no pod {namespace}/{name} runs here")]
    NoSuchPod { namespace: String, name: String },
    #[error("no node is called {name}")]
    NoSuchNode { name: String },
    #[error("{address} is no address of a pod here")]
    ForeignAddress { address: std::net::Ipv4Addr },
    #[error("the cluster has stopped")]
    Stopped,
    #[error("revision {name} holds no template: {source}")]
    Revision { name: String, source: serde_json::Error },
}

impl Error {
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    /// Somebody else was faster: what was read is old, and another look will do.
    pub(crate) fn is_race(&self) -> bool {
        matches!(self, Self::Api(error) if is_status(error, 409) || is_status(error, 404))
    }
}

/// Whether the server answered with this code.
pub(crate) fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
