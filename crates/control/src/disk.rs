//! [`Disk`]: a voter's log, vote and snapshot in a redb file. Only the process that holds it open can open it.
//!
//! redb takes no more writes after one that failed: then the voter ends, and what was acknowledged is found when it is opened again.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use openraft::EntryPayload;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use serde::de::DeserializeOwned;
use wattle_core::limits::CONTROL_LOG_CACHE_BYTES;

use crate::State;
use crate::identity::{GroupId, Identity, VoterId};
use crate::raft::{Entry, LogId, Payload, SnapshotMeta, Vote};
use crate::replicated::SnapshotError;

/// The format that is written here.
const FORMAT: u32 = 1;

/// JSON by name: `format` and `identity` since it was made, and `vote`, `committed`, `purged` and `snapshot` as they come.
const VOTER: TableDefinition<&str, &[u8]> = TableDefinition::new("voter");
/// Entries as JSON by index, without gaps.
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// At most one row: the state as a snapshot, by the `snapshot` that describes it.
const STATE: TableDefinition<(), &[u8]> = TableDefinition::new("state");

/// A voter's file, locked and read.
pub struct Disk {
    pub(crate) path: PathBuf,
    pub(crate) database: Database,
    pub(crate) contents: Contents,
}

/// What a voter remembers.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) identity: Option<Identity>,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    /// With their sizes in bytes.
    pub(crate) entries: Vec<(Entry, usize)>,
    pub(crate) snapshot: Option<(SnapshotMeta, Bytes)>,
}

/// A change of the file.
pub(crate) enum Write {
    Identity(Identity),
    Vote(Vote),
    /// Entries as JSON by index, and up to where the log is committed.
    Append(Vec<(u64, Vec<u8>)>, Option<LogId>),
    /// Without the entries from here.
    Truncate(u64),
    /// Without the entries up to here.
    Purge(LogId),
    Snapshot(SnapshotMeta, Bytes),
}

/// Why a voter's file cannot be used. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be opened, made, read, or written the first time.
    #[error("cannot open the control log {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the storage says.
        source: Box<redb::Error>,
    },
    /// Another process has it.
    #[error("the control log {} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer version has written it.
    #[error(
        "the control log {} has format {found}, this version knows none after {FORMAT}: use a newer version",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It is a redb file, and not of a voter.
    #[error("{} is no control log", path.display())]
    NoControlLog {
        /// The file.
        path: PathBuf,
    },
    /// A row is none.
    #[error("{row} in the control log {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Which.
        row: Row,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The state of the snapshot is none.
    #[error("the state in the control log {} cannot be read", path.display())]
    UnreadableSnapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SnapshotError,
    },
    /// An entry is not there.
    #[error("entry {missing} is missing in the control log {}: it goes on with {found}", path.display())]
    Gap {
        /// The file.
        path: PathBuf,
        /// The first that is missing.
        missing: u64,
        /// The next that is there.
        found: u64,
    },
    /// Only one half of a snapshot is there.
    #[error("the snapshot in the control log {} has no {missing}", path.display())]
    HalfSnapshot {
        /// The file.
        path: PathBuf,
        /// The other half.
        missing: Row,
    },
    /// It belongs to another grid, or to another generation of this one.
    #[error("the control log {} is of grid {found}, not of {expected}", path.display())]
    OtherGroup {
        /// The file.
        path: PathBuf,
        /// Its group.
        found: GroupId,
        /// This group.
        expected: GroupId,
    },
    /// It belongs to another voter.
    #[error("the control log {} is of voter {found}, not of {expected}", path.display())]
    OtherVoter {
        /// The file.
        path: PathBuf,
        /// Its voter.
        found: VoterId,
        /// This voter.
        expected: VoterId,
    },
}

/// A row of a voter's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// By its name.
    Voter(&'static str),
    /// By its index.
    Entry(u64),
    /// The state of the snapshot.
    State,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Voter(name) => write!(f, "the {name}"),
            Self::Entry(index) => write!(f, "entry {index}"),
            Self::State => f.write_str("the state"),
        }
    }
}

