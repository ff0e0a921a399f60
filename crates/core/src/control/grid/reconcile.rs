//! [`Reconciler`]: what the control group's leader should propose next.
//!
//! It looks at the state and at who is alive, and names what is nearest to be done. Remembered is the plan, which is made
//! anew only when the nodes that take partitions are others (a plan that was made from every half-way state could wander), and since
//! when a partition has been on its way: what two cannot give each other, whose link is cut, must not hold up all others.

use std::collections::{BTreeMap, BTreeSet};

use super::class::ClassOptions;
use super::command::{Decision, GridCommand, OnFullLoss, Order};
use super::node::{Node, NodeState};
use super::row::{Duty, Row};
use super::state::Grid;
use crate::ids::{MemberId, NodeId, PartitionId, ReplicationClass};
use crate::limits::{DECISIONS, DISMISSAL_TIME, MOVE_PATIENCE, MOVES};
use crate::membership::Presence;
use crate::partition::{Site, plan};
use crate::replication::LocalTime;

/// What the leader should propose next.
#[derive(Debug, Clone, Default)]
pub struct Reconciler {
    targets: BTreeMap<ReplicationClass, Target>,
    /// What is on its way to where it should be.
    moves: BTreeMap<PartitionId, Move>,
    /// Since when members are gone.
    gone: BTreeMap<MemberId, LocalTime>,
}

/// A partition on its way.
#[derive(Debug, Clone, Copy)]
struct Move {
    /// Of its assignment.
    version: u64,
    /// Since when it has been that.
    since: LocalTime,
}

/// Where the partitions of a class should be.
#[derive(Debug, Clone)]
struct Target {
    /// The sites that it was planned for.
    sites: Vec<Site>,
    /// The nodes of each partition, the primary first.
    replicas: Vec<Vec<NodeId>>,
}

impl Reconciler {
    /// The next command, or `None` while there is nothing to do but to wait. To be asked again when it was carried out or refused,
    /// when the grid has changed, when somebody's presence has, and now and then. `presence` knows every member of this grid
    /// ([`Sessions::follow`](crate::membership::Sessions::follow)): who is not in it counts as gone.
    pub fn next(
        &mut self,
        now: LocalTime,
        grid: &Grid,
        presence: &BTreeMap<MemberId, Presence>,
    ) -> Option<GridCommand> {
        if grid.full_loss().is_ok() {
            return Some(GridCommand::StartEmpty);
        }
        self.plan(grid, &sites(grid, presence));
        let rounds: Vec<Round> = grid
            .classes()
            .map(|(number, options)| Round {
                grid,
                presence,
                number,
                options,
                target: self.targets.get(&number).map_or(&[], |target| &target.replicas),
            })
            .collect();
        // What serves nobody first: only then can be told what is held too seldom.
        let urgent = rounds.iter().flat_map(Round::take_over).chain(rounds.iter().flat_map(Round::begin));
        let mut decisions: Vec<Decision> = urgent.take(DECISIONS).collect();
        let moves = rounds.iter().flat_map(Round::moves).map(|(partition, version)| {
            let known = self.moves.get(&partition).filter(|known| known.version == version);
            (partition, known.copied().unwrap_or(Move { version, since: now }))
        });
        self.moves = moves.collect();
        if decisions.is_empty() {
            let goes_on = |(_, known): &(&PartitionId, &Move)| now < known.since + MOVE_PATIENCE;
            let moving: Vec<ReplicationClass> =
                self.moves.iter().filter(goes_on).map(|(partition, _)| partition.class).collect();
            let want =
                |round: &Round| round.want(moving.iter().filter(|class| **class == round.number).count());
            decisions.extend(rounds.iter().flat_map(want).take(DECISIONS));
        }
        let dismissed = self.dismissed(now, grid, presence);
        match decisions.is_empty() {
            false => Some(GridCommand::Decide { decisions }),
            true => dismissed.map(|member| GridCommand::Dismiss { member }),
        }
    }

