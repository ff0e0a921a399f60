//! What becomes of partitions: wishes of their primaries, decisions of the control group's leader, and what people ask for when
//! copies are lost.

use std::sync::Arc;

use super::class::ClassOptions;
use super::command::{Decision, DecisionError, GridApplied, GridRefusal, OnFullLoss, Order, Recovery};
use super::node::{Node, Role};
use super::row::Row;
use super::state::Grid;
use crate::ids::{MemberId, PartitionId};
use crate::limits::DECISIONS;
use crate::replication::Proposal;

impl Grid {
    pub(super) fn propose(
        &mut self,
        partition: PartitionId,
        proposal: &Proposal,
    ) -> Result<GridApplied, GridRefusal> {
        let refused = |source| GridRefusal::Decision { partition, source };
        if let Some(add) = proposal.change.add {
            self.holder(add).map_err(refused)?;
        }
        let (options, row) = self.found(partition).map_err(refused)?;
        let mut row = row.clone();
        row.assignment
            .change(proposal, usize::from(options.min_in_sync))
            .map_err(|source| GridRefusal::Proposal { partition, source })?;
        self.put(partition, row);
        proposal.change.add.into_iter().for_each(|add| self.holds(add));
        Ok(GridApplied::Partitions(vec![partition]))
    }

    pub(super) fn decide(&mut self, decisions: &[Decision]) -> Result<GridApplied, GridRefusal> {
        if decisions.len() > DECISIONS {
            return Err(GridRefusal::TooManyDecisions { decisions: decisions.len() });
        }
        let (mut partitions, mut refused) = (Vec::new(), Vec::new());
        for decision in decisions {
            match self.carry_out(decision) {
                Ok(true) => partitions.push(decision.partition),
                Ok(false) => {}
                Err(error) => refused.push((decision.partition, error)),
            }
        }
        Ok(GridApplied::Decided { partitions, refused })
    }

    /// Returns whether anything has changed.
    fn carry_out(&mut self, decision: &Decision) -> Result<bool, DecisionError> {
        let Decision { partition, version: decided, order } = decision;
        let (options, row) = self.found(*partition)?;
        let current = row.assignment.version;
        if *decided != current && !cfg!(mutant = "control-outdated") {
            return Err(DecisionError::Outdated { decided: *decided, current });
        }
        let begins = match order {
            Order::Begin { wanted, primary } | Order::Want { wanted, primary } => {
                for member in wanted {
                    self.holder(*member)?;
                }
                let copies = options.copies();
                if wanted.len() > copies || !wanted.contains(primary) {
                    return Err(DecisionError::Wanted { wanted: wanted.len(), copies });
                }
                matches!(order, Order::Begin { .. }).then_some(*primary)
            }
            Order::FailOver { to } => {
                self.holder(*to)?;
                None
            }
            Order::BeginElsewhere { on } => {
                self.holder(*on)?;
                self.may_begin_elsewhere(options)?;
                Some(*on)
            }
        };
        let mut row = row.clone();
        let changed = row.follow(order)?;
        if changed {
            self.put(*partition, row);
            begins.into_iter().for_each(|member| self.holds(member));
        }
        Ok(changed)
    }

    fn may_begin_elsewhere(&self, options: ClassOptions) -> Result<(), DecisionError> {
        if options.backups > 0 {
            return Err(DecisionError::HasBackups);
        }
        match self.on_full_loss {
            OnFullLoss::StartEmpty => Ok(()),
            OnFullLoss::Hold => Err(DecisionError::Held),
        }
    }

    pub(super) fn start_empty(&mut self) -> Result<GridApplied, GridRefusal> {
        self.full_loss()?;
        self.version += 1;
        let changed = self.change_rows(Row::is_lost, |row| row.began = None);
        Ok(GridApplied::Partitions(changed))
    }

    /// Whether the grid may start empty: it has begun, and nobody has anything of it.
    pub(super) fn full_loss(&self) -> Result<(), GridRefusal> {
        match self.on_full_loss {
            OnFullLoss::StartEmpty => {}
            OnFullLoss::Hold => return Err(GridRefusal::Held),
        }
        let begun = self.rows().filter(|(_, row)| row.began.is_some()).count();
        let lost = self.rows().filter(|(_, row)| row.is_lost()).count();
        // A member that was removed from a set, and lives, may have a copy that people would rather have than nothing.
        let holders = self.nodes.values().filter(|node| node.has_held).count();
        let none_held = holders == 0 || cfg!(mutant = "control-full-loss");
        if lost == 0 || lost < begun || !none_held {
            return Err(GridRefusal::NoFullLoss { live: begun - lost, begun, holders });
        }
        Ok(())
    }

    pub(super) fn recover_lost(
        &mut self,
        (partition, decided): (PartitionId, u64),
        member: MemberId,
        from: Recovery,
    ) -> Result<GridApplied, GridRefusal> {
        self.recover(partition, decided, (member, from))
            .map_err(|source| GridRefusal::Decision { partition, source })?;
        self.holds(member);
        Ok(GridApplied::Partitions(vec![partition]))
    }

    fn recover(
        &mut self,
        partition: PartitionId,
        decided: u64,
        (member, from): (MemberId, Recovery),
    ) -> Result<(), DecisionError> {
        self.holder(member)?;
        let (_, row) = self.found(partition)?;
        let current = row.assignment.version;
        if decided != current {
            return Err(DecisionError::Outdated { decided, current });
        }
        if !row.is_lost() {
            return Err(DecisionError::NotLost);
        }
        let mut row = row.clone();
        match from {
            Recovery::Copy { epoch, .. } => {
                if !row.is_copy_of(epoch) {
                    let (began, current) = (row.began, row.assignment.epoch);
                    return Err(DecisionError::NoCopy { epoch, began, current });
                }
                row.take_up(member);
            }
            Recovery::Empty => row.restart(member),
        }
        self.put(partition, row);
        Ok(())
    }

    fn found(&self, partition: PartitionId) -> Result<(ClassOptions, &Row), DecisionError> {
        let class = self.class(partition.class).ok_or(DecisionError::NotFound)?;
        Ok((*class, self.row(partition).ok_or(DecisionError::NotFound)?))
    }

    /// Puts a row in the place of the one that was found.
    fn put(&mut self, partition: PartitionId, row: Row) {
        self.version += 1;
        let row = Arc::new(Row { changed: self.version, ..row });
        let class = &mut self.classes[usize::from(partition.class.0)];
        Arc::make_mut(&mut class.rows)[usize::from(partition.index)] = row;
    }

    /// Checks that a member may hold data: it lives its newest life, and is no arbiter.
    fn holder(&self, member: MemberId) -> Result<(), DecisionError> {
        let node = self.nodes.get(&member.node).filter(|node| node.member == member);
        match node.map(|node| node.description.role) {
            Some(Role::Data) => Ok(()),
            Some(Role::Arbiter) | None => Err(DecisionError::NotAMember { member }),
        }
    }

    /// From now on a member may have a copy of something.
    fn holds(&mut self, member: MemberId) {
        if let Some(node) = self.nodes.get(&member.node).filter(|node| !node.has_held) {
            let node = Node { has_held: true, ..node.clone() };
            Arc::make_mut(&mut self.nodes).insert(member.node, node);
        }
    }
}
