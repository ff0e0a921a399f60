//! Why the containers of a pod cannot be started yet.

use std::io;
use std::path::{Path, PathBuf};

use super::probe::Unsupported;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Unprepared {
    #[error("all addresses are taken")]
    NoAddress,
    #[error("{kind} \"{name}\" not found")]
    Missing { kind: &'static str, name: String },
    #[error("persistentvolumeclaim \"{0}\" is not bound")]
    Unbound(String),
    #[error("couldn't find key {key} in {kind} \"{name}\"")]
    NoKey { kind: &'static str, name: String, key: String },
    #[error("volume \"{0}\" is mounted and not there")]
    NoVolume(String),
    #[error("field {0} is not known")]
    NoField(String),
    #[error("{0} is not supported here")]
    Feature(String),
    #[error(transparent)]
    Probe(#[from] Unsupported),
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
}

impl Unprepared {
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    /// What containers wait for, as `kubectl get pods` shows it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoAddress | Self::Missing { .. } | Self::Unbound(_) | Self::Api(_) | Self::File { .. } => {
                "ContainerCreating"
            }
            Self::NoKey { .. } | Self::NoVolume(_) | Self::NoField(_) | Self::Feature(_) | Self::Probe(_) => {
                "CreateContainerConfigError"
            }
        }
    }
}
