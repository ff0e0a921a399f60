//! [`Journal`]: control commands on disk, in the order in which they were applied. It is a table of commands by sequence and
//! one snapshot of the state before the first of them, in a redb file; what a command means is known to the control state.
//!
//! Sequences rise by one without gaps, and at most [`JOURNAL_COMMANDS`] follow the snapshot.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use redb::{
    AccessGuard, Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};
use wattle_core::control::{Command, ControlState, Refusal};
use wattle_core::limits::{JOURNAL_CACHE_BYTES, JOURNAL_COMMANDS};

use super::data_directory::{DataDirectory, sync_parent, unfinished_name};

/// Commands as JSON by sequence, from 1.
const COMMANDS: TableDefinition<u64, &[u8]> = TableDefinition::new("commands");
/// At most one row: the state as JSON, by the sequence of the last command in it.
const SNAPSHOT: TableDefinition<u64, &[u8]> = TableDefinition::new("snapshot");

type OpenDatabase = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// The journal of a data directory, which must stay open for as long as this is used.
pub(crate) struct Journal {
    path: PathBuf,
    open: OpenDatabase,
    /// `None` after a failed write, until the file could be opened again: redb takes no more writes after an error.
    database: Option<Database>,
    /// The sequence of the last command in the state.
    last: u64,
    /// The sequence of the last command in the snapshot, or an earlier one.
    snapshot: u64,
}

/// Why the journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// The file cannot be opened, made or read.
    #[error("cannot open the journal {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the storage says.
        source: Box<redb::Error>,
    },
    /// The snapshot is none.
    #[error("the snapshot at command {sequence} in the journal {} cannot be read", path.display())]
    UnreadableSnapshot {
        /// The file.
        path: PathBuf,
        /// The last command in it.
        sequence: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A command is none.
    #[error("command {sequence} in the journal {} cannot be read", path.display())]
    UnreadableCommand {
        /// The file.
        path: PathBuf,
        /// Which command.
        sequence: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A command that was applied once is refused now.
    #[error("command {sequence} in the journal {} does not apply", path.display())]
    RefusedCommand {
        /// The file.
        path: PathBuf,
        /// Which command.
        sequence: u64,
        /// Why.
        source: Refusal,
    },
    /// A command is not there.
    #[error("command {missing} is missing in the journal {}: it goes on with {found}", path.display())]
    Gap {
        /// The file.
        path: PathBuf,
        /// The first that is missing.
        missing: u64,
        /// The next that is there.
        found: u64,
    },
    /// A command was not written. It has no effect, now and after a restart.
    #[error("cannot write to the journal {}", path.display())]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// What the storage says.
        source: Box<redb::Error>,
    },
    /// A command may be on disk or not, and the file cannot be opened to see. The command has no effect now; if the node ends before
    /// the file could be opened again, it may have one after a restart.
    #[error("cannot write to the journal {}, nor open it again ({reopen})", path.display())]
    InDoubt {
        /// The file.
        path: PathBuf,
        /// What the storage said to the write.
        source: Box<redb::Error>,
        /// What it said to the attempt to open the file again.
        reopen: Box<redb::Error>,
    },
}

impl Journal {
    /// Opens the journal of a data directory, which is made if the directory is new, and applies what is in it.
    ///
    /// # Errors
    /// [`JournalError`]; a journal that cannot be applied to its end is not applied at all.
    pub(crate) fn open(directory: &DataDirectory) -> Result<(Self, ControlState), JournalError> {
        let path = directory.journal();
        if directory.is_new() {
            let made = create_if_missing(&path).and_then(|()| Ok(directory.complete()?));
            made.map_err(open_error(&path))?;
        }
        Self::replay(path.clone(), Box::new(move || builder().open(&path)))
    }

    fn replay(path: PathBuf, open: OpenDatabase) -> Result<(Self, ControlState), JournalError> {
        let database = open().map_err(redb::Error::from).map_err(open_error(&path))?;
        let rows = Rows::read(&database).map_err(open_error(&path))?;
        let snapshot = rows.snapshot.as_ref().map_or(0, |(sequence, _)| *sequence);
        let (last, state) = rows.replay(&path)?;
        Ok((Self { path, open, database: Some(database), last, snapshot }, state))
    }

