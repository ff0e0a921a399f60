//! A grid with its processes, and a judge who looks at every change of it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::fixture::*;
use crate::ids::{MemberId, NodeId, PartitionId};
use crate::membership::Presence;
use crate::replication::{Change, LocalTime, Proposal};

/// What has become of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Process {
    Up,
    /// Nobody reaches it, but it has its memory. For so many steps.
    Cut(u32),
    /// And its memory is gone. For so many steps.
    Dead(u32),
}

/// Silence for so many steps makes a member gone.
pub(super) const SILENCE: u32 = 12;

#[derive(Debug)]
pub(super) struct World {
    pub(super) grid: Grid,
    pub(super) reconciler: Reconciler,
    pub(super) processes: BTreeMap<MemberId, Process>,
    /// Who holds all that was acknowledged, by what the processes were told.
    holds: BTreeMap<PartitionId, BTreeSet<MemberId>>,
    /// Who was ever in a set, and has not lost its memory since.
    touched: BTreeSet<MemberId>,
    nonces: u8,
    /// How often what has happened.
    pub(super) events: BTreeMap<&'static str, u32>,
}

impl World {
    /// With one node and three more classes.
    pub(super) fn new(partitions: u16) -> Self {
        let mut world = Self {
            grid: grid(partitions),
            reconciler: Reconciler::default(),
            processes: BTreeMap::from([(member(1, 1), Process::Up)]),
            holds: BTreeMap::new(),
            touched: BTreeSet::new(),
            nonces: 1,
            events: BTreeMap::new(),
        };
        for (backups, min_in_sync) in [(2, 2), (0, 1), (3, 2)] {
            let options = ClassOptions { backups, min_in_sync, partitions };
            world.apply(&GridCommand::CreateClass { options }).unwrap();
        }
        world
    }

    pub(super) fn is_up(&self, member: MemberId) -> bool {
        self.processes.get(&member) == Some(&Process::Up)
    }

    pub(super) fn presence(&self) -> BTreeMap<MemberId, Presence> {
        let presence = |process: &Process| match process {
            Process::Up => Presence::Alive,
            Process::Cut(steps) | Process::Dead(steps) if *steps < SILENCE => Presence::Suspect,
            Process::Cut(_) | Process::Dead(_) => Presence::Gone,
        };
        self.processes.iter().map(|(member, process)| (*member, presence(process))).collect()
    }

    /// What the leader would propose.
    pub(super) fn next(&mut self) -> Option<GridCommand> {
        let presence = self.presence();
        let command = self.reconciler.next(LocalTime::default(), &self.grid, &presence)?;
        if let GridCommand::Decide { decisions } = &command {
            for decision in decisions {
                match decision.order {
                    Order::FailOver { to: on }
                    | Order::Begin { primary: on, .. }
                    | Order::BeginElsewhere { on } => {
                        assert!(self.is_up(on), "who is to decide lives");
                    }
                    Order::Want { .. } => {}
                }
            }
        }
        Some(command)
    }

