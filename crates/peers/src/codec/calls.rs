//! Calls and their answers as they travel.

use wattle_core::ids::{GridTime, MemberId, NodeId};
use wattle_core::limits::{
    CONTROL_PIECE_BYTES, CONTROL_SNAPSHOT_BYTES, FOLLOW_CHANGES, NODE_TEXT_BYTES, NODES, PEER_CALL_BYTES,
    VOTERS,
};
use wattle_proto::internal as wire;
use wire::admission::Outcome;
use wire::answer::Body as WireAnswer;
use wire::call::Body as WireCall;
use wire::call_refusal::Reason;
use wire::decided::Content;

use super::{CodecError, decode_member, encode_member, required};
use crate::call::{
    Admission, Answer, Ask, Call, CallRefusal, ControlPosition, Decided, Follow, Generation, Heartbeat,
    HeartbeatAnswer, Situation, SnapshotPiece, SnapshotRest,
};

pub(crate) fn encode_call(id: u64, call: Call) -> wire::Call {
    let body = match call {
        Call::Control(request) => WireCall::Control(request),
        Call::Propose(proposal) => WireCall::Propose(proposal),
        Call::Heartbeat(heartbeat) => WireCall::Heartbeat(encode_heartbeat(heartbeat)),
        Call::AskHeartbeat => WireCall::AskHeartbeat(wire::AskHeartbeat {}),
        Call::Follow(follow) => WireCall::Follow(wire::Follow {
            after: Some(encode_position(follow.after)),
            rest_of: follow.rest_of.map(|rest| wire::SnapshotRest {
                position: Some(encode_position(rest.position)),
                offset: rest.offset,
            }),
        }),
        Call::Ask(Ask { process, founds }) => {
            WireCall::Ask(wire::Ask { process: encode_process(process), founds })
        }
        Call::Join(proposal) => WireCall::Join(proposal),
        Call::AskPosition => WireCall::AskPosition(wire::AskPosition {}),
    };
    wire::Call { id, body: Some(body) }
}

/// Reads a call; `None` is one of a kind that is not known here, of a newer node.
pub(crate) fn decode_call(body: Option<WireCall>) -> Result<Option<Call>, CodecError> {
    let Some(body) = body else { return Ok(None) };
    let call = match body {
        WireCall::Control(request) => Call::Control(request),
        WireCall::Propose(proposal) => Call::Propose(proposal),
        WireCall::Heartbeat(heartbeat) => Call::Heartbeat(decode_heartbeat(heartbeat)?),
        WireCall::AskHeartbeat(_) => Call::AskHeartbeat,
        WireCall::Follow(follow) => Call::Follow(Follow {
            after: decode_position(follow.after, "after")?,
            rest_of: follow.rest_of.map(decode_rest).transpose()?,
        }),
        WireCall::Ask(wire::Ask { process, founds }) => {
            Call::Ask(Ask { process: decode_process(&process)?, founds })
        }
        WireCall::Join(proposal) => Call::Join(proposal),
        WireCall::AskPosition(_) => Call::AskPosition,
    };
    check_most("bytes of a call", call.len(), PEER_CALL_BYTES)?;
    Ok(Some(call))
}

pub(crate) fn encode_answer(id: u64, answer: Answer) -> wire::Answer {
    let body = match answer {
        Answer::Control(answer) => WireAnswer::Control(answer),
        Answer::Propose(answer) => WireAnswer::Propose(answer),
        Answer::Heartbeat(answer) => WireAnswer::Heartbeat(wire::HeartbeatAnswer {
            position: Some(encode_position(answer.position)),
            time: answer.time.0,
        }),
        Answer::AskHeartbeat(heartbeat) => WireAnswer::AskHeartbeat(encode_heartbeat(heartbeat)),
        Answer::Follow(decided) => WireAnswer::Follow(encode_decided(decided)),
        Answer::Ask(situation) => WireAnswer::Ask(encode_situation(situation)),
        Answer::Join(admission) => WireAnswer::Join(encode_admission(admission)),
        Answer::AskPosition(position) => WireAnswer::AskPosition(encode_position(position)),
        Answer::Refused(refusal) => WireAnswer::Refused(encode_refusal(refusal)),
    };
    wire::Answer { id, body: Some(body) }
}

