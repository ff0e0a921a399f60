//! [`GroupState`]: all that the control group agrees on.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::command::{Applied, Command, Refusal};
use super::grid::{Grid, GridApplied, GridCommand, GridId, GridRefusal, NewGrid};
use super::state::ControlState;
use crate::ids::{MemberId, NodeId, ReplicationClass};
use crate::limits::{GENERATION_NUMBERS, NAME_BYTES};

/// The state that every voter has: the grid, once it is created, and its maps and functions. A clone shares all of it: a change
/// copies what it changes, and not the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupState {
    grid: Option<Grid>,
    catalog: ControlState,
}

/// What tells a state from every other that it was or becomes. It costs next to nothing, and holds on to the maps and functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    grid: Option<(GridId, u32, u64)>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum GroupApplied {
    /// The grid is there, and its creator is this member.
    Created(MemberId),
    /// In the grid.
    Grid(GridApplied),
    /// In maps and functions.
    Catalog(Applied),
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// A map belongs to a class of its grid.
    #[error("the grid has no replication class of number {}", class.0)]
    ClassNotFound {
        /// Asked for.
        class: ReplicationClass,
    },
    /// A module's functions have shorter names.
    #[error("the export of a function has {bytes} bytes, at most {NAME_BYTES} are allowed")]
    ExportTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The grid refuses.
    #[error(transparent)]
    Grid(#[from] GridRefusal),
    /// Maps and functions refuse.
    #[error(transparent)]
    Catalog(#[from] Refusal),
}

impl GroupApplied {
    /// How many partitions it names.
    #[must_use]
    pub fn partitions(&self) -> usize {
        match self {
            Self::Grid(applied) => applied.partitions(),
            Self::Created(_) | Self::Catalog(_) => 0,
        }
    }
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

    /// The state as it is now, to be told from what it becomes.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment { grid: self.grid.as_ref().map(Grid::moment), catalog: self.catalog.clone() }
    }

    /// Whether the other is a clone of this one, or this one of the other, and neither has changed since. Costs nothing.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_at(&other.moment())
    }

    /// Whether nothing has changed since a moment of this state, or of one that it is a clone of. Costs nothing.
    #[must_use]
    pub fn is_at(&self, moment: &Moment) -> bool {
        self.grid.as_ref().map(Grid::moment) == moment.grid && self.catalog.is_same(&moment.catalog)
    }

    /// The first state of a control group that goes on from this one after the group was lost with what it decided last. Asked for by
    /// people only, with the newest state that any node remembers: what is newer is gone, and may have been acknowledged. `founder` builds
    /// it in a generation that is later than this one's, and than any that somebody has heard of.
    ///
    /// # Errors
    /// There is no grid, or its group was lost too often.
    pub fn rebuilt(&self, generation: u32, founder: NodeId) -> Result<Self, GroupRefusal> {
        let grid = self.grid.as_ref().ok_or(GroupRefusal::NoGrid)?.rebuilt(generation, founder)?;
        let catalog = self.catalog.rebuilt(u64::from(generation - 1) * GENERATION_NUMBERS);
        Ok(Self { grid: Some(grid), catalog })
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
            (GroupCommand::Catalog(Command::AddVersion { version, .. }), Some(_))
                if version.export.len() > NAME_BYTES =>
            {
                Err(GroupRefusal::ExportTooLong { bytes: version.export.len() })
            }
            (GroupCommand::Catalog(Command::CreateMap { options, .. }), Some(grid))
                if grid.class(options.class).is_none() =>
            {
                Err(GroupRefusal::ClassNotFound { class: options.class })
            }
            (GroupCommand::Catalog(command), Some(_)) => {
                Ok(GroupApplied::Catalog(self.catalog.apply(command)?))
            }
            (GroupCommand::Grid(_) | GroupCommand::Catalog(_), None) => Err(GroupRefusal::NoGrid),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::control::grid::fixture::{member, new_grid};
    use crate::control::grid::{ClassOptions, Decision, Order, Row};
    use crate::control::state::tests::upload;
    use crate::control::{FunctionVersion, Promote};
    use crate::ids::PartitionId;
    use crate::map::{MapOptions, OptionsChange};
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

    fn rows_shared(one: &GroupState, other: &GroupState) -> Vec<bool> {
        let rows = |state: &GroupState| -> Vec<*const Row> {
            state.grid().unwrap().rows().map(|(_, row)| std::ptr::from_ref(row)).collect()
        };
        rows(one).into_iter().zip(rows(other)).map(|(one, other)| one == other).collect()
    }

    #[test]
    fn a_change_copies_what_it_changes_and_nothing_else() {
        let mut state = created();
        let add = |name: &str, module| {
            let (name, promote) = (Name::new(name).unwrap(), Promote::AtOnce);
            GroupCommand::Catalog(Command::AddVersion { name, version: upload(module), promote })
        };
        state.apply(&add("f", 1)).unwrap();
        state.apply(&add("g", 1)).unwrap();
        let before = state.clone();
        let map = Command::CreateMap { name: Name::new("m").unwrap(), options: MapOptions::default() };
        state.apply(&GroupCommand::Catalog(map)).unwrap();
        assert!(!state.is_same(&before) && !state.catalog().is_same(before.catalog()));
        assert_eq!(rows_shared(&state, &before), [true, true, true]);
        assert!(std::ptr::eq(
            state.catalog().function("f").unwrap(),
            before.catalog().function("f").unwrap()
        ));

        let before = state.clone();
        let wanted = BTreeSet::from([member(1, 1)]);
        let order = Order::Begin { wanted, primary: member(1, 1) };
        let partition = PartitionId { class: ReplicationClass(0), index: 1 };
        let decisions = vec![Decision { partition, version: 0, order }];
        state.apply(&GroupCommand::Grid(GridCommand::Decide { decisions })).unwrap();
        assert!(!state.is_same(&before) && state.catalog().is_same(before.catalog()));
        assert_eq!(rows_shared(&state, &before), [true, false, true]);

        let before = state.clone();
        state.apply(&add("f", 2)).unwrap();
        assert!(std::ptr::eq(
            state.catalog().function("g").unwrap(),
            before.catalog().function("g").unwrap()
        ));
        assert_ne!(state.catalog().function("f"), before.catalog().function("f"));
    }

    #[test]
    fn what_changes_nothing_leaves_the_state_the_same() {
        let mut state = created();
        let catalog = |state: &mut GroupState, command| state.apply(&GroupCommand::Catalog(command));
        let (m, f) = (Name::new("m").unwrap(), Name::new("f").unwrap());
        let create = Command::CreateMap { name: m.clone(), options: MapOptions::default() };
        let add = Command::AddVersion { name: f.clone(), version: upload(1), promote: Promote::AtOnce };
        catalog(&mut state, create.clone()).unwrap();
        catalog(&mut state, add.clone()).unwrap();
        let before = state.clone();
        catalog(&mut state, create).unwrap_err();
        catalog(&mut state, add).unwrap();
        catalog(&mut state, Command::UpdateMap { name: m, change: OptionsChange::default() }).unwrap();
        catalog(&mut state, Command::Promote { name: f.clone(), version: None }).unwrap();
        let suspended = Command::Suspend { name: f, version: 9, because: "spins".into() };
        let unchanged = catalog(&mut state, suspended).unwrap();
        assert_eq!(unchanged, GroupApplied::Catalog(Applied::Unchanged));
        let again = GridCommand::Join(Box::new(new_grid(3).founder));
        state.apply(&GroupCommand::Grid(again)).unwrap();
        let stay = GridCommand::CancelDrain { node: NodeId(1) };
        let unchanged = GroupApplied::Grid(GridApplied::Unchanged);
        assert_eq!(state.apply(&GroupCommand::Grid(stay)), Ok(unchanged));
        assert!(state.is_same(&before));
        assert_eq!(state, before);
    }

    #[test]
    fn a_map_belongs_to_a_class_of_its_grid() {
        let mut state = created();
        let class = ReplicationClass(1);
        let options = MapOptions { class, ..MapOptions::default() };
        let map = GroupCommand::Catalog(Command::CreateMap { name: Name::new("m").unwrap(), options });
        assert_eq!(state.apply(&map), Err(GroupRefusal::ClassNotFound { class }));
        let options = ClassOptions { backups: 2, min_in_sync: 2, partitions: 3 };
        state.apply(&GroupCommand::Grid(GridCommand::CreateClass { options })).unwrap();
        assert!(state.apply(&map).is_ok());
        assert_eq!(state.catalog().map("m").unwrap().options.class, class);
        let change = OptionsChange { ttl: Some(None), ..OptionsChange::default() };
        assert_eq!(MapOptions { class, ..MapOptions::default() }.changed(&change).class, class);
    }

    #[test]
    fn the_name_of_an_export_is_bounded() {
        let mut state = created();
        let mut add = |bytes| {
            let (name, export) = (Name::new("f").unwrap(), "e".repeat(bytes));
            let version = Box::new(FunctionVersion { export, ..*upload(1) });
            state.apply(&GroupCommand::Catalog(Command::AddVersion {
                name,
                version,
                promote: Promote::Later,
            }))
        };
        let bytes = NAME_BYTES + 1;
        assert_eq!(add(bytes), Err(GroupRefusal::ExportTooLong { bytes }));
        assert!(matches!(add(bytes - 1), Ok(GroupApplied::Catalog(Applied::Function(_, 1)))));
    }
}
