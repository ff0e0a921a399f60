//! Walks drawn from a seed: nodes join, die, are cut off, drain and come back; then faults stop, and the grid must come to rest with
//! every copy where it should be.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::fixture::{join, joining};
use super::world::{Process, SILENCE, World};
use crate::ids::{MemberId, NodeId, PartitionId};
use crate::limits::{DECISIONS, MOVES};

const STEPS: u32 = 400;
/// In each the leader and every primary do what they can.
const ROUNDS: u32 = 60;
const NODES: usize = 7;
/// What [`World::apply`] tells apart.
const EVENTS: usize = 12;

/// splitmix64 (Steele et al., OOPSLA 2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end.max(1) as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }
}

#[derive(Clone, Copy)]
pub(super) enum Zones {
    None,
    Three,
}

pub(super) struct Walk {
    pub(super) world: World,
    pub(super) random: Random,
    zones: Zones,
    partitions: Vec<PartitionId>,
    /// What a leader has proposed, and is not decided yet.
    late: Option<GridCommand>,
}

#[test]
fn a_grid_comes_to_rest_with_every_copy_where_it_should_be() {
    walks(Zones::None, 0..50);
}

#[test]
fn a_grid_comes_to_rest_with_copies_in_zones_apart() {
    walks(Zones::Three, 0..50);
}

fn walks(zones: Zones, seeds: std::ops::Range<u64>) {
    let seeds = match std::env::var("WATTLE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => seeds,
    };
    let several = seeds.end - seeds.start > 1;
    let mut events: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in seeds {
        let walked = std::panic::catch_unwind(|| {
            let mut walk = Walk::new(seed, zones);
            (0..STEPS).for_each(|_| walk.step());
            walk.stop_faults();
            walk.come_to_rest();
            walk.check();
            walk.world.events
        });
        let Ok(walked) = walked else { panic!("seed {seed}") };
        walked.into_iter().for_each(|(event, count)| *events.entry(event).or_default() += count);
    }
    println!("{events:?}");
    assert!(!several || events.len() == EVENTS, "walks that miss something prove nothing: {events:?}");
}

impl Walk {
    pub(super) fn new(seed: u64, zones: Zones) -> Self {
        let world = World::new(11);
        let partitions = world.grid.rows().map(|(partition, _)| partition).collect();
        Self { world, random: Random(seed), zones, partitions, late: None }
    }

    pub(super) fn step(&mut self) {
        match self.random.below(100) {
            0..25 => {
                if let Some(command) = self.world.next() {
                    self.world.apply(&command).unwrap();
                }
            }
            25..32 => {
                // Decided later, when others have changed what it was about.
                if let Some(command) = self.late.take().or_else(|| self.world.next()) {
                    match self.random.below(2) {
                        0 => self.late = Some(command),
                        _ => drop(self.world.apply(&command)),
                    }
                }
            }
            32..34 => self.world.reconciler = Reconciler::default(),
            34..84 => {
                for _ in 0..5 {
                    let partition = self.random.of(&self.partitions).unwrap();
                    let choice = self.random.below(60);
                    self.world.reign(partition, choice);
                }
            }
            84..90 => self.pass_time(),
            _ => self.change_nodes(),
        }
    }

    fn pass_time(&mut self) {
        for process in self.world.processes.values_mut() {
            match process {
                Process::Up => {}
                Process::Cut(steps) | Process::Dead(steps) => *steps += 4,
            }
        }
    }

    fn members(&self, wanted: impl Fn(&Process) -> bool) -> Vec<MemberId> {
        let processes = self.world.processes.iter().filter(|(_, process)| wanted(process));
        processes.map(|(member, _)| *member).collect()
    }