    /// Writes the command that follows `before`. Durable when this returns; blocks for some fsyncs, and every
    /// [`JOURNAL_COMMANDS`] commands for a snapshot.
    ///
    /// # Errors
    /// [`JournalError::NotWritten`] or [`JournalError::InDoubt`]. In both cases the next command takes the place of this one.
    pub(crate) fn append(&mut self, command: &Command, before: &ControlState) -> Result<(), JournalError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopen().map_err(|source| self.not_written(source))?,
        };
        let snapshot = (self.last - self.snapshot >= JOURNAL_COMMANDS).then_some((self.last, before));
        if let Err(source) = write(&database, snapshot, self.last + 1, command) {
            drop(database);
            return Err(self.undo(source));
        }
        self.database = Some(database);
        self.last += 1;
        self.snapshot = snapshot.map_or(self.snapshot, |(sequence, _)| sequence);
        Ok(())
    }

    /// Looks what a failed write has left, and removes it.
    fn undo(&mut self, source: redb::Error) -> JournalError {
        match self.reopen() {
            Ok(database) => {
                self.database = Some(database);
                self.not_written(source)
            }
            Err(reopen) => JournalError::InDoubt {
                path: self.path.clone(),
                source: Box::new(source),
                reopen: Box::new(reopen),
            },
        }
    }

    /// Opens the file after a failed write: its command may have become durable nevertheless. (So may its snapshot, which is as good
    /// as what it replaced, for it covers no other command.)
    fn reopen(&self) -> Result<Database, redb::Error> {
        let database = (self.open)()?;
        if rows(&database.begin_read()?.open_table(COMMANDS)?)?.last().is_some_and(|row| row.0 > self.last) {
            let transaction = begin(&database)?;
            transaction.open_table(COMMANDS)?.retain_in(self.last + 1.., |_, _| false)?;
            transaction.commit()?;
        }
        Ok(database)
    }

    fn not_written(&self, source: redb::Error) -> JournalError {
        JournalError::NotWritten { path: self.path.clone(), source: Box::new(source) }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("path", &self.path).field("last", &self.last).finish_non_exhaustive()
    }
}

/// What the file holds.
struct Rows {
    snapshot: Option<(u64, Vec<u8>)>,
    commands: Vec<(u64, Vec<u8>)>,
}

impl Rows {
    fn read(database: &Database) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        let rows = |table| rows(&transaction.open_table(table)?);
        Ok(Self { snapshot: rows(SNAPSHOT)?.pop(), commands: rows(COMMANDS)? })
    }

    /// The last sequence and the state after it.
    fn replay(&self, path: &Path) -> Result<(u64, ControlState), JournalError> {
        let (mut last, mut state) = match &self.snapshot {
            Some((sequence, bytes)) => {
                let state = serde_json::from_slice(bytes).map_err(|source| {
                    JournalError::UnreadableSnapshot { path: path.into(), sequence: *sequence, source }
                })?;
                (*sequence, state)
            }
            None => (0, ControlState::default()),
        };
        for (sequence, bytes) in &self.commands {
            let (path, sequence) = (|| path.to_path_buf(), *sequence);
            if sequence != last + 1 {
                return Err(JournalError::Gap { path: path(), missing: last + 1, found: sequence });
            }
            let command: Command = serde_json::from_slice(bytes)
                .map_err(|source| JournalError::UnreadableCommand { path: path(), sequence, source })?;
            state.apply(&command).map_err(|source| JournalError::RefusedCommand {
                path: path(),
                sequence,
                source,
            })?;
            last = sequence;
        }
        Ok((last, state))
    }
}

fn rows(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
    let copy = |row: Result<_, _>| {
        let (sequence, bytes): (AccessGuard<'_, u64>, AccessGuard<'_, &[u8]>) = row?;
        Ok((sequence.value(), bytes.value().to_vec()))
    };
    table.iter()?.map(copy).collect()
}

/// The file is checked whenever it is opened: it is small, and redb may panic on a damaged one that it trusts.
fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(JOURNAL_CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Makes an empty journal under another name first: redb does not open a file whose making was interrupted.
fn create_if_missing(path: &Path) -> Result<(), redb::Error> {
    if path.try_exists()? {
        return Ok(());
    }
    let unfinished = unfinished_name(path)?;
    let database = builder().create(&unfinished)?;
    create_tables(&database)?;
    database.close()?;
    fs::rename(&unfinished, path)?;
    sync_parent(path)?;
    Ok(())
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = begin(database)?;
    transaction.open_table(COMMANDS)?;
    transaction.open_table(SNAPSHOT)?;
    transaction.commit()?;
    Ok(())
}

fn write(
    database: &Database,
    snapshot: Option<(u64, &ControlState)>,
    sequence: u64,
    command: &Command,
) -> Result<(), redb::Error> {
    let transaction = begin(database)?;
    if let Some((last, state)) = snapshot {
        let state = serde_json::to_vec(state).expect("the keys of its maps are strings");
        let mut snapshots = transaction.open_table(SNAPSHOT)?;
        snapshots.retain(|_, _| false)?;
        snapshots.insert(last, state.as_slice())?;
        transaction.open_table(COMMANDS)?.retain(|_, _| false)?;
    }
    let command = serde_json::to_vec(command).expect("a command has no maps");
    transaction.open_table(COMMANDS)?.insert(sequence, command.as_slice())?;
    transaction.commit()?;
    Ok(())
}

/// Commits in two phases: after a crash, what one phase has committed looks the same as what was damaged later, and redb would
/// go back by one command in silence.
fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

fn open_error(path: &Path) -> impl Fn(redb::Error) -> JournalError {
    move |source| JournalError::Open { path: path.into(), source: Box::new(source) }
}

#[cfg(test)]
mod test_disk;
#[cfg(test)]
mod tests;