/// Reads an answer. One of a kind that is not known here answers no call of this node.
pub(crate) fn decode_answer(body: Option<WireAnswer>) -> Result<Answer, CodecError> {
    let answer = match required(body, "answer")? {
        WireAnswer::Control(answer) => Answer::Control(answer),
        WireAnswer::Propose(answer) => Answer::Propose(answer),
        WireAnswer::Heartbeat(answer) => Answer::Heartbeat(HeartbeatAnswer {
            position: decode_position(answer.position, "position")?,
            time: GridTime(answer.time),
        }),
        WireAnswer::AskHeartbeat(heartbeat) => Answer::AskHeartbeat(decode_heartbeat(heartbeat)?),
        WireAnswer::Follow(decided) => Answer::Follow(decode_decided(decided)?),
        WireAnswer::Ask(situation) => Answer::Ask(decode_situation(situation)?),
        WireAnswer::Join(admission) => Answer::Join(decode_admission(admission)?),
        WireAnswer::AskPosition(position) => {
            Answer::AskPosition(decode_position(Some(position), "position")?)
        }
        WireAnswer::Refused(refusal) => Answer::Refused(decode_refusal(refusal)),
    };
    check_answer(&answer)?;
    Ok(answer)
}

/// Whether an answer is within its bounds: checked before it is sent and after it has come.
pub(crate) fn check_answer(answer: &Answer) -> Result<(), CodecError> {
    check_most("bytes of an answer", answer.len(), PEER_CALL_BYTES)?;
    match answer {
        Answer::Follow(Decided::Changes { changes, .. }) => {
            check_most("changes", changes.len(), FOLLOW_CHANGES)
        }
        Answer::Follow(Decided::Piece(piece)) => check_piece(piece),
        Answer::Ask(Situation { voters, .. }) => check_places("voters", voters, 2 * VOTERS),
        Answer::Join(Admission::Admitted { members, .. }) => check_places("members", members, NODES),
        Answer::Control(_)
        | Answer::Propose(_)
        | Answer::Join(Admission::Refused(_))
        | Answer::Heartbeat(_)
        | Answer::AskHeartbeat(_)
        | Answer::AskPosition(_)
        | Answer::Refused(_) => Ok(()),
    }
}

fn check_piece(piece: &SnapshotPiece) -> Result<(), CodecError> {
    let SnapshotPiece { offset, total, ref content, .. } = *piece;
    check_most("bytes of a piece", content.len(), CONTROL_PIECE_BYTES)?;
    check_most("bytes of a snapshot", total, CONTROL_SNAPSHOT_BYTES)?;
    let end = offset.checked_add(content.len() as u64);
    // Without bytes nobody would get on.
    if end.is_none_or(|end| end > total) || content.is_empty() {
        return Err(CodecError::Piece { offset, bytes: content.len(), total });
    }
    Ok(())
}

fn check_places(field: &'static str, places: &[(MemberId, String)], most: usize) -> Result<(), CodecError> {
    check_most(field, places.len(), most)?;
    let longest = places.iter().map(|(_, address)| address.len()).max().unwrap_or_default();
    check_most("bytes of an address", longest, NODE_TEXT_BYTES)
}

fn encode_process(process: u128) -> bytes::Bytes {
    process.to_be_bytes().to_vec().into()
}

fn decode_process(process: &[u8]) -> Result<u128, CodecError> {
    let process = process.try_into().map_err(|_| CodecError::Missing { field: "process" })?;
    Ok(u128::from_be_bytes(process))
}

fn encode_situation(situation: Situation) -> wire::Situation {
    let Situation { process, promised, leader, voters, generation } = situation;
    wire::Situation {
        process: encode_process(process),
        promised: promised.map(encode_process).unwrap_or_default(),
        leader: leader.map(|node| node.0),
        voters: encode_places(voters),
        generation: generation
            .map(|generation| wire::Generation { number: generation.number, founder: generation.founder.0 }),
    }
}

fn decode_situation(situation: wire::Situation) -> Result<Situation, CodecError> {
    let wire::Situation { process, promised, leader, voters, generation } = situation;
    let promised = Some(promised).filter(|promised| !promised.is_empty());
    Ok(Situation {
        process: decode_process(&process)?,
        promised: promised.map(|promised| decode_process(&promised)).transpose()?,
        leader: leader.map(NodeId),
        voters: decode_places(voters)?,
        generation: generation
            .map(|wire::Generation { number, founder }| Generation { number, founder: NodeId(founder) }),
    })
}

fn encode_admission(admission: Admission) -> wire::Admission {
    let outcome = match admission {
        Admission::Admitted { member, members } => Outcome::Admitted(wire::Admitted {
            member: Some(encode_member(member)),
            members: encode_places(members),
        }),
        Admission::Refused(reason) => Outcome::Refused(reason),
    };
    wire::Admission { outcome: Some(outcome) }
}