    fn change_nodes(&mut self) {
        let up = self.members(|process| *process == Process::Up);
        let cut = self.members(|process| matches!(process, Process::Cut(_)));
        let dead = self.members(|process| matches!(process, Process::Dead(_)));
        let one = self.random.of(&up);
        match (self.random.below(12), one) {
            (0, _) if self.world.processes.len() < NODES => self.arrive(None),
            (1, Some(member)) => self.move_to_zone(member),
            (2, Some(member)) => self.world.kill(member),
            (3, Some(member)) => drop(self.world.processes.insert(member, Process::Cut(0))),
            (4 | 5, _) => {
                if let Some(member) = self.random.of(&cut) {
                    self.world.processes.insert(member, Process::Up);
                }
            }
            (6 | 7, _) => {
                if let Some(member) = self.random.of(&dead) {
                    self.arrive(Some(member));
                }
            }
            // Restarted before anybody noticed.
            (8, Some(member)) => {
                self.world.kill(member);
                self.arrive(Some(member));
            }
            (9, Some(member)) => self.change_drain(member.node),
            (10, Some(member)) => self.world.leave(member),
            (11, _) => {
                if let Some(member) = self.random.of(&dead).filter(|_| self.random.below(4) == 0) {
                    self.world.forget(member.node);
                }
            }
            _ => {}
        }
    }

    fn zone(&mut self) -> Option<&'static str> {
        match self.zones {
            Zones::None => None,
            Zones::Three => self.random.of(&["a", "b", "c"]),
        }
    }

    fn arrive(&mut self, known: Option<MemberId>) {
        let zone = self.zone();
        self.world.join(zone, known);
    }

    fn move_to_zone(&mut self, member: MemberId) {
        let zone = self.zone().map(str::to_owned);
        let node = self.world.grid.node(member.node).unwrap();
        let description = Box::new(NodeDescription { zone, ..node.description.clone() });
        self.world.apply(&GridCommand::Describe { member, description }).unwrap();
    }

    fn change_drain(&mut self, node: NodeId) {
        let command = match self.random.below(3) {
            0 => GridCommand::CancelDrain { node },
            _ => GridCommand::Drain { node },
        };
        self.world.apply(&command).unwrap();
    }

    /// Who was cut off is back; who is dead comes back or is forgotten; somebody stays.
    pub(super) fn stop_faults(&mut self) {
        self.late = None;
        for member in self.members(|process| *process != Process::Up) {
            match (self.world.processes[&member], self.random.below(2)) {
                (Process::Cut(_), _) => drop(self.world.processes.insert(member, Process::Up)),
                (Process::Dead(_) | Process::Up, 0) => self.world.forget(member.node),
                (Process::Dead(_) | Process::Up, _) => self.arrive(Some(member)),
            }
        }
        if !self.world.grid.nodes().any(Node::takes_partitions) {
            self.arrive(None);
        }
    }

    pub(super) fn come_to_rest(&mut self) {
        for _ in 0..ROUNDS {
            let mut busy = self.recover();
            for command in 0.. {
                let Some(next) = self.world.next() else { break };
                assert!(command < 10, "a leader comes to an end: {next:?}");
                self.world.apply(&next).unwrap();
                busy = true;
            }
            for partition in self.partitions.clone() {
                busy |= self.world.reign(partition, 0);
            }
            for member in self.members(|_| true) {
                self.world.leave(member);
            }
            if !busy && self.world.next().is_none() {
                return;
            }
        }
        panic!("the grid does not come to rest");
    }

    /// People decide about what is lost, if the leader may not.
    fn recover(&mut self) -> bool {
        let grid = self.world.grid.clone();
        let next = self.world.next();
        let lost = grid.rows().find(|(_, row)| row.is_lost()).filter(|_| next.is_none());
        let Some((partition, row)) = lost else { return false };
        let member = grid.nodes().find(|node| node.takes_partitions()).unwrap().member;
        let version = row.assignment.version;
        let from = Recovery::Empty;
        self.world.apply(&GridCommand::RecoverLost { partition, version, member, from }).unwrap();
        true
    }

    pub(super) fn check(&self) {
        let grid = &self.world.grid;
        let takers: Vec<&Node> = grid.nodes().filter(|node| node.takes_partitions()).collect();
        for (number, options) in grid.classes() {
            let copies = options.copies().min(takers.len());
            let mut held: BTreeMap<MemberId, usize> = takers.iter().map(|node| (node.member, 0)).collect();
            let mut reigns = held.clone();
            for (partition, row) in grid.rows().filter(|(partition, _)| partition.class == number) {
                let in_sync = &row.assignment.in_sync;
                assert_eq!(
                    (in_sync, in_sync.len()),
                    (&row.assignment.wanted, copies),
                    "{partition}: {row:?}"
                );
                assert!(in_sync.iter().all(|member| self.world.is_up(*member)));
                assert_eq!(row.assignment.primary, row.preferred);
                in_sync.iter().for_each(|member| *held.get_mut(member).unwrap() += 1);
                *reigns.get_mut(&row.assignment.primary.unwrap()).unwrap() += 1;
                self.check_zones(copies, &takers, in_sync);
            }
            match self.zones {
                Zones::None => [held, reigns].iter().for_each(|counts| {
                    let (least, most) = (counts.values().min(), counts.values().max());
                    assert!(most.unwrap() - least.unwrap() <= 1, "{number:?}: {counts:?}");
                }),
                // Zones are of different sizes: how even it can be is the plan's matter.
                Zones::Three => {}
            }
        }
    }

    fn check_zones(&self, copies: usize, takers: &[&Node], in_sync: &BTreeSet<MemberId>) {
        let zone = |member: MemberId| {
            let zone = self.world.grid.node(member.node).unwrap().description.zone.clone();
            zone.unwrap_or_else(|| format!("its own, {}", member.node.0))
        };
        let count = |members: &mut dyn Iterator<Item = MemberId>| {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            members.for_each(|member| *counts.entry(zone(member)).or_default() += 1);
            counts
        };
        let sizes = count(&mut takers.iter().map(|node| node.member));
        let room = |most: &usize| sizes.values().map(|size| size.min(most)).sum::<usize>() >= copies;
        let fewest = (1..=copies).find(room);
        let used = count(&mut in_sync.iter().copied());
        assert!(used.values().max() <= fewest.as_ref(), "{used:?} in {sizes:?}");
    }
}

