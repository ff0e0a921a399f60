//! [`Grid`]: nodes, classes and the table of partitions; applies commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::class::ClassOptions;
use super::command::{GridApplied, GridCommand, GridRefusal, OnFullLoss};
use super::node::{GridId, Joining, Node, NodeDescription, NodeState};
use super::row::Row;
use crate::ids::{MemberId, NodeId, PartitionId, ReplicationClass};
use crate::limits::{CLASSES, NODES};
use crate::name::Name;

/// A grid that is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGrid {
    /// For people.
    pub name: Name,
    /// The format that it begins with.
    pub format: u32,
    /// Partitions of its first class.
    pub partitions: u16,
    /// What happens when no copy of anything is left.
    pub on_full_loss: OnFullLoss,
    /// The process that creates it, with the grid's id.
    pub founder: Joining,
}

/// Who is in the grid, and who holds what. A clone shares nodes and rows: who changes some of them then copies those alone, and
/// beside them one pointer for each row of the class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    pub(super) id: GridId,
    pub(super) name: Name,
    /// Of the control group: a group that is built anew outranks the one before.
    pub(super) generation: u32,
    /// Which groups this one has gone on from, itself too, each with the node that has built it; not the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) founders: Vec<(u32, NodeId)>,
    pub(super) format: u32,
    pub(super) on_full_loss: OnFullLoss,
    /// Rises with every change.
    pub(super) version: u64,
    pub(super) nodes: Arc<BTreeMap<NodeId, Node>>,
    /// The version at the last change of nodes, classes or what happens on loss.
    pub(super) nodes_changed: u64,
    /// Ids up to this one were given to nodes.
    pub(super) last_node: u64,
    /// By their number.
    pub(super) classes: Vec<Class>,
}

/// A class and its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Class {
    pub(super) options: ClassOptions,
    pub(super) rows: Arc<[Arc<Row>]>,
}

impl Grid {
    /// Creates a grid with its first node; returns who that is.
    ///
    /// # Errors
    /// The founder or the class would be refused.
    pub fn new(new: &NewGrid) -> Result<(Self, MemberId), GridRefusal> {
        let mut grid = Self {
            id: new.founder.grid,
            name: new.name.clone(),
            generation: 1,
            founders: Vec::new(),
            format: new.format,
            on_full_loss: new.on_full_loss,
            version: 0,
            nodes: Arc::default(),
            nodes_changed: 0,
            last_node: 0,
            classes: Vec::new(),
        };
        grid.create_class(ClassOptions::standard(new.partitions))?;
        // The creator's only: who it was in another grid is nothing here.
        let (member, _) = grid.admit(&Joining { known: None, ..new.founder.clone() })?;
        Ok((grid, member))
    }

    /// Decides a command and carries it out.
    ///
    /// # Errors
    /// A refusal; nothing has changed.
    pub fn apply(&mut self, command: &GridCommand) -> Result<GridApplied, GridRefusal> {
        let applied = match command {
            GridCommand::Join(joining) => self.join(joining),
            GridCommand::Describe { member, description } => self.describe(*member, description),
            GridCommand::Drain { node } => self.set_state(*node, NodeState::Draining),
            GridCommand::CancelDrain { node } => self.set_state(*node, NodeState::Joined),
            GridCommand::Leave { member } => self.leave(*member),
            GridCommand::Dismiss { member } => self.dismiss(*member),
            GridCommand::Forget { node } => self.forget(*node),
            GridCommand::CreateClass { options } => self.create_class(*options),
            GridCommand::Propose { partition, proposal } => self.propose(*partition, proposal),
            GridCommand::Decide { decisions } => self.decide(decisions),
            GridCommand::StartEmpty => self.start_empty(),
            GridCommand::SetOnFullLoss(policy) => Ok(self.set_on_full_loss(*policy)),
            GridCommand::RecoverLost { partition, version, member, from } => {
                self.recover_lost((*partition, *version), *member, *from)
            }
        };
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
        applied
    }

