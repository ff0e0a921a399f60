//! Two nodes with a copy each of one partition, and a network that delivers when it is told to.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use wattle_core::control::grid::ClassOptions;
use wattle_core::ids::{ClientId, GridTime, MapId, NodeId, PartitionId, ReplicationClass};
use wattle_core::limits::{LEASE_TERM, REPLICATION_BYTES, SCAN_ENTRIES};
use wattle_core::map::{MapDescriptor, MapOptions};
use wattle_core::name::Name;
use wattle_core::partition::{Admission, Answer, Condition, Previous, Put, Refusal, TtlChoice};
use wattle_core::replication::{KnownReign, Proposal, Reckoning, Wish};
use wattle_strand::{Group, Turn};

use super::*;
use crate::functions::{Catalog, FunctionMetrics, RunBy};
use crate::in_flight::InFlight;
use crate::maps::Maps;
use crate::partition::partitions::Worker;
use crate::partition::{
    Message, OwnedResult, OwnedResults, Partitions, Placed, ReadMode, SlowPart, Source, Step, StepKind,
};
use crate::replication::{Outside, Settings, Table};

mod clocks;
mod turns;

const ID: PartitionId = PartitionId { class: ReplicationClass(0), index: 0 };
const MEMBERS: [MemberId; 2] = [member(1), member(2)];

const fn member(node: u64) -> MemberId {
    MemberId { node: NodeId(node), incarnation: 1 }
}

/// What was said and is not delivered yet: by whom, to whom.
type Network = Arc<Mutex<VecDeque<(MemberId, MemberId, PartitionMessage)>>>;

#[derive(Debug)]
struct Way {
    me: MemberId,
    network: Network,
}

impl Outside for Way {
    fn send(&self, to: MemberId, _: PartitionId, message: PartitionMessage) {
        self.network.lock().push_back((self.me, to, message));
    }

    fn propose(&self, _: PartitionId, _: Proposal) {}
}

struct Pair {
    nodes: [Arc<Partitions>; 2],
    network: Network,
    assignment: Assignment,
    map: MapDescriptor,
}

impl Pair {
    /// The first decides, and both are in sync.
    fn new() -> Self {
        let pair = Self::by_wall();
        pair.nodes.iter().for_each(|node| node.clock().follow_wall());
        pair
    }

    /// And nobody has told them what time it is.
    fn by_wall() -> Self {
        let network = Network::default();
        let node = |me| {
            let (catalog, _tripped) = Catalog::new(FunctionMetrics::register(&mut Registry::default()));
            let way = Way { me, network: Arc::clone(&network) };
            let replication = Arc::new(Replication::new(me, Box::new(way), Settings::default()));
            let memory = Arc::new(Memory::new(1 << 30));
            let partitions = Partitions::new(catalog, (memory, replication), 7).unwrap();
            partitions.add_class(ID.class, &ClassOptions::standard(1));
            Arc::new(partitions)
        };
        let nodes = MEMBERS.map(node);
        let (name, options) = (Name::new("m").unwrap(), MapOptions::default());
        let map = MapDescriptor { id: MapId(1), name, revision: 1, options };
        let mut pair = Self { nodes, network, assignment: Assignment::default(), map };
        pair.decide(0);
        pair.deliver();
        pair
    }

    /// The control group makes another copy primary.
    fn decide(&mut self, primary: usize) {
        let Assignment { version, epoch, .. } = self.assignment;
        let all = BTreeSet::from(MEMBERS);
        let (in_sync, wanted) = (all.clone(), all);
        let primary = Some(MEMBERS[primary]);
        self.assignment = Assignment { version: version + 1, epoch: epoch.next(), primary, in_sync, wanted };
        for node in 0..2 {
            self.tell(node);
        }
    }

    /// A node learns what was decided.
    fn tell(&self, node: usize) {
        let Assignment { version, epoch, primary, .. } = self.assignment;
        let reign = KnownReign { epoch, primary };
        self.nodes[node].replication().follow(Table::new(version, [(ID, reign)]));
        let assignment = self.assignment.clone();
        self.nodes[node].strand(ID).submit_urgent(|shard| shard.assign(assignment), drop);
    }

    /// Delivers everything, and what is answered to it.
    fn deliver(&self) {
        while let Some((from, to, message)) = { self.network.lock().pop_front() } {
            let node = &self.nodes[usize::from(to == MEMBERS[1])];
            node.strand(ID).submit_urgent(move |shard| shard.receive(from, message), drop);
        }
    }