fn decode_admission(admission: wire::Admission) -> Result<Admission, CodecError> {
    Ok(match required(admission.outcome, "outcome")? {
        Outcome::Admitted(wire::Admitted { member, members }) => Admission::Admitted {
            member: decode_member(required(member, "member")?),
            members: decode_places(members)?,
        },
        Outcome::Refused(reason) => Admission::Refused(reason),
    })
}

fn encode_places(places: Vec<(MemberId, String)>) -> Vec<wire::Place> {
    let place = |(member, address)| wire::Place { member: Some(encode_member(member)), address };
    places.into_iter().map(place).collect()
}

fn decode_places(places: Vec<wire::Place>) -> Result<Vec<(MemberId, String)>, CodecError> {
    let place = |wire::Place { member, address }| Ok((decode_member(required(member, "member")?), address));
    places.into_iter().map(place).collect()
}

fn encode_decided(decided: Decided) -> wire::Decided {
    let (position, content) = match decided {
        Decided::Changes { position, changes } => (position, Content::Changes(wire::Changes { changes })),
        Decided::Piece(SnapshotPiece { position, offset, total, content }) => {
            (position, Content::Piece(wire::SnapshotPiece { offset, total, content }))
        }
    };
    wire::Decided { position: Some(encode_position(position)), content: Some(content) }
}

fn decode_decided(decided: wire::Decided) -> Result<Decided, CodecError> {
    let position = decode_position(decided.position, "position")?;
    Ok(match required(decided.content, "content")? {
        Content::Changes(wire::Changes { changes }) => Decided::Changes { position, changes },
        Content::Piece(wire::SnapshotPiece { offset, total, content }) => {
            Decided::Piece(SnapshotPiece { position, offset, total, content })
        }
    })
}

fn check_most(field: &'static str, value: impl TryInto<u64>, most: usize) -> Result<(), CodecError> {
    let value = value.try_into().unwrap_or(u64::MAX);
    if value > most as u64 {
        return Err(CodecError::TooLarge { field, value });
    }
    Ok(())
}

fn encode_refusal(refusal: CallRefusal) -> wire::CallRefusal {
    let reason = match refusal {
        CallRefusal::NotLeader { leader } => {
            Some(Reason::NotLeader(wire::NotLeader { leader: leader.map(|node| node.0) }))
        }
        CallRefusal::NoPart => Some(Reason::NoPart(wire::NoPart {})),
        CallRefusal::TooLarge { bytes } => Some(Reason::TooLarge(wire::TooLarge { bytes })),
        CallRefusal::Late => Some(Reason::Late(wire::Late {})),
        CallRefusal::Unknown => Some(Reason::Unknown(wire::UnknownCall {})),
        CallRefusal::Unrecognised => None,
    };
    wire::CallRefusal { reason }
}

fn decode_refusal(refusal: wire::CallRefusal) -> CallRefusal {
    match refusal.reason {
        Some(Reason::NotLeader(wire::NotLeader { leader })) => {
            CallRefusal::NotLeader { leader: leader.map(NodeId) }
        }
        Some(Reason::NoPart(_)) => CallRefusal::NoPart,
        Some(Reason::TooLarge(wire::TooLarge { bytes })) => CallRefusal::TooLarge { bytes },
        Some(Reason::Late(_)) => CallRefusal::Late,
        Some(Reason::Unknown(_)) => CallRefusal::Unknown,
        None => CallRefusal::Unrecognised,
    }
}

fn encode_heartbeat(heartbeat: Heartbeat) -> wire::Heartbeat {
    let time = heartbeat.time.map(|time| time.0);
    wire::Heartbeat { position: Some(encode_position(heartbeat.position)), time }
}

fn decode_heartbeat(heartbeat: wire::Heartbeat) -> Result<Heartbeat, CodecError> {
    let time = heartbeat.time.map(GridTime);
    Ok(Heartbeat { position: decode_position(heartbeat.position, "position")?, time })
}

fn decode_rest(rest: wire::SnapshotRest) -> Result<SnapshotRest, CodecError> {
    Ok(SnapshotRest { position: decode_position(rest.position, "position")?, offset: rest.offset })
}

fn encode_position(position: ControlPosition) -> wire::ControlPosition {
    wire::ControlPosition { generation: position.generation, version: position.version }
}

fn decode_position(
    position: Option<wire::ControlPosition>,
    field: &'static str,
) -> Result<ControlPosition, CodecError> {
    let position = required(position, field)?;
    Ok(ControlPosition { generation: position.generation, version: position.version })
}
