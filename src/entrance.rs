//! [`Entrance`]: what a port serves: at once other nodes, which must be heard before this one is a member, and then everybody.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::service::Routes;
use wattle_peers::PeerServer;

use crate::failure::Failure;
use crate::in_flight::InFlight;
use crate::peering::Inside;
use crate::rpc::{Answering, Counted, Explain};

/// What a port serves, one clone for each connection.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    peers: Option<PeerServer<Inside>>,
    /// The services, once the node is a member.
    services: Arc<OnceLock<Routes>>,
    in_flight: Arc<InFlight>,
    /// The same, for this connection.
    prepared: Option<Counted>,
}

impl Entrance {
    /// Of the services to come, and of nodes if they use this port.
    pub(crate) fn new(
        peers: Option<PeerServer<Inside>>,
        services: Arc<OnceLock<Routes>>,
        in_flight: Arc<InFlight>,
    ) -> Self {
        Self { peers, services, in_flight, prepared: None }
    }

    fn services(&mut self) -> Option<&mut Counted> {
        if self.prepared.is_none() {
            let services = Explain(self.services.get()?.clone().prepare());
            self.prepared = Some(Counted { services, in_flight: Arc::clone(&self.in_flight) });
        }
        self.prepared.as_mut()
    }
}

/// Whether a call is another node's.
fn is_from_peer(request: &Request<Body>) -> bool {
    let service = request.uri().path().strip_prefix('/').and_then(|path| path.split('/').next());
    service == Some(<PeerServer<Inside> as NamedService>::NAME)
}

impl Service<Request<Body>> for Entrance {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Entering;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.services().map_or(Poll::Ready(Ok(())), |services| services.poll_ready(context))
    }

    fn call(&mut self, request: Request<Body>) -> Entering {
        if let Some(peers) = &mut self.peers
            && is_from_peer(&request)
        {
            return Entering::Peer(peers.call(request));
        }
        match self.services() {
            Some(services) => Entering::Called(services.call(request)),
            None => Entering::NotYet,
        }
    }
}

/// An answer to come. Most are clients', whose way has no allocation more.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub(crate) enum Entering {
    /// To another node.
    Peer(BoxFuture<Response<Body>, Infallible>),
    /// To a client.
    Called(Answering),
    /// The node is no member yet.
    NotYet,
}

impl Future for Entering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Peer(answer) => answer.as_mut().poll(context),
            Self::Called(answer) => Pin::new(answer).poll(context),
            Self::NotYet => Poll::Ready(Ok(Status::from(Failure::NoMember).into_http())),
        }
    }
}
