//! Members that follow the table, each as late as it likes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::fixture::*;
use super::walk::{Walk, Zones};
use super::world::Process;
use crate::ids::{Epoch, MemberId, PartitionId};
use crate::replication::{Assignment, Change};

fn duties<'a>(grid: &'a Grid, before: &Grid, node: u64) -> Vec<(PartitionId, CopyDuty<'a>)> {
    grid.duties_of(member(node, 1), Some(before))
}

fn row(grid: &Grid) -> &Row {
    grid.row(partition(0)).unwrap()
}

fn assign(grid: &Grid) -> (PartitionId, CopyDuty<'_>) {
    (partition(0), CopyDuty::Assign(row(grid)))
}

#[test]
fn who_is_counted_on_or_was_is_told_and_nobody_else() {
    let mut grid = grid_of(4, 2);
    let empty = grid.clone();
    begin(&mut grid, &[1, 2]);
    let void = (partition(0), CopyDuty::Void(Epoch { generation: 1, number: 1 }));
    assert_eq!(duties(&grid, &empty, 1), [void, assign(&grid)]);
    assert_eq!(duties(&grid, &empty, 2), [void, assign(&grid)]);
    assert_eq!(duties(&grid, &empty, 3), [void]);
    assert_eq!(grid.duties_of(member(2, 1), None), [void, assign(&grid)]);
    let before = grid.clone();
    decide(&mut grid, Order::Want { wanted: members(&[1, 3]), primary: member(1, 1) }).unwrap();
    for (node, told) in [(1, 1), (2, 1), (3, 1), (4, 0)] {
        assert_eq!(duties(&grid, &before, node), vec![assign(&grid); told], "{node}");
    }
    assert_eq!(duties(&grid, &grid, 1), []);
    assert_eq!(duties(&before, &grid, 1), [], "nobody goes back");
}

#[test]
fn a_copy_may_go_when_as_many_others_as_there_should_be_hold_everything() {
    let mut grid = grid_of(3, 1);
    begin(&mut grid, &[1, 2]);
    add(&mut grid, member(2, 1));
    let before = grid.clone();
    decide(&mut grid, Order::Want { wanted: members(&[1, 3]), primary: member(1, 1) }).unwrap();
    propose(&mut grid, Change { remove: Some(member(2, 1)), ..Change::default() }).unwrap();
    assert!(!grid.may_go(member(2, 1), partition(0)), "node 3 does not hold everything yet");
    assert_eq!(duties(&grid, &before, 2), [assign(&grid)]);
    let removed = grid.clone();
    add(&mut grid, member(3, 1));
    assert_eq!([1, 2, 3].map(|node| grid.may_go(member(node, 1), partition(0))), [false, true, false]);
    assert_eq!(duties(&grid, &removed, 2), [(partition(0), CopyDuty::Release)]);
    let both = [assign(&grid), (partition(0), CopyDuty::Release)];
    assert_eq!(duties(&grid, &before, 2), both, "one who comes late");
    // Of the two that hold everything, one has lost its memory: the third copy is the next best.
    join(&mut grid, Joining { known: Some(member(3, 1)), ..joining(9) }).unwrap();
    assert!(!grid.may_go(member(2, 1), partition(0)));
}

#[test]
fn rows_that_were_read_anew_and_say_the_same_are_no_change_of_a_copy() {
    let mut grid = grid_of(2, 3);
    begin(&mut grid, &[1, 2]);
    let read: Grid = serde_json::from_str(&serde_json::to_string(&grid).unwrap()).unwrap();
    assert_eq!(duties(&read, &grid, 1), []);
}

/// A copy, as far as the table matters to it.
struct Copy {
    /// The highest reign that it has heard of.
    epoch: Epoch,
    /// When a primary has sent it something the last time, if ever.
    heard: usize,
}

