//! What this voter sends to others: openraft's requests as bytes over a [`Transport`].

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{
    RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::SnapshotResponse;
use openraft::{EmptyNode, OptionalSend, RPCTypes, Snapshot};
use tokio::task::JoinSet;
use tracing::debug;
use wattle_core::ids::NodeId;
use wattle_core::limits::{CONTROL_PIECE_ATTEMPTS, CONTROL_PIECE_BYTES};

use crate::candidacy::Outrun;
use crate::check_quorum::Silence;
use crate::identity::{Identity, VoterId};
use crate::raft::{
    AppendRequest, AppendResponse, Fatal, LogId, SnapshotMeta, Types, Vote, VoteRequest, VoteResponse,
};
use crate::successor::Successor;
use crate::wire::{
    Answer, Envelope, PeerRefusal, Piece, PieceAnswer, Request, WireError, decode_answer, encode_request,
};

/// Delivers requests to nodes. It knows where they are, and makes sure that an answer comes from the node that was asked.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Sends bytes to a node, which gives them to [`ControlGroup::handle`](crate::ControlGroup::handle), and returns its answer.
    /// Is dropped when nobody waits for the answer any more. A request that comes late, twice or not at all does no harm.
    fn call(&self, to: NodeId, request: Bytes) -> impl Future<Output = Result<Bytes, TransportError>> + Send;
}

/// A request was not answered; it may have arrived.
#[derive(Debug, thiserror::Error)]
#[error("node {} has not answered", node.0)]
pub struct TransportError {
    /// The node.
    pub node: NodeId,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// Makes a [`Peer`] for each voter.
pub(crate) struct Network<T> {
    pub(crate) own: Identity,
    pub(crate) transport: T,
    /// How long to leave a peer alone that did not answer.
    pub(crate) pause: Duration,
    /// How long a piece of a snapshot may take.
    pub(crate) piece_time: Duration,
    /// In which nothing is appended anywhere.
    pub(crate) silence: Silence,
    /// Is told of groups of others.
    pub(crate) successor: Successor,
    /// Is told of voters with longer logs.
    pub(crate) outrun: Outrun,
}

/// One voter, from here.
pub(crate) struct Peer<T> {
    envelope: Envelope,
    successor: Successor,
    transport: T,
    pause: Duration,
    piece_time: Duration,
    silence: Silence,
    outrun: Outrun,
    /// The entries that were sent last and are not answered yet. openraft gives every request up after a heartbeat and sends it again,
    /// which would never end where many bytes take longer than that.
    sent: Option<Sent>,
}

/// Entries on their way.
struct Sent {
    entries: Entries,
    /// Ends with this value.
    answer: JoinSet<Result<Answer, CallError>>,
}

/// What a request appends: by whom, behind what, up to where.
type Entries = (Vote, Option<LogId>, LogId);

/// Why a peer is as good as unreachable.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Refused(#[from] PeerRefusal),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the answer is to another request")]
    OtherKind,
    #[error("entries or a piece of a snapshot were not answered in time")]
    Timeout,
    #[error("no majority answers, and somebody else may")]
    Silence,
    #[error("the entries that it has taken are not there")]
    Lost,
    #[error("a snapshot of {total} bytes does not get past byte {offset}")]
    Stuck { offset: u64, total: u64 },
}

impl<T: Transport> RaftNetworkFactory<Types> for Network<T> {
    type Network = Peer<T>;

    async fn new_client(&mut self, target: VoterId, _: &EmptyNode) -> Peer<T> {
        Peer {
            envelope: Envelope::new(self.own, target),
            successor: self.successor.clone(),
            transport: self.transport.clone(),
            pause: self.pause,
            piece_time: self.piece_time,
            silence: self.silence.clone(),
            outrun: self.outrun.clone(),
            sent: None,
        }
    }
}

impl<T: Transport> Peer<T> {
    async fn call(&self, request: &Request) -> Result<Answer, CallError> {
        let answer =
            call(&self.transport, self.envelope.to.node, encode_request(self.envelope, request)).await;
        if let Err(CallError::Refused(PeerRefusal::OtherGroup { here })) = &answer {
            self.successor.note(*here);
        }
        answer
    }

    async fn append(&mut self, request: AppendRequest) -> Result<AppendResponse, CallError> {
        self.may_speak().await?;
        let Some(last) = request.entries.last().map(|entry| entry.log_id) else {
            return self.call(&Request::Append(request)).await.and_then(appended);
        };
        let (vote, leader_commit) = (request.vote, request.leader_commit);
        let entries = (vote, request.prev_log_id, last);
        if self.sent.as_ref().is_none_or(|sent| sent.entries != entries) {
            self.sent = Some(self.send(entries, request));
            return self.answer().await;
        }
        let response = self.answer().await?;
        if response != AppendResponse::Success {
            return Ok(response);
        }
        // That was said to a request of an earlier time. What follows the entries tells that they are there, and that the voter
        // listens now.
        let follows = AppendRequest { vote, prev_log_id: Some(last), entries: Vec::new(), leader_commit };
        match self.call(&Request::Append(follows)).await.and_then(appended)? {
            AppendResponse::Conflict => Err(CallError::Lost),
            response @ (AppendResponse::Success
            | AppendResponse::PartialSuccess(_)
            | AppendResponse::HigherVote(_)) => Ok(response),
        }
    }

    /// Who is silent says so after a while: openraft asks again at once.
    async fn may_speak(&self) -> Result<(), CallError> {
        if self.silence.is_kept() {
            tokio::time::sleep(self.pause).await;
            return Err(CallError::Silence);
        }
        Ok(())
    }

