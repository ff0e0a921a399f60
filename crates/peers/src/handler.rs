//! [`Handler`]: what a node does about what its peers say.

use bytes::Bytes;
use wattle_core::ids::{MemberId, NodeId};

use crate::call::{
    Admission, Ask, CallRefusal, ControlPosition, Decided, Follow, Heartbeat, HeartbeatAnswer, Situation,
};
use crate::error::LinkError;
use crate::identity::Purpose;
use crate::message::PeerMessage;

/// What has happened to links.
#[derive(Debug)]
pub enum Event {
    /// A link of this node is open.
    Opened {
        /// To whom.
        to: MemberId,
        /// For what.
        purpose: Purpose,
    },
    /// A link of this node that was open is closed.
    Closed {
        /// To whom.
        to: MemberId,
        /// For what.
        purpose: Purpose,
        /// Why.
        error: LinkError,
    },
    /// A link of this node could not be opened. If nobody listens there after a link was closed, the other is probably dead.
    Failed {
        /// To whom.
        to: MemberId,
        /// For what.
        purpose: Purpose,
        /// Why.
        error: LinkError,
    },
    /// Another has opened a link, and has proved who it is.
    Admitted {
        /// Who.
        from: MemberId,
        /// For what.
        purpose: Purpose,
    },
    /// A link that another had opened is closed.
    Left {
        /// Who.
        from: MemberId,
        /// For what.
        purpose: Purpose,
        /// Why.
        error: LinkError,
    },
    /// Somebody has tried to open a link and was refused: anybody, as often as they like.
    Denied {
        /// Why.
        error: LinkError,
    },
}

/// What a node does about what its peers say. All of it runs on the runtime of a connection: it must not block.
pub trait Handler: Send + Sync + 'static {
    /// Messages of a peer have come, in their order. While this waits nothing more is read from that peer, and soon its queue
    /// is full. It is dropped when the link ends.
    fn receive(&self, from: MemberId, messages: Vec<PeerMessage>) -> impl Future<Output = ()> + Send;

    /// Answers another member of the control group. This, as all answers, is dropped when the link ends, and counts against
    /// [`PEER_CALLS`](wattle_core::limits::PEER_CALLS) of its caller until it is there.
    fn control(
        &self,
        from: NodeId,
        request: Bytes,
    ) -> impl Future<Output = Result<Bytes, CallRefusal>> + Send;

    /// Has a proposal decided, and answers what became of it.
    fn propose(
        &self,
        from: MemberId,
        proposal: Bytes,
    ) -> impl Future<Output = Result<Bytes, CallRefusal>> + Send;

    /// A member lives.
    fn heartbeat(
        &self,
        from: MemberId,
        heartbeat: Heartbeat,
    ) -> impl Future<Output = Result<HeartbeatAnswer, CallRefusal>> + Send;

    /// Says that this node lives.
    fn ask_heartbeat(&self, from: MemberId) -> impl Future<Output = Result<Heartbeat, CallRefusal>> + Send;

    /// Says how far what is decided is, if this node leads and a majority has confirmed that.
    fn decided_position(
        &self,
        from: MemberId,
    ) -> impl Future<Output = Result<ControlPosition, CallRefusal>> + Send;

    /// Says what was decided.
    fn follow(
        &self,
        from: MemberId,
        follow: Follow,
    ) -> impl Future<Output = Result<Decided, CallRefusal>> + Send;

    /// Says how things are to somebody who has the secret and need not be a member.
    fn ask(&self, ask: Ask) -> impl Future<Output = Result<Situation, CallRefusal>> + Send;

    /// Has the proposal of such a one decided, that it becomes a member, wherever the leader is. Is dropped after
    /// [`STRANGER_TIME`](wattle_core::limits::STRANGER_TIME).
    fn join(&self, proposal: Bytes) -> impl Future<Output = Result<Admission, CallRefusal>> + Send;

    /// Something has happened.
    fn notice(&self, event: Event);
}
