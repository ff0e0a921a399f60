//! Whoever reaches the port, and peers that have lost their mind: they are refused, and nobody else notices.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use wattle_core::limits::{PEER_CALL_BYTES, PEER_CALLS, PEER_HELLO_BYTES, PEER_HELLOS};
use wattle_proto::internal as wire;
use wire::link_request::Body as Said;
use wire::link_response::Body as Heard;
use wire::peer_service_client::PeerServiceClient;
use wire::peer_service_server::{PeerService, PeerServiceServer};

use super::harness::{Node, identified, identity, in_time, member, tests_grid, wishes};
use crate::codec::encode_member;
use crate::directory::Directory;
use crate::hello::{Side, answer_challenge, answer_hello, hello};
use crate::refusal::encode_grid;
use crate::{CallError, CallRefusal, Grid, Identity, LinkError, Purpose, Refusal, Standing};

/// A link whose other end says what a test wants.
pub(super) struct RawLink {
    pub(super) said: mpsc::Sender<wire::LinkRequest>,
    pub(super) heard: Streaming<wire::LinkResponse>,
}

impl RawLink {
    pub(super) async fn begin(address: SocketAddr, first: Said) -> Result<Self, Status> {
        let mut client = PeerServiceClient::connect(format!("http://{address}")).await.unwrap();
        let (said, says) = mpsc::channel(8);
        said.send(wire::LinkRequest { body: Some(first) }).await.unwrap();
        let heard = client.link(ReceiverStream::new(says)).await?.into_inner();
        Ok(Self { said, heard })
    }

    /// As node 1.1, to node 2.1, up to the welcome.
    async fn open(address: SocketAddr, purpose: Purpose) -> Self {
        let (own, to, nonce) = (identity(member(1, 1)), member(2, 1), [9; 32]);
        let first = Said::Hello(hello(&own, to, purpose, &nonce).unwrap());
        let mut link = Self::begin(address, first).await.unwrap();
        let Heard::Challenge(challenge) = link.hear().await.unwrap() else { panic!("no challenge") };
        let transcript = answer_challenge(&own, (to, purpose), nonce, &challenge).unwrap();
        link.say(Some(Said::Proof(transcript.prove(&own.secret, Side::Dialled)))).await;
        let welcome = link.hear().await.unwrap();
        assert!(matches!(welcome, Heard::Welcome(_)), "{welcome:?}");
        link
    }

    pub(super) async fn say(&self, body: Option<Said>) {
        self.said.send(wire::LinkRequest { body }).await.unwrap();
    }

    pub(super) async fn hear(&mut self) -> Result<Heard, Status> {
        let heard = in_time(self.heard.message()).await?;
        Ok(heard.expect("the link is open").body.expect("it says something"))
    }

