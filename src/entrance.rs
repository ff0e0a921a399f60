//! [`Entrance`]: what a port serves: at once other nodes, which must be heard before this one
//! is a member, and people who have a grid founded; and then everybody.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::CONTENT_TYPE;
use tonic::codegen::http::{HeaderValue, Request, Response, StatusCode};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::service::Routes;
use wattle_peers::PeerServer;
use wattle_proto::v1::grid_service_server::GridServiceServer;

use crate::failure::Failure;
use crate::in_flight::InFlight;
use crate::peering::Inside;
use crate::rpc::{Answering, Counted, Explain, Lobby};

/// What a port serves, one clone for each connection.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    peers: Option<PeerServer<Inside>>,
    /// What people may ask of a node that is no member, if they come to this port.
    lobby: Option<GridServiceServer<Lobby>>,
    /// The services, once the node is a member.
    services: Arc<OnceLock<Routes>>,
    in_flight: Arc<InFlight>,
    /// The same, for this connection.
    prepared: Option<Counted>,
}

impl Entrance {
    /// Of the services to come, and of nodes if they use this port.
    pub(crate) fn new(
        (peers, lobby): (Option<PeerServer<Inside>>, Option<Lobby>),
        services: Arc<OnceLock<Routes>>,
        in_flight: Arc<InFlight>,
    ) -> Self {
        let lobby = lobby.map(GridServiceServer::new);
        Self { peers, lobby, services, in_flight, prepared: None }
    }

    fn services(&mut self) -> Option<&mut Counted> {
        if self.prepared.is_none() {
            let services = Explain(self.services.get()?.clone().prepare());
            self.prepared = Some(Counted { services, in_flight: Arc::clone(&self.in_flight) });
        }
        self.prepared.as_mut()
    }
}

/// Whether a call is one of a service.
fn is_for<S: NamedService>(_: &S, request: &Request<Body>) -> bool {
    let service = request.uri().path().strip_prefix('/').and_then(|path| path.split('/').next());
    service == Some(S::NAME)
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
            && is_for(peers, &request)
        {
            return Entering::Early(peers.call(request));
        }
        if let Some(services) = self.services() {
            return Entering::Called(services.call(request));
        }
        match &mut self.lobby {
            Some(lobby) if is_for(lobby, &request) => Entering::Early(lobby.call(request)),
            Some(_) | None if is_grpc(&request) => Entering::NotYet(Asking::Call),
            // It turns, whatever it waits for.
            Some(_) | None if request.uri().path() == "/livez" => Entering::NotYet(Asking::IfItLives),
            Some(_) | None => Entering::NotYet(Asking::Other),
        }
    }
}

/// Whether it is a call, and no probe, say.
pub(crate) fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// An answer to come. Most are clients', whose way has no allocation more.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub(crate) enum Entering {
    /// To another node, or to who has a grid founded.
    Early(BoxFuture<Response<Body>, Infallible>),
    /// To a client.
    Called(Answering),
    /// The node is no member yet.
    NotYet(Asking),
}

/// What is asked of a node that is no member yet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asking {
    /// A gRPC call.
    Call,
    /// Whether the process turns.
    IfItLives,
    /// Something else, whose asker reads no gRPC status.
    Other,
}

impl Future for Entering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Early(answer) => answer.as_mut().poll(context),
            Self::Called(answer) => Pin::new(answer).poll(context),
            Self::NotYet(Asking::Call) => Poll::Ready(Ok(Status::from(Failure::NoMember).into_http())),
            Self::NotYet(Asking::IfItLives) => Poll::Ready(Ok(Response::new(Body::new("ok\n".to_owned())))),
            Self::NotYet(Asking::Other) => {
                let mut answer = Response::new(Body::new(format!("{}\n", Failure::NoMember)));
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                Poll::Ready(Ok(answer))
            }
        }
    }
}