#[test]
fn few_partitions_move_at_a_time_and_those_without_backup_first() {
    let mut world = World::new(300);
    while let Some(command) = world.next() {
        world.apply(&command).unwrap();
    }
    world.join(None, None);
    let mut most = 0;
    for round in 0.. {
        while let Some(command) = world.next() {
            world.apply(&command).unwrap();
        }
        let first = world.grid.rows().filter(|(partition, _)| partition.class.0 == 0);
        let moving: Vec<(PartitionId, &Row)> = first.filter(|(_, row)| !row.is_complete()).collect();
        most = most.max(moving.len());
        assert!(moving.len() <= MOVES, "{}", moving.len());
        let partitions: Vec<PartitionId> = world.grid.rows().map(|(partition, _)| partition).collect();
        let busy: usize = partitions.into_iter().filter(|partition| world.reign(*partition, 0)).count();
        if busy == 0 {
            break;
        }
        assert!(round < 30);
    }
    assert_eq!(most, MOVES);
    assert!(world.grid.rows().filter(|(_, row)| row.assignment.in_sync.len() == 2).count() >= 900);
}

#[test]
fn what_is_held_too_seldom_is_mended_before_what_lies_better_elsewhere() {
    let mut world = World::new(100);
    world.join(None, None);
    world.join(None, None);
    settle(&mut world);
    // A new node is to get a share of everything; then one of the old dies, and is missed for long.
    let victim = world.grid.nodes().next().unwrap().member;
    world.kill(victim);
    world.processes.insert(victim, Process::Dead(SILENCE));
    world.join(None, None);
    let failed_over = world.next().unwrap();
    world.apply(&failed_over).unwrap();
    let Some(GridCommand::Decide { decisions }) = world.next() else { panic!("there is much to do") };
    let copies = |decision: &Decision| {
        let in_sync = &world.grid.row(decision.partition).unwrap().assignment.in_sync;
        in_sync.iter().filter(|member| world.is_up(**member)).count()
    };
    let class = |number: u8| decisions.iter().filter(move |decision| decision.partition.class.0 == number);
    let standard: Vec<usize> = class(0).map(copies).collect();
    assert_eq!(standard.len(), MOVES);
    assert!(standard.is_sorted() && standard[0] == 1, "{standard:?}");
    assert!(decisions.len() <= DECISIONS);
}

