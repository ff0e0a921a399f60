//! openraft's own tests of a storage, on both kinds.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};
use tokio::sync::{Notify, watch};

use super::faulty_disk::FaultyDisk;
use crate::disk::{Contents, Disk};
use crate::identity::VoterId;
use crate::log_store::LogStore;
use crate::machine::{Machine, Snapshots};
use crate::raft::{StorageError, Types};
use crate::replicated::Decided;
use crate::writer::Writer;
use wattle_core::ids::NodeId;

/// The suite makes voters of numbers.
impl From<u64> for VoterId {
    fn from(node: u64) -> Self {
        Self { node: NodeId(node), incarnation: 0 }
    }
}

fn build(contents: Contents, writer: Option<Writer>) -> (LogStore, Machine) {
    let (publish, _) = watch::channel(Decided::default());
    let snapshots = Snapshots::new(contents.snapshot.clone(), writer.clone());
    let machine = Machine::new(snapshots, publish, Box::new(|_, _| {})).unwrap();
    (LogStore::new(contents, writer, Arc::new(Notify::new())), machine)
}

struct InMemory;

impl StoreBuilder<Types, LogStore, Machine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError> {
        let (log, machine) = build(Contents::default(), None);
        Ok(((), log, machine))
    }
}

struct OnDisk;

impl StoreBuilder<Types, LogStore, Machine> for OnDisk {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError> {
        let Disk { contents, database, .. } = FaultyDisk::new().open().unwrap();
        let (writer, run) = Writer::new(database);
        tokio::spawn(run);
        let (log, machine) = build(contents, Some(writer));
        Ok(((), log, machine))
    }
}

#[test]
fn openraft_takes_the_storage_in_memory() {
    Suite::test_all(InMemory).unwrap();
}

#[test]
fn openraft_takes_the_storage_on_disk() {
    Suite::test_all(OnDisk).unwrap();
}
