//! [`LogStore`]: the log and the vote of a voter, as openraft wants them kept. All of it is in memory, where replication reads it,
//! and on disk too if there is one; nothing is answered for before it is there.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::Notify;
use wattle_core::limits::{CONTROL_BATCH_BYTES, CONTROL_LOG_BYTES};

use crate::disk::{Contents, Write, json};
use crate::raft::{Entry, LogId, StorageError, StorageIoError, Types, Vote};
use crate::writer::Writer;

/// Clones are the same log.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    reader: LogReader,
    /// `None` if the log ends with the process.
    writer: Option<Writer>,
    /// Is told when the entries are worth a snapshot for their size.
    heavy: Arc<Notify>,
}

/// Reads a log, also while it is written.
#[derive(Debug, Clone)]
pub(crate) struct LogReader(
    /// A mutex of its own, held for a few lookups, for openraft reads the log from one task for each follower.
    Arc<Mutex<Log>>,
);

#[derive(Debug, Default)]
struct Log {
    vote: Option<Vote>,
    /// Made durable with the next entries: after a crash it may be older, and the leader tells it again.
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// With their sizes in bytes.
    entries: BTreeMap<u64, (Entry, usize)>,
    bytes: usize,
}

impl LogStore {
    pub(crate) fn new(contents: Contents, writer: Option<Writer>, heavy: Arc<Notify>) -> Self {
        let Contents { vote, committed, purged, entries, .. } = contents;
        let bytes = entries.iter().map(|(_, bytes)| bytes).sum();
        let entries = entries.into_iter().map(|entry| (entry.0.log_id.index, entry)).collect();
        let log = Log { vote, committed, purged, entries, bytes };
        Self { reader: LogReader(Arc::new(Mutex::new(log))), writer, heavy }
    }

    async fn write(&self, write: Write) -> Result<(), StorageError> {
        match &self.writer {
            Some(writer) => {
                Ok(writer.write(write).await.map_err(|error| StorageIoError::write_logs(&error))?)
            }
            None => Ok(()),
        }
    }
}

impl Log {
    fn insert(&mut self, entry: Entry, bytes: usize) {
        self.bytes += bytes;
        self.entries.insert(entry.log_id.index, (entry, bytes));
    }

    fn forget(&mut self, forgotten: &BTreeMap<u64, (Entry, usize)>) {
        self.bytes -= forgotten.values().map(|(_, bytes)| bytes).sum::<usize>();
    }

    fn truncate(&mut self, since: u64) {
        let truncated = self.entries.split_off(&since);
        self.forget(&truncated);
    }

    fn purge(&mut self, upto: LogId) {
        let kept = self.entries.split_off(&(upto.index + 1));
        let purged = std::mem::replace(&mut self.entries, kept);
        self.forget(&purged);
        self.purged = self.purged.max(Some(upto));
    }
}

impl RaftLogReader<Types> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(self.0.lock().entries.range(range).map(|(_, (entry, _))| entry.clone()).collect())
    }

    /// As many as fit a message, and at least one.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        let log = self.0.lock();
        let mut room = CONTROL_BATCH_BYTES;
        let fits = |(entry, bytes): &(Entry, usize)| {
            let first = entry.log_id.index == start;
            let fits = first || *bytes <= room;
            room = room.saturating_sub(*bytes);
            fits
        };
        let entries = log.entries.range(start..end).map(|(_, entry)| entry);
        let mut fits = fits;
        Ok(entries.take_while(|entry| fits(entry)).map(|(entry, _)| entry.clone()).collect())
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.reader.try_get_log_entries(range).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let log = self.reader.0.lock();
        let last = log.entries.last_key_value().map(|(_, (entry, _))| entry.log_id);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last.or(log.purged) })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    /// Who has voted for somebody has promised no more when that one was elected, and need not wait for the disk before it follows or
    /// leads: after a crash it only does not know who leads.
    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let before = self.reader.0.lock().vote;
        let has_promised = before.is_some_and(|before| before.leader_id == vote.leader_id);
        match &self.writer {
            Some(writer) if has_promised => writer.write_soon(Write::Vote(*vote)).await,
            Some(_) | None => self.write(Write::Vote(*vote)).await?,
        }
        self.reader.0.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.reader.0.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.reader.0.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.reader.0.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().map(|entry| (json(&entry), entry)).collect();
        let (rows, committed) = {
            let mut log = self.reader.0.lock();
            let mut rows = Vec::with_capacity(entries.len());
            for (json, entry) in entries {
                let index = entry.log_id.index;
                log.insert(entry, json.len());
                rows.push((index, json));
            }
            if log.bytes > CONTROL_LOG_BYTES {
                self.heavy.notify_one();
            }
            (rows, log.committed)
        };
        match &self.writer {
            Some(writer) => writer.append(Write::Append(rows, committed), flushed).await,
            None => flushed.log_io_completed(Ok(())),
        }
        Ok(())
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), StorageError> {
        self.reader.0.lock().truncate(since.index);
        self.write(Write::Truncate(since.index)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        self.reader.0.lock().purge(upto);
        self.write(Write::Purge(upto)).await
    }
}