impl Disk {
    /// Opens the file of a voter, which is made if it is missing, and reads it. Blocks.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        create_if_missing(path).map_err(open_error(path))?;
        Self::read(path, builder().open(path))
    }

    /// Who has begun this log; nobody has begun a new one.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.contents.identity
    }

    /// Whether the first state of the group has come: before that nothing is lost with this log.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        let begins = |entry: &Entry| matches!(entry.payload, EntryPayload::Normal(Payload::Begin(_)));
        self.contents.snapshot.is_some() || self.contents.entries.iter().any(|(entry, _)| begins(entry))
    }

    /// The first state of the group, as far as it is in the log, whether it is decided or not: who went on with this log and had heard of
    /// nothing that is decided would not even know whom to ask.
    #[must_use]
    pub fn first_state(&self) -> Option<Arc<State>> {
        self.contents.entries.iter().find_map(|(entry, _)| match &entry.payload {
            EntryPayload::Normal(Payload::Begin(first)) => Some(Arc::clone(&first.state)),
            EntryPayload::Normal(Payload::Proposals(_))
            | EntryPayload::Blank
            | EntryPayload::Membership(_) => None,
        })
    }

    pub(crate) fn read(path: &Path, opened: Result<Database, DatabaseError>) -> Result<Self, DiskError> {
        let database = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => DiskError::InUse { path: path.into() },
            other => open_error(path)(other.into()),
        })?;
        let rows = Rows::read(&database).map_err(|error| match error {
            redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. } => {
                DiskError::NoControlLog { path: path.into() }
            }
            other => open_error(path)(other),
        })?;
        let contents = rows.decode(path)?;
        Ok(Self { path: path.into(), database, contents })
    }

    /// Makes sure that it is this voter's. Blocks on the disk if it is new.
    pub(crate) fn claim(&mut self, identity: Identity) -> Result<(), DiskError> {
        let path = || self.path.clone();
        match self.contents.identity {
            None => write(&self.database, &[Write::Identity(identity)]).map_err(open_error(&self.path))?,
            Some(Identity { group, .. }) if group != identity.group => {
                return Err(DiskError::OtherGroup { path: path(), found: group, expected: identity.group });
            }
            Some(Identity { voter, .. }) if voter != identity.voter => {
                return Err(DiskError::OtherVoter { path: path(), found: voter, expected: identity.voter });
            }
            Some(_) => {}
        }
        self.contents.identity = Some(identity);
        Ok(())
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("path", &self.path)
            .field("contents", &self.contents)
            .finish_non_exhaustive()
    }
}

/// What the file holds, undecoded.
struct Rows {
    voter: Vec<(String, Vec<u8>)>,
    log: Vec<(u64, Vec<u8>)>,
    state: Option<Vec<u8>>,
}

impl Rows {
    fn read(database: &Database) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        let (mut voter, mut log) = (Vec::new(), Vec::new());
        for row in transaction.open_table(VOTER)?.iter()? {
            let (name, json) = row?;
            voter.push((name.value().to_owned(), json.value().to_vec()));
        }
        for row in transaction.open_table(LOG)?.iter()? {
            let (index, json) = row?;
            log.push((index.value(), json.value().to_vec()));
        }
        let state = transaction.open_table(STATE)?.get(())?.map(|state| state.value().to_vec());
        Ok(Self { voter, log, state })
    }

    fn decode(self, path: &Path) -> Result<Contents, DiskError> {
        let format: Option<u32> = self.voter(path, "format")?;
        match format {
            Some(..=FORMAT) => {}
            Some(found) => return Err(DiskError::NewerFormat { path: path.into(), found }),
            None => return Err(DiskError::NoControlLog { path: path.into() }),
        }
        let purged: Option<LogId> = self.voter(path, "purged")?;
        let half = |missing| DiskError::HalfSnapshot { path: path.into(), missing };
        let snapshot = match (self.voter(path, "snapshot")?, self.state.as_ref()) {
            (Some(meta), Some(state)) => Some((meta, Bytes::copy_from_slice(state))),
            (None, None) => None,
            (Some(_), None) => return Err(half(Row::State)),
            (None, Some(_)) => return Err(half(Row::Voter("snapshot"))),
        };
        Ok(Contents {
            identity: self.voter(path, "identity")?,
            vote: self.voter(path, "vote")?,
            // It is written beside what is appended, also while nothing of that is known to be committed.
            committed: self.voter::<Option<LogId>>(path, "committed")?.flatten(),
            entries: entries(&self.log, purged, path)?,
            purged,
            snapshot,
        })
    }

    fn voter<T: DeserializeOwned>(&self, path: &Path, name: &'static str) -> Result<Option<T>, DiskError> {
        let row = self.voter.iter().find(|(found, _)| found == name);
        row.map(|(_, json)| decode(path, Row::Voter(name), json)).transpose()
    }
}

