//! The opening of a link: both prove that they know the secret, and that they are who the other means.
//!
//! Hello (a nonce of the one who dials), challenge (one of the other), a proof from the one who dials, then one from the other: each
//! proof is an HMAC-SHA256 over both nonces, both members, the grid, the purpose and the protocols that both speak, with the side
//! in it, so that none can be played back to anybody. Who dials proves first: a port is easier to reach than an address to take over.
//!
//! A stranger, who need not be a member, is told who is there and says no name; the proofs are the same.
//!
//! What it does not do: nothing is encrypted, and what follows is not authenticated. Whoever can read the network reads everything;
//! whoever can change what passes on it can speak in a link that is open, and can try weak secrets on what was overheard.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wattle_core::ids::{MemberId, NodeId};
use wattle_core::limits::NAME_BYTES;
use wattle_proto::internal as wire;

use crate::codec::{CodecError, decode_member, encode_member};
use crate::directory::Directory;
use crate::identity::{Grid, Identity, NOBODY, Purpose, Secret, Standing};
use crate::refusal::{
    Refusal, Versions, decode_grid, decode_sought, decode_versions, encode_grid, encode_sought,
    encode_versions,
};

/// The protocols that this node speaks.
pub(crate) const SPOKEN: Versions = Versions { oldest: 1, newest: 1 };

const NONCE_BYTES: usize = 32;

/// A number that is used once.
pub(crate) type Nonce = [u8; NONCE_BYTES];

/// Draws a nonce.
pub(crate) fn draw_nonce() -> Result<Nonce, getrandom::Error> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}

/// Who proves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    Dialled = 1,
    Answered = 2,
}

/// What both have said, as both have heard it. A stranger is [`NOBODY`], and no grid is 0.
#[derive(Debug, Clone)]
pub(crate) struct Transcript {
    pub(crate) purpose: Purpose,
    pub(crate) dialler: MemberId,
    pub(crate) answerer: MemberId,
    grid: u128,
    versions: [Versions; 2],
    nonces: [Nonce; 2],
}

impl Transcript {
    /// That `side` knows the secret.
    pub(crate) fn prove(&self, secret: &Secret, side: Side) -> wire::Proof {
        let mac = self.mac(secret, side).finalize().into_bytes();
        wire::Proof { mac: mac.to_vec().into() }
    }

    /// Whether `side` knows the secret, found out in a time that does not depend on how wrong the proof is.
    pub(crate) fn is_proved(&self, secret: &Secret, side: Side, proof: &wire::Proof) -> bool {
        self.mac(secret, side).verify_slice(&proof.mac).is_ok()
    }

    /// All that goes in has a fixed length, so that no two transcripts are the same bytes.
    fn mac(&self, secret: &Secret, side: Side) -> Hmac<Sha256> {
        let key = secret.as_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key has any length");
        mac.update(b"wattle peer hello");
        // HMAC fills short keys up with zeros: one of zeros alone is not to be as good as none.
        mac.update(&(key.len() as u64).to_be_bytes());
        mac.update(&[side as u8, encode_purpose(self.purpose) as u8]);
        mac.update(&self.grid.to_be_bytes());
        for member in [self.dialler, self.answerer] {
            mac.update(&member.node.0.to_be_bytes());
            mac.update(&member.incarnation.to_be_bytes());
        }
        for versions in self.versions {
            mac.update(&versions.oldest.to_be_bytes());
            mac.update(&versions.newest.to_be_bytes());
        }
        for nonce in &self.nonces {
            mac.update(nonce);
        }
        mac
    }
}

/// What the one who dials says first.
pub(crate) fn hello(
    own: &Identity,
    to: MemberId,
    purpose: Purpose,
    nonce: &Nonce,
) -> Result<wire::Hello, Refusal> {
    let (grid, from) = taking_part(own, purpose)?;
    Ok(wire::Hello {
        versions: Some(encode_versions(SPOKEN)),
        grid: Some(encode_grid(grid)),
        from: Some(encode_member(from)),
        to: Some(encode_member(to)),
        purpose: encode_purpose(purpose).into(),
        nonce: nonce.to_vec().into(),
    })
}

/// What the one who dials says first to whoever is there.
pub(crate) fn stranger_hello(own: &Identity, nonce: &Nonce) -> wire::Hello {
    wire::Hello {
        versions: Some(encode_versions(SPOKEN)),
        grid: Some(encode_sought(&own.standing.looks_for())),
        from: None,
        to: None,
        purpose: encode_purpose(Purpose::Stranger).into(),
        nonce: nonce.to_vec().into(),
    }
}

/// What the other says to a hello.
pub(crate) fn answer_hello(
    own: &Identity,
    members: &Directory,
    hello: &wire::Hello,
    nonce: Nonce,
) -> Result<(Transcript, wire::Challenge), Refusal> {
    // First of all, for what other versions say may mean something else.
    let versions = check_versions(hello.versions)?;
    let purpose = decode_purpose(hello)?;
    let theirs = check_nonce(&hello.nonce)?;
    let (dialler, answerer) = match purpose {
        Purpose::Stranger => {
            check_sought(own, hello.grid.as_ref())?;
            (NOBODY, own.standing.known_as())
        }
        Purpose::Replication | Purpose::Calls | Purpose::Heartbeats | Purpose::Control => {
            let (here, member) = taking_part(own, purpose)?;
            check_grid(here, hello.grid.as_ref())?;
            let to = required(hello.to, "to")?;
            if to != member {
                return Err(Refusal::OtherMember { asked: to, here: member });
            }
            let from = required(hello.from, "from")?;
            members.check(from, purpose)?;
            (from, member)
        }
    };
    let (grid, versions) = (own.standing.looks_for(), [versions, SPOKEN]);
    let transcript =
        Transcript { purpose, dialler, answerer, grid: grid.id, versions, nonces: [theirs, nonce] };
    let challenge = wire::Challenge {
        versions: Some(encode_versions(SPOKEN)),
        grid: Some(encode_sought(&grid)),
        member: Some(answerer).filter(|answerer| *answerer != NOBODY).map(encode_member),
        nonce: nonce.to_vec().into(),
    };
    Ok((transcript, challenge))
}