    pub(super) fn join(&mut self, zone: Option<&str>, known: Option<MemberId>) {
        self.nonces = self.nonces.checked_add(1).expect("few join");
        let zone = zone.map(str::to_owned);
        let description = NodeDescription { zone, ..description(u64::from(self.nonces)) };
        let joining = Joining { known, description, ..joining(self.nonces) };
        match self.apply(&GridCommand::Join(Box::new(joining))) {
            Ok(GridApplied::Joined { member, .. }) => {
                self.processes.retain(|process, _| process.node != member.node);
                self.processes.insert(member, Process::Up);
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.processes.retain(|member, _| member.node != node);
        self.apply(&GridCommand::Forget { node }).unwrap();
    }

    /// Its memory goes.
    pub(super) fn kill(&mut self, member: MemberId) {
        self.processes.insert(member, Process::Dead(0));
        self.holds
            .values_mut()
            .for_each(|holders| assert!(holders.remove(&member) || !holders.contains(&member)));
        self.touched.remove(&member);
    }

    /// A node that drains leaves when it may.
    pub(super) fn leave(&mut self, member: MemberId) {
        let node = self.grid.node(member.node).unwrap();
        if node.state == NodeState::Draining && self.grid.needs(member, &self.presence()) == 0 {
            self.kill(member);
            self.processes.remove(&member);
            self.apply(&GridCommand::Leave { member }).unwrap();
        }
    }

    /// The primary of a partition does one of the things that it has to do; whether there was any.
    pub(super) fn reign(&mut self, partition: PartitionId, choice: usize) -> bool {
        let row = self.grid.row(partition).unwrap();
        let assignment = row.assignment.clone();
        let Some(by) = assignment.primary.filter(|primary| self.is_up(*primary)) else { return false };
        let min_in_sync = usize::from(self.grid.class(partition.class).unwrap().min_in_sync);
        let silent = assignment.in_sync.iter().copied().find(|member| !self.is_up(*member));
        let mut changes = Vec::new();
        for add in assignment.wanted.difference(&assignment.in_sync).filter(|add| self.is_up(**add)) {
            changes.push(Change { add: Some(*add), remove: silent, successor: None });
            changes.push(Change { add: Some(*add), ..Change::default() });
        }
        let remove = silent.filter(|_| assignment.in_sync.len() > min_in_sync);
        changes.extend(remove.map(|remove| Change { remove: Some(remove), ..Change::default() }));
        match row.duty(min_in_sync) {
            Duty::None => {}
            Duty::HandOver(to) => changes.push(Change { successor: Some(to), ..Change::default() }),
            Duty::Retire(member) => changes.push(Change { remove: Some(member), ..Change::default() }),
        }
        let Some(change) = changes.get(choice % changes.len().max(1)).copied() else { return false };
        let proposal = Proposal { by, version: assignment.version, change };
        self.apply(&GridCommand::Propose { partition, proposal }).unwrap();
        true
    }

    pub(super) fn apply(&mut self, command: &GridCommand) -> Result<GridApplied, GridRefusal> {
        let before = self.grid.clone();
        let applied = self.grid.apply(command);
        self.count(command, &applied);
        if applied.is_err() {
            assert_eq!(self.grid, before, "a refusal changes nothing");
            return applied;
        }
        if *command == GridCommand::StartEmpty {
            let holders: Vec<_> =
                self.touched.iter().filter(|member| self.processes.contains_key(member)).collect();
            assert_eq!(holders, Vec::<&MemberId>::new(), "nobody has a copy of anything");
        }
        let grid = self.grid.clone();
        let unchanged = |partition: &PartitionId, row: &Row| before.row(*partition) == Some(row);
        for (partition, row) in grid.rows().filter(|(partition, row)| !unchanged(partition, row)) {
            assert!(row.changed > before.version, "it goes out with the next delta");
            match before.row(partition) {
                Some(old) => self.judge(partition, (old, row), command),
                None => assert_eq!(*row, Row { changed: row.changed, ..Row::new(1) }),
            }
        }
        applied
    }

    fn count(&mut self, command: &GridCommand, applied: &Result<GridApplied, GridRefusal>) {
        let mut count = |event| *self.events.entry(event).or_default() += 1;
        match (command, applied) {
            (GridCommand::Decide { decisions }, Ok(GridApplied::Decided { partitions, refused })) => {
                refused.iter().for_each(|_| count("decided too late"));
                let carried_out =
                    decisions.iter().filter(|decision| partitions.contains(&decision.partition));
                carried_out.for_each(|decision| match decision.order {
                    Order::Begin { .. } => count("began"),
                    Order::BeginElsewhere { .. } => count("began elsewhere"),
                    Order::FailOver { .. } => count("failed over"),
                    Order::Want { .. } => count("wanted"),
                });
            }
            (GridCommand::Propose { proposal, .. }, Ok(_)) => match proposal.change {
                Change { successor: Some(_), .. } => count("handed over"),
                Change { add: Some(_), remove: Some(_), .. } => count("replaced"),
                Change { add: Some(_), .. } => count("added"),
                Change { .. } => count("removed"),
            },
            (GridCommand::StartEmpty, Ok(_)) => count("started empty"),
            (GridCommand::RecoverLost { .. }, Ok(_)) => count("recovered"),
            (GridCommand::Leave { .. }, Ok(_)) => count("left"),
            _ => {}
        }
    }

    fn judge(&mut self, partition: PartitionId, (old, new): (&Row, &Row), command: &GridCommand) {
        let (before, after) = (&old.assignment, &new.assignment);
        assert!(before.epoch <= after.epoch && before.version <= after.version, "nothing goes back");
        let reigns_anew = after.primary.is_some() && before.primary != after.primary;
        assert!(!reigns_anew || before.epoch < after.epoch, "every reign has an epoch");
        let options = *self.grid.class(partition.class).unwrap();
        let added: Vec<MemberId> = after.in_sync.difference(&before.in_sync).copied().collect();
        let holders = self.holds.entry(partition).or_default();
        match command {
            GridCommand::Propose { proposal, .. } => {
                let shrinks = after.in_sync.len() < before.in_sync.len();
                assert!(!shrinks || after.in_sync.len() >= usize::from(options.min_in_sync));
                let unwanted =
                    proposal.change.remove.filter(|remove| self.processes.get(remove) == Some(&Process::Up));
                let enough = after.in_sync.len() >= after.wanted.len();
                assert!(unwanted.is_none() || enough, "others come before one goes");
                holders.extend(added);
            }
            GridCommand::Decide { .. } if new.began == old.began => {
                assert_eq!(after.in_sync, before.in_sync, "only a primary changes its set");
                let heir = after.primary.filter(|_| reigns_anew);
                assert!(heir.is_none_or(|heir| before.in_sync.contains(&heir)));
            }
            GridCommand::Decide { .. } => {
                assert!(
                    before.in_sync.is_empty() || options.backups == 0,
                    "what copies have is not thrown away"
                );
                *holders = added.into_iter().collect();
            }
            GridCommand::RecoverLost { .. } => *holders = added.into_iter().collect(),
            GridCommand::Join(_) | GridCommand::Forget { .. } | GridCommand::StartEmpty => {}
            GridCommand::Leave { .. } => {
                assert!(old.is_lost() || !new.is_lost(), "nothing goes with who leaves");
            }
            GridCommand::Describe { .. }
            | GridCommand::Drain { .. }
            | GridCommand::CancelDrain { .. }
            | GridCommand::Dismiss { .. }
            | GridCommand::CreateClass { .. }
            | GridCommand::SetOnFullLoss(_) => panic!("{command:?} is not about partitions"),
        }
        self.touched.extend(after.in_sync.iter().filter(|member| self.processes.contains_key(member)));
        let has_memory =
            |member: &&MemberId| !matches!(self.processes.get(member), None | Some(Process::Dead(_)));
        let liar = after.in_sync.iter().filter(has_memory).find(|member| !holders.contains(member));
        assert_eq!(liar, None, "{partition} counts on who does not hold it");
        holders.retain(|holder| after.in_sync.contains(holder));
    }
}