    fn join(&mut self, joining: &Joining) -> Result<GridApplied, GridRefusal> {
        let (member, partitions) = self.admit(joining)?;
        Ok(GridApplied::Joined { member, partitions })
    }

    /// Returns who joins, and what its earlier life was removed from.
    fn admit(&mut self, joining: &Joining) -> Result<(MemberId, Vec<PartitionId>), GridRefusal> {
        if joining.grid != self.id {
            return Err(GridRefusal::OtherGrid { here: self.id, meant: joining.grid });
        }
        joining.description.validate()?;
        let node = joining.description.formats;
        if !(node.oldest..=node.newest).contains(&self.format) {
            return Err(GridRefusal::Incompatible { grid: self.format, node });
        }
        let joined = self.nodes.values().find(|node| node.nonce == joining.nonce);
        if let Some(node) = joined.filter(|_| !cfg!(mutant = "control-nonce")) {
            return Ok((node.member, Vec::new()));
        }
        // One that has left or was forgotten joins as a new one, when it knows that: its old number may be in old lists.
        let current = |known: MemberId| {
            let node = self.nodes.get(&known.node).ok_or(GridRefusal::NodeNotFound { node: known.node });
            node.map(|node| (known, node.member))
        };
        let (member, partitions) = match joining.known.map(current).transpose()? {
            Some((known, current)) if known != current => {
                return Err(GridRefusal::OtherIncarnation { known, current });
            }
            Some((_, before)) if cfg!(mutant = "control-forget") => (before.reborn(), Vec::new()),
            Some((_, before)) => (before.reborn(), self.remove(before)),
            None if self.nodes.len() == NODES => return Err(GridRefusal::TooManyNodes),
            None => {
                self.last_node += 1;
                (MemberId { node: NodeId(self.last_node), incarnation: 1 }, Vec::new())
            }
        };
        self.change_nodes().insert(member.node, Node::new(member, joining));
        Ok((member, partitions))
    }

    fn describe(
        &mut self,
        member: MemberId,
        description: &NodeDescription,
    ) -> Result<GridApplied, GridRefusal> {
        description.validate()?;
        let node = self.current(member)?;
        if node.description.role != description.role {
            return Err(GridRefusal::RoleChanged { node: member.node });
        }
        if node.description == *description {
            return Ok(GridApplied::Unchanged);
        }
        let node = Node { description: description.clone(), ..node.clone() };
        self.change_nodes().insert(member.node, node);
        Ok(GridApplied::Node(member.node))
    }

    fn set_state(&mut self, node: NodeId, state: NodeState) -> Result<GridApplied, GridRefusal> {
        let found = self.nodes.get(&node).ok_or(GridRefusal::NodeNotFound { node })?;
        if found.state == state {
            return Ok(GridApplied::Unchanged);
        }
        let changed = Node { state, ..found.clone() };
        self.change_nodes().insert(node, changed);
        Ok(GridApplied::Node(node))
    }

    fn leave(&mut self, member: MemberId) -> Result<GridApplied, GridRefusal> {
        let node = self.current(member)?;
        // Somebody may have called it off.
        if node.state != NodeState::Draining {
            return Err(GridRefusal::NotDraining { member });
        }
        let alone =
            |row: &&Row| row.assignment.in_sync.len() == 1 && row.assignment.in_sync.contains(&member);
        let partitions = self.rows().map(|(_, row)| row).filter(alone).count();
        if partitions > 0 && !cfg!(mutant = "control-leave-last") {
            return Err(GridRefusal::LastCopy { member, partitions });
        }
        self.forget(member.node)
    }

    fn dismiss(&mut self, member: MemberId) -> Result<GridApplied, GridRefusal> {
        let node = self.current(member)?;
        if !node.description.in_memory || self.may_need(member) {
            return Err(GridRefusal::Needed { member });
        }
        self.forget(member.node)
    }