/// What the one who dials makes of the challenge.
pub(crate) fn answer_challenge(
    own: &Identity,
    (to, purpose): (MemberId, Purpose),
    nonce: Nonce,
    challenge: &wire::Challenge,
) -> Result<Transcript, Refusal> {
    let versions = check_versions(challenge.versions)?;
    let (here, dialler) = taking_part(own, purpose)?;
    let grid = check_grid(here, challenge.grid.as_ref())?.id;
    let member = required(challenge.member, "member")?;
    if member != to {
        return Err(Refusal::OtherMember { asked: to, here: member });
    }
    let nonces = [nonce, check_nonce(&challenge.nonce)?];
    Ok(Transcript { purpose, dialler, answerer: to, grid, versions: [SPOKEN, versions], nonces })
}

/// What the one who dials makes of the challenge of whoever is there, and who that is.
pub(crate) fn answer_strange_challenge(
    own: &Identity,
    nonce: Nonce,
    challenge: &wire::Challenge,
) -> Result<(Transcript, Standing), Refusal> {
    let versions = check_versions(challenge.versions)?;
    let found = check_sought(own, challenge.grid.as_ref())?;
    let answerer = challenge.member.map_or(NOBODY, decode_member);
    let transcript = Transcript {
        purpose: Purpose::Stranger,
        dialler: NOBODY,
        answerer,
        grid: found.id,
        versions: [SPOKEN, versions],
        nonces: [nonce, check_nonce(&challenge.nonce)?],
    };
    let standing = match (found.id, answerer) {
        (0, NOBODY) => Standing::Fresh { name: found.name },
        (0, _) => return Err(missing("grid")),
        (_, MemberId { node: NodeId(0), .. }) => return Err(missing("member")),
        (_, MemberId { node, incarnation: 0 }) => Standing::Returning { grid: found, node },
        (_, member) => Standing::Member { grid: found, member },
    };
    Ok((transcript, standing))
}

/// In which grid, and as whom, this node takes part in links of a purpose.
fn taking_part(own: &Identity, purpose: Purpose) -> Result<(&Grid, MemberId), Refusal> {
    own.standing.grid().zip(own.standing.speaks_as(purpose)).ok_or(Refusal::NotYet)
}

fn missing(field: &'static str) -> Refusal {
    Refusal::malformed(&CodecError::Missing { field })
}

fn required(member: Option<wire::Member>, field: &'static str) -> Result<MemberId, Refusal> {
    member.map(decode_member).ok_or_else(|| missing(field))
}

fn check_versions(asked: Option<wire::Versions>) -> Result<Versions, Refusal> {
    let asked = decode_versions(asked.unwrap_or_default());
    let is_common = asked.oldest.max(SPOKEN.oldest) <= asked.newest.min(SPOKEN.newest);
    is_common.then_some(asked).ok_or(Refusal::NoCommonVersion { asked, here: SPOKEN })
}

fn check_grid(here: &Grid, asked: Option<&wire::Grid>) -> Result<Grid, Refusal> {
    let asked = asked.filter(|grid| grid.name.len() <= NAME_BYTES).and_then(decode_grid);
    let asked = asked.ok_or_else(|| missing("grid"))?;
    if asked.id != here.id {
        return Err(Refusal::OtherGrid { asked, here: here.clone() });
    }
    Ok(asked)
}

/// The grid that the other is in, or looks for, if it can be the same as this node's.
fn check_sought(own: &Identity, asked: Option<&wire::Grid>) -> Result<Grid, Refusal> {
    let asked = asked.filter(|grid| grid.name.len() <= NAME_BYTES).and_then(decode_sought);
    let (asked, here) = (asked.ok_or_else(|| missing("grid"))?, own.standing.looks_for());
    if !here.may_be(&asked) {
        return Err(Refusal::OtherGrid { asked, here });
    }
    Ok(asked)
}

fn check_nonce(nonce: &[u8]) -> Result<Nonce, Refusal> {
    nonce.try_into().map_err(|_| missing("nonce"))
}

fn encode_purpose(purpose: Purpose) -> wire::Purpose {
    match purpose {
        Purpose::Replication => wire::Purpose::Replication,
        Purpose::Calls => wire::Purpose::Calls,
        Purpose::Heartbeats => wire::Purpose::Heartbeats,
        Purpose::Control => wire::Purpose::Control,
        Purpose::Stranger => wire::Purpose::Stranger,
    }
}

fn decode_purpose(hello: &wire::Hello) -> Result<Purpose, Refusal> {
    match hello.purpose() {
        wire::Purpose::Replication => Ok(Purpose::Replication),
        wire::Purpose::Calls => Ok(Purpose::Calls),
        wire::Purpose::Heartbeats => Ok(Purpose::Heartbeats),
        wire::Purpose::Control => Ok(Purpose::Control),
        wire::Purpose::Stranger => Ok(Purpose::Stranger),
        wire::Purpose::Unspecified => Err(Refusal::UnknownPurpose { asked: hello.purpose }),
    }
}
