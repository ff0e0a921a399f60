//! [`Handler`]: what a node does about what its peers say.

use bytes::Bytes;
use wattle_core::ids::MemberId;

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

    /// Answers a call. It is dropped when the link ends.
    fn answer(&self, from: MemberId, request: Bytes) -> impl Future<Output = Bytes> + Send;

    /// Something has happened.
    fn notice(&self, event: Event);
}