    /// A node gets the other's lease.
    fn lend(&self, to: usize) {
        let (holder, granter) = (&self.nodes[to], &self.nodes[1 - to]);
        let wish = Wish { asked: holder.clock().local(), reckoning: Reckoning::Granted };
        let grant = granter.replication().grant(MEMBERS[to], granter.clock().local(), wish);
        holder.replication().hold(MEMBERS[1 - to], grant);
    }

    async fn put(&self, node: usize, value: &'static [u8]) -> Result<Version, NoReply> {
        let answer = self.write(node, value, Condition::Always).await?;
        let Ok(Answer::Put { version, .. }) = answer else { panic!("{answer:?}") };
        Ok(version)
    }

    async fn write(
        &self,
        node: usize,
        value: &'static [u8],
        condition: Condition,
    ) -> Result<Result<Answer, Refusal>, NoReply> {
        let map = self.map.clone();
        let put = move |shard: &mut Shard| {
            shard.with(|partition, moment| {
                let (ttl, previous) = (TtlChoice::OfMap, Previous::Ignore);
                partition.put(&moment.access(&map), &Put { key: b"k", value, ttl, condition, previous })
            })
        };
        self.nodes[node].run(ID, 0, put).await
    }

    async fn get(&self, node: usize) -> Result<Option<Vec<u8>>, NoReply> {
        let map = self.map.clone();
        let get = move |shard: &mut Shard| {
            shard.with(|partition, moment| {
                let entry = partition.get(&moment.access(&map), b"k");
                entry.map(|entry| entry.value.to_vec())
            })
        };
        self.nodes[node].run(ID, 0, get).await
    }

    /// Takes a turn of slow work on this thread.
    fn take_turn(&self, node: usize, (part, message): (&mut SlowPart, &Message)) -> Turn<OwnedResults> {
        let (catalog, _tripped) = Catalog::new(FunctionMetrics::register(&mut Registry::default()));
        let mut worker = Worker::new(&catalog, RunBy::Io);
        let decoded = message.decoded();
        let served = self.nodes[node].strand(ID).try_run(|shard| {
            shard.serve(|shard| part.turn((&mut worker, shard), &|place| decoded.checked(place)))
        });
        served.map_err(|_| ()).unwrap().unwrap().0
    }

    /// A node is charged for what its copy takes.
    fn check_charged(&self) {
        for node in &self.nodes {
            let taken = node.strand(ID).try_run(|shard| shard.copy.bytes());
            assert_eq!(node.memory().held(), taken.map_err(drop).unwrap());
        }
    }

