//! Who is let in, and who is told why not.

use std::collections::BTreeSet;

use prost::Message as _;
use wattle_core::ids::MemberId;
use wattle_core::limits::NAME_BYTES;
use wattle_proto::internal as wire;
use wire::link_request::Body as Said;
use wire::link_response::Body as Heard;

use super::codec::hex;
use super::harness::{GRID, Node, identified, identity, member, wishes};
use crate::directory::Directory;
use crate::hello::{SPOKEN, Side, Transcript, answer_challenge, answer_hello, hello};
use crate::{Grid, Identity, LinkError, Purpose, Refusal, Secret, Standing, Versions};

/// Whoever this is dials node 2, which knows nodes 1.1 and 3.1; both say the same about it.
async fn check(own: Identity, expected: Refusal) {
    let (mut a, mut b) = (Node::start_as(own).await, Node::start(member(2, 1)).await);
    b.peers.set_members([1, 3].map(|node| (member(node, 1), "127.0.0.1:1".to_owned())));
    a.knows(&[&b]);
    a.peers.send(b.member, wishes(0..1).remove(0)).unwrap();
    let (there, here) = (a.failed().await, b.denied().await);
    assert!(matches!(&there, LinkError::Refused(refusal) if *refusal == expected), "{there:?}");
    assert!(matches!(&here, LinkError::Denied(refusal) if *refusal == expected), "{here:?}");
    assert_eq!((b.peers.figures().admitted, b.peers.figures().received_batches), (0, 0));
}

fn grid(id: u128, name: &str) -> Grid {
    Grid { id, name: name.to_owned() }
}

#[tokio::test]
async fn a_node_of_another_grid_is_refused_whatever_its_name() {
    let expected = Refusal::OtherGrid { asked: grid(7, "tests"), here: grid(GRID, "tests") };
    let standing = Standing::Member { grid: grid(7, "tests"), member: member(1, 1) };
    check(identified(standing), expected.clone()).await;
    let text = expected.to_string();
    assert!(text.contains(&format!("{GRID:032x}")) && text.contains(&format!("{:032x}", 7)), "{text}");
}

#[tokio::test]
async fn a_node_that_nobody_knows_is_refused() {
    let asked = member(9, 1);
    check(identity(asked), Refusal::UnknownMember { asked, incarnation: None }).await;
}

#[tokio::test]
async fn an_old_life_of_a_node_and_one_to_come_are_refused() {
    for incarnation in [0, 2] {
        let asked = member(3, incarnation);
        let expected = Refusal::UnknownMember { asked, incarnation: Some(1) };
        check(identity(asked), expected.clone()).await;
        assert_eq!(expected.to_string(), format!("node 3.{incarnation} is no member: its incarnation is 1"));
    }
}

#[tokio::test]
async fn a_node_with_another_secret_or_none_is_refused() {
    let expected = Refusal::OtherSecret { asked: member(1, 1), here: member(2, 1) };
    let other = Secret::new(b"A secret of the tests").unwrap();
    for secret in [other, Secret::none()] {
        check(Identity { secret, ..identity(member(1, 1)) }, expected.clone()).await;
    }
}

#[tokio::test]
async fn nodes_without_a_secret_are_peers() {
    let open = |member| Identity { secret: Secret::none(), ..identity(member) };
    let (a, mut b) = (Node::start_as(open(member(1, 1))).await, Node::start_as(open(member(2, 1))).await);
    a.knows(&[&b]);
    b.knows(&[&a]);
    a.peers.send(b.member, wishes(0..1).remove(0)).unwrap();
    assert_eq!(b.batch().await, (a.member, wishes(0..1)));
}

fn members() -> Directory {
    Directory::new([(member(1, 1), String::new())])
}

fn said() -> wire::Hello {
    hello(&identity(member(1, 1)), member(2, 1), Purpose::Calls, &[5; 32]).unwrap()
}

fn answered(hello: &wire::Hello) -> Result<(Transcript, wire::Challenge), Refusal> {
    answer_hello(&identity(member(2, 1)), &members(), hello, [6; 32])
}

/// Changes a hello, and has it refused.
fn check_hello(change: impl FnOnce(&mut wire::Hello), expected: &Refusal) {
    let mut hello = said();
    change(&mut hello);
    assert_eq!(answered(&hello).unwrap_err(), *expected);
}

fn malformed(problem: &str) -> Refusal {
    Refusal::Malformed { problem: problem.to_owned() }
}

