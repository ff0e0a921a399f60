//! What can be asked of the grid, what it changes, and why it is refused.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::class::{ClassOptions, InvalidClass};
use super::node::{Formats, GridId, Joining, NodeDescription, TextTooLong};
use crate::ids::{Epoch, MemberId, NodeId, PartitionId, ReplicationClass, Version};
use crate::limits::{CLASSES, DECISIONS, GENERATIONS, NODES};
use crate::replication::{Proposal, ProposalError};

/// What happens when no copy of anything is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFullLoss {
    /// The grid begins empty.
    StartEmpty,
    /// Its partitions stay lost until somebody decides.
    Hold,
}

/// A change of the grid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum GridCommand {
    /// A process wants to be a member: a new node, or one that is known and has lost its memory.
    Join(Box<Joining>),
    /// A member says something else about itself. Its role stays.
    Describe {
        /// Which one.
        member: MemberId,
        /// What it says now.
        description: Box<NodeDescription>,
    },
    /// A node is to give its partitions away, to as many others as there are, and then to leave.
    Drain {
        /// Which one.
        node: NodeId,
    },
    /// It is to stay after all.
    CancelDrain {
        /// Which one.
        node: NodeId,
    },
    /// A member that drains goes, and its memory with it. Refused while it alone holds something.
    Leave {
        /// Which one.
        member: MemberId,
    },
    /// A member that keeps nothing on disk has been silent for long, and nothing is on it: it goes. Refused if the table names it, or if
    /// something is lost: people may look for it everywhere.
    Dismiss {
        /// Which one.
        member: MemberId,
    },
    /// A node is gone for good: its process is dead. Asked for by people only, who know that: the state does not, and what the node
    /// alone held is lost.
    Forget {
        /// Which one.
        node: NodeId,
    },
    /// Makes a class, unless one of the same kind is there.
    CreateClass {
        /// What its partitions have in common.
        options: ClassOptions,
    },
    /// A primary asks for a change of its assignment.
    Propose {
        /// Of this partition.
        partition: PartitionId,
        /// The wish.
        proposal: Proposal,
    },
    /// Decisions about partitions, each of them conditional by itself.
    Decide {
        /// At most [`DECISIONS`].
        decisions: Vec<Decision>,
    },
    /// The whole grid begins empty. Refused unless every partition is lost and no member has a copy of anything.
    StartEmpty,
    /// What happens when no copy of anything is left.
    SetOnFullLoss(OnFullLoss),
    /// A lost partition goes on. Asked for by people only.
    RecoverLost {
        /// Which one.
        partition: PartitionId,
        /// Of its assignment, as it was seen.
        version: u64,
        /// Who is to be primary.
        member: MemberId,
        /// With what.
        from: Recovery,
    },
}

/// What a lost partition goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Recovery {
    /// The copy that the member has offered. What it lacks is lost.
    Copy {
        /// Of the copy's last record.
        epoch: Epoch,
        /// Where that ends.
        last: Version,
    },
    /// Nothing.
    Empty,
}

/// A decision about one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Which one.
    pub partition: PartitionId,
    /// Of its assignment, when it was decided.
    pub version: u64,
    /// What.
    pub order: Order,
}

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Order {
    /// A partition that has not begun yet does so, empty.
    Begin {
        /// Who should hold it.
        wanted: BTreeSet<MemberId>,
        /// Of those, who begins.
        primary: MemberId,
    },
    /// A partition without backups, whose holder is gone, begins empty elsewhere.
    BeginElsewhere {
        /// On this member.
        on: MemberId,
    },
    /// Another member of the set is to be primary, at once.
    FailOver {
        /// Which one.
        to: MemberId,
    },
    /// Who should hold the partition from now on.
    Want {
        /// All of them.
        wanted: BTreeSet<MemberId>,
        /// Of those, who should be primary.
        primary: MemberId,
    },
}

/// What a command has changed. The partitions' rows and the nodes are read from the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum GridApplied {
    /// The process is this member.
    Joined {
        /// Who it is.
        member: MemberId,
        /// What its earlier life was removed from.
        partitions: Vec<PartitionId>,
    },
    /// This node is different.
    Node(NodeId),
    /// This node is no more.
    NodeGone {
        /// Which one.
        node: NodeId,
        /// What it was removed from.
        partitions: Vec<PartitionId>,
    },
    /// There is this class.
    Class(ReplicationClass),
    /// These partitions are different.
    Partitions(Vec<PartitionId>),
    /// Some decisions were carried out.
    Decided {
        /// What they have changed.
        partitions: Vec<PartitionId>,
        /// The others.
        refused: Vec<(PartitionId, DecisionError)>,
    },
    /// What happens when no copy of anything is left.
    OnFullLoss(OnFullLoss),
    /// Nothing: the state was so already.
    Unchanged,
}

impl GridApplied {
    /// How many partitions it names.
    #[must_use]
    pub fn partitions(&self) -> usize {
        match self {
            Self::Joined { partitions, .. }
            | Self::NodeGone { partitions, .. }
            | Self::Partitions(partitions) => partitions.len(),
            Self::Decided { partitions, refused } => partitions.len() + refused.len(),
            Self::Node(_) | Self::Class(_) | Self::OnFullLoss(_) | Self::Unchanged => 0,
        }
    }
}