    /// Who has been gone for so long that it will not come back, for it would have to bring its memory along.
    fn dismissed(
        &mut self,
        now: LocalTime,
        grid: &Grid,
        presence: &BTreeMap<MemberId, Presence>,
    ) -> Option<MemberId> {
        let gone =
            |member: &MemberId| presence.get(member).is_none_or(|presence| *presence == Presence::Gone);
        let gone = grid.nodes().filter(|node| gone(&node.member));
        self.gone =
            gone.map(|node| (node.member, self.gone.get(&node.member).copied().unwrap_or(now))).collect();
        let mut long = self.gone.iter().filter(|(_, since)| now >= **since + DISMISSAL_TIME);
        let in_memory =
            |member: &MemberId| grid.node(member.node).is_some_and(|node| node.description.in_memory);
        long.find(|(member, _)| in_memory(member) && !grid.may_need(**member)).map(|(member, _)| *member)
    }

    /// Plans what is not planned for these sites.
    fn plan(&mut self, grid: &Grid, sites: &[Site]) {
        for (number, options) in grid.classes() {
            let known = self.targets.get(&number).is_some_and(|target| target.sites == sites);
            if sites.is_empty() || known {
                continue;
            }
            let today: Vec<Vec<NodeId>> = grid.rows_of(number).map(|(_, row)| holders(row)).collect();
            let replicas = plan(sites, options.copies(), &today);
            self.targets.insert(number, Target { sites: sites.to_vec(), replicas });
        }
    }
}

/// The nodes that partitions should be on. Who was silent for a short time may come back with all that it has.
fn sites(grid: &Grid, presence: &BTreeMap<MemberId, Presence>) -> Vec<Site> {
    let zones: BTreeSet<&str> = grid.nodes().filter_map(|node| node.description.zone.as_deref()).collect();
    let zones: BTreeMap<&str, u32> = zones.into_iter().zip(0..).collect();
    let here = |node: &&Node| presence.get(&node.member).is_some_and(|presence| *presence != Presence::Gone);
    let has_prepared = |node: &&Node| !node.description.prepares;
    let takers = grid.nodes().filter(|node| node.takes_partitions()).filter(has_prepared).filter(here);
    takers
        .map(|node| {
            let zone = node.description.zone.as_deref().and_then(|zone| zones.get(zone)).copied();
            Site { node: node.id(), zone }
        })
        .collect()
}

/// Who holds a partition today: the primary first, then who holds everything and should, and last who has a part of it.
fn holders(row: &Row) -> Vec<NodeId> {
    let (in_sync, wanted) = (&row.assignment.in_sync, &row.assignment.wanted);
    let complete = in_sync.intersection(wanted);
    let all = row.assignment.primary.iter().chain(complete).chain(in_sync).chain(wanted);
    all.map(|member| member.node).collect()
}

/// The partitions of one class, looked at once.
struct Round<'a> {
    grid: &'a Grid,
    presence: &'a BTreeMap<MemberId, Presence>,
    number: ReplicationClass,
    options: &'a ClassOptions,
    target: &'a [Vec<NodeId>],
}

impl<'a> Round<'a> {
    fn rows(&self) -> impl Iterator<Item = (PartitionId, &'a Row)> {
        self.grid.rows_of(self.number)
    }

    fn is(&self, member: MemberId, presence: Presence) -> bool {
        self.presence.get(&member).copied().unwrap_or(Presence::Gone) == presence
    }

    fn lives(&self, member: MemberId) -> bool {
        self.is(member, Presence::Alive)
    }

    fn is_led(&self, row: &Row) -> bool {
        row.assignment.primary.is_some_and(|primary| self.lives(primary))
    }

    /// Who should hold a partition, the primary first.
    fn wanted(&self, partition: PartitionId) -> Vec<MemberId> {
        let nodes = self.target.get(usize::from(partition.index)).into_iter().flatten();
        nodes.filter_map(|node| self.grid.node(*node)).map(|node| node.member).collect()
    }

    /// Partitions whose primary is dead get another, as evenly as that can be.
    fn take_over(&self) -> Vec<Decision> {
        let mut reigns: BTreeMap<MemberId, usize> = BTreeMap::new();
        for primary in self.rows().filter_map(|(_, row)| row.assignment.primary) {
            *reigns.entry(primary).or_default() += 1;
        }
        let drains = |member: &MemberId| {
            self.grid.node(member.node).is_none_or(|node| node.state == NodeState::Draining)
        };
        let mut decisions = Vec::new();
        for (partition, row) in self.rows().filter(|(_, row)| !self.is_led(row)) {
            let lives = |member: &MemberId| self.lives(*member) || cfg!(mutant = "control-dead-heir");
            let heirs = row.assignment.in_sync.iter().copied().filter(lives);
            let rank = |member: &MemberId| {
                let reigns = reigns.get(member).copied().unwrap_or_default();
                (row.preferred != Some(*member), drains(member), reigns, *member)
            };
            if let Some(to) = heirs.min_by_key(rank) {
                *reigns.entry(to).or_default() += 1;
                decisions.push(decision(partition, row, Order::FailOver { to }));
            }
        }
        decisions
    }

