//! What nodes have sent to each other, as their metrics say it.

use crate::failure::Failure;
use crate::node::Node;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::{AddAssign, Sub};

const METRIC: &str = "wattle_peer_sent_bytes_total{purpose=\"";
/// What brings copies in sync.
const COPYING: &str = "copying";

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sent {
    /// Bytes that bring copies in sync.
    pub(super) copying: f64,
    /// All bytes.
    pub(super) all: f64,
}

impl Sub for Sent {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { copying: self.copying - other.copying, all: self.all - other.all }
    }
}

impl AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        self.copying += other.copying;
        self.all += other.all;
    }
}

/// By all of these nodes, since their start.
pub(super) fn by(nodes: &[Node]) -> Result<Sent, Failure> {
    let mut sum = Sent::default();
    for node in nodes {
        let text = metrics(node).map_err(Failure::file(format!("{}/metrics", node.endpoint())))?;
        let path = format!("{}/metrics", node.endpoint()).into();
        sum += parse(&text).ok_or(Failure::Unreadable { path, text })?;
    }
    Ok(sum)
}

fn metrics(node: &Node) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(node.address())?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn parse(metrics: &str) -> Option<Sent> {
    let values = metrics.lines().filter_map(|line| line.strip_prefix(METRIC)?.split_once("\"} "));
    let mut sent = Sent::default();
    let mut told = false;
    for (purpose, bytes) in values {
        let bytes: f64 = bytes.parse().ok()?;
        sent += Sent { copying: if purpose == COPYING { bytes } else { 0.0 }, all: bytes };
        told |= purpose == COPYING;
    }
    told.then_some(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_copies_take_is_told_from_the_rest() {
        let metrics = "# TYPE wattle_peer_sent_bytes counter\n\
            wattle_peer_sent_bytes_total{purpose=\"copying\"} 700\n\
            wattle_peer_sent_bytes_total{purpose=\"calls\"} 42\n\
            wattle_grid_members 3\n";
        let sent = parse(metrics).expect("both");
        assert_eq!(sent, Sent { copying: 700.0, all: 742.0 });
        assert_eq!(parse("wattle_grid_members 3\n"), None);
    }
}
