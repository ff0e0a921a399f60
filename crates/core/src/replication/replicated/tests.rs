//! Whole copies with their entries, behind a network that loses, doubles and reorders: the protocol is searched in `model`; here
//! it is what the protocol says about a partition that is carried out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::ids::{ClientId, MapId, NodeId, PartitionId, ReplicationClass, RequestId};
use crate::map::{MapDescriptor, MapOptions};
use crate::name::Name;
use crate::partition::{Access, Answer, Operation, Outcome, Refusal, Room, ScanEnd, Wanted};
use crate::replication::message::Body;

mod lost;

const COPIES: u64 = 3;
const START: GridTime = GridTime(1_700_000_000_000);
const KEYS: u8 = 6;

#[derive(Debug, Clone)]
enum Act {
    /// The primary adds to a key, by a request that is new or was asked for before.
    Add {
        key: u8,
        repeats: Option<u64>,
    },
    Deliver {
        place: usize,
        twice: bool,
    },
    Lose {
        place: usize,
    },
    Wait {
        milliseconds: u64,
    },
    FailOver {
        to: u64,
    },
    HandOver {
        to: u64,
    },
    Want {
        two: u64,
    },
    Crash {
        node: u64,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (0..KEYS, prop::option::weighted(0.3, 0..40_u64)).prop_map(|(key, repeats)| Act::Add { key, repeats }),
        30 => (any::<usize>(), prop::bool::weighted(0.1)).prop_map(|(place, twice)| Act::Deliver { place, twice }),
        2 => any::<usize>().prop_map(|place| Act::Lose { place }),
        6 => (1..400_u64).prop_map(|milliseconds| Act::Wait { milliseconds }),
        1 => (0..COPIES).prop_map(|to| Act::FailOver { to }),
        1 => (0..COPIES).prop_map(|to| Act::HandOver { to }),
        1 => (0..COPIES).prop_map(|two| Act::Want { two }),
        1 => (0..COPIES).prop_map(|node| Act::Crash { node }),
    ];
    prop::collection::vec(act, 1..400)
}

struct Node {
    me: MemberId,
    copy: ReplicatedPartition,
    /// Requests that wait to be answered: where they were done.
    waiting: Vec<(u64, Version)>,
    /// What it is to copy, now or later.
    wanted: Vec<ChunkWanted>,
}

struct Grid {
    now: Now,
    nodes: Vec<Node>,
    control: Assignment,
    network: VecDeque<(MemberId, MemberId, PartitionMessage)>,
    map: MapDescriptor,
    /// What each request added to, and its answer if that was given.
    requests: BTreeMap<u64, (u8, Option<(i64, Version)>)>,
    crashed: bool,
}

fn member(node: u64, incarnation: u64) -> MemberId {
    MemberId { node: NodeId(node), incarnation }
}

fn newcomer(me: MemberId, control: &Assignment) -> Node {
    let unheard = Assignment { version: 0, epoch: Epoch::default(), primary: None, ..control.clone() };
    let id = PartitionId { class: ReplicationClass(0), index: 1 };
    let partition = Partition::new(id, 1, 7 + me.node.0, Version::NONE);
    let copy = ReplicatedPartition::new(me, 1, unheard, partition);
    Node { me, copy, waiting: Vec::new(), wanted: Vec::new() }
}

impl Grid {
    fn new() -> Self {
        let first = member(0, 1);
        let wanted: BTreeSet<MemberId> = (0..COPIES).map(|node| member(node, 1)).collect();
        let control = Assignment {
            version: 1,
            epoch: Epoch { generation: 1, number: 1 },
            primary: Some(first),
            in_sync: BTreeSet::from([first]),
            wanted: wanted.clone(),
        };
        let nodes = wanted.iter().map(|me| newcomer(*me, &control)).collect();
        let map = MapDescriptor {
            id: MapId(1),
            name: Name::new("m").unwrap(),
            revision: 1,
            options: MapOptions::default(),
        };
        let now = Now { local: LocalTime(10_000), grid: START };
        let (network, requests) = (VecDeque::new(), BTreeMap::new());
        let mut grid = Self { now, nodes, control, network, map, requests, crashed: false };
        grid.publish();
        grid
    }

