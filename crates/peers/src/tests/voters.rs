//! The control group over these links: voters of openraft on loopback, as a node has them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use wattle_control::{
    Applied, Command, ControlGroup, Disk, GroupId, Identity as VoterIdentity, Options, ProposeError, Refusal,
    Role, State, Storage, Timing, Transport, TransportError, VoterId,
};
use wattle_core::control as catalog;
use wattle_core::control::grid::{
    Formats, GridApplied, GridCommand, GridId, JoinNonce, Joining, NewGrid, NodeDescription, OnFullLoss,
    Role as NodeRole,
};
use wattle_core::ids::{MemberId, NodeId};
use wattle_core::limits::CONTROL_COMMAND_BYTES;
use wattle_core::map::MapOptions;
use wattle_core::name::Name;

use super::harness::{GRID, Wire, identified, in_time, member, serve, tests_grid};
use crate::{
    Admission, Ask, CallRefusal, ControlPosition, Decided, Event, Follow, Handler, Heartbeat,
    HeartbeatAnswer, PeerMessage, Peers, Situation, Standing,
};

/// Hears nothing but other voters. The group holds the links, and so its handler does not hold the group.
#[derive(Default)]
struct Voting(Arc<OnceLock<Weak<ControlGroup>>>);

impl Handler for Voting {
    async fn receive(&self, _: MemberId, _: Vec<PeerMessage>) {}

    async fn control(&self, from: NodeId, request: Bytes) -> Result<Bytes, CallRefusal> {
        let group = self.0.get().and_then(Weak::upgrade).ok_or(CallRefusal::NoPart)?;
        Ok(group.handle(from, &request).await)
    }

    async fn propose(&self, _: MemberId, _: Bytes) -> Result<Bytes, CallRefusal> {
        Err(CallRefusal::NoPart)
    }

    async fn heartbeat(&self, _: MemberId, _: Heartbeat) -> Result<HeartbeatAnswer, CallRefusal> {
        Err(CallRefusal::NoPart)
    }

    async fn ask_heartbeat(&self, _: MemberId) -> Result<Heartbeat, CallRefusal> {
        Err(CallRefusal::NoPart)
    }

    async fn decided_position(&self, _: MemberId) -> Result<ControlPosition, CallRefusal> {
        Err(CallRefusal::NoPart)
    }

    async fn follow(&self, _: MemberId, _: Follow) -> Result<Decided, CallRefusal> {
        Err(CallRefusal::NoPart)
    }

    async fn ask(&self, _: Ask) -> Result<Situation, CallRefusal> {
        Err(CallRefusal::NoPart)
    }

    async fn join(&self, _: Bytes) -> Result<Admission, CallRefusal> {
        Err(CallRefusal::NoPart)
    }

    fn notice(&self, _: Event) {}
}

/// The way of the control group: whatever a call ends in, openraft takes the node for unreachable, and asks again after a pause.
#[derive(Clone)]
struct OverLinks(Arc<Peers<Voting>>);

impl Transport for OverLinks {
    async fn call(&self, node: NodeId, request: Bytes) -> Result<Bytes, TransportError> {
        let answer = self.0.control(node, request).await;
        answer.map_err(|error| TransportError { node, source: Box::new(error) })
    }
}

/// A node that votes, or may.
struct Voter {
    peers: Arc<Peers<Voting>>,
    group: Arc<ControlGroup>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Drop for Voter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn voter(node: u64) -> VoterId {
    VoterId { node: NodeId(node), incarnation: 1 }
}

impl Voter {
    async fn start(node: u64, standing: Standing, storage: Storage) -> Self {
        let handler = Voting::default();
        let slot = Arc::clone(&handler.0);
        let peers = Arc::new(Peers::new(identified(standing), handler, Handle::current()));
        let (address, server) = serve(&peers).await;
        let group = GroupId::first(GRID);
        let options = Options {
            identity: VoterIdentity { group, voter: voter(node) },
            storage,
            timing: Timing::default(),
            observer: Box::new(|_, _| {}),
        };
        let group = ControlGroup::start(options, OverLinks(Arc::clone(&peers))).await.unwrap();
        let group = Arc::new(group);
        slot.set(Arc::downgrade(&group)).unwrap();
        Self { peers, group, address, server }
    }

    fn id(&self) -> u64 {
        self.group.identity().voter.node.0
    }