fn entries(
    log: &[(u64, Vec<u8>)],
    purged: Option<LogId>,
    path: &Path,
) -> Result<Vec<(Entry, usize)>, DiskError> {
    let first = purged.map_or(0, |purged| purged.index + 1);
    let mut entries = Vec::with_capacity(log.len());
    for (expected, (index, json)) in (first..).zip(log) {
        if *index != expected {
            return Err(DiskError::Gap { path: path.into(), missing: expected, found: *index });
        }
        entries.push((decode(path, Row::Entry(*index), json)?, json.len()));
    }
    Ok(entries)
}

fn decode<T: DeserializeOwned>(path: &Path, row: Row, json: &[u8]) -> Result<T, DiskError> {
    serde_json::from_slice(json).map_err(|source| DiskError::Unreadable { path: path.into(), row, source })
}

/// Makes all changes durable at once, or none. Blocks.
pub(crate) fn write(database: &Database, writes: &[Write]) -> Result<(), redb::Error> {
    let transaction = begin(database)?;
    {
        let mut voter = transaction.open_table(VOTER)?;
        let mut log = transaction.open_table(LOG)?;
        for write in writes {
            match write {
                Write::Identity(identity) => drop(voter.insert("identity", json(identity).as_slice())?),
                Write::Vote(vote) => drop(voter.insert("vote", json(vote).as_slice())?),
                Write::Append(entries, committed) => {
                    for (index, entry) in entries {
                        log.insert(index, entry.as_slice())?;
                    }
                    voter.insert("committed", json(committed).as_slice())?;
                }
                Write::Truncate(since) => log.retain_in(*since.., |_, _| false)?,
                Write::Purge(upto) => {
                    log.retain_in(..=upto.index, |_, _| false)?;
                    voter.insert("purged", json(upto).as_slice())?;
                }
                Write::Snapshot(meta, _) if is_older(&voter, meta)? => {}
                Write::Snapshot(meta, state) => {
                    voter.insert("snapshot", json(meta).as_slice())?;
                    transaction.open_table(STATE)?.insert((), state.as_ref())?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Whether there is a newer snapshot than this one: it was installed while this one was taken, and the log before it is gone.
fn is_older(
    voter: &impl ReadableTable<&'static str, &'static [u8]>,
    meta: &SnapshotMeta,
) -> Result<bool, redb::Error> {
    let newest = voter.get("snapshot")?;
    let newest = newest.and_then(|json| serde_json::from_slice::<SnapshotMeta>(json.value()).ok());
    Ok(newest.is_some_and(|newest| newest.last_log_id > meta.last_log_id))
}

pub(crate) fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the keys of its maps are strings")
}

/// The file is checked whenever it is opened: it is small, and redb may panic on a damaged one that it trusts.
pub(crate) fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CONTROL_LOG_CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Commits in two phases: after a crash, what one phase has committed looks the same as what was damaged later, and redb would
/// go back by one transaction in silence.
fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

/// Makes an empty file under another name first: redb does not open one whose making was interrupted. The link fails if another
/// process was faster.
fn create_if_missing(path: &Path) -> Result<(), redb::Error> {
    if path.try_exists()? {
        return Ok(());
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.unfinished", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let database = builder().create(&unfinished)?;
    create_tables(&database)?;
    database.close()?;
    let linked = fs::hard_link(&unfinished, path);
    fs::remove_file(&unfinished)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

pub(crate) fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = begin(database)?;
    transaction.open_table(VOTER)?.insert("format", json(&FORMAT).as_slice())?;
    transaction.open_table(LOG)?;
    transaction.open_table(STATE)?;
    transaction.commit()?;
    Ok(())
}

fn open_error(path: &Path) -> impl Fn(redb::Error) -> DiskError {
    move |source| DiskError::Open { path: path.into(), source: Box::new(source) }
}