#[test]
fn a_node_that_is_silent_for_a_short_time_keeps_its_share() {
    let mut world = World::new(20);
    world.join(None, None);
    world.join(None, None);
    settle(&mut world);
    let before = world.grid.clone();
    let silent = world.grid.nodes().next().unwrap().member;
    world.processes.insert(silent, Process::Cut(0));
    let partitions: Vec<PartitionId> = before.rows().map(|(partition, _)| partition).collect();
    while let Some(command) = world.next() {
        world.apply(&command).unwrap();
    }
    for partition in &partitions {
        let (old, new) = (before.row(*partition).unwrap(), world.grid.row(*partition).unwrap());
        let alone = old.assignment.in_sync.len() == 1;
        assert!(alone || new.assignment.primary != Some(silent), "others have taken over");
        assert_ne!(new.duty(1), Duty::HandOver(silent), "and do not give it back to who is silent");
        assert_eq!(new.assignment.wanted, old.assignment.wanted);
    }
    world.processes.insert(silent, Process::Up);
    settle(&mut world);
    for partition in partitions {
        let (old, new) = (before.row(partition).unwrap(), world.grid.row(partition).unwrap());
        assert_eq!(new.assignment.primary, old.assignment.primary, "and give it back");
    }
}

#[test]
fn the_primaries_of_a_dead_node_spread_over_all_others() {
    let mut world = World::new(60);
    (0..3).for_each(|_| world.join(None, None));
    settle(&mut world);
    let dead = world.grid.nodes().next().unwrap().member;
    world.kill(dead);
    let command = world.next().unwrap();
    world.apply(&command).unwrap();
    let mut reigns: BTreeMap<MemberId, usize> = BTreeMap::new();
    // Of three copies, two are left to choose from.
    for (_, row) in world.grid.rows().filter(|(partition, _)| partition.class.0 == 1) {
        *reigns.entry(row.assignment.primary.unwrap()).or_default() += 1;
    }
    assert_eq!(reigns.values().sum::<usize>(), 60);
    assert!(reigns.len() == 3 && reigns.values().all(|count| (18..=22).contains(count)), "{reigns:?}");
}

#[test]
fn a_partition_whose_every_holder_is_silent_waits() {
    let mut world = World::new(4);
    world.join(None, None);
    settle(&mut world);
    for member in world.processes.clone().into_keys() {
        world.processes.insert(member, Process::Cut(SILENCE));
    }
    assert_eq!(world.next(), None);
}

#[test]
fn an_arbiter_gets_nothing() {
    let mut world = World::new(4);
    let description = NodeDescription { role: Role::Arbiter, ..joining(200).description };
    let arbiter = join(&mut world.grid, Joining { description, ..joining(200) }).unwrap();
    world.processes.insert(arbiter, Process::Up);
    settle(&mut world);
    assert!(world.grid.rows().all(|(_, row)| row.assignment.in_sync.len() == 1));
}

/// Everybody does what there is to do, until there is nothing more.
fn settle(world: &mut World) {
    let partitions: Vec<PartitionId> = world.grid.rows().map(|(partition, _)| partition).collect();
    for _ in 0..ROUNDS {
        while let Some(command) = world.next() {
            world.apply(&command).unwrap();
        }
        if partitions.iter().filter(|partition| world.reign(**partition, 0)).count() == 0 {
            return;
        }
    }
    panic!("the grid does not come to rest");
}