    /// Sends entries so that they arrive, also if the answer is not waited for.
    fn send(&self, entries: Entries, request: AppendRequest) -> Sent {
        let bytes = encode_request(self.envelope, &Request::Append(request));
        let (transport, to, time) = (self.transport.clone(), self.envelope.to.node, self.piece_time);
        let mut answer = JoinSet::new();
        answer.spawn(async move {
            let answered = tokio::time::timeout(time, call(&transport, to, bytes)).await;
            answered.unwrap_or(Err(CallError::Timeout))
        });
        Sent { entries, answer }
    }

    /// Waits for the answer to what was sent. If it is not waited for to the end, it can be again.
    async fn answer(&mut self) -> Result<AppendResponse, CallError> {
        let Some(Sent { answer, .. }) = &mut self.sent else { return Err(CallError::Lost) };
        let answered = answer.join_next().await;
        self.sent = None;
        // A task that has panicked has answered nothing.
        answered.and_then(Result::ok).unwrap_or(Err(CallError::Lost)).and_then(appended)
    }

    async fn send_snapshot(&self, vote: Vote, meta: SnapshotMeta, state: Bytes) -> Result<Vote, CallError> {
        let total = state.len() as u64;
        let mut piece = Piece { vote, meta, offset: 0, total };
        let mut stuck = 0;
        loop {
            let next = match self.send_piece(&piece, &state).await {
                Ok(PieceAnswer::Done(vote)) => return Ok(vote),
                Ok(PieceAnswer::Next(next)) => next.min(total),
                Err(error) if stuck + 1 >= CONTROL_PIECE_ATTEMPTS => return Err(error),
                Err(error) => {
                    debug!(%error, offset = piece.offset, "piece of a snapshot not answered");
                    piece.offset
                }
            };
            stuck = if next > piece.offset { 0 } else { stuck + 1 };
            if stuck >= CONTROL_PIECE_ATTEMPTS {
                return Err(CallError::Stuck { offset: piece.offset, total });
            }
            piece.offset = next;
        }
    }

    async fn send_piece(&self, piece: &Piece, state: &Bytes) -> Result<PieceAnswer, CallError> {
        self.may_speak().await?;
        let start = usize::try_from(piece.offset).unwrap_or(usize::MAX).min(state.len());
        let end = state.len().min(start + CONTROL_PIECE_BYTES);
        let request = Request::Piece(piece.clone(), state.slice(start..end));
        let answer = tokio::time::timeout(self.piece_time, self.call(&request)).await;
        match answer.map_err(|_| CallError::Timeout)?? {
            Answer::Piece(answer) => Ok(answer),
            Answer::Vote(_) | Answer::Append(_) | Answer::Refused(_) => Err(CallError::OtherKind),
        }
    }
}

async fn call(transport: &impl Transport, to: NodeId, request: Bytes) -> Result<Answer, CallError> {
    let answer = transport.call(to, request).await?;
    match decode_answer(&answer)? {
        Answer::Refused(refusal) => Err(refusal.into()),
        answer @ (Answer::Vote(_) | Answer::Append(_) | Answer::Piece(_)) => Ok(answer),
    }
}

fn appended(answer: Answer) -> Result<AppendResponse, CallError> {
    match answer {
        Answer::Append(response) => Ok(response),
        Answer::Vote(_) | Answer::Piece(_) | Answer::Refused(_) => Err(CallError::OtherKind),
    }
}

type CallResult<R> = Result<R, RPCError<VoterId, EmptyNode, RaftError<VoterId>>>;

/// openraft waits before it asks again.
fn unreachable(error: &CallError) -> RPCError<VoterId, EmptyNode, RaftError<VoterId>> {
    RPCError::Unreachable(Unreachable::new(error))
}

impl<T: Transport> RaftNetwork<Types> for Peer<T> {
    async fn append_entries(
        &mut self,
        request: AppendRequest,
        option: RPCOption,
    ) -> CallResult<AppendResponse> {
        let Envelope { from: id, to: target, .. } = self.envelope;
        let timeout = option.hard_ttl();
        match tokio::time::timeout(timeout, self.append(request)).await {
            Ok(answered) => answered.map_err(|error| unreachable(&error)),
            Err(_elapsed) => {
                Err(RPCError::Timeout(Timeout { action: RPCTypes::AppendEntries, id, target, timeout }))
            }
        }
    }

    /// As long as openraft waits: an answer counts also late.
    async fn vote(&mut self, request: VoteRequest, _: RPCOption) -> CallResult<VoteResponse> {
        let last = request.last_log_id;
        match self.call(&Request::Vote(request)).await {
            Ok(Answer::Vote(response)) => {
                if response.last_log_id > last {
                    self.outrun.note();
                }
                Ok(response)
            }
            Ok(Answer::Append(_) | Answer::Piece(_) | Answer::Refused(_)) => {
                Err(unreachable(&CallError::OtherKind))
            }
            Err(error) => Err(unreachable(&error)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<VoterId>, StreamingError<Types, Fatal>> {
        let sent = tokio::select! {
            closed = cancel => return Err(closed.into()),
            sent = self.send_snapshot(vote, snapshot.meta, *snapshot.snapshot) => sent,
        };
        match sent {
            Ok(vote) => Ok(SnapshotResponse::new(vote)),
            Err(CallError::Refused(PeerRefusal::Ended)) => {
                Err(StreamingError::RemoteError(RemoteError::new(self.envelope.to, Fatal::Stopped)))
            }
            Err(error) => Err(StreamingError::Unreachable(Unreachable::new(&error))),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.pause))
    }
}
