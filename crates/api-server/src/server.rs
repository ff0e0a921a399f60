//! Connections: accepted, served over HTTP/1.1, and cut when a test wants an outage.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::Settings;
use crate::error::ApiError;
use crate::faults::{Faults, Outage};
use crate::impersonation::Impersonation;
use crate::kubelet::{self, Tunnel, Upgrade};
use crate::reply::{Answer, Reply};
use crate::request::{Layout, Method, Query, Request};
use crate::request_log::RequestLog;
use crate::routes;
use crate::state::State;
use crate::tls::Tls;
use crate::watch::{Chunk, Watch};
use crate::yaml;

/// As in the real server.
const MAX_BODY: usize = 3 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Shared {
    // A leaf: held for one request's step, never across an await.
    pub(crate) state: Mutex<State>,
    pub(crate) faults: Faults,
    // A leaf like the state.
    pub(crate) requests: Mutex<RequestLog>,
    pub(crate) settings: Settings,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Tls>,
}

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Accepts connections until it is dropped; during an outage nothing listens, or every connection is reset.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let mut outage = shared.faults.subscribe_outage();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let now = *outage.borrow_and_update();
        if now.is_some() {
            connections.shutdown().await;
        }
        listener = match (now, listener) {
            (Some(Outage::Refused), _) => None,
            (_, Some(listener)) => Some(listener),
            (_, None) => TcpListener::bind(shared.address).await.ok(),
        };
        tokio::select! {
            changed = outage.changed() => if changed.is_err() { return },
            accepted = accept(listener.as_ref()) => {
                let Ok((stream, _)) = accepted else { continue };
                if now.is_some() {
                    reset(&stream);
                } else {
                    connections.spawn(connection(Arc::clone(&shared), stream));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Closing without time to linger sends RST instead of FIN.
fn reset(stream: &TcpStream) {
    if stream.set_zero_linger().is_err() {
        // The peer has gone first: there is nothing left to reset.
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    // A connection that is cut, by an outage or the end of the server, is cut hard.
    reset(&stream);
    if stream.set_nodelay(true).is_err() {
        return;
    }
    match shared.tls.as_ref().map(|tls| tls.acceptor.clone()) {
        None => serve_connection(shared, stream).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_connection(shared, stream).await;
            }
        }
    }
}

async fn serve_connection(shared: Arc<Shared>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let (tunnels, mut begun) = mpsc::channel(1);
    let service = service_fn(move |request| answer(Arc::clone(&shared), tunnels.clone(), request));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    // What a client does to its connection, or a test to a stream, is no fault of the server.
    drop(served);
    if let Ok(tunnel) = begun.try_recv() {
        tunnel.run().await;
    }
}

async fn answer(
    shared: Arc<Shared>,
    tunnels: mpsc::Sender<Tunnel>,
    mut request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Body>, Infallible> {
    let client = hyper::upgrade::on(&mut request);
    let request = match read(request).await {
        Ok(request) => request,
        Err(error) => return Ok(respond(Reply::error(&error), Layout::Dense)),
    };
    let delay = shared.faults.take_delay(&request.path);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let answer = match shared.faults.take_refusal(&request.path) {
        Some(refusal) => Answer::Reply(Reply::error(&refusal)),
        None => routes::handle(&shared, &request),
    };
    let response = match answer {
        Answer::Reply(reply) => respond(reply, request.layout()),
        Answer::Errand(errand) => kubelet::carry_out(errand, client, &tunnels)
            .await
            .unwrap_or_else(|error| respond(Reply::error(&error), request.layout())),
    };
    shared.requests.lock().record(&request, response.status().as_u16());
    Ok(response)
}

async fn read(request: hyper::Request<Incoming>) -> Result<Request, ApiError> {
    let (parts, mut body) = request.into_parts();
    let header =
        |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = match Limited::new(&mut body, MAX_BODY).collect().await {
        Ok(read) => read.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            drain(body).await;
            return Err(ApiError::EntityTooLarge { limit: MAX_BODY });
        }
        Err(error) => return Err(ApiError::BadRequest(error.to_string())),
    };
    Ok(Request {
        method: match parts.method {
            hyper::Method::GET => Method::Get,
            hyper::Method::POST => Method::Post,
            hyper::Method::PUT => Method::Put,
            hyper::Method::PATCH => Method::Patch,
            hyper::Method::DELETE => Method::Delete,
            _ => Method::Other,
        },
        path: parts.uri.path().to_owned(),
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        raw_query: parts.uri.query().unwrap_or_default().to_owned(),
        accept: header(header::ACCEPT).unwrap_or_default(),
        content_type: header(header::CONTENT_TYPE).unwrap_or_default(),
        user_agent: header(header::USER_AGENT).unwrap_or_default(),
        authorization: header(header::AUTHORIZATION),
        impersonation: Impersonation::of(&parts.headers),
        upgrade: Upgrade::of(&parts.headers),
        body,
    })
}

/// Reads on for a while, so that who still writes gets to read the answer.
async fn drain(mut body: Incoming) {
    const AT_MOST: usize = 256 * 1024;
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > AT_MOST {
            return;
        }
    }
}

fn respond(reply: Reply, layout: Layout) -> hyper::Response<Body> {
    let mut response = match reply {
        Reply::Text { code, body } => whole(code, "text/plain; charset=utf-8", body.into()),
        Reply::Watch(watch) => {
            let mut response = hyper::Response::new(streamed(*watch));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Reply::Json { code, media_type, body, warnings, retry_after } => {
            let yaml = (media_type == yaml::MEDIA_TYPE).then(|| yaml::write(&body)).flatten();
            let text = yaml.unwrap_or_else(|| layout.written(&body));
            let mut response = whole(code, &media_type, text.into());
            for warning in warnings {
                let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
                if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
                    response.headers_mut().append(header::WARNING, value);
                }
            }
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            response
        }
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

pub(crate) fn whole(code: u16, media_type: &str, body: Bytes) -> hyper::Response<Body> {
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    let mut response = hyper::Response::new(body);
    *response.status_mut() =
        hyper::StatusCode::from_u16(code).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = HeaderValue::from_str(media_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

fn streamed(watch: Watch) -> Body {
    let chunks = stream::unfold(watch, |mut watch| async move {
        match watch.next().await? {
            Chunk::Data(bytes) => Some((Ok(Frame::data(bytes)), watch)),
            Chunk::Reset => Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), watch)),
        }
    });
    StreamBody::new(chunks).boxed_unsync()
}

/// Does what controllers do after every change, until nothing is left to do.
pub(crate) async fn collect(shared: Arc<Shared>, mut newest: watch::Receiver<u64>) {
    // More rounds than this on one change would be a circle.
    const MAX_ROUNDS: usize = 1_000;
    while newest.changed().await.is_ok() {
        for _ in 0..MAX_ROUNDS {
            if !shared.state.lock().collect() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}
