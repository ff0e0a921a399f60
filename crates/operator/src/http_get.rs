//! One GET over HTTP or HTTPS: a pod's probe, or a function's module.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::authorities;

/// From where to where a server may send who asks.
const REDIRECTS: usize = 5;

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Get<'a> {
    pub(crate) url: &'a str,
    /// Certificates in PEM that sign the server's, instead of the public authorities and those of the machine.
    pub(crate) authority: Option<&'a [u8]>,
    /// A longer answer is refused.
    pub(crate) longest: usize,
    pub(crate) time: Duration,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    #[error("{url:?} is not an http or https URL")]
    NotAUrl { url: String },
    #[error("no connection to {authority}: {source}")]
    Connect { authority: String, source: std::io::Error },
    #[error("{host} is no name of a server: {source}")]
    ServerName { host: String, source: InvalidDnsNameError },
    #[error("the authority's certificates cannot be read: {0}")]
    Certificates(rustls::pki_types::pem::Error),
    #[error("the authority's certificates cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the connection has failed: {0}")]
    Broken(#[from] hyper::Error),
    #[error("the answer has failed: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is longer than {longest} bytes")]
    TooLong { longest: usize },
    #[error("redirected more than {REDIRECTS} times")]
    TooManyRedirects,
    #[error("no answer within {} s", time.as_secs())]
    TooLate { time: Duration },
}

/// Asks, follows redirects, and reads the answer whole.
pub(crate) async fn get(get: &Get<'_>) -> Result<Answer, GetError> {
    let asked = tokio::time::timeout(get.time, follow(get)).await;
    asked.unwrap_or(Err(GetError::TooLate { time: get.time }))
}

async fn follow(get: &Get<'_>) -> Result<Answer, GetError> {
    let mut url = get.url.to_owned();
    for _ in 0..=REDIRECTS {
        let uri = parse(&url)?;
        let response = ask(get, &uri).await?;
        let next = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        match next {
            Some(next) if response.status().is_redirection() => url = resolve(&uri, next),
            _ => return read(get, response).await,
        }
    }
    Err(GetError::TooManyRedirects)
}

fn parse(url: &str) -> Result<Uri, GetError> {
    let not_a_url = || GetError::NotAUrl { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| not_a_url())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) => Ok(uri),
        _ => Err(not_a_url()),
    }
}

/// Where a redirect leads: to a whole URL, or to another path of the same server.
fn resolve(from: &Uri, to: &str) -> String {
    if !to.starts_with('/') {
        return to.to_owned();
    }
    let scheme = from.scheme_str().unwrap_or("https");
    let authority = from.authority().map(|authority| authority.as_str()).unwrap_or_default();
    if to.starts_with("//") { format!("{scheme}:{to}") } else { format!("{scheme}://{authority}{to}") }
}

async fn ask(get: &Get<'_>, uri: &Uri) -> Result<Response<Incoming>, GetError> {
    let host = uri.host().unwrap_or_default();
    let is_https = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let authority = format!("{host}:{port}");
    let connected = TcpStream::connect(&authority).await;
    let stream = connected.map_err(|source| GetError::Connect { authority: authority.clone(), source })?;
    if !is_https {
        return exchange(stream, uri).await;
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name =
        ServerName::try_from(bare.clone()).map_err(|source| GetError::ServerName { host: bare, source })?;
    let connector = TlsConnector::from(Arc::new(tls(get.authority).await?));
    let connected = connector.connect(name, stream).await;
    exchange(connected.map_err(|source| GetError::Connect { authority, source })?, uri).await
}

async fn tls(authority: Option<&[u8]>) -> Result<ClientConfig, GetError> {
    let roots = match authority {
        None => authorities::public().await,
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.map_err(GetError::Certificates)?)?;
            }
            roots
        }
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
) -> Result<Response<Incoming>, GetError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer, or when nobody waits for it any more.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection broken");
        }
    });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, "wattle-operator")
        .body(Empty::<Bytes>::new())
        .map_err(|_| GetError::NotAUrl { url: uri.to_string() })?;
    Ok(sender.send_request(request).await?)
}

async fn read(get: &Get<'_>, response: Response<Incoming>) -> Result<Answer, GetError> {
    let status = response.status();
    let read = Limited::new(response.into_body(), get.longest).collect().await;
    let body = read.map_err(|error| {
        if error.is::<LengthLimitError>() {
            GetError::TooLong { longest: get.longest }
        } else {
            GetError::Body(error)
        }
    })?;
    Ok(Answer { status, body: body.to_bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_paths_and_to_urls() {
        let from = parse("https://example.com:8443/a/b?c").unwrap();
        assert_eq!(resolve(&from, "/d"), "https://example.com:8443/d");
        assert_eq!(resolve(&from, "//other/d"), "https://other/d");
        assert_eq!(resolve(&from, "http://other/d"), "http://other/d");
        for wrong in ["ftp://a/b", "/a", "http://", "a b"] {
            assert!(matches!(parse(wrong), Err(GetError::NotAUrl { .. })), "{wrong}");
        }
    }
}