    pub(super) async fn refusal(&mut self) -> Refusal {
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
    let first = hello(&identity(member(1, 1)), node.member, Purpose::Replication, &[1; 32]).unwrap();
    let mut link = RawLink::begin(node.address, Said::Hello(first)).await.unwrap();
    link.hear().await.unwrap();
    link.say(Some(Said::Batch(wire::Batch::default()))).await;
    assert_eq!(link.refusal().await, malformed("no proof"));
    check_still_served(&mut node, &sound).await;
}

#[tokio::test]
async fn a_stranger_cannot_say_much() {
    let (mut node, sound) = node_with_peer().await;
    let mut large = hello(&identity(member(1, 1)), node.member, Purpose::Replication, &[1; 32]).unwrap();
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
async fn strangers_that_go_no_further_keep_nobody_out() {
    let (mut node, mut sound) = node_with_peer().await;
    let first =
        || Said::Hello(hello(&identity(member(1, 1)), member(2, 1), Purpose::Calls, &[1; 32]).unwrap());
    let mut links = Vec::new();
    for _ in 0..PEER_HELLOS {
        let mut link = RawLink::begin(node.address, first()).await.unwrap();
        let challenge = link.hear().await.unwrap();
        assert!(matches!(challenge, Heard::Challenge(_)), "{challenge:?}");
        links.push(link);
    }
    assert_eq!(node.peers.figures().denied, 0);
    drop(sound.peers.propose(node.member, Bytes::from_static(b"x")).await.unwrap());
    assert_eq!(sound.opened(node.member).await, Purpose::Calls);
    assert_eq!(links[0].refusal().await, Refusal::Busy);
    let denied = node.denied().await;
    assert!(matches!(&denied, LinkError::Denied(Refusal::Busy)), "{denied:?}");
    assert_eq!(node.peers.figures().denied, 1, "the place was taken from one alone");
}

#[tokio::test]
async fn who_says_nothing_more_is_not_waited_for_long() {
    let (mut node, sound) = node_with_peer().await;
    let first = hello(&identity(member(1, 1)), node.member, Purpose::Replication, &[1; 32]).unwrap();
    let mut link = RawLink::begin(node.address, Said::Hello(first)).await.unwrap();
    link.hear().await.unwrap();
    assert_eq!(link.refusal().await, malformed("nothing for too long"));
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

fn call(body: Option<wire::call::Body>) -> Option<Said> {
    Some(Said::Call(wire::Call { id: 7, body }))
}

#[tokio::test]
async fn calls_of_unknown_kinds_are_refused_and_nothing_else() {
    let (node, _sound) = node_with_peer().await;
    let mut link = RawLink::open(node.address, Purpose::Calls).await;
    link.say(call(None)).await;
    link.say(call(Some(wire::call::Body::Propose(Bytes::from_static(b"abc"))))).await;
    let refusal =
        wire::CallRefusal { reason: Some(wire::call_refusal::Reason::Unknown(wire::UnknownCall {})) };
    for body in
        [wire::answer::Body::Refused(refusal), wire::answer::Body::Propose(Bytes::from_static(b"abc"))]
    {
        let expected = Heard::Answer(wire::Answer { id: 7, body: Some(body) });
        assert_eq!(link.hear().await.unwrap(), expected);
    }
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
    let request = wire::call::Body::Propose(vec![0; PEER_CALL_BYTES + 1].into());
    let expected = format!("bytes of a call is {}: too large", PEER_CALL_BYTES + 1);
    check_refused_inside(Purpose::Calls, call(Some(request)), &expected).await;
    let silent = wire::call::Body::Heartbeat(wire::Heartbeat::default());
    check_refused_inside(Purpose::Calls, call(Some(silent)), "position is missing").await;
    let other = "a call that the link is not for";
    let vote = || call(Some(wire::call::Body::Control(Bytes::new())));
    check_refused_inside(Purpose::Calls, vote(), other).await;
    check_refused_inside(Purpose::Heartbeats, vote(), other).await;
    let join = call(Some(wire::call::Body::Join(Bytes::new())));
    check_refused_inside(Purpose::Calls, join, other).await;
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

#[tokio::test]
async fn who_does_not_take_its_answers_is_not_heard_any_more() {
    let (node, _sound) = node_with_peer().await;
    let mut link = RawLink::open(node.address, Purpose::Calls).await;
    let mut sent = 0;
    loop {
        let call = call(Some(wire::call::Body::Propose(vec![1; 512 * 1024].into())));
        let call = wire::LinkRequest { body: call };
        // That nothing moves any more is seen by its not moving for long.
        let moves = timeout(Duration::from_millis(500), link.said.send(call)).await;
        let Ok(moves) = moves else { break };
        moves.unwrap();
        sent += 1;
    }
    let answers = node.peers.figures().answers;
    // The windows of HTTP/2 hold some.
    assert!(answers <= PEER_CALLS as u64 + 16, "{answers}");
    for _ in 0..sent {
        let answer = link.hear().await.unwrap();
        assert!(matches!(answer, Heard::Answer(_)), "{answer:?}");
    }
}

/// Node 2.1, or who pretends to be, says these things to whoever dials.
struct Scripted {
    /// Knows the secret, and opens the link first.
    opens: bool,
    says: Vec<Heard>,
}

impl Scripted {
    async fn open(
        request: &mut Streaming<wire::LinkRequest>,
        say: &mpsc::Sender<Result<wire::LinkResponse, Status>>,
    ) {
        let own = identity(member(2, 1));
        let Some(Said::Hello(hello)) = request.message().await.unwrap().unwrap().body else {
            panic!("no hello")
        };
        let members = Directory::new([(member(1, 1), String::new())]);
        let (transcript, challenge) = answer_hello(&own, &members, &hello, [4; 32]).unwrap();
        say.send(Ok(wire::LinkResponse { body: Some(Heard::Challenge(challenge)) })).await.unwrap();
        request.message().await.unwrap();
        let welcome = Heard::Welcome(transcript.prove(&own.secret, Side::Answered));
        say.send(Ok(wire::LinkResponse { body: Some(welcome) })).await.unwrap();
    }
}

#[tonic::async_trait]
impl PeerService for Scripted {
    type LinkStream = ReceiverStream<Result<wire::LinkResponse, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<wire::LinkRequest>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (say, answer) = mpsc::channel(8);
        let (opens, says, mut request) = (self.opens, self.says.clone(), request.into_inner());
        tokio::spawn(async move {
            if opens {
                Self::open(&mut request, &say).await;
            }
            for body in says {
                say.send(Ok(wire::LinkResponse { body: Some(body) })).await.unwrap();
            }
            // Open until the other has gone.
            while let Ok(Some(_)) = request.message().await {}
        });
        Ok(Response::new(ReceiverStream::new(answer)))
    }
}

impl Scripted {
    /// Starts node 2.1 so, and node 1.1, which knows it.
    async fn meet(self) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server::builder().add_service(PeerServiceServer::new(self));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let node = Node::start(member(1, 1)).await;
        node.peers.set_members([(member(2, 1), address)]);
        node
    }
}

/// Node 1.1 proposes something to node 2.1, which answers this.
async fn check_answered(body: Option<wire::answer::Body>, expected: CallError) -> Node {
    let says = vec![Heard::Answer(wire::Answer { id: 0, body })];
    let node = Scripted { opens: true, says }.meet().await;
    let answer = in_time(node.peers.propose(member(2, 1), Bytes::new())).await;
    assert_eq!(answer, Err(expected));
    node
}

#[tokio::test]
async fn answers_that_make_no_sense_are_none() {
    use wire::answer::Body;
    check_answered(Some(Body::Control(Bytes::new())), CallError::OtherKind).await;
    let refusal = Body::Refused(wire::CallRefusal { reason: None });
    check_answered(Some(refusal), CallError::Refused(CallRefusal::Unrecognised)).await;
    let mut node = check_answered(None, CallError::Broken).await;
    let closed = node.closed().await;
    let expected = malformed("answer is missing");
    assert!(matches!(&closed, LinkError::Denied(refusal) if *refusal == expected), "{closed:?}");
}

/// Node 1.1 sends something to node 2.1, which says this; the error of the link.
async fn check_dialled(scripted: Scripted, expected: Refusal) {
    let opens = scripted.opens;
    let mut node = scripted.meet().await;
    node.peers.send(member(2, 1), wishes(0..1).remove(0)).unwrap();
    let error = if opens { node.closed().await } else { node.failed().await };
    assert!(matches!(&error, LinkError::Denied(refusal) if *refusal == expected), "{error:?}");
    if !opens {
        assert_eq!(node.peers.figures().sent_messages, 0);
    }
}

fn challenge(own: &Identity) -> Heard {
    Heard::Challenge(wire::Challenge {
        versions: Some(wire::Versions { oldest: 1, newest: 1 }),
        grid: own.standing.grid().map(encode_grid),
        member: Some(encode_member(own.standing.known_as())),
        nonce: vec![4; 32].into(),
    })
}

#[tokio::test]
async fn who_answers_without_the_secret_hears_nothing() {
    let welcome = Heard::Welcome(wire::Proof { mac: vec![0; 32].into() });
    let says = vec![challenge(&identity(member(2, 1))), welcome];
    let expected = Refusal::OtherSecret { asked: member(2, 1), here: member(1, 1) };
    check_dialled(Scripted { opens: false, says }, expected).await;
}

#[tokio::test]
async fn who_answers_as_somebody_else_hears_nothing() {
    let says = vec![challenge(&identity(member(2, 2)))];
    let expected = Refusal::OtherMember { asked: member(2, 1), here: member(2, 2) };
    check_dialled(Scripted { opens: false, says }, expected).await;
    let grid = Grid { id: 7, ..tests_grid() };
    let other = identified(Standing::Member { grid: grid.clone(), member: member(2, 1) });
    let expected = Refusal::OtherGrid { asked: grid, here: tests_grid() };
    check_dialled(Scripted { opens: false, says: vec![challenge(&other)] }, expected).await;
}

#[tokio::test]
async fn answers_that_are_out_of_place_end_a_link() {
    let challenge = || challenge(&identity(member(2, 1)));
    let (welcome, answer) = (Heard::Welcome(wire::Proof::default()), Heard::Answer(wire::Answer::default()));
    let out_of_place = || malformed("an answer that is out of place");
    for says in [vec![welcome.clone()], vec![answer.clone()], vec![challenge(), answer.clone()]] {
        check_dialled(Scripted { opens: false, says }, out_of_place()).await;
    }
    for says in [vec![welcome], vec![challenge()]] {
        check_dialled(Scripted { opens: true, says }, out_of_place()).await;
    }
    check_dialled(Scripted { opens: true, says: vec![answer] }, malformed("an answer to no call")).await;
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
