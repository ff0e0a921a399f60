//! Whoever reaches the port, and peers that have lost their mind: they are refused, and nobody else notices.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use wattle_core::limits::{PEER_HELLO_BYTES, PEER_HELLOS};
use wattle_proto::internal as wire;
use wire::link_request::Body as Said;
use wire::link_response::Body as Heard;
use wire::peer_service_client::PeerServiceClient;
use wire::peer_service_server::{PeerService, PeerServiceServer};

use super::harness::{Node, identity, in_time, member, wishes};
use crate::hello::{Side, answer_challenge, hello};
use crate::refusal::encode_grid;
use crate::{LinkError, Purpose, Refusal};

/// A link whose other end says what a test wants.
struct RawLink {
    said: mpsc::Sender<wire::LinkRequest>,
    heard: Streaming<wire::LinkResponse>,
}

impl RawLink {
    async fn begin(address: SocketAddr, first: Said) -> Result<Self, Status> {
        let mut client = PeerServiceClient::connect(format!("http://{address}")).await.unwrap();
        let (said, says) = mpsc::channel(8);
        said.send(wire::LinkRequest { body: Some(first) }).await.unwrap();
        let heard = client.link(ReceiverStream::new(says)).await?.into_inner();
        Ok(Self { said, heard })
    }

    /// As node 1.1, to node 2.1, up to the welcome.
    async fn open(address: SocketAddr, purpose: Purpose) -> Self {
        let (own, to, nonce) = (identity(member(1, 1)), member(2, 1), [9; 32]);
        let first = Said::Hello(hello(&own, to, purpose, &nonce));
        let mut link = Self::begin(address, first).await.unwrap();
        let Heard::Challenge(challenge) = link.hear().await.unwrap() else { panic!("no challenge") };
        let transcript = answer_challenge(&own, (to, purpose), nonce, &challenge).unwrap();
        link.say(Some(Said::Proof(transcript.prove(&own.secret, Side::Dialled)))).await;
        let welcome = link.hear().await.unwrap();
        assert!(matches!(welcome, Heard::Welcome(_)), "{welcome:?}");
        link
    }

    async fn say(&self, body: Option<Said>) {
        self.said.send(wire::LinkRequest { body }).await.unwrap();
    }

    async fn hear(&mut self) -> Result<Heard, Status> {
        let heard = in_time(self.heard.message()).await?;
        Ok(heard.expect("the link is open").body.expect("it says something"))
    }

    async fn refusal(&mut self) -> Refusal {
        match self.hear().await.unwrap() {
            Heard::Refusal(refusal) => Refusal::decode(refusal),
            other => panic!("{other:?}"),
        }
    }
}

/// Node 2.1 and a sound peer, whose link is open.
async fn node_with_peer() -> (Node, Node) {
    let (node, mut sound) = (Node::start(member(2, 1)).await, Node::start(member(3, 1)).await);
    node.peers.set_members([1, 3].map(|node| (member(node, 1), "127.0.0.1:1".to_owned())));
    sound.knows(&[&node]);
    sound.peers.send(node.member, wishes(0..1).remove(0)).unwrap();
    sound.opened(node.member).await;
    (node, sound)
}

/// The sound peer has noticed nothing.
async fn check_still_served(node: &mut Node, sound: &Node) {
    sound.peers.send(node.member, wishes(1..2).remove(0)).unwrap();
    assert_eq!(node.messages(2).await, wishes(0..2));
    assert_eq!((sound.peers.figures().opened, sound.peers.figures().failed), (1, 0));
}

#[tokio::test]
async fn garbage_on_the_port_is_cut_off() {
    let (mut node, sound) = node_with_peer().await;
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 64],
        &[0xff; 64],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage\xff\xff\xff\xff\xff",
    ] {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        // Cut off with a word of HTTP/2 or without: either way it ends.
        drop(in_time(stream.read_to_end(&mut answer)).await);
    }
    check_still_served(&mut node, &sound).await;
}

