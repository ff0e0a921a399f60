//! What the kubelet of a node answers to the API server: the logs of containers, and ports of pods. It speaks plain HTTP
//! and asks nobody who they are: it is reached from this machine alone, whose pods and logs are open to everybody on it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::logs::{Asked, Log, Options, Refusal};
use super::port_forward::{self, PROTOCOL, Target};
use super::{Command, Found};
use crate::controller::RETRY;
use crate::object;

const SPDY: &str = "SPDY/3.1";
const PROTOCOL_VERSION: &str = "x-stream-protocol-version";

type Body = UnsyncBoxBody<Bytes, io::Error>;
/// What becomes of a connection after its last answer, at most one thing.
type Upgrades = mpsc::Sender<(OnUpgrade, Target)>;

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("404 page not found")]
    Path,
    #[error("pod {pod:?} does not exist")]
    Pod { pod: String },
    #[error("container {container:?} not found in pod {pod:?}")]
    Container { pod: String, container: String },
    #[error(transparent)]
    Log(#[from] Refusal),
    #[error("the log cannot be read: {0}")]
    File(#[from] io::Error),
    #[error("unable to upgrade: missing upgrade headers in request")]
    NoUpgrade,
    #[error(
        "unable to upgrade: unable to negotiate protocol: client supports {found:?}, server accepts {PROTOCOL:?}"
    )]
    Protocol { found: String },
    #[error("pod {pod:?} has no address yet")]
    NoAddress { pod: String },
    #[error("the kubelet has stopped")]
    Stopped,
}

impl Fault {
    fn code(&self) -> StatusCode {
        match self {
            Self::Path | Self::Pod { .. } | Self::Container { .. } => StatusCode::NOT_FOUND,
            Self::Log(_) | Self::NoUpgrade => StatusCode::BAD_REQUEST,
            Self::Protocol { .. } => StatusCode::FORBIDDEN,
            Self::File(_) | Self::NoAddress { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Who asks on behalf of one node.
struct Desk {
    node: String,
    commands: mpsc::Sender<Command>,
}

/// Serves until it is dropped; while the node is away, connections are reset.
pub(crate) async fn serve(
    node: String,
    listener: TcpListener,
    commands: mpsc::Sender<Command>,
    mut down: watch::Receiver<BTreeSet<String>>,
) {
    let mut connections = JoinSet::new();
    let desk = Arc::new(Desk { node, commands });
    loop {
        let is_down = down.borrow_and_update().contains(&desk.node);
        if is_down {
            connections.shutdown().await;
        }
        tokio::select! {
            changed = down.changed() => if changed.is_err() { return },
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if is_down => reset(&stream),
                Ok((stream, _)) => {
                    connections.spawn(connection(Arc::clone(&desk), stream));
                }
                Err(error) => {
                    warn!(%error, node = desk.node, "a kubelet accepts no connection");
                    sleep(RETRY).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Closing without time to linger sends RST instead of FIN.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        debug!(%error, "a connection has gone before it was reset");
    }
}

async fn connection(desk: Arc<Desk>, stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection has gone at once");
    }
    let (upgrades, mut upgraded) = mpsc::channel(1);
    let service = service_fn(move |request| answer(Arc::clone(&desk), upgrades.clone(), request));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection broke");
    }
    let Ok((upgrade, target)) = upgraded.try_recv() else { return };
    let forwarded = match upgrade.await {
        Ok(io) => port_forward::serve(TokioIo::new(io), target).await,
        Err(error) => return debug!(%error, "a connection was not upgraded"),
    };
    if let Err(error) = forwarded {
        debug!(%error, "forwarding of ports broke off");
    }
}

async fn answer(
    desk: Arc<Desk>,
    upgrades: Upgrades,
    mut request: hyper::Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    let path: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    let answer = match path.as_slice() {
        ["healthz"] => Ok(text(StatusCode::OK, "ok")),
        ["containerLogs", namespace, pod, container] => {
            let query = request.uri().query().unwrap_or_default();
            desk.logs(namespace, pod, container, query).await
        }
        ["portForward", namespace, pod] => {
            desk.forward((namespace, pod), request.headers(), upgrade, &upgrades).await
        }
        _ => Err(Fault::Path),
    };
    Ok(answer.unwrap_or_else(|fault| text(fault.code(), &fault.to_string())))
}

impl Desk {
    async fn find(&self, namespace: &str, pod: &str) -> Result<Found, Fault> {
        let (reply, answer) = oneshot::channel();
        let node = self.node.clone();
        let command = Command::Find { node, namespace: namespace.to_owned(), pod: pod.to_owned(), reply };
        self.commands.send(command).await.map_err(|_| Fault::Stopped)?;
        answer.await.map_err(|_| Fault::Stopped)?.ok_or_else(|| Fault::Pod { pod: pod.to_owned() })
    }

    async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        query: &str,
    ) -> Result<Response<Body>, Fault> {
        let options = Options::parse(query)?;
        let found = self.find(namespace, pod).await?;
        let mut containers = found.pod.spec.iter().flat_map(|spec| &spec.containers);
        let at = containers.position(|one| one.name == container).ok_or_else(|| {
            let (pod, container) = (pod.to_owned(), container.to_owned());
            Fault::Container { pod, container }
        })?;
        let view = found.views.borrow()[at].clone();
        let asked = Asked { pod, container, view: &view, journal: &found.shown.journals[at] };
        let log = asked.open(&options).await??;
        let mut response = Response::new(streamed(log));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    async fn forward(
        &self,
        (namespace, name): (&str, &str),
        headers: &HeaderMap,
        upgrade: OnUpgrade,
        upgrades: &Upgrades,
    ) -> Result<Response<Body>, Fault> {
        let found = self.find(namespace, name).await?;
        let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !value("connection").to_lowercase().contains("upgrade")
            || !value("upgrade").eq_ignore_ascii_case(SPDY)
        {
            return Err(Fault::NoUpgrade);
        }
        let offered = headers.get_all(PROTOCOL_VERSION).iter().filter_map(|value| value.to_str().ok());
        let offered = offered.collect::<Vec<_>>().join(",");
        if !offered.split(',').any(|one| one.trim() == PROTOCOL) {
            return Err(Fault::Protocol { found: offered });
        }
        let address = found.shown.address.get().ok_or_else(|| Fault::NoAddress { pod: name.to_owned() })?;
        let uid = object::uid(&found.pod.metadata).to_owned();
        let target = Target { name: name.to_owned(), uid, address: *address, views: found.views };
        upgrades.try_send((upgrade, target)).map_err(|_| Fault::NoUpgrade)?;
        let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
        let headers = response.headers_mut();
        headers.clear();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
        headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(PROTOCOL));
        Ok(response)
    }
}

fn text(code: StatusCode, body: &str) -> Response<Body> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn streamed(log: Log) -> Body {
    let blocks = stream::unfold(log, |mut log| async move {
        let block = log.next().await?;
        Some((block.map(Frame::data), log))
    });
    StreamBody::new(blocks).boxed_unsync()
}
