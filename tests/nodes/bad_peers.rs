//! Peers that speak garbage, and peers that lie. They are told why they are refused, and nobody else notices.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use wattle::config::RawConfig;
use wattle_client::Client;
use wattle_client::api::{Epoch as WireEpoch, Member, StatusResponse};
use wattle_core::ids::{Epoch, MemberId, NodeId, PartitionId, ReplicationClass, Version};
use wattle_core::replication::{Body, Mark, Message};
use wattle_peers::{
    Admission, Ask, CallRefusal, ControlPosition, Decided, Event, Follow, Grid, Handler, Heartbeat,
    HeartbeatAnswer, Identity, PeerMessage, Peers, Secret, Situation, Standing,
};

use crate::harness::TestNode;
use crate::harness::grid::{PARTITIONS, all_have_copies};
use crate::harness::wire::eventually;

const SECRET: &str = "a secret of the grid";
const KEYS: usize = 60;

/// Two nodes that share a secret and have a port for each other, and an entry under each key.
struct Scene {
    nodes: [TestNode; 2],
    client: Client,
    before: StatusResponse,
    _directory: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, SECRET).unwrap();
        let start = |join| {
            TestNode::with(RawConfig {
                peer_listen: "127.0.0.1:0".parse().ok(),
                grid_secret_file: Some(path.clone()),
                partitions: Some(PARTITIONS),
                join,
                ..RawConfig::default()
            })
        };
        let first = start(None);
        let second = start(Some(vec![first.peer_address()]));
        let client = first.client().await;
        all_have_copies(&client).await;
        for key in 0..KEYS {
            client.raw_map("m").put(key.to_string(), "v").await.unwrap();
        }
        // Each decides about its half: nothing moves any more.
        let before = eventually(async || {
            let status = client.status().await.unwrap();
            let half = |member: &Member| member.primary_partitions >= u32::from(PARTITIONS / 2);
            (status.members.len() == 2 && status.members.iter().all(half)).then_some(status)
        })
        .await;
        Self { nodes: [first, second], client, before, _directory: directory }
    }

    fn grid(&self) -> Grid {
        let id: [u8; 16] = self.before.grid_id[..].try_into().unwrap();
        Grid { id: u128::from_be_bytes(id), name: self.before.name.clone() }
    }

    async fn epochs(&self) -> Vec<Option<WireEpoch>> {
        let partitions = self.client.partitions().await.unwrap().partitions;
        partitions.into_iter().map(|partition| partition.epoch).collect()
    }

    /// All entries are there, on the same members, at both nodes, and can be changed.
    async fn check_unharmed(&self) {
        for node in &self.nodes {
            let client = node.client().await;
            let map = client.raw_map("m");
            for key in 0..KEYS {
                assert_eq!(map.get(key.to_string()).await.unwrap().unwrap().value, "v");
                map.put(key.to_string(), "v").await.unwrap();
            }
            let members = |status: &StatusResponse| {
                status.members.iter().map(|member| (member.node, member.incarnation)).collect::<Vec<_>>()
            };
            let status = client.status().await.unwrap();
            assert_eq!(members(&status), members(&self.before));
            assert!(status.members.iter().all(|member| member.report.is_some()), "{status:?}");
        }
        all_have_copies(&self.client).await;
    }
}

const FIRST: MemberId = MemberId { node: NodeId(1), incarnation: 1 };
const SECOND: MemberId = MemberId { node: NodeId(2), incarnation: 1 };

/// Somebody who would be a node, and writes down what becomes of it.
pub(super) struct Liar {
    pub(super) peers: Arc<Peers<Listener>>,
    events: mpsc::UnboundedReceiver<Event>,
}

pub(super) struct Listener(mpsc::UnboundedSender<Event>);

impl Handler for Listener {
    async fn receive(&self, _: MemberId, _: Vec<PeerMessage>) {}

    async fn control(&self, _: NodeId, _: Bytes) -> Result<Bytes, CallRefusal> {
        Err(CallRefusal::NoPart)
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

    fn notice(&self, event: Event) {
        self.0.send(event).ok();
    }
}

impl Liar {
    fn new(grid: Grid, member: MemberId, secret: &str) -> Self {
        Self::with(grid, member, Secret::new(secret.as_bytes()).unwrap())
    }

    pub(super) fn with(grid: Grid, member: MemberId, secret: Secret) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let identity = Identity { standing: Standing::Member { grid, member }, secret };
        Self { peers: Arc::new(Peers::new(identity, Listener(sender), Handle::current())), events }
    }