async fn check_refused_first(first: Said, expected: Refusal) {
    let (mut node, sound) = node_with_peer().await;
    let mut link = RawLink::begin(node.address, first).await.unwrap();
    assert_eq!(link.refusal().await, expected);
    let denied = node.denied().await;
    assert!(matches!(&denied, LinkError::Denied(refusal) if *refusal == expected), "{denied:?}");
    check_still_served(&mut node, &sound).await;
}

fn malformed(problem: &str) -> Refusal {
    Refusal::Malformed { problem: problem.to_owned() }
}

#[tokio::test]
async fn who_does_not_begin_with_a_hello_is_refused() {
    check_refused_first(Said::Batch(wire::Batch::default()), malformed("no hello")).await;
    check_refused_first(Said::Call(wire::Call::default()), malformed("no hello")).await;
    check_refused_first(Said::Proof(wire::Proof::default()), malformed("no hello")).await;
}

#[tokio::test]
async fn who_goes_on_without_a_proof_is_refused() {
    let (mut node, sound) = node_with_peer().await;
    let first = hello(&identity(member(1, 1)), node.member, Purpose::Replication, &[1; 32]);
    let mut link = RawLink::begin(node.address, Said::Hello(first)).await.unwrap();
    link.hear().await.unwrap();
    link.say(Some(Said::Batch(wire::Batch::default()))).await;
    assert_eq!(link.refusal().await, malformed("no proof"));
    check_still_served(&mut node, &sound).await;
}

#[tokio::test]
async fn a_stranger_cannot_say_much() {
    let (mut node, sound) = node_with_peer().await;
    let mut large = hello(&identity(member(1, 1)), node.member, Purpose::Replication, &[1; 32]);
    large.nonce = vec![0; PEER_HELLO_BYTES].into();
    let cut = match RawLink::begin(node.address, Said::Hello(large)).await {
        Ok(mut link) => in_time(link.heard.message()).await,
        Err(status) => Err(status),
    };
    assert!(!matches!(cut, Ok(Some(_))), "{cut:?}");
    let denied = node.event(|event| match event {
        crate::Event::Denied { error } => Some(error),
        _ => None,
    });
    let denied = denied.await;
    let LinkError::Broken(status) = &denied else { panic!("{denied:?}") };
    assert!(format!("{status:?}").contains("who is not known yet"), "{status:?}");
    check_still_served(&mut node, &sound).await;
}

#[tokio::test]
async fn links_that_are_being_opened_are_bounded() {
    let (mut node, sound) = node_with_peer().await;
    let first = || Said::Hello(hello(&identity(member(1, 1)), member(2, 1), Purpose::Calls, &[1; 32]));
    let mut links = Vec::new();
    for _ in 0..PEER_HELLOS {
        let mut link = RawLink::begin(node.address, first()).await.unwrap();
        link.hear().await.unwrap();
        links.push(link);
    }
    let refused = RawLink::begin(node.address, first()).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    drop(links.pop());
    node.event(|event| matches!(event, crate::Event::Denied { .. }).then_some(())).await;
    RawLink::begin(node.address, first()).await.unwrap();
    check_still_served(&mut node, &sound).await;
}

/// Says something in an open link and is sent away.
async fn check_refused_inside(purpose: Purpose, body: Option<Said>, expected: &str) {
    let (mut node, sound) = node_with_peer().await;
    let mut link = RawLink::open(node.address, purpose).await;
    link.say(body).await;
    assert_eq!(link.refusal().await, malformed(expected));
    let denied = node.denied().await;
    assert!(matches!(&denied, LinkError::Denied(Refusal::Malformed { problem }) if problem == expected));
    check_still_served(&mut node, &sound).await;
}