    /// What a copy holds, whoever decides.
    fn held(&self, node: usize) -> u64 {
        self.nodes[node].look(ID, Partition::entries).now_or_never().unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_write_is_answered_when_the_other_copy_has_it() {
    let pair = Pair::new();
    let mut put = Box::pin(pair.put(0, b"v"));
    assert!(put.as_mut().now_or_never().is_none());
    assert_eq!((pair.held(0), pair.held(1)), (1, 0));
    pair.check_charged();
    pair.deliver();
    let version = put.await.unwrap();
    pair.check_charged();
    // The other shows it as soon as it hears that all have it: with the next record.
    let mut put = Box::pin(pair.put(0, b"w"));
    assert!(put.as_mut().now_or_never().is_none());
    pair.deliver();
    assert!(put.await.unwrap() > version);
    assert_eq!(pair.held(1), 1);
}

#[tokio::test]
async fn a_copy_that_is_not_wanted_goes_unless_something_newer_is_known_of_it_or_may_be() {
    let pair = Pair::new();
    let early = pair.nodes[1].clock().local();
    // The second tells that all have the first.
    for value in [b"v", b"w"] {
        let mut put = Box::pin(pair.put(0, value));
        assert!(put.as_mut().now_or_never().is_none());
        pair.deliver();
        put.await.unwrap();
    }
    let only = BTreeSet::from([MEMBERS[0]]);
    let version = pair.assignment.version;
    let without = |version| Assignment {
        version,
        in_sync: only.clone(),
        wanted: only.clone(),
        ..pair.assignment.clone()
    };
    let release = |asked, assignment| {
        pair.nodes[1].strand(ID).try_run(|shard| shard.release(asked, assignment)).map_err(drop).unwrap()
    };
    assert!(!release(early, without(version + 1)), "its primary has sent something since it was asked");
    let asked = pair.nodes[1].clock().local() + Duration::from_millis(1);
    assert!(!release(asked, without(version - 1)), "it has heard that it is wanted again");
    assert_eq!(pair.held(1), 1);
    assert!(release(asked, without(version + 1)));
    assert_eq!((pair.held(1), pair.nodes[1].memory().held()), (0, 0));
    let known = pair.nodes[1].strand(ID).try_run(|shard| shard.copy.assignment().clone());
    assert_eq!(known.map_err(drop).unwrap(), without(version + 1));
}

#[tokio::test]
async fn a_write_that_its_successor_may_have_is_in_doubt() {
    let mut pair = Pair::new();
    let mut put = Box::pin(pair.put(0, b"v"));
    assert!(put.as_mut().now_or_never().is_none());
    pair.network.lock().clear();
    drop(put);
    let map = pair.map.clone();
    let put = move |shard: &mut Shard| {
        shard.with(|partition, moment| {
            let (ttl, condition, previous) = (TtlChoice::OfMap, Condition::Always, Previous::Ignore);
            let put = Put { key: b"k", value: b"w", ttl, condition, previous };
            partition.put(&moment.access(&map), &put).unwrap();
        })
    };
    let first = Arc::clone(&pair.nodes[0]);
    let mut put = Box::pin(first.run(ID, 0, put));
    assert!(put.as_mut().now_or_never().is_none());
    pair.decide(1);
    assert_eq!(put.await, Err(NoReply::Deposed));
    assert_eq!(pair.held(0), 0, "what was not committed is taken back");
    let refused = pair.get(0).await;
    assert_eq!(refused, Err(Unavailable::NotPrimary.into()));
}

#[tokio::test]
async fn a_read_without_a_lease_asks_the_other_copy() {
    let pair = Pair::new();
    let mut get = Box::pin(pair.get(0));
    assert!(get.as_mut().now_or_never().is_none());
    pair.deliver();
    assert_eq!(get.await, Ok(None));
}

#[tokio::test]
async fn a_read_with_a_lease_is_answered_at_once() {
    let pair = Pair::new();
    pair.lend(0);
    assert_eq!(pair.get(0).now_or_never(), Some(Ok(None)));
    // A lease from somebody who has seen a newer table says nothing yet.
    let Assignment { version, epoch, primary, .. } = pair.assignment;
    let newer = Table::new(version + 1, [(ID, KnownReign { epoch, primary })]);
    pair.nodes[1].replication().follow(newer);
    pair.lend(0);
    assert_eq!(pair.get(0).now_or_never(), None);
}

#[tokio::test]
async fn a_read_that_is_to_be_confirmed_asks_the_other_copy_in_spite_of_a_lease() {
    let pair = Pair::new();
    pair.lend(0);
    let confirmed = |shard: &mut Shard| {
        shard.confirm_reads(ReadMode::Confirm);
        shard.with(|partition, _| partition.entries())
    };
    let mut size = Box::pin(pair.nodes[0].run(ID, 0, confirmed));
    assert!(size.as_mut().now_or_never().is_none());
    // That is of this read alone.
    assert_eq!(pair.get(0).now_or_never(), Some(Ok(None)));
    pair.deliver();
    assert_eq!(size.await, Ok(0));
}

#[tokio::test]
async fn a_lease_ends() {
    let pair = Pair::new();
    let node = &pair.nodes[0];
    let mut asked = node.clock().local();
    asked.0 -= u64::try_from(LEASE_TERM.as_millis()).unwrap() * 19 / 20;
    let wish = Wish { asked, reckoning: Reckoning::Granted };
    let granted = pair.nodes[1].replication().grant(MEMBERS[0], node.clock().local(), wish);
    node.replication().hold(MEMBERS[1], granted);
    assert_eq!(pair.get(0).now_or_never(), None);
}

#[tokio::test]
async fn a_read_waits_for_what_it_saw() {
    let pair = Pair::new();
    pair.lend(0);
    let mut put = Box::pin(pair.put(0, b"v"));
    assert!(put.as_mut().now_or_never().is_none());
    let mut get = Box::pin(pair.get(0));
    let mut create = Box::pin(pair.write(0, b"w", Condition::IfAbsent));
    assert!(get.as_mut().now_or_never().is_none() && create.as_mut().now_or_never().is_none());
    pair.deliver();
    let version = put.await.unwrap();
    assert_eq!(get.await, Ok(Some(b"v".to_vec())));
    assert_eq!(create.await, Ok(Err(Refusal::AlreadyExists { version })));
}

#[tokio::test]
async fn a_read_of_an_earlier_reign_is_not_confirmed_by_a_later_one() {
    let mut pair = Pair::new();
    let mut get = Box::pin({
        let node = Arc::clone(&pair.nodes[0]);
        async move { node.run(ID, 0, |shard| shard.with(|partition, _| partition.entries())).await }
    });
    // Its question is lost.
    assert!(get.as_mut().now_or_never().is_none());
    pair.network.lock().clear();
    pair.decide(1);
    pair.deliver();
    pair.decide(0);
    pair.deliver();
    assert_eq!(get.await, Err(Unavailable::NotPrimary.into()));
}

#[tokio::test]
async fn writes_are_refused_when_the_other_copy_is_far_behind() {
    let pair = Pair::new();
    let value = vec![b'x'; 1 << 20].leak();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut put = Box::pin(pair.put(0, value));
        match put.as_mut().now_or_never() {
            None => waiting.push(put),
            Some(refused) => break refused,
        }
    };
    assert_eq!(waiting.len(), REPLICATION_BYTES >> 20);
    assert!(matches!(refused, Err(NoReply::Behind { bytes }) if bytes > REPLICATION_BYTES), "{refused:?}");
    pair.deliver();
    for put in waiting {
        put.await.unwrap();
    }
    let mut put = Box::pin(pair.put(0, b"v"));
    assert!(put.as_mut().now_or_never().is_none());
    pair.deliver();
    put.await.unwrap();
}

/// A request of two turns, each of which writes, and notes what it has done.
async fn two_turns(pair: &Pair, between: impl FnOnce() + Send + 'static) -> Result<(), NoReply> {
    let map = pair.map.clone();
    let (mut turns, mut between) = (0_u8, Some(between));
    let turn = move |_: &mut _, shard: &mut Shard| {
        shard.with(|partition, moment| {
            let (ttl, condition, previous) = (TtlChoice::OfMap, Condition::Always, Previous::Ignore);
            let (key, value) = (&[turns][..], &b"v"[..]);
            let put = Put { key, value, ttl, condition, previous };
            partition.put(&moment.access(&map), &put).unwrap();
        });
        turns += 1;
        if turns == 2 {
            return Turn::Done(());
        }
        between.take().expect("the first turn is once")();
        Turn::Again
    };
    pair.nodes[0].run_slow(ID, (Group(7), 0), turn).await
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_several_turns_does_not_go_on_in_another_reign() {
    let mut pair = Pair::new();
    let network = Arc::clone(&pair.network);
    let node = Arc::clone(&pair.nodes[0]);
    let mut next = pair.assignment.clone();
    (next.version, next.epoch, next.primary) = (next.version + 1, next.epoch.next(), Some(MEMBERS[1]));
    pair.assignment = next.clone();
    let depose = move || {
        network.lock().clear();
        // Before the next turn: what is urgent goes first.
        node.strand(ID).submit_urgent(|shard| shard.assign(next), drop);
    };
    assert_eq!(two_turns(&pair, depose).await, Err(NoReply::Interrupted));
    assert_eq!(pair.held(0), 0);
}

#[tokio::test]
async fn a_ticker_repeats_what_was_lost() {
    let pair = Pair::new();
    let mut put = Box::pin(pair.put(0, b"v"));
    assert!(put.as_mut().now_or_never().is_none());
    pair.network.lock().clear();
    let wake_at = |shard: &mut Shard| shard.wake_at.expect("an answer is owed");
    let Now { grid, .. } = pair.nodes[0].clock().read();
    let wake = |local| {
        pair.nodes[0].strand(ID).try_run(|shard| shard.wake(Now { local, grid })).map_err(|_| ()).unwrap();
        pair.network.lock().len()
    };
    // What was asked for before the write comes first: nothing is due then.
    let repeats = (0..3).any(|_| {
        let local = pair.nodes[0].strand(ID).try_run(wake_at).map_err(|_| ()).unwrap();
        assert_eq!(wake(LocalTime(local.0 - 1)), 0, "it is not due yet");
        wake(local) == 1
    });
    assert!(repeats);
    pair.deliver();
    put.await.unwrap();
}

#[tokio::test]
async fn a_copy_of_a_partition_that_began_empty_since_is_forgotten() {
    let pair = Pair::new();
    pair.put(1, b"nobody").await.unwrap_err();
    let mut put = Box::pin(pair.put(0, b"value"));
    assert!(put.as_mut().now_or_never().is_none(), "the backup has it not yet");
    let (node, reign) = (&pair.nodes[0], pair.assignment.epoch);
    let void = |began| node.strand(ID).submit_urgent(move |shard| shard.void(began), drop);
    let held = node.memory().held();
    assert!(held > 0);
    void(reign);
    assert_eq!(node.memory().held(), held, "what has seen that reign is of it");
    void(reign.next());
    assert_eq!(node.memory().held(), 0);
    assert!(matches!(put.await, Err(NoReply::Deposed)));
    assert_eq!(node.look(ID, Partition::entries).await.unwrap(), 0);
    let refused = pair.put(0, b"again").await;
    assert!(matches!(refused, Err(NoReply::Unavailable(Unavailable::NotPrimary))), "{refused:?}");
}
