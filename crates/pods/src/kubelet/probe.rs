//! Probes of containers by HTTP and TCP.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{self, Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// Of a status line; nobody sends more.
const LINE: u64 = 1024;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Probe {
    check: Check,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum Check {
    Http { address: SocketAddr, request: String },
    Tcp(SocketAddr),
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum Unsupported {
    #[error("probes of containers are HTTP or TCP here")]
    Action,
    #[error("probes speak no TLS here")]
    Tls,
    #[error("port {0} is no port of the container")]
    Port(String),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("HTTP probe failed with statuscode: {0}")]
    Status(u16),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("context deadline exceeded")]
    Timeout,
    #[error("malformed HTTP response")]
    Malformed,
}

/// What several checks have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Bad,
}

impl Probe {
    pub(crate) fn new(probe: &v1::Probe, container: &Container, pod: Ipv4Addr) -> Result<Self, Unsupported> {
        let address = |port: &IntOrString, host: Option<&String>| -> Result<SocketAddr, Unsupported> {
            let host = host.and_then(|host| host.parse().ok()).unwrap_or(pod);
            Ok(SocketAddr::from((host, number(port, container)?)))
        };
        let check = match (&probe.http_get, &probe.tcp_socket) {
            (Some(get), _) if get.scheme.as_deref() == Some("HTTPS") => return Err(Unsupported::Tls),
            (Some(get), _) => {
                let address = address(&get.port, get.host.as_ref())?;
                Check::Http { address, request: request(get, address) }
            }
            (None, Some(socket)) => Check::Tcp(address(&socket.port, socket.host.as_ref())?),
            (None, None) => return Err(Unsupported::Action),
        };
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
        };
        let times = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default).max(1)
        };
        Ok(Self {
            check,
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10).max(Duration::from_secs(1)),
            timeout: seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1)),
            successes: times(probe.success_threshold, 1),
            failures: times(probe.failure_threshold, 3),
        })
    }

    pub(crate) fn start(self) -> Rounds {
        let mut ticks = interval_at(Instant::now() + self.delay, self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Rounds { probe: self, ticks, row: 0, was_good: None }
    }

    async fn check(&self) -> Result<(), Failure> {
        timeout(self.timeout, self.ask()).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn ask(&self) -> Result<(), Failure> {
        let (address, request) = match &self.check {
            Check::Http { address, request } => (address, request),
            Check::Tcp(address) => {
                TcpStream::connect(address).await?;
                return Ok(());
            }
        };
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream.take(LINE)).read_line(&mut line).await?;
        let mut words = line.split_whitespace();
        let version = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
        match words.next().and_then(|code| code.parse().ok()).filter(|_| version) {
            Some(200..=399) => Ok(()),
            Some(code) => Err(Failure::Status(code)),
            None => Err(Failure::Malformed),
        }
    }
}

fn number(port: &IntOrString, container: &Container) -> Result<u16, Unsupported> {
    let found = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port)
        }
    };
    let text = || match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    found.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| Unsupported::Port(text()))
}

fn request(get: &HTTPGetAction, address: SocketAddr) -> String {
    let path = get.path.as_deref().unwrap_or("/");
    let mut request =
        format!("GET {path} HTTP/1.1\r\nUser-Agent: kube-probe/1.32\r\nAccept: */*\r\nConnection: close\r\n");
    let headers = get.http_headers.as_deref().unwrap_or_default();
    if !headers.iter().any(|header| header.name.eq_ignore_ascii_case("host")) {
        request.push_str(&format!("Host: {address}\r\n"));
    }
    for header in headers {
        request.push_str(&format!("{}: {}\r\n", header.name, header.value));
    }
    request + "\r\n"
}

/// A probe in its period, with its thresholds.
#[derive(Debug)]
pub(crate) struct Rounds {
    probe: Probe,
    ticks: tokio::time::Interval,
    row: u32,
    was_good: Option<bool>,
}

impl Rounds {
    /// One check; a verdict once as many in a row as it takes have come to the same. `failed` hears of each failure.
    pub(crate) async fn next(&mut self, failed: impl Fn(&Failure)) -> Option<Verdict> {
        self.ticks.tick().await;
        let result = self.probe.check().await;
        let is_good = result.is_ok();
        self.row = if self.was_good == Some(is_good) { self.row.saturating_add(1) } else { 1 };
        self.was_good = Some(is_good);
        match result {
            Ok(()) => (self.row >= self.probe.successes).then_some(Verdict::Good),
            Err(failure) => {
                failed(&failure);
                (self.row >= self.probe.failures).then_some(Verdict::Bad)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    fn probe(spec: Value) -> Result<Probe, Unsupported> {
        let container = json!({"name": "web", "ports": [{"name": "http", "containerPort": 8080}]});
        let container: Container = serde_json::from_value(container).unwrap();
        Probe::new(&serde_json::from_value(spec).unwrap(), &container, Ipv4Addr::new(127, 0, 0, 9))
    }

    #[test]
    fn a_probe_asks_the_pod_at_a_number_or_a_name() {
        let found =
            probe(json!({"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 0})).unwrap();
        let Check::Http { address, request } = found.check else { panic!("no HTTP") };
        assert_eq!(address.to_string(), "127.0.0.9:8080");
        assert!(
            request.starts_with("GET /readyz HTTP/1.1\r\n") && request.ends_with("\r\n\r\n"),
            "{request}"
        );
        assert_eq!((found.period, found.failures), (Duration::from_secs(1), 3));
        assert_eq!(probe(json!({"tcpSocket": {"port": "db"}})), Err(Unsupported::Port("db".to_owned())));
        assert_eq!(probe(json!({"exec": {"command": ["true"]}})), Err(Unsupported::Action));
        assert_eq!(probe(json!({"httpGet": {"port": 1, "scheme": "HTTPS"}})), Err(Unsupported::Tls));
    }

    /// What a check of a server says that answers so.
    async fn check(answer: &'static str) -> Result<(), Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert_ne!(stream.read(&mut request).await.unwrap(), 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let probe = probe(json!({"httpGet": {"host": "127.0.0.1", "port": port}})).unwrap();
        let result = probe.check().await;
        server.await.unwrap();
        result
    }

    #[tokio::test]
    async fn codes_from_200_to_399_are_good() {
        check("HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        check("HTTP/1.0 302 Found\r\n\r\n").await.unwrap();
        let failed = check("HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        assert_eq!(failed.unwrap_err().to_string(), "HTTP probe failed with statuscode: 503");
        assert!(matches!(check("hello\r\n").await, Err(Failure::Malformed)));
    }
}