    fn step<R>(
        &mut self,
        node: usize,
        step: impl FnOnce(&mut ReplicatedPartition, Now, &mut Vec<Deed>) -> R,
    ) -> R {
        let mut deeds = Vec::new();
        let now = self.now;
        let result = step(&mut self.nodes[node].copy, now, &mut deeds);
        self.nodes[node].copy.check_invariants();
        let me = self.nodes[node].me;
        let mut proposals = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Send { to, message } => self.network.push_back((me, to, message)),
                Deed::Copy(wanted) => self.nodes[node].wanted.push(wanted),
                Deed::Answer(_) | Deed::WakeAt(_) => {}
                Deed::Deposed => self.nodes[node].waiting.clear(),
                Deed::Propose(proposal) => proposals.push(proposal),
            }
        }
        self.answer(node);
        for proposal in proposals {
            if self.control.change(&proposal, 1).is_ok() {
                self.publish();
            }
        }
        result
    }

    /// Everybody hears of the table at once: what happens otherwise is searched in the model.
    fn publish(&mut self) {
        let (control, granted) = (self.control.clone(), GrantedLeases::default());
        for node in 0..self.nodes.len() {
            self.step(node, |copy, now, deeds| copy.assign(now, control.clone(), &granted, deeds));
        }
    }

    fn primary(&self) -> Option<usize> {
        self.nodes.iter().position(|node| Some(node.me) == self.control.primary)
    }

    fn add(&mut self, key: u8, repeats: Option<u64>) {
        let Some(primary) = self.primary() else { return };
        if self.nodes[primary].copy.may_write().is_err() {
            return;
        }
        let fresh = self.requests.len() as u64;
        let request = repeats.map_or(fresh, |repeats| repeats % (fresh + 1));
        let (key, answered) = *self.requests.entry(request).or_insert((key, None));
        let key = [key];
        let client = ClientId { issued: START, random: 1 };
        let id = RequestId { client, sequence: request, oldest_pending: 0, repeated: false };
        let map = self.map.clone();
        let at = Access { map: &map, now: self.now.grid, room: Room::UNLIMITED, record: 0 };
        let mut sum = None;
        let position = self.step(primary, |copy, now, deeds| {
            let operation = Operation::Increment { key: &key, delta: 1 };
            let operations = std::iter::once(Ok((at, operation)));
            let answer = |_, result: Result<Outcome<'_>, Refusal>| match result {
                Ok(Outcome::Answer(Answer::Incremented { value, version })) => sum = Some((value, version)),
                other => panic!("{other:?}"),
            };
            copy.partition_mut().run_part(Some((&id, at.room)), operations, answer).unwrap();
            copy.seal(|| now, deeds)
        });
        assert!(answered.is_none() || answered == sum, "a repetition gets the first answer");
        self.nodes[primary].waiting.push((request, position));
        self.answer(primary);
    }

    /// Gives the answers that may leave.
    fn answer(&mut self, node: usize) {
        let Node { copy, waiting, .. } = &mut self.nodes[node];
        let (now, later) =
            std::mem::take(waiting).into_iter().partition(|(_, position)| copy.is_answerable(*position));
        *waiting = later;
        let now: Vec<(u64, Version)> = now;
        for (request, _) in now {
            let answer = self.recorded(node, request).expect("what was done is recorded");
            let known = &mut self.requests.get_mut(&request).expect("it was asked for").1;
            assert_eq!(known.get_or_insert(answer), &answer, "one request has one answer");
        }
    }

    /// What a copy knows of a request.
    fn recorded(&mut self, node: usize, request: u64) -> Option<(i64, Version)> {
        let client = ClientId { issued: START, random: 1 };
        let id = RequestId { client, sequence: request, oldest_pending: 0, repeated: false };
        let known = self.nodes[node].copy.partition.known_results(&id, [()], |(), _| true).unwrap()?;
        match known.first() {
            Some(crate::partition::Recorded::Applied(Answer::Incremented { value, version })) => {
                Some((*value, *version))
            }
            other => panic!("{other:?}"),
        }
    }

    fn deliver(&mut self, place: usize, twice: bool) {
        let Some(last) = self.network.len().checked_sub(1) else { return };
        let place = place % (last + 1);
        let (from, to, message) = self.network.remove(place).expect("within the network");
        if twice {
            self.network.push_back((from, to, message.clone()));
        }
        if let Some(node) = self.nodes.iter().position(|node| node.me == to) {
            self.step(node, |copy, now, deeds| copy.receive(now, from, message, deeds));
            // At times something else comes between.
            if place.is_multiple_of(2) {
                self.copy_more(node);
            }
        }
    }

    fn copy_more(&mut self, node: usize) {
        for wanted in std::mem::take(&mut self.nodes[node].wanted) {
            self.step(node, |copy, now, deeds| copy.copy_chunk(now, wanted, deeds));
        }
    }

    fn wait(&mut self, milliseconds: u64) {
        self.now.local = LocalTime(self.now.local.0 + milliseconds);
        self.now.grid = GridTime(self.now.grid.0 + milliseconds);
        for node in 0..self.nodes.len() {
            self.step(node, |copy, now, deeds| copy.wake(now, deeds));
            self.copy_more(node);
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Add { key, repeats } => self.add(*key, *repeats),
            Act::Deliver { place, twice } => self.deliver(*place, *twice),
            Act::Lose { place } => {
                if !self.network.is_empty() {
                    self.network.remove(place % self.network.len());
                }
            }
            Act::Wait { milliseconds } => self.wait(*milliseconds),
            Act::FailOver { to } => {
                let to = self.nodes[usize::try_from(*to).unwrap()].me;
                if self.control.fail_over(to) {
                    self.publish();
                }
            }
            Act::HandOver { to } => {
                let to = self.nodes[usize::try_from(*to).unwrap()].me;
                if let Some(primary) = self.primary() {
                    self.step(primary, |copy, now, deeds| copy.hand_over(now, to, deeds));
                }
            }
            Act::Want { two } => {
                let others = self.nodes.iter().filter(|node| node.me.node.0 != *two);
                self.control.want(others.map(|node| node.me).collect());
                self.publish();
            }
            Act::Crash { node } => self.crash(usize::try_from(*node).unwrap()),
        }
    }

    /// A node loses its memory: one that is not the last, for then all is lost.
    fn crash(&mut self, node: usize) {
        let before = self.nodes[node].me;
        let others = self.control.in_sync.iter().any(|member| *member != before);
        if self.crashed || !others {
            return;
        }
        self.crashed = true;
        self.control.forget(before);
        let after = before.reborn();
        self.nodes[node] = newcomer(after, &self.control);
        if self.control.primary.is_none() {
            let to = *self.control.in_sync.first().expect("others are in sync");
            self.control.fail_over(to);
        }
        self.publish();
    }

    fn heal(&mut self) {
        let all = self.nodes.iter().map(|node| node.me).collect();
        self.control.want(all);
        self.publish();
        self.come_to_rest();
    }

    fn come_to_rest(&mut self) {
        for _ in 0..200 {
            self.wait(100);
            for _ in 0..self.network.len() {
                self.deliver(0, false);
            }
        }
    }

    /// All entries of a copy.
    fn entries(&mut self, node: usize) -> BTreeMap<Vec<u8>, (Vec<u8>, Version)> {
        let map = self.map.clone();
        let at = Access { map: &map, now: self.now.grid, room: Room::UNLIMITED, record: 0 };
        let partition = &mut self.nodes[node].copy.partition;
        let mut all = BTreeMap::new();
        let range = partition.scan_range(&at);
        let end = partition.scan(&at, range, Wanted { prefix: b"", limit: u64::MAX }, |entry| {
            all.insert(entry.key.to_vec(), (entry.value.to_vec(), entry.version));
        });
        assert_eq!(end, ScanEnd::Complete);
        all
    }

    fn check_healed(&mut self) {
        let all: BTreeSet<MemberId> = self.nodes.iter().map(|node| node.me).collect();
        assert_eq!(self.control.in_sync, all, "all are in sync again");
        let primary = self.primary().expect("somebody decides");
        let entries = self.entries(primary);
        for node in 0..self.nodes.len() {
            assert_eq!(self.entries(node), entries, "all copies are the same");
            for request in 0..self.requests.len() as u64 {
                assert_eq!(self.recorded(node, request), self.recorded(primary, request));
                if let Some(answer) = self.requests[&request].1 {
                    assert_eq!(self.recorded(node, request), Some(answer), "what was answered is kept");
                }
            }
        }
        for key in 0..KEYS {
            let asked = self.requests.iter().filter(|(_, (of, _))| *of == key).map(|(request, _)| *request);
            let asked: Vec<u64> = asked.collect();
            let done = asked.into_iter().filter(|request| self.recorded(primary, *request).is_some()).count();
            let sum = entries
                .get(&[key][..])
                .map_or(0, |(value, _)| std::str::from_utf8(value).unwrap().parse::<usize>().unwrap());
            assert_eq!(sum, done, "each request is done once");
        }
    }
}