/// Why a decision about a partition was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum DecisionError {
    /// There is no such partition.
    #[error("there is no such partition")]
    NotFound,
    /// The assignment has changed since.
    #[error("it was decided on version {decided}, and the assignment is at {current}")]
    Outdated {
        /// The version it names.
        decided: u64,
        /// The version there is.
        current: u64,
    },
    /// Nobody holds data under this identity.
    #[error("{member:?} is no member that holds data")]
    NotAMember {
        /// Who it is.
        member: MemberId,
    },
    /// It would hold nothing, or too much, or somebody else than a holder would be primary.
    #[error("{wanted} members cannot hold a partition of {copies} copies, or the primary is none of them")]
    Wanted {
        /// How many were named.
        wanted: usize,
        /// Of the class.
        copies: usize,
    },
    /// Only a member of the in-sync set can be primary.
    #[error("{member:?} is not in sync")]
    NotInSync {
        /// Who it is.
        member: MemberId,
    },
    /// It reigns.
    #[error("{member:?} is primary already")]
    IsPrimary {
        /// Who it is.
        member: MemberId,
    },
    /// It would lose what it has.
    #[error("the partition has begun")]
    HasBegun,
    /// It is to begin first.
    #[error("the partition has not begun")]
    HasNotBegun,
    /// It would lose what its copies have.
    #[error("only a partition without backups begins empty elsewhere by itself")]
    HasBackups,
    /// Somebody is to decide.
    #[error("the grid holds what it has lost until somebody decides")]
    Held,
    /// There is nothing to recover.
    #[error("the partition is not lost")]
    NotLost,
    /// The copy is from before the partition began empty, or from nowhere.
    #[error("a copy of epoch {epoch:?} is none of a partition that began at {began:?} and is at {current:?}")]
    NoCopy {
        /// Of the copy.
        epoch: Epoch,
        /// When the partition began empty.
        began: Option<Epoch>,
        /// The partition's.
        current: Epoch,
    },
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum GridRefusal {
    /// It means another grid.
    #[error("this is grid {here}, and the node means grid {meant}")]
    OtherGrid {
        /// This one.
        here: GridId,
        /// The one it means.
        meant: GridId,
    },
    /// The binary does not understand the grid.
    #[error("the grid speaks format {grid}, and the node understands {} to {}", node.oldest, node.newest)]
    Incompatible {
        /// The grid's format.
        grid: u32,
        /// What the node understands.
        node: Formats,
    },
    /// The node has lived on since the process was told who it is.
    #[error("the node is {current:?} by now, and the process was {known:?}: it may ask again as that")]
    OtherIncarnation {
        /// Who the process says it was.
        known: MemberId,
        /// Who the node is.
        current: MemberId,
    },
    /// The grid has as many nodes as it may.
    #[error("a grid has at most {NODES} nodes")]
    TooManyNodes,
    /// Its control group was lost too often.
    #[error("the control group of a grid is built anew at most {GENERATIONS} times")]
    TooManyGenerations,
    /// A node says too much about itself.
    #[error(transparent)]
    Description(#[from] TextTooLong),
    /// A node is what it is.
    #[error("the role of {node:?} cannot change while it runs")]
    RoleChanged {
        /// Which one.
        node: NodeId,
    },
    /// No such node.
    #[error("there is no node {}", node.0)]
    NodeNotFound {
        /// Which one.
        node: NodeId,
    },
    /// Not, or no longer, a member.
    #[error("{member:?} is no member")]
    NotAMember {
        /// Who it is.
        member: MemberId,
    },
    /// It is to stay.
    #[error("{member:?} is not being drained")]
    NotDraining {
        /// Who it is.
        member: MemberId,
    },
    /// It may be needed.
    #[error("{member:?} may hold what is needed")]
    Needed {
        /// Who it is.
        member: MemberId,
    },
    /// What it holds would be lost.
    #[error("{member:?} holds the last copy of {partitions} partitions")]
    LastCopy {
        /// Who it is.
        member: MemberId,
        /// How many.
        partitions: usize,
    },
    /// The class makes no sense.
    #[error(transparent)]
    Class(#[from] InvalidClass),
    /// The grid has as many classes as it may.
    #[error("a grid has at most {CLASSES} replication classes")]
    TooManyClasses,
    /// The command has too many decisions.
    #[error("a command has at most {DECISIONS} decisions, not {decisions}")]
    TooManyDecisions {
        /// How many it has.
        decisions: usize,
    },
    /// A primary's wish was refused.
    #[error("partition {partition}: {source}")]
    Proposal {
        /// Which partition.
        partition: PartitionId,
        /// Why.
        #[serde(with = "WrittenProposalError")]
        source: ProposalError,
    },
    /// A decision was refused.
    #[error("partition {partition}: {source}")]
    Decision {
        /// Which partition.
        partition: PartitionId,
        /// Why.
        source: DecisionError,
    },
    /// The grid holds what it has lost.
    #[error("the grid holds what it has lost until somebody decides")]
    Held,
    /// The grid is not empty.
    #[error("{live} partitions of {begun} have copies, and so may {holders} nodes: it is no full loss")]
    NoFullLoss {
        /// Partitions with members in sync.
        live: usize,
        /// Partitions that have begun.
        begun: usize,
        /// Nodes whose memory may have copies that no set counts on.
        holders: usize,
    },
}

/// How a [`ProposalError`] is written; the compiler compares the two.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ProposalError", deny_unknown_fields)]
enum WrittenProposalError {
    Outdated { proposed: u64, current: u64 },
    NotItsOwn,
    Meaningless,
    TooFew { left: usize, min_in_sync: usize },
}
