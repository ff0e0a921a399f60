//! [`GroupState`]: all that the control group agrees on.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::command::{Applied, Command, Refusal};
use super::grid::{Grid, GridApplied, GridCommand, GridId, GridRefusal, NewGrid};
use super::state::ControlState;
use crate::ids::MemberId;

/// The state that every voter has: the grid, once it is created, and its maps and functions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupState {
    grid: Option<Grid>,
    catalog: ControlState,
}

/// An entry of the control group's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum GroupCommand {
    /// Creates the grid, once.
    Create(Box<NewGrid>),
    /// About nodes and partitions.
    Grid(GridCommand),
    /// About maps and functions.
    Catalog(Command),
}

/// What a command has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupApplied {
    /// The grid is there, and its creator is this member.
    Created(MemberId),
    /// In the grid.
    Grid(GridApplied),
    /// In maps and functions.
    Catalog(Applied),
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GroupRefusal {
    /// A grid is created once.
    #[error("the grid {id} is there already")]
    GridExists {
        /// Which one.
        id: GridId,
    },
    /// It is to be created first.
    #[error("the grid is not created yet")]
    NoGrid,
    /// The grid refuses.
    #[error(transparent)]
    Grid(#[from] GridRefusal),
    /// Maps and functions refuse.
    #[error(transparent)]
    Catalog(#[from] Refusal),
}

impl GroupState {
    /// The grid, once it is created.
    #[must_use]
    pub fn grid(&self) -> Option<&Grid> {
        self.grid.as_ref()
    }

    /// Maps and functions.
    #[must_use]
    pub fn catalog(&self) -> &ControlState {
        &self.catalog
    }

    /// Decides a command and carries it out.
    ///
    /// # Errors
    /// A refusal; nothing has changed.
    pub fn apply(&mut self, command: &GroupCommand) -> Result<GroupApplied, GroupRefusal> {
        match (command, &mut self.grid) {
            (GroupCommand::Create(new), None) => {
                let (grid, founder) = Grid::new(new)?;
                self.grid = Some(grid);
                Ok(GroupApplied::Created(founder))
            }
            (GroupCommand::Create(_), Some(grid)) => Err(GroupRefusal::GridExists { id: grid.id() }),
            (GroupCommand::Grid(command), Some(grid)) => Ok(GroupApplied::Grid(grid.apply(command)?)),
            (GroupCommand::Catalog(command), Some(_)) => {
                Ok(GroupApplied::Catalog(self.catalog.apply(command)?))
            }
            (GroupCommand::Grid(_) | GroupCommand::Catalog(_), None) => Err(GroupRefusal::NoGrid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::grid::fixture::{member, new_grid};
    use crate::ids::NodeId;
    use crate::map::MapOptions;
    use crate::name::Name;

    fn created() -> GroupState {
        let mut state = GroupState::default();
        let create = GroupCommand::Create(Box::new(new_grid(3)));
        assert_eq!(state.apply(&create), Ok(GroupApplied::Created(member(1, 1))));
        state
    }

    #[test]
    fn a_grid_is_created_once_and_before_everything_else() {
        let mut state = GroupState::default();
        let drain = GroupCommand::Grid(GridCommand::Drain { node: NodeId(1) });
        let name = Name::new("m").unwrap();
        let map = GroupCommand::Catalog(Command::CreateMap { name, options: MapOptions::default() });
        assert_eq!(state.apply(&drain), Err(GroupRefusal::NoGrid));
        assert_eq!(state.apply(&map), Err(GroupRefusal::NoGrid));
        let mut state = created();
        let id = state.grid().unwrap().id();
        let again = GroupCommand::Create(Box::new(new_grid(3)));
        assert_eq!(state.apply(&again), Err(GroupRefusal::GridExists { id }));
        let drained = GridApplied::Node(NodeId(1));
        assert_eq!(state.apply(&drain), Ok(GroupApplied::Grid(drained)));
        assert!(matches!(state.apply(&map), Ok(GroupApplied::Catalog(Applied::Map(_)))));
        assert_eq!(state.catalog().maps().len(), 1);
    }
}