#[test]
fn a_hello_that_makes_no_sense_is_refused_by_name() {
    check_hello(|hello| hello.grid = None, &malformed("grid is missing"));
    check_hello(|hello| hello.grid.as_mut().unwrap().id.truncate(15), &malformed("grid is missing"));
    check_hello(|hello| hello.grid.as_mut().unwrap().name = "x".repeat(129), &malformed("grid is missing"));
    check_hello(|hello| hello.from = None, &malformed("from is missing"));
    check_hello(|hello| hello.to = None, &malformed("to is missing"));
    check_hello(|hello| hello.nonce.truncate(31), &malformed("nonce is missing"));
    check_hello(|hello| hello.purpose = 0, &Refusal::UnknownPurpose { asked: 0 });
    check_hello(|hello| hello.purpose = 6, &Refusal::UnknownPurpose { asked: 6 });
}

#[test]
fn protocols_have_to_overlap() {
    let spoken = |oldest, newest| Some(wire::Versions { oldest, newest });
    let newest = SPOKEN.newest;
    for (oldest, newest) in [(newest + 1, newest + 3), (0, SPOKEN.oldest - 1), (newest, newest - 1)] {
        let expected = Refusal::NoCommonVersion { asked: Versions { oldest, newest }, here: SPOKEN };
        check_hello(|hello| hello.versions = spoken(oldest, newest), &expected);
    }
    check_hello(
        |hello| hello.versions = None,
        &Refusal::NoCommonVersion { asked: Versions { oldest: 0, newest: 0 }, here: SPOKEN },
    );
    let newer = wire::Hello { versions: spoken(newest, newest + 5), ..said() };
    answered(&newer).unwrap();
}

#[test]
fn both_read_the_same_in_what_was_said() {
    let (theirs, challenge) = answered(&said()).unwrap();
    let ours = answer_challenge(&identity(member(1, 1)), (member(2, 1), Purpose::Calls), [5; 32], &challenge)
        .unwrap();
    let secret = identity(member(1, 1)).secret;
    for side in [Side::Dialled, Side::Answered] {
        assert!(theirs.is_proved(&secret, side, &ours.prove(&secret, side)));
    }
    let other = Secret::new(b"another secret of tests").unwrap();
    assert!(!theirs.is_proved(&other, Side::Dialled, &ours.prove(&secret, Side::Dialled)));
    assert!(!theirs.is_proved(&secret, Side::Dialled, &wire::Proof::default()));
}

/// Reads a changed challenge.
fn check_challenge(change: impl FnOnce(&mut wire::Challenge), expected: &Refusal) {
    let (_, mut challenge) = answered(&said()).unwrap();
    change(&mut challenge);
    let to = (member(2, 1), Purpose::Calls);
    let answered = answer_challenge(&identity(member(1, 1)), to, [5; 32], &challenge);
    assert_eq!(answered.unwrap_err(), *expected);
}

#[test]
fn who_is_dialled_has_to_be_who_was_meant() {
    let other = wire::Member { node: 2, incarnation: 2 };
    let expected = Refusal::OtherMember { asked: member(2, 1), here: member(2, 2) };
    check_challenge(|challenge| challenge.member = Some(other), &expected);
    let expected = Refusal::OtherGrid { asked: grid(0, "tests"), here: grid(GRID, "tests") };
    check_challenge(|challenge| challenge.grid.as_mut().unwrap().id = vec![0; 16].into(), &expected);
    check_challenge(|challenge| challenge.nonce.clear(), &malformed("nonce is missing"));
}

#[test]
fn a_proof_is_good_for_one_side_of_one_handshake() {
    let secret = identity(member(1, 1)).secret;
    let transcript = |from: MemberId, purpose, nonces: [u8; 2], newest| {
        let directory = Directory::new([(from, String::new())]);
        let mut hello = hello(&identity(from), member(2, 1), purpose, &[nonces[0]; 32]).unwrap();
        hello.versions.as_mut().unwrap().newest = newest;
        answer_hello(&identity(member(2, 1)), &directory, &hello, [nonces[1]; 32]).unwrap().0
    };
    let transcripts = [
        transcript(member(1, 1), Purpose::Calls, [1, 2], 1),
        transcript(member(1, 2), Purpose::Calls, [1, 2], 1),
        transcript(member(3, 1), Purpose::Calls, [1, 2], 1),
        transcript(member(1, 1), Purpose::Replication, [1, 2], 1),
        transcript(member(1, 1), Purpose::Heartbeats, [1, 2], 1),
        transcript(member(1, 1), Purpose::Calls, [3, 2], 1),
        transcript(member(1, 1), Purpose::Calls, [1, 3], 1),
        transcript(member(1, 1), Purpose::Calls, [1, 2], 2),
    ];
    let sides = [Side::Dialled, Side::Answered];
    let proofs = transcripts.iter().flat_map(|one| sides.map(|side| one.prove(&secret, side).mac));
    assert_eq!(proofs.collect::<BTreeSet<_>>().len(), transcripts.len() * sides.len());
}