    fn say(&self, partition: u16, epoch: Epoch, to: MemberId) {
        let partition = PartitionId { class: ReplicationClass(0), index: partition };
        let start = Mark { epoch, position: Version(0) };
        let acknowledge = Body::Acknowledge {
            attempt: 0,
            position: Some(Version(u64::MAX)),
            commit: Version(u64::MAX),
            chunks: 0,
            probe: 0,
            missing: false,
        };
        let notice = Body::Append {
            attempt: 0,
            previous: start,
            records: Vec::new(),
            commit: Version(u64::MAX),
            probe: 7,
        };
        let begin = Body::Begin { attempt: 1, start };
        for body in [begin, notice, acknowledge, Body::Deposed, Body::Released] {
            // A link that is down takes nothing: the first makes it open one.
            self.peers.send(to, PeerMessage::Partition(partition, Message { epoch, body })).ok();
        }
    }

    /// Why the first node does not open a link.
    async fn refusal(mut self, scene: &Scene, to: MemberId) -> String {
        self.peers.set_members([(to, scene.nodes[0].peer_address())]);
        self.say(0, Epoch { generation: 1, number: 1 }, to);
        loop {
            match self.events.recv().await.unwrap() {
                Event::Failed { error, .. } => {
                    self.peers.stop().await;
                    return error.to_string();
                }
                Event::Opened { to, .. } => panic!("{to:?} has let it in"),
                Event::Closed { .. } | Event::Admitted { .. } | Event::Left { .. } | Event::Denied { .. } => {
                }
            }
        }
    }
}

async fn check_refused(liar: impl FnOnce(Grid) -> (Liar, MemberId), expected: &str) {
    let scene = Scene::start().await;
    let (liar, to) = liar(scene.grid());
    let refusal = liar.refusal(&scene, to).await;
    assert!(refusal.contains(expected), "{refusal}");
    scene.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_speaks_garbage_is_cut_off_and_the_grid_goes_on() {
    let scene = Scene::start().await;
    let noise: Vec<u8> = (0_u32..100_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frames.extend(&noise);
    for garbage in
        [&noise[..], &frames, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"]
    {
        for node in &scene.nodes {
            let mut stream = TcpStream::connect(node.peer_address()).await.unwrap();
            // It may be cut off before it has said everything.
            drop(stream.write_all(garbage).await);
            drop(stream.shutdown().await);
            let mut said = Vec::new();
            drop(stream.read_to_end(&mut said).await);
        }
    }
    scene.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_no_member_is_refused() {
    let nobody = MemberId { node: NodeId(9), incarnation: 1 };
    check_refused(|grid| (Liar::new(grid, nobody, SECRET), FIRST), "node 9.1 is no member").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_it_is_another_life_of_a_member_is_refused() {
    let later = MemberId { incarnation: 7, ..SECOND };
    check_refused(|grid| (Liar::new(grid, later, SECRET), FIRST), "node 2.7 is no member").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_a_node_for_another_is_refused() {
    check_refused(|grid| (Liar::new(grid, FIRST, SECRET), SECOND), "this is node 1.1, not 2.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_grid_is_refused() {
    let other = |grid: Grid| Grid { id: grid.id ^ 1, ..grid };
    check_refused(|grid| (Liar::new(other(grid), SECOND, SECRET), FIRST), "this is grid \"wattle\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_another_secret_is_refused() {
    let secret = "another secret of it";
    check_refused(|grid| (Liar::new(grid, SECOND, secret), FIRST), "have different secrets").await;
}

/// Somebody with the secret says this of all partitions, as if it were the second node.
async fn check_unheeded(epochs: &[Epoch]) {
    let scene = Scene::start().await;
    let before = scene.epochs().await;
    // Its link takes the place of the second node's for a while.
    let mut liar = Liar::new(scene.grid(), SECOND, SECRET);
    liar.peers.set_members([(FIRST, scene.nodes[0].peer_address())]);
    liar.say(0, epochs[0], FIRST);
    while !matches!(liar.events.recv().await.unwrap(), Event::Opened { .. }) {}
    for partition in 0..PARTITIONS {
        epochs.iter().for_each(|epoch| liar.say(partition, *epoch, FIRST));
    }
    liar.peers.stop().await;
    scene.check_unharmed().await;
    assert_eq!(scene.epochs().await, before, "nobody was deposed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_says_under_old_epochs_changes_nothing() {
    check_unheeded(&[Epoch { generation: 0, number: 0 }, Epoch { generation: 1, number: 0 }]).await;
}

/// Or who is told so would take itself for deposed, and wait for a primary that there never will be.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_says_under_epochs_that_nobody_has_decided_changes_nothing() {
    let far = Epoch { generation: 1, number: 1 << 40 };
    check_unheeded(&[
        far,
        Epoch { generation: 9, number: 0 },
        Epoch { generation: u32::MAX, number: u64::MAX },
    ])
    .await;
}
