//! What must be so at the end, when faults have stopped long ago.

use std::collections::BTreeMap;

use wattle_core::control::grid::{Node, NodeState, Row};
use wattle_core::ids::{GridTime, MemberId, PartitionId, Slot, Version};

use super::World;
use crate::judge::Violation;
use crate::node::Copy;

/// Operations that a client is answered since all is calm, at the least.
const ANSWERED: u64 = 20;
/// The longest that one of them may take, in microseconds.
const LONGEST: u64 = 5_000_000;

/// An entry as copies must agree on it.
type Entry = (Slot, Vec<u8>, Vec<u8>, Version, Option<GridTime>);

impl World {
    pub(super) fn check_rest(&mut self) -> Result<(), Violation> {
        self.check_clients()?;
        self.give_up();
        if let Some(violation) = self.violation.take() {
            return Err(violation);
        }
        let takers: Vec<MemberId> =
            self.group.grid.nodes().filter(|node| node.takes_partitions()).map(|node| node.member).collect();
        let nodes = self.group.grid.nodes().filter(|node| node.state == NodeState::Draining).count();
        if nodes > 0 && !takers.is_empty() {
            return Err(Violation::StillDraining { nodes });
        }
        for (partition, row) in self.group.grid.rows() {
            self.check_row(partition, row, &takers)?;
            self.check_copies(partition, row)?;
        }
        if !self.scenario.zones {
            self.check_balance(&takers)?;
        }
        self.judge.histories(|key| self.partition_of(key))
    }

    fn check_clients(&self) -> Result<(), Violation> {
        let stuck = |client: &crate::client::Client| client.answered < ANSWERED || client.longest > LONGEST;
        match self.clients.iter().enumerate().find(|(_, client)| stuck(client)) {
            Some((place, client)) => Err(Violation::NoProgress {
                client: place,
                answered: client.answered,
                longest: client.longest,
            }),
            None if !self.unread.is_empty() => {
                Err(Violation::NoProgress { client: 0, answered: 0, longest: u64::MAX })
            }
            None => Ok(()),
        }
    }

    /// As many copies as there can be, all of them in sync, and the primary that was planned.
    fn check_row(&self, partition: PartitionId, row: &Row, takers: &[MemberId]) -> Result<(), Violation> {
        let copies =
            self.group.grid.class(partition.class).map_or(0, |class| class.copies().min(takers.len()));
        let assignment = &row.assignment;
        let is_full = assignment.in_sync.len() == copies && assignment.in_sync == assignment.wanted;
        let is_led = assignment.primary.is_some() && assignment.primary == row.preferred;
        if is_full && is_led {
            Ok(())
        } else {
            Err(Violation::NotHealed { partition, row: format!("{row:?}") })
        }
    }

    fn copy(&self, partition: PartitionId, member: MemberId) -> Option<&Copy> {
        let place = self.homes.get(&member.node)?;
        let node = self.machines[*place].process.as_ref().filter(|node| node.me == Some(member))?;
        node.copies.get(&partition)
    }

    fn check_copies(&self, partition: PartitionId, row: &Row) -> Result<(), Violation> {
        let entries = |member: MemberId| {
            let copy = self.copy(partition, member)?;
            let map = crate::node::map(partition.class);
            let all = copy.replicated.partition().entries_of(map.id);
            let mut entries: Vec<Entry> = all
                .map(|(slot, entry)| {
                    (slot, entry.key.to_vec(), entry.value.to_vec(), entry.version, entry.deadline)
                })
                .collect();
            entries.sort_unstable();
            Some(entries)
        };
        let expected = row.assignment.primary.and_then(entries);
        for member in row.assignment.in_sync.iter().copied() {
            if expected.is_none() || entries(member) != expected {
                return Err(Violation::CopiesDiffer { partition, member });
            }
        }
        Ok(())
    }

    fn check_balance(&self, takers: &[MemberId]) -> Result<(), Violation> {
        for (class, _) in self.group.grid.classes() {
            let none: BTreeMap<MemberId, usize> = takers.iter().map(|member| (*member, 0)).collect();
            let (mut held, mut reigns) = (none.clone(), none);
            for (_, row) in self.group.grid.rows_of(class) {
                for member in &row.assignment.in_sync {
                    *held.entry(*member).or_default() += 1;
                }
                row.assignment.primary.into_iter().for_each(|member| *reigns.entry(member).or_default() += 1);
            }
            for counts in [held, reigns] {
                let (least, most) = (counts.values().min(), counts.values().max());
                if most.zip(least).is_some_and(|(most, least)| most - least > 1) {
                    return Err(Violation::Uneven { class: class.0, counts });
                }
            }
        }
        Ok(())
    }

    /// Nodes whose memory counts.
    pub(super) fn members(&self) -> impl Iterator<Item = &Node> {
        self.group.grid.nodes()
    }
}
