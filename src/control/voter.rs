//! [`Voter`]: this node's voter in the control group, which begins again after its disk had failed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{Mutex, watch};
use tracing::{error, info};
use wattle_control::{
    ConfirmError, ControlGroup, Decided, Disk, DiskError, Identity, Options, Role, StartError, Storage,
    Timing,
};

use crate::peering::ControlWay;

/// How long to leave a disk alone that has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a voter does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VoterError {
    /// Its log cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It cannot be written.
    #[error("the control log takes no writes")]
    Start(#[from] StartError),
    /// It is alone, and does not lead.
    #[error("the control log takes no writes")]
    NotLeader(#[from] ConfirmError),
}

/// This node's voter.
pub(super) struct Voter {
    identity: Identity,
    way: ControlWay,
    /// The control log, if there is one.
    path: Option<PathBuf>,
    /// `None` while its disk takes nothing. Held to look it up or to exchange it.
    group: RwLock<Option<Arc<ControlGroup>>>,
    /// Held while it begins again.
    beginning: Mutex<()>,
    decided: watch::Sender<Decided>,
}

pub(super) async fn open(path: Option<&Path>) -> Result<Storage, DiskError> {
    let Some(path) = path.map(Path::to_path_buf) else { return Ok(Storage::Memory) };
    let opened = tokio::task::spawn_blocking(move || Disk::open(&path)).await;
    Ok(Storage::Disk(Box::new(opened.expect("opening does not panic")?)))
}

impl Voter {
    /// Begins the voter of a storage that was just opened.
    pub(super) async fn begin(
        identity: Identity,
        way: ControlWay,
        (path, storage): (Option<PathBuf>, Storage),
    ) -> Result<Self, StartError> {
        let decided = watch::Sender::new(Decided::default());
        let group = begin((identity, way.clone()), storage, &decided).await?;
        let group = RwLock::new(Some(Arc::new(group)));
        Ok(Self { identity, way, path, group, beginning: Mutex::default(), decided })
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// What is decided, in order, and nothing twice.
    pub(super) fn watch(&self) -> watch::Receiver<Decided> {
        self.decided.subscribe()
    }

    /// The voter; one whose disk has failed begins again.
    pub(super) async fn group(&self) -> Result<Arc<ControlGroup>, VoterError> {
        if let Some(group) = self.running() {
            return Ok(group);
        }
        let _turn = self.beginning.lock().await;
        if let Some(group) = self.running() {
            return Ok(group);
        }
        let failed = self.group.write().take();
        if let Some(failed) = failed {
            error!("the control log takes no more writes: maps and functions stay as they are until it does");
            failed.shutdown().await;
        }
        let storage = open(self.path.as_deref()).await?;
        let group = Arc::new(begin((self.identity, self.way.clone()), storage, &self.decided).await?);
        if group.status().voters.len() == 1
            && let Err(error) = group.confirm_leadership().await
        {
            group.shutdown().await;
            return Err(error.into());
        }
        *self.group.write() = Some(Arc::clone(&group));
        info!("the control log takes writes again");
        Ok(group)
    }

    /// Whether its disk has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.running().is_none()
    }

    pub(super) fn running(&self) -> Option<Arc<ControlGroup>> {
        self.group.read().clone().filter(|group| group.status().role != Role::Failed)
    }

    /// Waits until it leads.
    pub(super) async fn leading(&self) -> Arc<ControlGroup> {
        loop {
            if let Some(group) = self.running()
                && group.until(|status| status.role == Role::Leader).await.is_some()
            {
                return group;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Lets it begin again whenever its disk has failed, until this is dropped.
    pub(super) async fn keep(&self) {
        loop {
            match self.group().await {
                Ok(group) => {
                    group.until(|status| status.role == Role::Failed).await;
                    if group.status().role != Role::Failed {
                        // It was shut down.
                        return;
                    }
                }
                Err(error) => {
                    error!(%error, "the control log cannot be used");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    pub(super) async fn shutdown(&self) {
        let group = self.group.read().clone();
        if let Some(group) = group {
            group.shutdown().await;
        }
    }
}

/// A voter that begins again has an older state at first: that is not published.
async fn begin(
    (identity, way): (Identity, ControlWay),
    storage: Storage,
    publish: &watch::Sender<Decided>,
) -> Result<ControlGroup, StartError> {
    let publish = publish.clone();
    let observer = Box::new(move |decided: &Decided, _| {
        publish.send_if_modified(|published| {
            let newer = decided.created && (decided.version > published.version || !published.created);
            if newer {
                *published = decided.clone();
            }
            newer
        });
    });
    let options = Options { identity, storage, timing: Timing::default(), observer };
    ControlGroup::start(options, way).await
}

impl std::fmt::Debug for Voter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Voter").field("identity", &self.identity).finish_non_exhaustive()
    }
}
