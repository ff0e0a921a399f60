//! The control state of the node: who proposes a command gets it decided, made durable, and shown to all, in that order and one
//! after the other. What the commands mean is decided in [`wattle_core::control`]; this knows no network.

mod data_directory;
mod journal;

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use wattle_core::control::{Applied, Command, ControlState, Refusal};

pub(crate) use data_directory::{DataDirectory, DataDirectoryError, write_durably};
use journal::Journal;
pub(crate) use journal::JournalError;

/// The control state, and the journal if it is to survive a restart.
#[derive(Debug)]
pub(crate) struct Control {
    /// Held for a whole proposal: it puts them in order. `None` without a data directory.
    journal: Mutex<Option<Journal>>,
    /// Only exchanged, under the lock of the journal: readers never wait for a disk.
    state: RwLock<Arc<ControlState>>,
}

/// Why a command has changed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProposeError {
    /// It makes no sense in this state.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be made durable.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Control {
    /// An empty state that ends with the process.
    pub(crate) fn in_memory() -> Self {
        Self { journal: Mutex::new(None), state: RwLock::default() }
    }

    /// The state of a data directory, which must stay open for as long as this is used. Blocks on the disk.
    ///
    /// # Errors
    /// The journal cannot be opened or applied.
    pub(crate) fn open(directory: &DataDirectory) -> Result<Self, JournalError> {
        let (journal, state) = Journal::open(directory)?;
        Ok(Self { journal: Mutex::new(Some(journal)), state: RwLock::new(Arc::new(state)) })
    }

    /// Decides a command, makes it durable, makes it visible, and calls `publish` before the next command is decided, so that
    /// what it tells others comes in order. `publish` must not propose.
    ///
    /// Blocks on the disk and on other proposals: not for threads that serve connections.
    ///
    /// # Errors
    /// [`ProposeError`]: the state is as it was.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand the command over, mostly to a blocking thread"
    )]
    pub(crate) fn propose(
        &self,
        command: Command,
        publish: impl FnOnce(&ControlState, &Applied),
    ) -> Result<Applied, ProposeError> {
        let mut journal = self.journal.lock();
        let before = Arc::clone(&self.state.read());
        // A copy, because a command that did not reach the disk must not be seen: bounded by the limits of maps, functions and
        // versions, 131,072 versions at worst, and small beside an fsync in any usual state.
        let mut after = ControlState::clone(&before);
        let applied = after.apply(&command)?;
        if applied != Applied::Unchanged
            && let Some(journal) = journal.as_mut()
        {
            journal.append(&command, &before)?;
        }
        let after = Arc::new(after);
        *self.state.write() = Arc::clone(&after);
        publish(&after, &applied);
        Ok(applied)
    }

    /// Reads the state as the last command left it. Does not block.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&ControlState) -> R) -> R {
        let state = Arc::clone(&self.state.read());
        f(&state)
    }
}

#[cfg(test)]
mod tests;
