//! The way in for who is no member: it is answered if it has the secret, and may do nothing else.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use wattle_core::ids::NodeId;
use wattle_core::limits::{STRANGER_BYTES, STRANGERS};
use wattle_proto::internal as wire;
use wire::link_request::Body as Said;
use wire::link_response::Body as Heard;

use super::codec::hex;
use super::harness::{GRID, Node, PROCESS, Wire, identified, identity, in_time, member, tests_grid, wishes};
use super::hostile::RawLink;
use crate::directory::Directory;
use crate::hello::{Side, answer_hello, answer_strange_challenge, hello, stranger_hello};
use crate::{
    Admission, Ask, AskError, CallError, CallRefusal, Grid, Identity, LinkError, Purpose, Refusal, Secret,
    SendError, Situation, Standing, Versions,
};

const ASK: Ask = Ask { process: 7, founds: false };

fn fresh(name: &str) -> Standing {
    Standing::Fresh { name: name.to_owned() }
}

fn returning(node: u64) -> Standing {
    Standing::Returning { grid: tests_grid(), node: NodeId(node) }
}

fn named(id: u128, name: &str) -> Grid {
    Grid { id, name: name.to_owned() }
}

fn situation(promised: Option<u128>) -> Situation {
    let voters = vec![(member(9, 4), "127.0.0.1:9".to_owned())];
    Situation { process: PROCESS, promised, leader: Some(NodeId(9)), voters, generation: None }
}

/// Asks a node how things are.
async fn ask(from: &Node, to: &Node, ask: Ask) -> Result<(Standing, Situation), AskError> {
    in_time(from.peers.ask(&to.address.to_string(), ask)).await
}

#[tokio::test]
async fn a_stranger_with_the_secret_is_told_who_is_there_and_how_things_are() {
    let stranger = Node::start_standing(fresh("tests")).await;
    let member = Standing::Member { grid: tests_grid(), member: member(2, 3) };
    for standing in [member, returning(2), fresh("tests"), fresh("")] {
        let node = Node::start_standing(standing.clone()).await;
        assert_eq!(ask(&stranger, &node, ASK).await.unwrap(), (standing, situation(None)));
        assert_eq!((node.peers.figures().strangers, node.peers.figures().admitted), (1, 0));
    }
}

#[tokio::test]
async fn whoever_founds_asks_for_a_promise() {
    let (one, other) = (Node::start_standing(fresh("")).await, Node::start_standing(fresh("")).await);
    let founds = Ask { process: 7, founds: true };
    assert_eq!(ask(&one, &other, founds).await.unwrap(), (fresh(""), situation(Some(7))));
    assert_eq!(ask(&other, &other, ASK).await.unwrap().1.process, PROCESS, "a node may ask itself");
}

/// Whoever this is asks node 2.1, and both say the same about it.
async fn check_refused(own: Identity, expected: Refusal) {
    let (stranger, mut node) = (Node::start_as(own).await, Node::start(member(2, 1)).await);
    let there = ask(&stranger, &node, ASK).await;
    assert!(
        matches!(&there, Err(AskError::Link(LinkError::Refused(refusal))) if *refusal == expected),
        "{there:?}"
    );
    let here = node.denied().await;
    assert!(matches!(&here, LinkError::Denied(refusal) if *refusal == expected), "{here:?}");
    assert_eq!(node.peers.figures().strangers, 0);
}

#[tokio::test]
async fn a_stranger_with_another_secret_or_none_is_refused() {
    let expected = Refusal::OtherSecret { asked: member(0, 0), here: member(2, 1) };
    assert_eq!(expected.to_string(), "a node without a grid and node 2.1 have different secrets");
    for secret in [Secret::new(b"another secret of tests").unwrap(), Secret::none()] {
        check_refused(Identity { standing: fresh("tests"), secret }, expected.clone()).await;
    }
}