    /// Partitions that are new begin, and so do those of a class without backups whose holder is gone.
    fn begin(&self) -> Vec<Decision> {
        let may_restart = self.options.backups == 0 && self.grid.on_full_loss() == OnFullLoss::StartEmpty;
        let gone = |row: &Row| row.assignment.in_sync.iter().all(|member| self.is(*member, Presence::Gone));
        let mut decisions = Vec::new();
        for (partition, row) in self.rows() {
            let restarts = row.began.is_some();
            if restarts && !(may_restart && gone(row)) {
                continue;
            }
            let wanted = self.wanted(partition);
            let Some(on) = wanted.iter().copied().find(|member| self.lives(*member)) else { continue };
            let order = match restarts {
                true => Order::BeginElsewhere { on },
                false => Order::Begin { wanted: wanted.into_iter().collect(), primary: on },
            };
            decisions.push(decision(partition, row, order));
        }
        decisions
    }

    /// Partitions that somebody decides about, each with who should hold it and who should be primary, if they are to be others.
    fn planned(
        &self,
    ) -> impl Iterator<Item = (PartitionId, &'a Row, Option<(BTreeSet<MemberId>, MemberId)>)> {
        self.rows().filter(|(_, row)| self.is_led(row)).filter_map(|(partition, row)| {
            let wanted = self.wanted(partition);
            let primary = self.preferred(row, &wanted)?;
            let wanted: BTreeSet<MemberId> = wanted.into_iter().collect();
            let is_so = row.assignment.wanted == wanted && row.preferred == Some(primary);
            Some((partition, row, (!is_so).then_some((wanted, primary))))
        })
    }

    /// Partitions on their way to where they should be, each with the version of its assignment.
    fn moves(&self) -> Vec<(PartitionId, u64)> {
        let moves = self.planned().filter(|(_, row, wish)| wish.is_none() && self.is_moving(row));
        moves.map(|(partition, row, _)| (partition, row.assignment.version)).collect()
    }

    /// Partitions that are not where they should be, few at a time, and first those with the fewest copies.
    fn want(&self, moving: usize) -> Vec<Decision> {
        let mut open = Vec::new();
        for (partition, row, wish) in self.planned() {
            let Some((wanted, primary)) = wish else { continue };
            let copies = row.assignment.in_sync.iter().filter(|member| self.lives(**member)).count();
            open.push((copies.min(wanted.len()), partition, row, Order::Want { wanted, primary }));
        }
        open.sort_by_key(|(copies, partition, ..)| (*copies, *partition));
        let room = if cfg!(mutant = "control-moves") { usize::MAX } else { MOVES.saturating_sub(moving) };
        let open = open.into_iter().take(room);
        open.map(|(_, partition, row, order)| decision(partition, row, order)).collect()
    }

    /// Who of those who should hold a partition should be primary: while the planned one is silent, who is it now, or another.
    fn preferred(&self, row: &Row, wanted: &[MemberId]) -> Option<MemberId> {
        let planned = wanted.first().copied();
        let now = row.assignment.primary.filter(|primary| wanted.contains(primary));
        let others = wanted.iter().copied();
        let lives = |member: &MemberId| self.lives(*member) || cfg!(mutant = "control-silent-heir");
        planned.into_iter().chain(now).chain(others).find(lives).or(planned)
    }

    /// Whether its primary has something to do that it can do.
    fn is_moving(&self, row: &Row) -> bool {
        let missing = row.assignment.wanted.difference(&row.assignment.in_sync);
        let expands = missing.into_iter().any(|member| self.lives(*member));
        expands || row.duty(usize::from(self.options.min_in_sync)) != Duty::None
    }
}

fn decision(partition: PartitionId, row: &Row, order: Order) -> Decision {
    Decision { partition, version: row.assignment.version, order }
}