    /// Whether the table names a member, or something is lost that it might have.
    pub(super) fn may_need(&self, member: MemberId) -> bool {
        self.rows().any(|(_, row)| row.names(member) || row.is_lost())
    }

    fn forget(&mut self, node: NodeId) -> Result<GridApplied, GridRefusal> {
        let member = self.nodes.get(&node).ok_or(GridRefusal::NodeNotFound { node })?.member;
        let partitions = self.remove(member);
        self.change_nodes().remove(&node);
        Ok(GridApplied::NodeGone { node, partitions })
    }

    /// Takes a member that has lost its memory out of every row.
    fn remove(&mut self, member: MemberId) -> Vec<PartitionId> {
        self.version += 1;
        self.change_rows(|row| row.names(member), |row| row.forget(member))
    }

    fn create_class(&mut self, options: ClassOptions) -> Result<GridApplied, GridRefusal> {
        options.validate()?;
        if let Some(place) = self.classes.iter().position(|class| class.options.is_same(&options)) {
            return Ok(GridApplied::Class(number(place)));
        }
        if self.classes.len() == CLASSES {
            return Err(GridRefusal::TooManyClasses);
        }
        self.change_nodes();
        let row = Arc::new(Row { changed: self.version, ..Row::new(self.generation) });
        let rows = std::iter::repeat_n(row, usize::from(options.partitions)).collect();
        self.classes.push(Class { options, rows });
        Ok(GridApplied::Class(number(self.classes.len() - 1)))
    }

    fn set_on_full_loss(&mut self, policy: OnFullLoss) -> GridApplied {
        if self.on_full_loss == policy {
            return GridApplied::Unchanged;
        }
        self.on_full_loss = policy;
        self.change_nodes();
        GridApplied::OnFullLoss(policy)
    }

    /// The nodes, which are about to change.
    pub(super) fn change_nodes(&mut self) -> &mut BTreeMap<NodeId, Node> {
        self.version += 1;
        self.nodes_changed = self.version;
        Arc::make_mut(&mut self.nodes)
    }

    fn current(&self, member: MemberId) -> Result<&Node, GridRefusal> {
        let node = self.nodes.get(&member.node).filter(|node| node.member == member);
        node.ok_or(GridRefusal::NotAMember { member })
    }

    /// Changes some rows, as part of a change of this version; returns which.
    pub(super) fn change_rows(
        &mut self,
        which: impl Fn(&Row) -> bool,
        change: impl Fn(&mut Row),
    ) -> Vec<PartitionId> {
        let mut changed = Vec::new();
        for (place, class) in self.classes.iter_mut().enumerate() {
            let found = (0_u16..).zip(class.rows.iter()).filter(|(_, row)| which(row));
            for index in found.map(|(index, _)| index).collect::<Vec<_>>() {
                let row = Arc::make_mut(&mut Arc::make_mut(&mut class.rows)[usize::from(index)]);
                change(row);
                row.changed = self.version;
                changed.push(PartitionId { class: number(place), index });
            }
        }
        changed
    }

    /// Panics if the parts do not fit together.
    pub fn check_invariants(&self) {
        let members: BTreeSet<MemberId> = self.nodes.values().map(|node| node.member).collect();
        for (partition, row) in self.rows() {
            row.check_invariants();
            let named = row.assignment.in_sync.iter().chain(&row.assignment.wanted).chain(&row.preferred);
            named.for_each(|member| assert!(members.contains(member), "{partition}: {member:?} is a member"));
            assert!(row.changed <= self.version);
        }
        assert!(self.nodes.keys().all(|node| node.0 <= self.last_node));
        assert!(self.nodes_changed <= self.version);
    }
}

/// The number of the class at a place.
fn number(place: usize) -> ReplicationClass {
    ReplicationClass(u8::try_from(place).expect("there are few classes"))
}
