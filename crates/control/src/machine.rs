//! [`Machine`]: applies the entries of the log to the state, tells of every change, and takes snapshots.
//!
//! The state is not on disk, only its last snapshot is: after a restart the log gives the rest.

use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::Applied;
use crate::disk::Write;
use crate::proposal::{Outcome, Proposal};
use crate::raft::{
    Entry, LogId, Payload, SnapshotMeta, StorageError, StorageIoError, StoredMembership, Types,
};
use crate::replicated::{Change, Decided, Observer, Replicated, SnapshotError};
use crate::writer::Writer;

/// The state machine of openraft's log.
pub(crate) struct Machine {
    replicated: Replicated,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Snapshots,
    published: watch::Sender<Decided>,
    observer: Observer,
}

/// Where snapshots are kept. Clones keep the same one.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    /// Exchanged by the machine and by the task that builds one.
    newest: Arc<Mutex<Option<(SnapshotMeta, Bytes)>>>,
    writer: Option<Writer>,
}

/// A snapshot about to be taken: the state as it was when it was asked for.
#[derive(Debug)]
pub(crate) struct Picture {
    replicated: Replicated,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Snapshots,
}

impl Snapshots {
    pub(crate) fn new(newest: Option<(SnapshotMeta, Bytes)>, writer: Option<Writer>) -> Self {
        Self { newest: Arc::new(Mutex::new(newest)), writer }
    }

    /// Keeps a snapshot, unless there is a newer one by now.
    async fn keep(&self, meta: &SnapshotMeta, state: &Bytes) -> Result<(), StorageError> {
        if let Some(writer) = &self.writer {
            let write = Write::Snapshot(meta.clone(), state.clone());
            let signature = Some(meta.signature());
            writer.write(write).await.map_err(|error| StorageIoError::write_snapshot(signature, &error))?;
        }
        let mut newest = self.newest.lock();
        if newest.as_ref().is_none_or(|(newest, _)| newest.last_log_id <= meta.last_log_id) {
            *newest = Some((meta.clone(), state.clone()));
        }
        Ok(())
    }
}

impl Machine {
    /// The state of the last snapshot, or none.
    pub(crate) fn new(
        snapshots: Snapshots,
        published: watch::Sender<Decided>,
        observer: Observer,
    ) -> Result<Self, SnapshotError> {
        let newest = snapshots.newest.lock().clone();
        let mut machine = Self {
            replicated: Replicated::default(),
            applied: None,
            membership: StoredMembership::default(),
            snapshots,
            published,
            observer,
        };
        // What is published is the machine's own from the start: that it is the same is seen by its pointers.
        machine.renew();
        if let Some((meta, state)) = newest {
            machine.replace(&meta, Replicated::from_snapshot(&state)?);
        }
        Ok(machine)
    }

    fn replace(&mut self, meta: &SnapshotMeta, replicated: Replicated) {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.replicated = replicated;
        self.publish(Change::Replaced);
    }

    fn apply_entry(&mut self, entry: Entry, changes: &mut Vec<Applied>) -> Vec<Outcome> {
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Vec::new()
            }
            EntryPayload::Normal(Payload::Begin(first)) => {
                if self.replicated.begin(&first) {
                    self.publish(Change::Replaced);
                }
                Vec::new()
            }
            EntryPayload::Normal(Payload::Proposals(proposals)) => {
                proposals.iter().map(|proposal| self.decide(proposal, changes)).collect()
            }
        }
    }

    fn decide(&mut self, proposal: &Proposal, changes: &mut Vec<Applied>) -> Outcome {
        let before = self.replicated.changed;
        let outcome = self.replicated.decide(proposal);
        // What was decided before is answered once more, and changes nothing more.
        if self.replicated.changed > before
            && let Outcome::Applied(applied) = &outcome
        {
            changes.push(applied.clone());
        }
        outcome
    }

    /// Readers see the state before the observer tells of it.
    fn publish(&mut self, change: Change) {
        let decided = self.decided();
        self.published.send_replace(decided.clone());
        (self.observer)(&decided, change);
    }

    /// Whoever asks sees the version, and nobody is woken for it.
    fn renew(&self) {
        let decided = self.decided();
        self.published.send_if_modified(|published| {
            *published = decided;
            false
        });
    }

    fn decided(&self) -> Decided {
        let Replicated { begun, version, changed, state, .. } = &self.replicated;
        Decided { created: *begun, version: *version, changed: *changed, state: Arc::clone(state) }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Picture;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    /// The state is published once for all entries: what changes in it is copied whenever readers hold the one before.
    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Outcome>>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut changes = Vec::new();
        let outcomes = entries.into_iter().map(|entry| self.apply_entry(entry, &mut changes)).collect();
        let unchanged = self.replicated.state.is_same(&self.published.borrow().state);
        if unchanged {
            self.renew();
        } else {
            self.publish(Change::Decided(changes));
        }
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Picture {
        Picture {
            replicated: self.replicated.clone(),
            applied: self.applied,
            membership: self.membership.clone(),
            snapshots: self.snapshots.clone(),
        }
    }

    /// Pieces are put together before openraft hears of them.
    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Bytes>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, state: Box<Bytes>) -> Result<(), StorageError> {
        let replicated = Replicated::from_snapshot(&state)
            .map_err(|error| StorageIoError::read_snapshot(Some(meta.signature()), &error))?;
        self.snapshots.keep(meta, &state).await?;
        self.replace(meta, replicated);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let newest = self.snapshots.newest.lock().clone();
        Ok(newest.map(|(meta, state)| Snapshot { meta, snapshot: Box::new(state) }))
    }
}

impl RaftSnapshotBuilder<Types> for Picture {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let replicated = self.replicated.clone();
        // On a thread of its own: a large state takes longer than a heartbeat may.
        let encoded = tokio::task::spawn_blocking(move || replicated.to_snapshot()).await;
        let state = encoded.map_err(|error| StorageIoError::read_state_machine(&error))?;
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: self.applied.map_or_else(String::new, |applied| applied.to_string()),
        };
        self.snapshots.keep(&meta, &state).await?;
        Ok(Snapshot { meta, snapshot: Box::new(state) })
    }
}