/// A member with its copies.
#[derive(Default)]
struct Follower {
    /// Which of the tables it has.
    at: Option<usize>,
    copies: BTreeMap<PartitionId, Copy>,
    /// What may go by its table.
    releases: BTreeSet<PartitionId>,
    /// When it has asked for the newest table, and about what.
    asked: Option<(usize, BTreeSet<PartitionId>)>,
}

/// How a copy goes that is to be released.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Releases {
    AsTheySay,
    AtOnce,
}

struct Followers {
    walk: Walk,
    releases: Releases,
    /// All tables that there were, by time.
    tables: Vec<Grid>,
    members: BTreeMap<MemberId, Follower>,
    in_sync: BTreeMap<PartitionId, BTreeSet<MemberId>>,
    /// Copies that somebody counted on when they went.
    missed: usize,
    gone: usize,
    void: usize,
}

impl Followers {
    fn new(seed: u64, releases: Releases) -> Self {
        let walk = Walk::new(seed, Zones::None);
        let (members, in_sync) = (BTreeMap::new(), BTreeMap::new());
        Self { walk, releases, tables: Vec::new(), members, in_sync, missed: 0, gone: 0, void: 0 }
    }

    /// The world goes on.
    fn step(&mut self, step: impl FnOnce(&mut Walk)) {
        step(&mut self.walk);
        let world = &self.walk.world;
        self.tables.push(world.grid.clone());
        let lives =
            |member: &MemberId| matches!(world.processes.get(member), Some(Process::Up | Process::Cut(_)));
        self.members.retain(|member, _| lives(member));
        for member in world.processes.keys().filter(|member| lives(member)) {
            self.members.entry(*member).or_default();
        }
        self.hear();
    }

    /// Who was brought in sync was sent everything by the primary, whatever its own table said.
    fn hear(&mut self) {
        let now = self.tables.len();
        for (partition, row) in self.walk.world.grid.rows() {
            let Assignment { in_sync, primary, epoch, .. } = &row.assignment;
            let known = self.in_sync.insert(partition, in_sync.clone()).unwrap_or_default();
            for member in in_sync.difference(&known).filter(|member| *primary != Some(**member)) {
                if let Some(follower) = self.members.get_mut(member) {
                    let copy = follower.copies.entry(partition).or_insert(Copy { epoch: *epoch, heard: now });
                    (copy.epoch, copy.heard) = (copy.epoch.max(*epoch), now);
                }
            }
        }
    }

    /// A member's table becomes that of a time, if it is later.
    fn follow(&mut self, member: MemberId, to: usize) {
        let follower = self.members.get_mut(&member).unwrap();
        let before = follower.at.map(|at| &self.tables[at]);
        let after = &self.tables[to];
        for (partition, duty) in after.duties_of(member, before) {
            let copy = follower.copies.get_mut(&partition);
            match (duty, copy) {
                (CopyDuty::Void(began), Some(copy)) if copy.epoch < began => {
                    follower.copies.remove(&partition);
                    let row = self.walk.world.grid.row(partition).unwrap();
                    assert!(row.began >= Some(began), "what is void stays void");
                    self.void += 1;
                }
                (CopyDuty::Void(_), _) => {}
                (CopyDuty::Assign(row), Some(copy)) => copy.epoch = copy.epoch.max(row.assignment.epoch),
                (CopyDuty::Assign(row), None) if row.counts_on(member) => {
                    follower.copies.insert(partition, Copy { epoch: row.assignment.epoch, heard: 0 });
                }
                (CopyDuty::Assign(_), None) | (CopyDuty::Release, None) => {}
                (CopyDuty::Release, Some(_)) => {
                    follower.releases.insert(partition);
                }
            }
        }
        follower.at = Some(to.max(follower.at.unwrap_or_default()));
        if self.releases == Releases::AtOnce {
            let releases = std::mem::take(&mut follower.releases);
            releases.into_iter().for_each(|partition| self.let_go(member, partition));
        }
    }

