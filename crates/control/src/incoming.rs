//! What other voters ask of this one. Nothing they send can make it panic, or believe what is not of its group.

use bytes::{Bytes, BytesMut};
use openraft::Snapshot;
use parking_lot::Mutex;
use tracing::{debug, warn};
use wattle_core::ids::NodeId;
use wattle_core::limits::CONTROL_SNAPSHOT_BYTES;

use crate::identity::Identity;
use crate::raft::{AppendRequest, Raft, SnapshotMeta, Vote};
use crate::replicated::Replicated;
use crate::successor::Successor;
use crate::wire::{
    Answer, Envelope, PeerRefusal, Piece, PieceAnswer, Request, decode_request, encode_answer,
};

/// Answers requests.
pub(crate) struct Incoming {
    own: Identity,
    raft: Raft,
    successor: Successor,
    /// A leader sends one snapshot at a time. Held while a piece is copied.
    snapshot: Mutex<Option<Unfinished>>,
}

/// A snapshot of which the first bytes are there.
struct Unfinished {
    meta: SnapshotMeta,
    bytes: BytesMut,
}

impl Incoming {
    pub(crate) fn new(own: Identity, raft: Raft, successor: Successor) -> Self {
        Self { own, raft, successor, snapshot: Mutex::new(None) }
    }

    pub(crate) async fn handle(&self, peer: NodeId, request: &Bytes) -> Bytes {
        let answer = match decode_request(request) {
            Ok((envelope, request)) => match self.refusal(peer, envelope, &request) {
                None => self.answer(request).await,
                Some(refusal) => {
                    warn!(peer = peer.0, from = %envelope.from, to = %envelope.to, %refusal, "control request refused");
                    Answer::Refused(refusal)
                }
            },
            Err(error) => {
                warn!(peer = peer.0, %error, "control request cannot be read");
                Answer::Refused(PeerRefusal::Malformed)
            }
        };
        encode_answer(&answer)
    }

    fn refusal(&self, peer: NodeId, envelope: Envelope, request: &Request) -> Option<PeerRefusal> {
        if envelope.group != self.own.group {
            if envelope.from.node == peer {
                self.successor.note(envelope.group);
            }
            return Some(PeerRefusal::OtherGroup { here: self.own.group });
        }
        if envelope.to != self.own.voter {
            return Some(PeerRefusal::OtherVoter { here: self.own.voter });
        }
        let (vote, is_leaders) = match request {
            Request::Vote(request) => (&request.vote, false),
            Request::Append(request) => (&request.vote, true),
            Request::Piece(piece, _) => (&piece.vote, true),
        };
        if envelope.from.node != peer || vote.leader_id.node_id != envelope.from {
            return Some(PeerRefusal::Impostor);
        }
        let sound = vote.committed == is_leaders && is_sound(request);
        (!sound).then_some(PeerRefusal::Malformed)
    }

    async fn answer(&self, request: Request) -> Answer {
        let answer = match request {
            Request::Vote(request) => self.raft.vote(request).await.map(Answer::Vote).map_err(drop),
            Request::Append(request) => {
                self.raft.append_entries(request).await.map(Answer::Append).map_err(drop)
            }
            Request::Piece(piece, bytes) => self.receive(piece, &bytes).await,
        };
        answer.unwrap_or(Answer::Refused(PeerRefusal::Ended))
    }

    async fn receive(&self, piece: Piece, bytes: &Bytes) -> Result<Answer, ()> {
        let vote: Vote = self.raft.with_raft_state(|state| *state.vote_ref()).await.map_err(drop)?;
        if vote > piece.vote {
            return Ok(Answer::Piece(PieceAnswer::Done(vote)));
        }
        let (vote, meta) = (piece.vote, piece.meta.clone());
        let state = match self.put_together(piece, bytes) {
            Ok(state) => state,
            Err(next) => return Ok(Answer::Piece(PieceAnswer::Next(next))),
        };
        if let Err(error) = Replicated::from_snapshot(&state) {
            warn!(%error, "snapshot of the control state cannot be read");
            return Ok(Answer::Refused(PeerRefusal::Malformed));
        }
        debug!(bytes = state.len(), "snapshot of the control state received");
        let installed = self.raft.install_full_snapshot(vote, Snapshot { meta, snapshot: Box::new(state) });
        let response = installed.await.map_err(drop)?;
        Ok(Answer::Piece(PieceAnswer::Done(response.vote)))
    }

    /// The whole snapshot, or the offset of the piece that is wanted next.
    fn put_together(&self, piece: Piece, bytes: &Bytes) -> Result<Bytes, u64> {
        let mut unfinished = self.snapshot.lock();
        let state = match unfinished.take() {
            Some(state) if state.meta == piece.meta && piece.offset > 0 => state,
            Some(_) | None => Unfinished { meta: piece.meta, bytes: BytesMut::new() },
        };
        let Unfinished { bytes: held, .. } = &mut *unfinished.insert(state);
        if piece.offset == held.len() as u64 {
            held.extend_from_slice(bytes);
        }
        let next = held.len() as u64;
        if next < piece.total {
            return Err(next);
        }
        unfinished.take().map(|state| state.bytes.freeze()).ok_or(0)
    }
}

/// Whether openraft can take it as it is.
fn is_sound(request: &Request) -> bool {
    match request {
        Request::Vote(_) => true,
        Request::Append(request) => is_consecutive(request),
        Request::Piece(piece, bytes) => {
            let end = piece.offset.checked_add(bytes.len() as u64);
            end.is_some_and(|end| end <= piece.total) && piece.total <= CONTROL_SNAPSHOT_BYTES as u64
        }
    }
}

fn is_consecutive(request: &AppendRequest) -> bool {
    let mut next = request.prev_log_id.map_or(Some(0), |previous| previous.index.checked_add(1));
    request.entries.iter().all(|entry| {
        let follows = next == Some(entry.log_id.index);
        next = entry.log_id.index.checked_add(1);
        follows
    })
}
