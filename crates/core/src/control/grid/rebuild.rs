//! The grid after its control group was lost: another group goes on from the newest state that somebody remembers.
//!
//! Nobody may know what the lost group decided last, and who does may come back with it. So all that is counted begins beyond what that
//! group can have come to: no table, wish or lease of it is taken for one of the new group, and no number is given out twice. Nor are those
//! of groups in between, which somebody has built and nobody remembers.

use super::command::GridRefusal;
use super::row::Row;
use super::state::Grid;
use crate::ids::{Epoch, NodeId};
use crate::limits::{GENERATION_NUMBERS, GENERATION_VERSIONS, GENERATIONS};

impl Grid {
    /// In a later generation, which a node has built.
    pub(in crate::control) fn rebuilt(&self, generation: u32, founder: NodeId) -> Result<Self, GridRefusal> {
        debug_assert!(generation > self.generation, "a group that is built anew outranks the one before");
        if generation > GENERATIONS {
            return Err(GridRefusal::TooManyGenerations);
        }
        let earlier = u64::from(generation - 1);
        let mut grid = self.clone();
        grid.generation = generation;
        grid.founders.push((generation, founder));
        grid.version = self.version.max(earlier * GENERATION_VERSIONS);
        grid.last_node = self.last_node.max(earlier * GENERATION_NUMBERS);
        // Whoever was added to a set since then may have copies: the grid does not start empty by itself.
        grid.change_nodes().values_mut().for_each(|node| node.has_held = true);
        grid.change_rows(|_| true, |row| row.begin_generation(generation, earlier * GENERATION_VERSIONS));
        Ok(grid)
    }

    /// Whether the group that decides this has gone on from what the other's had decided: not if that one's was built by another node in
    /// the same generation, or was passed over by those who had heard nothing from it.
    #[must_use]
    pub fn descends_from(&self, other: &Self) -> bool {
        other.founders.last().is_none_or(|founder| self.founders.contains(founder))
    }
}

impl Row {
    /// Who decides goes on deciding, under an epoch that outranks all that the group before can have named.
    fn begin_generation(&mut self, generation: u32, least: u64) {
        let assignment = &mut self.assignment;
        assignment.epoch = Epoch { generation, number: assignment.epoch.number + 1 };
        assignment.version = least.max(assignment.version) + 1;
    }
}