    /// As if its process had ended.
    async fn end(self) {
        self.group.shutdown().await;
        self.peers.stop().await;
    }
}

fn standing(node: u64) -> Standing {
    Standing::Member { grid: tests_grid(), member: member(node, 1) }
}

fn joining(node: u64) -> Joining {
    let description = NodeDescription {
        peer_address: format!("127.0.0.1:{node}"),
        client_address: format!("127.0.0.1:{node}"),
        zone: None,
        host: format!("host-{node}"),
        version: "0.1.0".into(),
        formats: Formats { oldest: 1, newest: 1 },
        role: NodeRole::Data,
        prepares: false,
        in_memory: false,
    };
    let grid = GridId(GRID.to_be_bytes());
    Joining { grid, nonce: JoinNonce(u128::from(node).to_be_bytes()), known: None, description }
}

fn first_state() -> State {
    let (name, on_full_loss) = (Name::new("tests").unwrap(), OnFullLoss::StartEmpty);
    let new = NewGrid { name, format: 1, partitions: 3, on_full_loss, founder: joining(1) };
    let mut state = State::default();
    state.apply(&Command::Create(Box::new(new))).unwrap();
    state
}

fn create(map: impl AsRef<str>) -> Command {
    let name = Name::new(map.as_ref()).unwrap();
    Command::Catalog(catalog::Command::CreateMap { name, options: MapOptions::default() })
}

fn maps(voter: &Voter) -> Vec<String> {
    voter.group.decided().state.catalog().maps().map(|map| map.name.to_string()).collect()
}

/// Everybody knows everybody, at these addresses.
fn introduce(voters: &[Voter], addresses: &[(u64, SocketAddr)]) {
    for one in voters {
        let places = addresses.iter().map(|(node, address)| (member(*node, 1), address.to_string()));
        one.peers.set_members(places);
    }
}

fn addresses(voters: &[Voter]) -> Vec<(u64, SocketAddr)> {
    voters.iter().map(|voter| (voter.id(), voter.address)).collect()
}

/// So many nodes from 1 that know each other; the first `voting` are a group.
async fn group_of(nodes: u64, voting: u64) -> Vec<Voter> {
    let mut voters = Vec::new();
    for node in 1..=nodes {
        voters.push(Voter::start(node, standing(node), Storage::Memory).await);
    }
    introduce(&voters, &addresses(&voters));
    let founder = &voters[0].group;
    founder.create(first_state()).await.unwrap();
    if voting > 1 {
        in_time(founder.change_voters(&(1..=voting).map(voter).collect())).await.unwrap();
    }
    voters
}

/// Who leads, and knows it.
async fn leader(voters: &[Voter]) -> &Voter {
    let found = async {
        loop {
            for one in voters.iter().filter(|one| one.group.status().role == Role::Leader) {
                if one.group.confirm_leadership().await.is_ok() {
                    return one;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    in_time(found).await
}

async fn decide(voters: &[Voter], command: Command) -> Result<Applied, ProposeError> {
    let proposal = voters[0].group.proposal(command);
    loop {
        let decided = in_time(leader(voters).await.group.propose(proposal.clone())).await;
        if !matches!(decided, Err(ProposeError::NotLeader { .. })) {
            return decided;
        }
    }
}

/// Waits until all have what one of them has, which is at least so many decisions.
async fn assert_same(voters: &[Voter], decisions: u64) {
    for one in voters {
        let group = &one.group;
        in_time(group.until(|_| group.decided().version.0 >= decisions)).await.unwrap();
    }
    for one in voters {
        assert_eq!(one.group.decided(), voters[0].group.decided());
    }
}

#[tokio::test]
async fn three_voters_go_on_without_one_and_without_their_leader() {
    let mut voters = group_of(3, 3).await;
    decide(&voters, create("a")).await.unwrap();
    assert_same(&voters, 1).await;
    let leads = leader(&voters).await.id();
    let place = voters.iter().position(|one| one.id() == leads).unwrap();
    voters.remove(place).end().await;
    let gone = Instant::now();
    decide(&voters, create("b")).await.unwrap();
    assert!(gone.elapsed() < Duration::from_secs(3), "{:?}", gone.elapsed());
    assert_same(&voters, 2).await;
    // It comes back as another node, which is given the state and a vote.
    voters.push(Voter::start(4, standing(4), Storage::Memory).await);
    introduce(&voters, &addresses(&voters));
    let votes: BTreeSet<_> = voters.iter().map(|one| voter(one.id())).collect();
    in_time(leader(&voters).await.group.change_voters(&votes)).await.unwrap();
    let follows = voters.iter().position(|one| one.group.status().role == Role::Follower).unwrap();
    voters.remove(follows).end().await;
    decide(&voters, create("c")).await.unwrap();
    assert_same(&voters, 3).await;
    assert_eq!(maps(&voters[1]), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_node_learns_votes_and_is_left_out() {
    let voters = group_of(2, 1).await;
    let [founder, other] = &voters[..] else { panic!("there are two") };
    in_time(founder.group.add_learner(voter(2))).await.unwrap();
    decide(&voters, create("a")).await.unwrap();
    assert_same(&voters, 1).await;
    assert_eq!(other.group.status().role, Role::Learner);
    in_time(founder.group.change_voters(&BTreeSet::from([voter(1), voter(2)]))).await.unwrap();
    in_time(founder.group.change_voters(&BTreeSet::from([voter(2)]))).await.unwrap();
    in_time(other.group.until(|status| status.role == Role::Leader)).await.unwrap();
    assert_eq!(other.group.status().voters, BTreeSet::from([voter(2)]));
    in_time(other.group.propose(other.group.proposal(create("b")))).await.unwrap();
    assert_eq!(maps(other), ["a", "b"]);
}

#[tokio::test]
async fn a_largest_command_reaches_all_voters() {
    let voters = group_of(3, 3).await;
    let (name, because) = (Name::new("f").unwrap(), "x".repeat(CONTROL_COMMAND_BYTES - 100));
    let large = Command::Catalog(catalog::Command::Suspend { name, version: 1, because });
    let decided = decide(&voters, large).await;
    assert!(matches!(&decided, Err(ProposeError::Refused(Refusal::Catalog(_)))), "{decided:?}");
    assert_same(&voters, 1).await;
}

#[tokio::test]
async fn a_snapshot_reaches_a_new_voter_in_pieces() {
    let mut voters = group_of(1, 1).await;
    let text = "x".repeat(60_000);
    for number in 0..60 {
        let name = Name::new(&format!("f{number}")).unwrap();
        let suspend = catalog::Command::Suspend { name, version: 1, because: text.clone() };
        drop(decide(&voters, Command::Catalog(suspend)).await);
    }
    for number in 0..300 {
        decide(&voters, create(format!("m{number}"))).await.unwrap();
    }
    assert!(voters[0].group.status().purged_index.is_some());
    voters.push(Voter::start(2, standing(2), Storage::Memory).await);
    introduce(&voters, &addresses(&voters));
    in_time(voters[0].group.add_learner(voter(2))).await.unwrap();
    assert_same(&voters, 360).await;
    assert!(voters[1].group.status().snapshot_index.is_some());
}

#[tokio::test]
async fn a_voter_that_falls_silent_does_not_hold_up_the_others() {
    let voters = group_of(3, 3).await;
    let silent = leader(&voters).await.id() % 3 + 1;
    let place = voters.iter().position(|one| one.id() == silent).unwrap();
    let wire = Wire::lay(voters[place].address).await;
    // The links that are open are not the wire's.
    voters.iter().for_each(|one| one.peers.set_members([]));
    let mut by_wire = addresses(&voters);
    by_wire[place].1 = wire.address;
    introduce(&voters, &by_wire);
    decide(&voters, create("before")).await.unwrap();
    assert_same(&voters, 1).await;
    wire.freeze();
    let since = Instant::now();
    for number in 0..20 {
        decide(&voters, create(format!("m{number}"))).await.unwrap();
    }
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    wire.turn(Some(voters[place].address));
    assert_same(&voters, 21).await;
}

fn stored(folder: &Path, node: u64) -> Storage {
    Storage::Disk(Box::new(Disk::open(&folder.join(node.to_string())).unwrap()))
}

#[tokio::test]
async fn a_group_that_starts_again_decides_who_everybody_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let mut voters = Vec::new();
    for node in 1..=3 {
        voters.push(Voter::start(node, standing(node), stored(folder.path(), node)).await);
    }
    introduce(&voters, &addresses(&voters));
    voters[0].group.create(first_state()).await.unwrap();
    in_time(voters[0].group.change_voters(&(1..=3).map(voter).collect())).await.unwrap();
    for node in 2..=3 {
        decide(&voters, Command::Grid(GridCommand::Join(Box::new(joining(node))))).await.unwrap();
    }
    for one in voters.drain(..) {
        one.end().await;
    }
    for node in 1..=3 {
        let standing = Standing::Returning { grid: tests_grid(), node: NodeId(node) };
        voters.push(Voter::start(node, standing, stored(folder.path(), node)).await);
    }
    introduce(&voters, &addresses(&voters));
    for node in 1..=3 {
        let again = Joining {
            nonce: JoinNonce([u8::try_from(node).unwrap(); 16]),
            known: Some(member(node, 1)),
            ..joining(node)
        };
        let joined = decide(&voters, Command::Grid(GridCommand::Join(Box::new(again)))).await;
        let expected = GridApplied::Joined { member: member(node, 2), partitions: vec![] };
        assert_eq!(joined, Ok(Applied::Grid(expected)));
    }
}