proptest! {
    #[test]
    fn what_was_answered_is_kept_and_done_once(acts in acts()) {
        let mut grid = Grid::new();
        acts.iter().for_each(|act| grid.act(act));
        grid.heal();
        grid.check_healed();
    }
}

#[test]
fn who_is_alone_records_nothing_and_answers_at_once() {
    let mut grid = Grid::new();
    let me = grid.nodes[0].me;
    grid.control.want(BTreeSet::from([me]));
    grid.publish();
    (0..9).for_each(|_| grid.add(1, None));
    assert!(grid.requests.values().all(|(_, answer)| answer.is_some()));
    let copy = &grid.nodes[0].copy;
    assert_eq!(copy.replica.last().position, copy.partition.position());
    assert_eq!(copy.replica.records_after(Version::NONE).count(), 0);
}

#[test]
fn a_copy_is_kept_until_a_better_one_is_complete() {
    let mut grid = Grid::new();
    grid.wait(1);
    assert!(grid.nodes[1].copy.aside.is_none());
    for _ in 0..50 {
        grid.deliver(0, false);
        grid.wait(50);
    }
    grid.add(1, None);
    (0..50).for_each(|_| grid.deliver(0, false));
    // It leaves the set, and comes back.
    let leaves = grid.nodes[1].me;
    grid.control.in_sync.remove(&leaves);
    grid.control.version += 1;
    grid.publish();
    grid.wait(300);
    let begun = |grid: &Grid| grid.nodes[1].copy.aside.is_some();
    let mut seen = false;
    for _ in 0..200 {
        grid.deliver(0, false);
        seen |= begun(&grid);
        if grid.network.is_empty() {
            grid.wait(50);
        }
    }
    assert!(seen && !begun(&grid), "its old copy was kept, and dropped in the end");
    assert_eq!(grid.entries(1), grid.entries(0));
}

