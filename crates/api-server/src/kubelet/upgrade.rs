//! What a client wants to speak instead of HTTP.

use hyper::header::{
    CONNECTION, HeaderMap, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};

pub(crate) const PROTOCOL_VERSION: &str = "x-stream-protocol-version";
pub(crate) const SPDY: &str = "SPDY/3.1";
/// Before the name of what is spoken in SPDY that travels in a WebSocket.
pub(crate) const TUNNEL: &str = "SPDY/3.1+";
const KUBERNETES: &str = ".k8s.io";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// SPDY in the messages of a WebSocket, as kubectl asks first.
    Tunnel {
        key: String,
        /// What may be spoken in the streams.
        versions: Vec<String>,
    },
    /// What else is asked goes to the kubelet as it is; it knows SPDY.
    Plain { protocol: String, versions: Vec<String> },
}

impl Upgrade {
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let has = |name, wanted: &str| words(headers, name).any(|word| word.eq_ignore_ascii_case(wanted));
        if !has(CONNECTION.as_str(), "upgrade") {
            return None;
        }
        let tunnelled: Vec<String> = words(headers, SEC_WEBSOCKET_PROTOCOL.as_str())
            .filter(|protocol| protocol.ends_with(KUBERNETES))
            .filter_map(|protocol| protocol.strip_prefix(TUNNEL).map(str::to_owned))
            .collect();
        let key = words(headers, SEC_WEBSOCKET_KEY.as_str()).next();
        let is_current = has(SEC_WEBSOCKET_VERSION.as_str(), "13");
        match key.filter(|_| is_current && has(UPGRADE.as_str(), "websocket") && !tunnelled.is_empty()) {
            Some(key) => Some(Self::Tunnel { key: key.to_owned(), versions: tunnelled }),
            None => Some(Self::Plain {
                protocol: words(headers, UPGRADE.as_str()).collect::<Vec<_>>().join(", "),
                versions: words(headers, PROTOCOL_VERSION).map(str::to_owned).collect(),
            }),
        }
    }

    /// What the kubelet is to speak.
    pub(crate) fn protocol(&self) -> &str {
        match self {
            Self::Tunnel { .. } => SPDY,
            Self::Plain { protocol, .. } => protocol,
        }
    }

    pub(crate) fn versions(&self) -> &[String] {
        match self {
            Self::Tunnel { versions, .. } | Self::Plain { versions, .. } => versions,
        }
    }
}

/// The values of a header that is a list.
fn words<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderName;

    fn check(headers: &[(&str, &str)], expected: Option<&Upgrade>) {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap()));
        assert_eq!(Upgrade::of(&headers.collect()).as_ref(), expected);
    }

    #[test]
    fn what_a_client_wants_is_seen() {
        let websocket = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "k"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io, other"),
        ];
        let versions = vec!["portforward.k8s.io".to_owned()];
        check(&websocket, Some(&Upgrade::Tunnel { key: "k".to_owned(), versions: versions.clone() }));
        let plain = |protocol: &str, versions: &[String]| Upgrade::Plain {
            protocol: protocol.to_owned(),
            versions: versions.to_vec(),
        };
        check(&websocket[..4], Some(&plain("websocket", &[])));
        let spdy = [("connection", "Upgrade"), ("upgrade", SPDY), (PROTOCOL_VERSION, "portforward.k8s.io")];
        check(&spdy, Some(&plain(SPDY, &versions)));
        check(&spdy[1..], None);
    }
}