fn batch(message: wire::PartitionMessage) -> Option<Said> {
    let message = wire::PeerMessage { body: Some(wire::peer_message::Body::Partition(message)) };
    Some(Said::Batch(wire::Batch { messages: vec![message] }))
}

#[tokio::test]
async fn a_peer_that_talks_nonsense_is_sent_away() {
    check_refused_inside(Purpose::Replication, batch(wire::PartitionMessage::default()), "epoch is missing")
        .await;
    let chunk = wire::Chunk { content: vec![1, 255].into(), ..Default::default() };
    let chunk = wire::PartitionMessage {
        epoch: Some(wire::Epoch::default()),
        body: Some(wire::partition_message::Body::Chunk(chunk)),
        ..Default::default()
    };
    let expected = "in what a partition has changed: the bytes from 1 on are no change of a partition";
    check_refused_inside(Purpose::Replication, batch(chunk), expected).await;
    check_refused_inside(Purpose::Replication, Some(Said::Call(wire::Call::default())), "no batch").await;
    check_refused_inside(Purpose::Calls, Some(Said::Batch(wire::Batch::default())), "no call").await;
    let unknown = "a request of a kind that is not known here";
    check_refused_inside(Purpose::Replication, None, unknown).await;
}

#[tokio::test]
async fn messages_of_unknown_kinds_are_counted_and_skipped() {
    let (mut node, _sound) = node_with_peer().await;
    let link = RawLink::open(node.address, Purpose::Replication).await;
    let unknown = wire::PeerMessage { body: None };
    let known = crate::codec::encode(wishes(5..6).remove(0));
    link.say(Some(Said::Batch(wire::Batch { messages: vec![unknown, known] }))).await;
    while node.batch().await != (member(1, 1), wishes(5..6)) {}
    assert_eq!(node.peers.figures().skipped, 1);
}

/// Pretends to be node 2.1 without the secret.
struct Impostor;

#[tonic::async_trait]
impl PeerService for Impostor {
    type LinkStream = ReceiverStream<Result<wire::LinkResponse, Status>>;

    async fn link(
        &self,
        _: Request<Streaming<wire::LinkRequest>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (say, says) = mpsc::channel(2);
        let challenge = wire::Challenge {
            versions: Some(wire::Versions { oldest: 1, newest: 1 }),
            grid: Some(encode_grid(&identity(member(2, 1)).grid)),
            member: Some(wire::Member { node: 2, incarnation: 1 }),
            nonce: vec![4; 32].into(),
        };
        let welcome = wire::Proof { mac: vec![0; 32].into() };
        for body in [Heard::Challenge(challenge), Heard::Welcome(welcome)] {
            say.try_send(Ok(wire::LinkResponse { body: Some(body) })).unwrap();
        }
        Ok(Response::new(ReceiverStream::new(says)))
    }
}

#[tokio::test]
async fn who_answers_without_the_secret_hears_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = Server::builder().add_service(PeerServiceServer::new(Impostor));
    let server = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let mut node = Node::start(member(1, 1)).await;
    node.peers.set_members([(member(2, 1), address)]);
    node.peers.send(member(2, 1), wishes(0..1).remove(0)).unwrap();
    let failed = node.failed().await;
    let expected = Refusal::OtherSecret { asked: member(2, 1), here: member(1, 1) };
    assert!(matches!(&failed, LinkError::Denied(refusal) if *refusal == expected), "{failed:?}");
    assert_eq!(node.peers.figures().sent_messages, 0);
    server.abort();
}

#[tokio::test]
async fn who_accepts_and_says_nothing_is_not_waited_for_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut node = Node::start(member(1, 1)).await;
    node.peers.set_members([(member(2, 1), address.clone())]);
    node.peers.send(member(2, 1), wishes(0..1).remove(0)).unwrap();
    let failed = node.failed().await;
    assert!(matches!(&failed, LinkError::Timeout { .. } | LinkError::Broken(_)), "{failed:?}");
    drop(listener);
}
