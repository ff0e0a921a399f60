//! [`Voter`]: this node's voter in the control group. It begins again after its disk had failed; and if the group was built anew without it,
//! another takes its place.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tracing::{error, info};
use wattle_control::{
    ConfirmError, ControlGroup, CreateError, Decided, Disk, DiskError, GroupId, Identity, Options, Role,
    StartError, Storage, Timing,
};
use wattle_core::control::GroupState;

use super::data_directory::control_log_of;
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
    /// A log that was never used is in the way.
    #[error("a control log that was never used cannot be removed")]
    Unremovable(#[source] std::io::Error),
    /// It is alone, and does not lead.
    #[error("the control log takes no writes")]
    NotLeader(#[from] ConfirmError),
}

/// Why a group is not built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// Its first voter does not begin.
    #[error(transparent)]
    Voter(#[from] VoterError),
    /// It is not created.
    #[error("the new control group is not created")]
    NotCreated(#[from] CreateError),
}

/// This node's voter.
pub(super) struct Voter {
    way: ControlWay,
    timing: Timing,
    /// Held to look it up or to exchange it.
    current: RwLock<Current>,
    /// Held while it begins again, or another takes its place.
    beginning: Mutex<()>,
    decided: watch::Sender<Decided>,
    /// On which voters run.
    runtime: Handle,
}

/// Whether there is a voter to be kept.
enum Kept {
    GoesOn,
    Ended,
}

/// The voter that counts.
struct Current {
    identity: Identity,
    /// Its control log, if there is one.
    path: Option<PathBuf>,
    /// `None` while its disk takes nothing.
    group: Option<Arc<ControlGroup>>,
}

pub(super) async fn open(path: Option<&Path>) -> Result<Storage, DiskError> {
    let Some(path) = path.map(Path::to_path_buf) else { return Ok(Storage::Memory) };
    let opened = tokio::task::spawn_blocking(move || Disk::open(&path)).await;
    Ok(Storage::Disk(Box::new(opened.expect("opening does not panic")?)))
}

/// The log of a voter that has never begun. What is there was never of any use: its voter had not got the first state.
async fn open_new(path: Option<&Path>) -> Result<Storage, VoterError> {
    if let Some(path) = path {
        match tokio::fs::remove_file(path).await {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(VoterError::Unremovable(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(open(path).await?)
}

impl Voter {
    /// Begins the voter of a storage that was just opened.
    pub(super) async fn begin(
        identity: Identity,
        (way, timing): (ControlWay, Timing),
        (path, storage): (Option<PathBuf>, Storage),
    ) -> Result<Self, StartError> {
        let (decided, runtime) = (watch::Sender::new(Decided::default()), Handle::current());
        way.takes_part_in(identity.group);
        let others = (way.clone(), timing.clone());
        let group = Some(Arc::new(begin(identity, others, storage, decided.clone()).await?));
        let current = RwLock::new(Current { identity, path, group });
        Ok(Self { way, timing, current, beginning: Mutex::default(), decided, runtime })
    }

    pub(super) fn identity(&self) -> Identity {
        self.current.read().identity
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
        let (identity, path) = {
            let current = self.current.read();
            (current.identity, current.path.clone())
        };
        let failed = self.current.write().group.take();
        if let Some(failed) = failed {
            error!("the control log takes no more writes: maps and functions stay as they are until it does");
            failed.shutdown().await;
        }
        let storage = open(path.as_deref()).await?;
        let group = self.begin_another(identity, storage).await?;
        if group.status().voters == BTreeSet::from([identity.voter])
            && let Err(error) = group.confirm_leadership().await
        {
            group.shutdown().await;
            return Err(error.into());
        }
        self.current.write().group = Some(Arc::clone(&group));
        info!("the control log takes writes again");
        Ok(group)
    }

    /// Takes part in the group that has taken the place of this one's, with nothing of its log yet.
    pub(super) async fn succeed(&self, group: GroupId) -> Result<(), VoterError> {
        let _turn = self.beginning.lock().await;
        let Some((identity, path)) = self.successor(group) else { return Ok(()) };
        let storage = open_new(path.as_deref()).await?;
        let voter = self.begin_another(identity, storage).await?;
        info!(%group, "the control group was built anew: this node takes part in the new one");
        self.way.takes_part_in(group);
        self.exchange(Current { identity, path, group: Some(voter) }).await;
        Ok(())
    }

    /// Builds a group that takes the place of this voter's, and goes on from a state. Whether it is there: not if another one is already.
    /// Once begun it is done to the end, also if nobody waits for it any more: else the state might be known, and the group not be there.
    pub(super) async fn build(
        self: &Arc<Self>,
        group: GroupId,
        state: GroupState,
    ) -> Result<bool, BuildError> {
        let voter = Arc::clone(self);
        let building = self.runtime.spawn(async move { voter.build_whole(group, state).await });
        building.await.expect("to build does not panic, and the runtime runs")
    }

    async fn build_whole(&self, group: GroupId, state: GroupState) -> Result<bool, BuildError> {
        let _turn = self.beginning.lock().await;
        let Some((identity, path)) = self.successor(group) else { return Ok(false) };
        let storage = open_new(path.as_deref()).await?;
        let voter = self.begin_another(identity, storage).await.map_err(VoterError::from)?;
        // Before its state is known, and with that its reigns.
        self.way.takes_part_in(group);
        if let Err(error) = voter.create(state).await {
            voter.shutdown().await;
            return Err(error.into());
        }
        self.exchange(Current { identity, path, group: Some(voter) }).await;
        Ok(true)
    }

    /// Who this voter is in a newer group, and where that one's log is.
    fn successor(&self, group: GroupId) -> Option<(Identity, Option<PathBuf>)> {
        let current = self.current.read();
        let is_newer = group.succeeds(&current.identity.group);
        let path = current.path.as_deref().map(|path| control_log_of(path, group.generation));
        is_newer.then(|| (Identity { group, ..current.identity }, path))
    }

    async fn exchange(&self, current: Current) {
        let before = std::mem::replace(&mut *self.current.write(), current);
        if let Some(before) = before.group {
            before.shutdown().await;
        }
    }

    /// Whoever has asked for it may be gone before the voter is.
    async fn begin_another(
        &self,
        identity: Identity,
        storage: Storage,
    ) -> Result<Arc<ControlGroup>, StartError> {
        let others = (self.way.clone(), self.timing.clone());
        let begins = begin(identity, others, storage, self.decided.clone());
        Ok(Arc::new(
            self.runtime.spawn(begins).await.expect("to begin does not panic, and the runtime runs")?,
        ))
    }

    /// Whether its disk has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.running().is_none()
    }

    pub(super) fn running(&self) -> Option<Arc<ControlGroup>> {
        self.current.read().group.clone().filter(|group| group.status().role != Role::Failed)
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

    /// Lets it begin again whenever its disk has failed, and another take its place if its group was built anew, until this is dropped.
    pub(super) async fn keep(&self) {
        loop {
            let kept = match self.group().await {
                Ok(group) => self.keep_one(&group).await,
                Err(error) => Err(error),
            };
            match kept {
                Ok(Kept::Ended) => return,
                Ok(Kept::GoesOn) => {}
                Err(error) => {
                    error!(%error, "the control log cannot be used");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn keep_one(&self, group: &Arc<ControlGroup>) -> Result<Kept, VoterError> {
        tokio::select! {
            _ = group.until(|status| status.role == Role::Failed) => {}
            successor = group.until_succeeded() => {
                self.succeed(successor).await?;
                return Ok(Kept::GoesOn);
            }
        }
        let was_shut_down = group.status().role != Role::Failed && self.is_current(group);
        Ok(if was_shut_down { Kept::Ended } else { Kept::GoesOn })
    }

    fn is_current(&self, group: &Arc<ControlGroup>) -> bool {
        self.current.read().group.as_ref().is_some_and(|current| Arc::ptr_eq(current, group))
    }

    /// Ends it, behind what is being begun or built.
    pub(super) async fn shutdown(&self) {
        let _turn = self.beginning.lock().await;
        let group = self.current.read().group.clone();
        if let Some(group) = group {
            group.shutdown().await;
        }
    }
}

/// A voter that begins again has an older state at first: that is not published.
async fn begin(
    identity: Identity,
    (way, timing): (ControlWay, Timing),
    storage: Storage,
    publish: watch::Sender<Decided>,
) -> Result<ControlGroup, StartError> {
    let observer = Box::new(move |decided: &Decided, _| {
        publish.send_if_modified(|published| {
            let newer = decided.created && (decided.version > published.version || !published.created);
            if newer {
                *published = decided.clone();
            }
            newer
        });
    });
    let options = Options { identity, storage, timing, observer };
    ControlGroup::start(options, way).await
}

impl std::fmt::Debug for Voter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Voter").field("identity", &self.identity()).finish_non_exhaustive()
    }
}
