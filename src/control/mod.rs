//! This node's part in the control group: proposals go in, and what is decided comes out, to be followed. What the commands mean is
//! decided in [`wattle_core::control`]; how they are replicated, in `wattle_control`.

mod data_directory;
mod founding;
mod voter;

use std::sync::Arc;

use tokio::sync::watch;
use wattle_control::{ControlVersion, Decided, ProposeError};
use wattle_core::control::{ControlState, GroupApplied, GroupCommand, GroupRefusal, GroupState, Refusal};

pub(crate) use data_directory::{DataDirectory, DataDirectoryError, write_durably};
pub(crate) use founding::{FORMAT, Founding, start};
use voter::Voter;
pub(crate) use voter::VoterError;

/// The control group, as this node takes part in it.
#[derive(Debug)]
pub(crate) struct Control {
    voter: Voter,
    /// Written by the voter, whichever there is.
    decided: watch::Receiver<Decided>,
    /// Up to where this node has done what was decided.
    followed: watch::Sender<ControlVersion>,
}

/// Why a command is not decided, or not known to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDecided {
    /// It makes no sense in the state that it met.
    #[error(transparent)]
    Refused(#[from] GroupRefusal),
    /// It was not proposed.
    #[error(transparent)]
    NotProposed(ProposeError),
    /// It was not proposed: the voter's disk takes nothing.
    #[error(transparent)]
    Disk(#[from] VoterError),
    /// The voter's disk has failed while it was decided.
    #[error("the control log takes no more writes")]
    DiskFailed,
    /// It was proposed, and nobody has said what became of it.
    #[error("it may be decided, or may be later: {0}")]
    InDoubt(#[source] ProposeError),
}

impl From<Refusal> for NotDecided {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

impl Control {
    fn new(voter: Voter) -> Self {
        let decided = voter.watch();
        Self { voter, decided, followed: watch::Sender::new(ControlVersion::default()) }
    }

    /// Has a command decided and made durable, and waits until this node has followed it.
    ///
    /// # Errors
    /// [`NotDecided`] says of each case whether it may be decided all the same.
    pub(crate) async fn propose(&self, command: GroupCommand) -> Result<GroupApplied, NotDecided> {
        let group = self.voter.group().await?;
        let proposed = group.propose(group.proposal(command)).await;
        if let Ok(_) | Err(ProposeError::Refused(_)) = proposed {
            // It was published before it was answered; and what refuses it is to be seen, too.
            let version = self.decided.borrow().version;
            let mut followed = self.followed.subscribe();
            let is_followed = followed.wait_for(|followed| *followed >= version).await.is_ok();
            debug_assert!(is_followed, "the sender is this value's own");
        }
        proposed.map_err(|error| match error {
            ProposeError::Refused(refusal) => NotDecided::Refused(refusal),
            ProposeError::TooLarge { .. } | ProposeError::Busy => NotDecided::NotProposed(error),
            ProposeError::Ended if self.voter.has_failed() => NotDecided::DiskFailed,
            ProposeError::Expired | ProposeError::NotLeader { .. } | ProposeError::Ended => {
                NotDecided::InDoubt(error)
            }
        })
    }

    /// What is decided, as far as this node knows.
    pub(crate) fn decided(&self) -> Arc<GroupState> {
        Arc::clone(&self.decided.borrow().state)
    }

    /// Reads what is decided about maps and functions.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&ControlState) -> R) -> R {
        f(self.decided().catalog())
    }

    /// Tells of decisions; some may be left out.
    pub(crate) fn watch(&self) -> watch::Receiver<Decided> {
        self.decided.clone()
    }

    /// This node has done what was decided up to here.
    pub(crate) fn followed(&self, version: ControlVersion) {
        self.followed.send_if_modified(|followed| {
            let newer = version > *followed;
            *followed = version.max(*followed);
            newer
        });
    }

    /// Keeps the voter going until it is dropped.
    pub(crate) async fn keep(self: Arc<Self>) {
        self.voter.keep().await;
    }

    /// Ends the voter; its file is closed when this returns.
    pub(crate) async fn shutdown(&self) {
        self.voter.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
