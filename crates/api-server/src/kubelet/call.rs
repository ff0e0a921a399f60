//! A call to a kubelet: its answer becomes the server's, or the connection to it one end of a tunnel.

use std::fmt::Display;
use std::io;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Empty, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::location::Location;
use super::tunnel::Tunnel;
use super::upgrade::{PROTOCOL_VERSION, Upgrade};
use crate::error::ApiError;
use crate::server::{Body, whole};

/// Of what a kubelet says when it refuses.
const MAX_REFUSAL: usize = 64 * 1024;

/// What a kubelet is asked for.
#[derive(Debug)]
pub(crate) enum Errand {
    Log { at: Location, pod: String },
    PortForward { at: Location, wanted: Upgrade },
}

/// `client` is the connection of who has asked; a tunnel goes to who looks after that.
pub(crate) async fn carry_out(
    errand: Errand,
    client: OnUpgrade,
    tunnels: &mpsc::Sender<Tunnel>,
) -> Result<Response<Body>, ApiError> {
    match errand {
        Errand::Log { at, pod } => log(&at, pod).await,
        Errand::PortForward { at, wanted } => port_forward(&at, &wanted, client, tunnels).await,
    }
}

async fn log(at: &Location, pod: String) -> Result<Response<Body>, ApiError> {
    let (connection, response) = call(at, Method::GET, HeaderMap::new()).await?;
    let code = response.status();
    if !code.is_success() {
        let message = refusal(response).await;
        return Err(match code {
            StatusCode::BAD_REQUEST => ApiError::BadRequest(message),
            code => ApiError::Kubelet { code: code.as_u16(), resource: "pods/log", name: pod, message },
        });
    }
    let mut answer = Response::new(streamed(connection, response.into_body()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(answer)
}

async fn port_forward(
    at: &Location,
    wanted: &Upgrade,
    client: OnUpgrade,
    tunnels: &mpsc::Sender<Tunnel>,
) -> Result<Response<Body>, ApiError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    for (name, value) in std::iter::once(("upgrade", wanted.protocol()))
        .chain(wanted.versions().iter().map(|version| (PROTOCOL_VERSION, version.as_str())))
    {
        let malformed = |_| ApiError::BadRequest(format!("the header {name} is malformed"));
        headers.append(name, HeaderValue::from_str(value).map_err(malformed)?);
    }
    let (mut connection, response) = call(at, Method::POST, headers).await?;
    let code = response.status();
    if code != StatusCode::SWITCHING_PROTOCOLS {
        // Who asks for another protocol gets the kubelet's own words.
        return Ok(whole(code.as_u16(), "text/plain; charset=utf-8", refusal(response).await.into()));
    }
    let version = response.headers().get(PROTOCOL_VERSION).and_then(|version| version.to_str().ok());
    let version = version.unwrap_or_default().to_owned();
    let kubelet = hyper::upgrade::on(response).await.map_err(|error| failed(at, &error))?;
    // It ends when it has handed over what it carried.
    while connection.join_next().await.is_some() {}
    let tunnel = Tunnel::new(wanted, client, kubelet);
    if tunnels.try_send(tunnel).is_err() {
        return Err(ApiError::Internal("the connection carries a tunnel already".to_owned()));
    }
    accepted(wanted, &version)
        .ok_or_else(|| ApiError::Internal("the kubelet's answer is malformed".to_owned()))
}

/// The answer that makes the client's connection a tunnel.
fn accepted(wanted: &Upgrade, version: &str) -> Option<Response<Body>> {
    let mut response = whole(StatusCode::SWITCHING_PROTOCOLS.as_u16(), "", Bytes::new());
    let headers = response.headers_mut();
    headers.clear();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    for (name, value) in wanted.accepted(version) {
        headers.insert(name, HeaderValue::from_str(&value).ok()?);
    }
    Some(response)
}

/// The connection is driven by a task that ends with what is given back.
async fn call(
    at: &Location,
    method: Method,
    headers: HeaderMap,
) -> Result<(JoinSet<()>, Response<Incoming>), ApiError> {
    let stream =
        TcpStream::connect((at.host.as_str(), at.port)).await.map_err(|error| unreached(at, &error))?;
    stream.set_nodelay(true).map_err(|error| unreached(at, &error))?;
    let handshake = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| failed(at, &error))?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Who waits for the answer hears of what goes wrong.
        drop(connection.with_upgrades().await);
    });
    let mut request = hyper::Request::new(Empty::new());
    *request.method_mut() = method;
    *request.uri_mut() = at.path.parse().map_err(|error| failed(at, &error))?;
    *request.headers_mut() = headers;
    let host = HeaderValue::from_str(&at.authority()).map_err(|error| failed(at, &error))?;
    request.headers_mut().insert(header::HOST, host);
    let response = sender.send_request(request).await.map_err(|error| failed(at, &error))?;
    Ok((driver, response))
}

/// In Go's words where they are known.
fn unreached(at: &Location, error: &io::Error) -> ApiError {
    let authority = at.authority();
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            failed(at, &format!("dial tcp {authority}: connect: connection refused"))
        }
        _ => failed(at, &format!("dial tcp {authority}: {error}")),
    }
}

fn failed(at: &Location, why: &dyn Display) -> ApiError {
    ApiError::Internal(format!("Get \"{at}\": {why}"))
}

async fn refusal(response: Response<Incoming>) -> String {
    match Limited::new(response.into_body(), MAX_REFUSAL).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => error.to_string(),
    }
}

fn streamed(connection: JoinSet<()>, body: Incoming) -> Body {
    let frames = stream::unfold((connection, body), |(connection, mut body)| async move {
        let frame = body.frame().await?;
        Some((frame.map_err(io::Error::other), (connection, body)))
    });
    StreamBody::new(frames).boxed_unsync()
}
