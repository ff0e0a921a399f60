//! [`Table`]: what this node has seen of who decides about which partition.

use std::collections::HashMap;

use wattle_core::ids::{Epoch, PartitionId};

/// The epochs of all partitions, as the control group had decided them up to a version.
#[derive(Debug, Default)]
pub(crate) struct Table {
    version: u64,
    epochs: HashMap<PartitionId, Epoch>,
}

impl Table {
    pub(crate) fn new(version: u64, epochs: impl IntoIterator<Item = (PartitionId, Epoch)>) -> Self {
        Self { version, epochs: epochs.into_iter().collect() }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The version, and the epoch of a partition in it.
    pub(super) fn seen(&self, partition: PartitionId) -> (u64, Epoch) {
        (self.version, self.epochs.get(&partition).copied().unwrap_or_default())
    }
}
