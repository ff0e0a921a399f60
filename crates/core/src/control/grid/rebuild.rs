//! The grid after its control group was lost: another group goes on from the newest state that somebody remembers.
//!
//! Nobody may know what the lost group decided last, and who does may come back with it. So all that is counted begins beyond what that
//! group can have come to: no table, wish or lease of it is taken for one of the new group, and no number is given out twice.

use super::command::GridRefusal;
use super::row::Row;
use super::state::Grid;
use crate::ids::Epoch;
use crate::limits::{GENERATION_NUMBERS, GENERATION_VERSIONS, GENERATIONS};

impl Grid {
    pub(in crate::control) fn rebuilt(&self) -> Result<Self, GridRefusal> {
        if self.generation == GENERATIONS {
            return Err(GridRefusal::TooManyGenerations);
        }
        let (earlier, generation) = (u64::from(self.generation), self.generation + 1);
        let mut grid = self.clone();
        grid.generation = generation;
        grid.version = self.version.max(earlier * GENERATION_VERSIONS);
        grid.last_node = self.last_node.max(earlier * GENERATION_NUMBERS);
        // Whoever was added to a set since then may have copies: the grid does not start empty by itself.
        grid.change_nodes().values_mut().for_each(|node| node.has_held = true);
        grid.change_rows(|_| true, |row| row.begin_generation(generation, earlier * GENERATION_VERSIONS));
        Ok(grid)
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
