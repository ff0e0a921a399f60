//! The opening of a link: both prove that they know the secret, and that they are who the other means.
//!
//! Hello (a nonce of the one who dials), challenge (one of the other), a proof from the one who dials, then one from the other: each
//! proof is an HMAC-SHA256 over both nonces, both members, the grid, the purpose and the protocols that both speak, with the side
//! in it, so that none can be played back to anybody. Who dials proves first: a port is easier to reach than an address to take over.
//!
//! What it does not do: nothing is encrypted, and what follows is not authenticated. Whoever can read the network reads everything;
//! whoever can change what passes on it can speak in a link that is open, and can try weak secrets on what was overheard.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wattle_core::ids::MemberId;
use wattle_core::limits::NAME_BYTES;
use wattle_proto::internal as wire;

use crate::codec::{CodecError, decode_member, encode_member};
use crate::directory::Directory;
use crate::identity::{Grid, Identity, Purpose, Secret};
use crate::refusal::{Refusal, Versions, decode_grid, decode_versions, encode_grid, encode_versions};

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

/// What both have said, as both have heard it.
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
pub(crate) fn hello(own: &Identity, to: MemberId, purpose: Purpose, nonce: &Nonce) -> wire::Hello {
    wire::Hello {
        versions: Some(encode_versions(SPOKEN)),
        grid: Some(encode_grid(&own.grid)),
        from: Some(encode_member(own.member)),
        to: Some(encode_member(to)),
        purpose: encode_purpose(purpose).into(),
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
    let grid = check_grid(&own.grid, hello.grid.as_ref())?;
    let to = required(hello.to, "to")?;
    if to != own.member {
        return Err(Refusal::OtherMember { asked: to, here: own.member });
    }
    let from = required(hello.from, "from")?;
    members.check(from)?;
    let purpose = match hello.purpose() {
        wire::Purpose::Replication => Purpose::Replication,
        wire::Purpose::Calls => Purpose::Calls,
        wire::Purpose::Heartbeats => Purpose::Heartbeats,
        wire::Purpose::Unspecified => return Err(Refusal::UnknownPurpose { asked: hello.purpose }),
    };
    let transcript = Transcript {
        purpose,
        dialler: from,
        answerer: to,
        grid,
        versions: [versions, SPOKEN],
        nonces: [check_nonce(&hello.nonce)?, nonce],
    };
    let challenge = wire::Challenge {
        versions: Some(encode_versions(SPOKEN)),
        grid: Some(encode_grid(&own.grid)),
        member: Some(encode_member(own.member)),
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
    let grid = check_grid(&own.grid, challenge.grid.as_ref())?;
    let member = required(challenge.member, "member")?;
    if member != to {
        return Err(Refusal::OtherMember { asked: to, here: member });
    }
    Ok(Transcript {
        purpose,
        dialler: own.member,
        answerer: to,
        grid,
        versions: [SPOKEN, versions],
        nonces: [nonce, check_nonce(&challenge.nonce)?],
    })
}

fn required(member: Option<wire::Member>, field: &'static str) -> Result<MemberId, Refusal> {
    member.map(decode_member).ok_or_else(|| Refusal::malformed(&CodecError::Missing { field }))
}

fn check_versions(asked: Option<wire::Versions>) -> Result<Versions, Refusal> {
    let asked = decode_versions(asked.unwrap_or_default());
    let is_common = asked.oldest.max(SPOKEN.oldest) <= asked.newest.min(SPOKEN.newest);
    is_common.then_some(asked).ok_or(Refusal::NoCommonVersion { asked, here: SPOKEN })
}

fn check_grid(here: &Grid, asked: Option<&wire::Grid>) -> Result<u128, Refusal> {
    let asked = asked.filter(|grid| grid.name.len() <= NAME_BYTES).and_then(decode_grid);
    let asked = asked.ok_or_else(|| Refusal::malformed(&CodecError::Missing { field: "grid" }))?;
    if asked.id != here.id {
        return Err(Refusal::OtherGrid { asked, here: here.clone() });
    }
    Ok(here.id)
}

fn check_nonce(nonce: &[u8]) -> Result<Nonce, Refusal> {
    nonce.try_into().map_err(|_| Refusal::malformed(&CodecError::Missing { field: "nonce" }))
}

fn encode_purpose(purpose: Purpose) -> wire::Purpose {
    match purpose {
        Purpose::Replication => wire::Purpose::Replication,
        Purpose::Calls => wire::Purpose::Calls,
        Purpose::Heartbeats => wire::Purpose::Heartbeats,
    }
}