#[test]
fn refusals_arrive_as_they_were_sent() {
    let (asked, here) = (member(1, 2), member(3, 4));
    let (older, newer) = (Versions { oldest: 1, newest: 2 }, Versions { oldest: 3, newest: 4 });
    for refusal in [
        Refusal::NoCommonVersion { asked: older, here: newer },
        Refusal::OtherGrid { asked: grid(1, "a"), here: grid(2, "b") },
        Refusal::OtherMember { asked, here },
        Refusal::UnknownMember { asked, incarnation: Some(0) },
        Refusal::UnknownMember { asked, incarnation: None },
        Refusal::OtherSecret { asked, here },
        Refusal::UnknownPurpose { asked: 7 },
        malformed("no hello"),
        Refusal::Replaced,
        Refusal::Stopping,
        Refusal::Busy,
        Refusal::NotYet,
        Refusal::Unrecognised,
    ] {
        assert_eq!(Refusal::decode(refusal.clone().encode()), refusal);
    }
}

#[test]
fn of_what_a_stranger_says_little_is_kept() {
    let long = "x".repeat(1000);
    let kept = "x".repeat(NAME_BYTES);
    assert_eq!(Refusal::decode(malformed(&long).encode()), malformed(&kept));
    let refusal = |name| Refusal::OtherGrid { asked: grid(1, name), here: grid(2, name) };
    assert_eq!(Refusal::decode(refusal(&long).encode()), refusal(&kept));
}

#[test]
fn a_secret_of_zeros_is_not_as_good_as_none() {
    let (transcript, _) = answered(&said()).unwrap();
    let mut secrets = vec![Secret::none()];
    secrets.extend([&[0; 16][..], &[0; 17], &[1; 100]].map(|bytes| Secret::new(bytes).unwrap()));
    let proofs = secrets.iter().map(|secret| transcript.prove(secret, Side::Dialled).mac);
    let proofs: BTreeSet<_> = proofs.collect();
    assert_eq!(proofs.len(), 4);
}

/// Made by another program from what `hello.rs` says.
const GOLDEN: [&str; 5] = [
    concat!(
        "0a510a040801100112190a1000000000000000000000000000001001120574657374731a040801100122040802100128",
        "0232200505050505050505050505050505050505050505050505050505050505050505",
    ),
    concat!(
        "0a490a040801100112190a1000000000000000000000000000001001120574657374731a040802100122200606060606",
        "060606060606060606060606060606060606060606060606060606",
    ),
    "3ffb51df1e8325bc7d05bbac7feee6842f6b944647d99b48183a81db82b463c1",
    "d2374a8c2ec2eeb222b2c1c37a0f841b36140403846bd840f47850f271642079",
    "1a0e2a0c0a0408011001120408021001",
];

/// The bytes of a handshake between nodes that speak version 1.
#[test]
fn a_handshake_is_the_same_as_ever() {
    let (transcript, challenge) = answered(&said()).unwrap();
    let secret = identity(member(1, 1)).secret;
    let said = wire::LinkRequest { body: Some(Said::Hello(said())) }.encode_to_vec();
    let heard = wire::LinkResponse { body: Some(Heard::Challenge(challenge)) }.encode_to_vec();
    let proofs = [Side::Dialled, Side::Answered].map(|side| transcript.prove(&secret, side).mac);
    let refusal = Heard::Refusal(Refusal::OtherSecret { asked: member(1, 1), here: member(2, 1) }.encode());
    let refused = wire::LinkResponse { body: Some(refusal) }.encode_to_vec();
    let written = [hex(&said), hex(&heard), hex(&proofs[0]), hex(&proofs[1]), hex(&refused)];
    assert_eq!(written, GOLDEN);
}
