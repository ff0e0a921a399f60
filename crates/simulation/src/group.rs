//! [`Group`]: the control group, as an oracle of what Raft promises. openraft itself is not in it.
//!
//! There is one log, and what is decided is never taken back. A leader decides while it reaches a majority of the voters; what it
//! has appended and not decided when another is elected survives up to some point and is lost behind it, and it is not told.
//! A leader that was replaced goes on until it reaches one who knows better.

use std::collections::{BTreeSet, VecDeque};

use wattle_core::control::grid::{Grid, GridApplied, GridCommand, GridRefusal};
use wattle_core::ids::NodeId;

use crate::clock::Time;
use crate::node::Entry;

#[derive(Debug)]
pub(crate) struct Group {
    /// As it is decided.
    pub(crate) grid: Grid,
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) term: u64,
    /// The machine of the leader, and which life of it.
    pub(crate) leader: Option<(usize, u32)>,
    /// Appended by the leader of this term, in order.
    pub(crate) pending: VecDeque<Entry>,
    /// Since when there is no leader that reaches a majority, and when another is elected.
    pub(crate) election: Option<Time>,
}

impl Group {
    pub(crate) fn new(grid: Grid, founder: NodeId) -> Self {
        Self {
            grid,
            voters: BTreeSet::from([founder]),
            term: 0,
            leader: None,
            pending: VecDeque::new(),
            election: None,
        }
    }

    /// Whether these are more than half of the voters.
    pub(crate) fn is_majority(voters: &BTreeSet<NodeId>, reached: impl Fn(NodeId) -> bool) -> bool {
        voters.iter().filter(|voter| reached(**voter)).count() * 2 > voters.len()
    }

    /// Carries out an entry that is decided. For a change of voters there is nothing to be said.
    pub(crate) fn decide(&mut self, entry: &Entry) -> Result<GridApplied, GridRefusal> {
        match entry {
            Entry::Reconciled(command) | Entry::Asked(command) => self.grid.apply(command),
            Entry::Join { joining, .. } => self.grid.apply(&GridCommand::Join(joining.clone())),
            Entry::Voters(voters) => {
                self.voters.clone_from(voters);
                Ok(GridApplied::Unchanged)
            }
        }
    }
}