#[tokio::test]
async fn a_stranger_that_looks_for_another_grid_is_refused() {
    let refusal = |asked| Refusal::OtherGrid { asked, here: tests_grid() };
    check_refused(identified(fresh("other")), refusal(named(0, "other"))).await;
    let grid = named(7, "tests");
    check_refused(identified(Standing::Returning { grid: grid.clone(), node: NodeId(1) }), refusal(grid))
        .await;
    let text = refusal(named(0, "other")).to_string();
    assert_eq!(text, format!(r#"this is grid "tests" ({GRID:032x}), not "other" (not created yet)"#));
}

#[tokio::test]
async fn fresh_nodes_that_look_for_different_grids_refuse_each_other() {
    let (one, other) = (Node::start_standing(fresh("a")).await, Node::start_standing(fresh("b")).await);
    let refused = ask(&one, &other, ASK).await;
    let expected = Refusal::OtherGrid { asked: named(0, "a"), here: named(0, "b") };
    assert!(
        matches!(&refused, Err(AskError::Link(LinkError::Refused(refusal))) if *refusal == expected),
        "{refused:?}"
    );
}

/// A stranger whose link is open and who says what a test wants.
async fn open(node: &Node) -> RawLink {
    let (own, nonce) = (identified(fresh("tests")), [9; 32]);
    let mut link = RawLink::begin(node.address, Said::Hello(stranger_hello(&own, &nonce))).await.unwrap();
    let Heard::Challenge(challenge) = link.hear().await.unwrap() else { panic!("no challenge") };
    let (transcript, standing) = answer_strange_challenge(&own, nonce, &challenge).unwrap();
    assert_eq!(standing, Standing::Member { grid: tests_grid(), member: node.member });
    link.say(Some(Said::Proof(transcript.prove(&own.secret, Side::Dialled)))).await;
    let Heard::Welcome(proof) = link.hear().await.unwrap() else { panic!("no welcome") };
    assert!(transcript.is_proved(&own.secret, Side::Answered, &proof));
    link
}

fn call(body: wire::call::Body) -> Option<Said> {
    Some(Said::Call(wire::Call { id: 7, body: Some(body) }))
}

#[tokio::test]
async fn a_stranger_can_do_nothing_else() {
    use wire::call::Body;
    let (mut node, link_is_for) = (Node::start(member(2, 1)).await, "a call that the link is not for");
    let batch = crate::codec::encode(wishes(0..1).remove(0));
    for (said, expected) in [
        (Some(Said::Batch(wire::Batch { messages: vec![batch] })), "no call"),
        (call(Body::Control(Bytes::new())), link_is_for),
        (call(Body::Propose(Bytes::new())), link_is_for),
        (
            call(Body::Heartbeat(wire::Heartbeat {
                position: Some(wire::ControlPosition::default()),
                time: None,
            })),
            link_is_for,
        ),
        (call(Body::AskHeartbeat(wire::AskHeartbeat {})), link_is_for),
        (call(Body::AskPosition(wire::AskPosition {})), link_is_for),
        (None, "a request of a kind that is not known here"),
    ] {
        let mut link = open(&node).await;
        link.say(said).await;
        let expected = Refusal::Malformed { problem: expected.to_owned() };
        assert_eq!(link.refusal().await, expected);
        let denied = node.denied().await;
        assert!(matches!(&denied, LinkError::Denied(refusal) if *refusal == expected), "{denied:?}");
    }
    let figures = node.peers.figures();
    assert_eq!((figures.strangers, figures.answers, figures.received_batches), (0, 0, 0));
}

#[tokio::test]
async fn a_stranger_asks_once_on_a_link() {
    let node = Node::start(member(2, 1)).await;
    let mut link = open(&node).await;
    let join = || call(wire::call::Body::Join(Bytes::from_static(b"5")));
    link.say(join()).await;
    let answer = link.hear().await.unwrap();
    assert!(matches!(&answer, Heard::Answer(wire::Answer { id: 7, .. })), "{answer:?}");
    // Nobody may listen any more.
    drop(link.said.send(wire::LinkRequest { body: join() }).await);
    assert!(matches!(in_time(link.heard.message()).await, Ok(None) | Err(_)));
    assert_eq!(node.peers.figures().strangers, 1);
}

#[tokio::test]
async fn a_stranger_that_joins_is_told_who_it_is_and_who_the_others_are() {
    let (stranger, node) = (Node::start_standing(fresh("")).await, Node::start(member(2, 1)).await);
    let address = node.address.to_string();
    let join = |proposal| in_time(stranger.peers.join(&address, Bytes::from_static(proposal)));
    let standing = Standing::Member { grid: tests_grid(), member: node.member };
    let members = vec![(member(9, 4), "127.0.0.1:9".to_owned())];
    let admitted = Admission::Admitted { member: member(5, 1), members };
    assert_eq!(join(b"5").await.unwrap(), (standing.clone(), admitted));
    assert_eq!(join(b"no").await.unwrap(), (standing, Admission::Refused(Bytes::from_static(b"no"))));
    let refused = join(b"").await;
    let expected = CallRefusal::NotLeader { leader: None };
    assert!(matches!(&refused, Err(AskError::Refused(refusal)) if *refusal == expected), "{refused:?}");
}

#[tokio::test]
async fn a_stranger_that_becomes_a_member_links_as_one() {
    let (mut joiner, mut node) = (Node::start_standing(fresh("")).await, Node::start(member(2, 1)).await);
    joiner.knows(&[&node]);
    let message = || wishes(0..1).remove(0);
    assert_eq!(joiner.peers.send(node.member, message()), Err(SendError::NotYet));
    let refused = joiner.peers.control(node.member.node, Bytes::new()).await;
    assert_eq!(refused, Err(CallError::NotSent(SendError::NotYet)));
    // Others may hear sooner than itself that it is one.
    node.peers.set_members([(member(5, 1), joiner.address.to_string())]);
    node.peers.send(member(5, 1), message()).unwrap();
    let failed = node.failed().await;
    assert!(matches!(&failed, LinkError::Refused(Refusal::NotYet)), "{failed:?}");

    let joined = in_time(joiner.peers.join(&node.address.to_string(), Bytes::from_static(b"5"))).await;
    let (Standing::Member { grid, .. }, Admission::Admitted { member, .. }) = joined.unwrap() else {
        panic!("it is admitted by a member")
    };
    joiner.peers.set_standing(Standing::Member { grid, member });
    joiner.peers.send(node.member, message()).unwrap();
    assert_eq!(node.batch().await, (member, wishes(0..1)));
    assert_eq!(node.opened(member).await, Purpose::Replication);
    node.peers.send(member, message()).unwrap();
    assert_eq!(joiner.batch().await, (node.member, wishes(0..1)));
}

#[tokio::test]
async fn nodes_vote_before_they_know_which_of_their_lives_it_is() {
    let nodes = [Node::start_standing(returning(1)).await, Node::start_standing(returning(2)).await];
    let addresses = || nodes.iter().zip(1..).map(|(node, id)| (member(id, 5), node.address.to_string()));
    nodes.iter().for_each(|node| node.peers.set_members(addresses()));
    let [one, other] = &nodes;
    let said = |text| Bytes::from_static(text);
    assert_eq!(in_time(one.peers.control(NodeId(2), said(b"abc"))).await.as_deref(), Ok(&b"cba"[..]));
    assert_eq!(one.peers.send(member(2, 5), wishes(0..1).remove(0)), Err(SendError::NotYet));
    let proposed = in_time(one.peers.propose(member(2, 5), said(b"x"))).await;
    assert_eq!(proposed, Err(CallError::NotSent(SendError::NotYet)));
    // The link outlasts that they become members, in another life than was known.
    for (node, id) in nodes.iter().zip(1..) {
        node.peers.set_standing(Standing::Member { grid: tests_grid(), member: member(id, 6) });
        node.peers.set_members(addresses().map(|(member, address)| (member.reborn(), address)));
    }
    assert_eq!(in_time(one.peers.control(NodeId(2), said(b"def"))).await.as_deref(), Ok(&b"fed"[..]));
    assert_eq!((one.peers.figures().opened, other.peers.figures().admitted), (1, 1));
    // Who is no node of the grid any more is sent away.
    other.peers.set_members([]);
    let mut gone = nodes.into_iter().next().unwrap();
    let closed = gone.closed().await;
    let expected = Refusal::UnknownMember { asked: member(1, 0), incarnation: None };
    assert!(matches!(&closed, LinkError::Refused(refusal) if *refusal == expected), "{closed:?}");
}

#[tokio::test]
async fn strangers_are_answered_a_few_at_a_time() {
    let (stranger, node) = (Node::start_standing(fresh("")).await, Node::start(member(2, 1)).await);
    let mut waiting = Vec::new();
    for _ in 0..STRANGERS {
        let link = open(&node).await;
        link.say(call(wire::call::Body::Join(Bytes::from_static(b"hang")))).await;
        waiting.push(link);
    }
    until_asked(&node, STRANGERS as u64).await;
    let busy = ask(&stranger, &node, ASK).await;
    assert!(matches!(&busy, Err(AskError::Link(LinkError::Refused(Refusal::Busy)))), "{busy:?}");
    // Members have places of their own.
    let peer = Node::start(member(3, 1)).await;
    peer.knows(&[&node]);
    node.knows(&[&peer]);
    assert_eq!(
        in_time(peer.peers.propose(node.member, Bytes::from_static(b"x"))).await.as_deref(),
        Ok(&b"x"[..])
    );
    // An answer that takes too long is given up, and its place is free again.
    let heard = waiting.remove(0).hear().await.unwrap();
    let late = wire::CallRefusal { reason: Some(wire::call_refusal::Reason::Late(wire::Late {})) };
    let late = wire::Answer { id: 7, body: Some(wire::answer::Body::Refused(late)) };
    assert_eq!(heard, Heard::Answer(late));
    let answered = async { while ask(&stranger, &node, ASK).await.is_err() {} };
    in_time(answered).await;
}

#[tokio::test]
async fn a_stranger_says_no_more_than_it_takes_to_join() {
    let (stranger, mut node) = (Node::start_standing(fresh("")).await, Node::start(member(2, 1)).await);
    let address = node.address.to_string();
    let most = STRANGER_BYTES - 64;
    let longest = in_time(stranger.peers.join(&address, vec![b'x'; most].into())).await;
    assert!(matches!(&longest, Ok((_, Admission::Refused(said))) if said.len() == most));
    let bytes = most + 1;
    let refused = in_time(stranger.peers.join(&address, vec![b'x'; bytes].into())).await;
    assert!(matches!(refused, Err(AskError::TooLarge { bytes: found }) if found == bytes));
    let link = open(&node).await;
    link.say(call(wire::call::Body::Join(vec![0; STRANGER_BYTES + 4096].into()))).await;
    let cut = node.event(|event| match event {
        crate::Event::Denied { error } => Some(error),
        _ => None,
    });
    let cut = cut.await;
    let LinkError::Broken(status) = &cut else { panic!("{cut:?}") };
    assert!(format!("{status:?}").contains("who is not known yet"), "{status:?}");
    assert_eq!(node.peers.figures().strangers, 1);
}

#[tokio::test]
async fn a_stranger_that_asks_nothing_is_not_waited_for_long() {
    let mut node = Node::start(member(2, 1)).await;
    let mut link = open(&node).await;
    let expected = Refusal::Malformed { problem: "nothing for too long".to_owned() };
    assert_eq!(link.refusal().await, expected);
    let denied = node.denied().await;
    assert!(matches!(&denied, LinkError::Denied(refusal) if *refusal == expected), "{denied:?}");
}

/// What becomes of a question to an address where nothing sound is.
async fn asked_at(address: &str) -> LinkError {
    let stranger = Node::start_standing(fresh("")).await;
    match in_time(stranger.peers.ask(address, ASK)).await {
        Err(AskError::Link(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_address_where_nothing_sound_is_ends_in_an_error_in_time() {
    let error = asked_at("nowhere").await;
    assert!(matches!(&error, LinkError::Address { address } if address == "nowhere"), "{error:?}");
    let error = asked_at("127.0.0.1:1").await;
    assert!(error.is_nobody_there(), "{error:?}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (silent, accepted) = tokio::join!(asked_at(&address), listener.accept());
    assert!(matches!(&silent, LinkError::Timeout { .. } | LinkError::Broken(_)), "{silent:?}");
    drop(accepted);
    let dying = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
    };
    let (dead, ()) = tokio::join!(asked_at(&address), dying);
    assert!(matches!(&dead, LinkError::Connect { .. } | LinkError::Broken(_)), "{dead:?}");
}

/// Somebody is asked what it does not answer.
fn hang(stranger: &Arc<Node>, address: String) -> JoinHandle<Result<(Standing, Admission), AskError>> {
    let stranger = Arc::clone(stranger);
    tokio::spawn(async move { in_time(stranger.peers.join(&address, Bytes::from_static(b"hang"))).await })
}

async fn until_asked(node: &Node, times: u64) {
    let asked = async {
        while node.peers.figures().strangers < times {
            tokio::task::yield_now().await;
        }
    };
    in_time(asked).await;
}

#[tokio::test]
async fn a_question_ends_when_either_node_stops_or_the_wire_is_cut() {
    let stranger = Arc::new(Node::start_standing(fresh("")).await);
    let node = Node::start(member(2, 1)).await;
    let wire = Wire::lay(node.address).await;
    let cut = hang(&stranger, wire.address.to_string());
    until_asked(&node, 1).await;
    wire.turn(None);
    let cut = cut.await.unwrap();
    assert!(matches!(&cut, Err(AskError::Link(LinkError::Broken(_) | LinkError::Ended))), "{cut:?}");
    let stopped = hang(&stranger, node.address.to_string());
    until_asked(&node, 2).await;
    in_time(node.peers.stop()).await;
    let stopped = stopped.await.unwrap();
    assert!(matches!(&stopped, Err(AskError::Link(LinkError::Refused(Refusal::Stopping)))), "{stopped:?}");
    let node = Node::start(member(2, 1)).await;
    let own = hang(&stranger, node.address.to_string());
    until_asked(&node, 1).await;
    in_time(stranger.peers.stop()).await;
    let own = own.await.unwrap();
    assert!(matches!(&own, Err(AskError::Link(LinkError::Denied(Refusal::Stopping)))), "{own:?}");
}

/// Reads a changed challenge.
fn check_challenge(change: impl FnOnce(&mut wire::Challenge), expected: &Refusal) {
    let (own, there) = (identified(fresh("tests")), identity(member(2, 1)));
    let hello = stranger_hello(&own, &[5; 32]);
    let (_, mut challenge) = answer_hello(&there, &Directory::default(), &hello, [6; 32]).unwrap();
    change(&mut challenge);
    assert_eq!(answer_strange_challenge(&own, [5; 32], &challenge).unwrap_err(), *expected);
}

#[test]
fn who_answers_a_stranger_says_who_it_is_or_that_it_is_in_no_grid() {
    let malformed = |problem: &str| Refusal::Malformed { problem: problem.to_owned() };
    let newer = Some(wire::Versions { oldest: 2, newest: 2 });
    let expected = Refusal::NoCommonVersion {
        asked: Versions { oldest: 2, newest: 2 },
        here: Versions { oldest: 1, newest: 1 },
    };
    check_challenge(|challenge| challenge.versions = newer, &expected);
    check_challenge(|challenge| challenge.grid = None, &malformed("grid is missing"));
    check_challenge(|challenge| challenge.grid.as_mut().unwrap().id.clear(), &malformed("grid is missing"));
    check_challenge(
        |challenge| challenge.grid.as_mut().unwrap().id.truncate(9),
        &malformed("grid is missing"),
    );
    check_challenge(|challenge| challenge.member = None, &malformed("member is missing"));
    check_challenge(|challenge| challenge.nonce.truncate(31), &malformed("nonce is missing"));
    let name = |challenge: &mut wire::Challenge| challenge.grid.as_mut().unwrap().name = "x".to_owned();
    let expected = Refusal::OtherGrid { asked: named(GRID, "x"), here: named(0, "tests") };
    check_challenge(name, &expected);
}

/// Made by another program from what `hello.rs` says: hello, challenge and both proofs of a stranger that meets a member and one that
/// is in no grid, and of a node that meets another for the control group.
const GOLDEN: [[&str; 4]; 3] = [
    [
        "0a330a0408011001120712057465737473280532200505050505050505050505050505050505050505050505050505050505050505",
        concat!(
            "0a490a040801100112190a1000000000000000000000000000001001120574657374731a040802100122200606060606",
            "060606060606060606060606060606060606060606060606060606",
        ),
        "7cae3ec5deada201da7b78bb8f949829e905997eb4b49d4d2f0bdf6732fb6cf3",
        "550d96f68310e635f4563da1e35b22d7acb4d5391b74922d94ec97308d8a9508",
    ],
    [
        "0a330a0408011001120712057465737473280532200505050505050505050505050505050505050505050505050505050505050505",
        "0a310a040801100112071205746573747322200606060606060606060606060606060606060606060606060606060606060606",
        "9865bcc4a345f9e9ff8cb11f29e37d2068888d65598f44dd627a08a9cbbc944b",
        "266884301306b52f15a64ba0e363d057b7d081af9303c1591de945e4ed8c5e32",
    ],
    [
        concat!(
            "0a4d0a040801100112190a1000000000000000000000000000001001120574657374731a02080122020802280432200505",
            "050505050505050505050505050505050505050505050505050505050505",
        ),
        concat!(
            "0a470a040801100112190a1000000000000000000000000000001001120574657374731a02080222200606060606060606",
            "060606060606060606060606060606060606060606060606",
        ),
        "ee239077a8484adb149a6823042bf1a5238aed3dbe36b72d3836e05bcd23a9fd",
        "a7d204287a709cd6ffee6c3541e6660e5efa14d5144cdf2f69fe62c5726a0c1e",
    ],
];

#[test]
fn handshakes_of_strangers_and_voters_are_the_same_as_ever() {
    let stranger = stranger_hello(&identified(fresh("tests")), &[5; 32]);
    let vote = hello(&identity(member(1, 1)), member(2, 0), Purpose::Control, &[5; 32]).unwrap();
    let there = identified(Standing::Member { grid: tests_grid(), member: member(2, 1) });
    let cases = [(&stranger, there.clone()), (&stranger, identified(fresh("tests"))), (&vote, there)];
    for ((said, there), golden) in cases.into_iter().zip(GOLDEN) {
        let members = Directory::new([(member(1, 1), String::new())]);
        let (transcript, challenge) = answer_hello(&there, &members, said, [6; 32]).unwrap();
        let said = wire::LinkRequest { body: Some(Said::Hello(said.clone())) }.encode_to_vec();
        let heard = wire::LinkResponse { body: Some(Heard::Challenge(challenge)) }.encode_to_vec();
        let proofs = [Side::Dialled, Side::Answered].map(|side| transcript.prove(&there.secret, side).mac);
        assert_eq!([hex(&said), hex(&heard), hex(&proofs[0]), hex(&proofs[1])], golden);
    }
}