    /// A member asks the leader for its table.
    fn ask(&mut self, member: MemberId) {
        let follower = self.members.get_mut(&member).unwrap();
        if follower.asked.is_none() {
            follower.asked = Some((self.tables.len(), std::mem::take(&mut follower.releases)));
        }
    }

    /// And hears the answer, some time later.
    fn hear_answer(&mut self, member: MemberId) {
        let asked = self.members.get_mut(&member).unwrap().asked.take();
        let Some((time, releases)) = asked else { return };
        self.follow(member, time - 1);
        for partition in releases {
            let follower = self.members.get_mut(&member).unwrap();
            let may_go = self.tables[time - 1].may_go(member, partition);
            match follower.copies.get(&partition).filter(|_| may_go) {
                Some(copy) if copy.heard < time => self.let_go(member, partition),
                Some(_) => drop(follower.releases.insert(partition)),
                None => {}
            }
        }
    }

    fn let_go(&mut self, member: MemberId, partition: PartitionId) {
        let Some(_) = self.members.get_mut(&member).unwrap().copies.remove(&partition) else { return };
        let row = self.walk.world.grid.row(partition).unwrap();
        self.missed += usize::from(row.assignment.in_sync.contains(&member));
        self.gone += 1;
    }

    /// Some members follow, some of them late.
    fn some_follow(&mut self) {
        let up: Vec<MemberId> =
            self.members.keys().copied().filter(|member| self.walk.world.is_up(*member)).collect();
        for member in up {
            let from = self.members[&member].at.unwrap_or_default();
            match self.walk.random.below(8) {
                0 => self.follow(member, self.tables.len() - 1),
                1 | 2 => {
                    let late = self.walk.random.below(self.tables.len() - from);
                    self.follow(member, from + late);
                }
                3 => self.ask(member),
                4 => self.hear_answer(member),
                _ => {}
            }
        }
    }

    /// At the end everybody has what the table says, and nothing else.
    fn check(&mut self) {
        self.step(|_| {});
        for member in self.members.keys().copied().collect::<Vec<_>>() {
            self.hear_answer(member);
            self.follow(member, self.tables.len() - 1);
            self.ask(member);
            self.hear_answer(member);
            let counted = |(partition, row): (PartitionId, &Row)| row.counts_on(member).then_some(partition);
            let expected: Vec<PartitionId> = self.walk.world.grid.rows().filter_map(counted).collect();
            let found: Vec<PartitionId> = self.members[&member].copies.keys().copied().collect();
            assert_eq!(found, expected, "{member:?}");
        }
        for (partition, row) in self.walk.world.grid.rows() {
            for member in &row.assignment.in_sync {
                assert!(self.members[member].copies[&partition].epoch >= row.began.unwrap());
            }
        }
    }
}

fn followed(seed: u64, releases: Releases) -> Followers {
    let mut followers = Followers::new(seed, releases);
    for _ in 0..300 {
        followers.step(Walk::step);
        followers.some_follow();
    }
    followers.step(|walk| {
        walk.stop_faults();
        walk.come_to_rest();
    });
    followers
}

#[test]
fn members_that_follow_late_have_what_is_counted_on_and_in_the_end_nothing_else() {
    let (mut gone, mut void) = (0, 0);
    for seed in 0..30 {
        let mut followers = followed(seed, Releases::AsTheySay);
        assert_eq!(followers.missed, 0, "seed {seed}");
        followers.check();
        (gone, void) = (gone + followers.gone, void + followers.void);
    }
    assert!(gone > 0 && void > 0, "walks that miss something prove nothing: {gone} {void}");
}

#[test]
fn a_copy_that_goes_as_soon_as_a_table_says_so_may_be_counted_on() {
    let missed: usize = (0..30).map(|seed| followed(seed, Releases::AtOnce).missed).sum();
    assert!(missed > 0);
}