#[test]
fn the_records_that_a_silent_newcomer_misses_are_not_kept_for_ever() {
    let mut grid = Grid::new();
    grid.network.clear();
    let kept = |grid: &Grid| grid.nodes[0].copy.replica.records_after(Version::NONE).count();
    let mut most = 0;
    for _ in 0..200 {
        grid.add(1, None);
        grid.wait(100);
        grid.network.clear();
        most = most.max(kept(&grid));
    }
    assert!((40..=60).contains(&most), "{most} records, of five seconds");
    grid.heal();
    grid.check_healed();
    assert_eq!(kept(&grid), 0);
}

#[test]
fn a_primary_whose_successor_goes_reigns_again() {
    let mut grid = Grid::new();
    grid.heal();
    let (primary, successor) = (grid.primary().unwrap(), grid.nodes[1].me);
    grid.add(1, None);
    // Not committed yet, so nothing is asked for.
    grid.step(primary, |copy, now, deeds| copy.hand_over(now, successor, deeds));
    assert_eq!(grid.nodes[primary].copy.may_write(), Err(Unavailable::HandingOver));
    let epoch = grid.control.epoch;
    grid.crash(1);
    grid.heal();
    assert_eq!((grid.primary(), grid.control.epoch), (Some(primary), epoch.next()));
    grid.check_healed();
}

#[test]
fn a_read_acknowledges_no_write_that_too_few_copies_have() {
    let (me, other) = (member(0, 1), member(1, 1));
    let both = BTreeSet::from([me, other]);
    let epoch = Epoch { generation: 1, number: 1 };
    let mut control =
        Assignment { version: 1, epoch, primary: Some(me), in_sync: both.clone(), wanted: both };
    let id = PartitionId { class: ReplicationClass(1), index: 1 };
    let unheard = Assignment { version: 0, epoch: Epoch::default(), primary: None, ..control.clone() };
    let partition = Partition::new(id, 1, 7, Version::NONE);
    let mut copy = ReplicatedPartition::new(me, 2, unheard, partition);
    let (now, granted, mut deeds) = (Grid::new().now, GrantedLeases::default(), Vec::new());
    copy.assign(now, control.clone(), &granted, &mut deeds);
    let message = Message {
        epoch,
        body: Body::Acknowledge {
            attempt: 0,
            position: Some(Version::NONE),
            commit: Version::NONE,
            chunks: 0,
            probe: 0,
            missing: false,
        },
    };
    copy.receive(now, other, message, &mut deeds);
    let map = Grid::new().map;
    let at = Access { map: &map, now: now.grid, room: Room::UNLIMITED, record: 0 };
    copy.partition_mut().increment(&at, b"k", 1).unwrap();
    let position = copy.seal(|| now, &mut deeds);
    assert!(!copy.is_answerable(position), "the other copy does not have it");
    // The other has lost its memory, and nobody is to take its place.
    control.forget(other);
    copy.assign(now, control, &granted, &mut deeds);
    assert_eq!(copy.may_write(), Err(Unavailable::TooFewInSync { in_sync: 1, min_in_sync: 2 }));
    assert!(copy.partition_mut().get(&at, b"k").is_some());
    assert_eq!(copy.seal(|| now, &mut deeds), position);
    assert!(!copy.is_answerable(position), "one copy has it, and two must");
}
