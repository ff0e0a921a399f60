//! [`Table`]: what this node has seen of who decides about which partition.

use std::collections::HashMap;

use wattle_core::control::grid::{Grid, Row};
use wattle_core::ids::{Epoch, PartitionId};
use wattle_core::replication::KnownReign;

/// Who reigns over each partition, as the control group had decided it up to a version.
#[derive(Debug, Default)]
pub(crate) struct Table {
    version: u64,
    reigns: HashMap<PartitionId, KnownReign>,
}

impl Table {
    /// As a grid has it.
    pub(crate) fn of(grid: &Grid) -> Self {
        let reign = |row: &Row| KnownReign { epoch: row.assignment.epoch, primary: row.assignment.primary };
        Self::new(grid.version(), grid.rows().map(|(partition, row)| (partition, reign(row))))
    }

    pub(crate) fn new(version: u64, reigns: impl IntoIterator<Item = (PartitionId, KnownReign)>) -> Self {
        Self { version, reigns: reigns.into_iter().collect() }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The version, and the epoch of a partition in it.
    pub(super) fn seen(&self, partition: PartitionId) -> (u64, Epoch) {
        (self.version, self.reign(partition).epoch)
    }

    pub(super) fn reign(&self, partition: PartitionId) -> KnownReign {
        self.reigns.get(&partition).copied().unwrap_or_default()
    }
}
