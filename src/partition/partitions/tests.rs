//! Partitions of a grid of one node, for tests.

use std::collections::BTreeMap;

use wattle_core::control::grid::{
    Formats, Grid, GridId, JoinNonce, Joining, NewGrid, NodeDescription, OnFullLoss, Reconciler, Role,
};
use wattle_core::membership::Presence;
use wattle_core::name::Name;

use super::*;
use crate::replication::{Nobody, Settings};

pub(crate) fn description() -> NodeDescription {
    NodeDescription {
        peer_address: String::new(),
        client_address: "127.0.0.1:7117".to_owned(),
        zone: None,
        host: "here".to_owned(),
        version: "0.1.0".to_owned(),
        formats: Formats { oldest: 1, newest: 1 },
        role: Role::Data,
        prepares: false,
        in_memory: false,
    }
}

impl Partitions {
    /// Of a grid of one node.
    pub(crate) fn alone(count: u16, catalog: &Arc<Catalog>) -> Self {
        let (id, nonce) = (GridId([1; 16]), JoinNonce([1; 16]));
        let founder = Joining { grid: id, nonce, known: None, description: description() };
        let (name, on_full_loss) = (Name::new("alone").unwrap(), OnFullLoss::StartEmpty);
        let new = NewGrid { name, format: 1, partitions: count, on_full_loss, founder };
        let (mut grid, me) = Grid::new(&new).unwrap();
        let presence = BTreeMap::from([(me, Presence::Alive)]);
        let mut reconciler = Reconciler::default();
        while let Some(command) = reconciler.next(LocalTime::default(), &grid, &presence) {
            grid.apply(&command).unwrap();
        }
        let replication = Arc::new(Replication::new(me, Box::new(Nobody), Settings::default()));
        let memory = Arc::new(Memory::new(1 << 30));
        let partitions = Self::new(Arc::clone(catalog), (memory, replication), 7).unwrap();
        partitions.clock().follow_wall();
        partitions.add_classes(&grid);
        partitions.follow(None, &grid);
        partitions
    }
}
