//! A few connections that all calls share in turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::error::Error;
use crate::options::Options;

/// An idle connection is probed this often, so that a dead one is found before a call needs it.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Connections {
    channels: Vec<Channel>,
    turn: AtomicUsize,
}

impl Connections {
    /// Prepares the connections; each is made when it is first needed, and again when it broke.
    pub(crate) fn prepare(options: &Options) -> Result<Self, Error> {
        let endpoints = options.endpoints.iter().map(|endpoint| prepare_endpoint(endpoint, options));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        let count = options.connections.max(endpoints.len());
        let channels = endpoints.iter().cycle().take(count).map(Endpoint::connect_lazy).collect();
        Ok(Self { channels, turn: AtomicUsize::new(0) })
    }

    pub(crate) fn next(&self) -> Channel {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.channels[turn % self.channels.len()].clone()
    }
}

fn prepare_endpoint(endpoint: &str, options: &Options) -> Result<Endpoint, Error> {
    let invalid = || Error::InvalidEndpoint { endpoint: endpoint.to_owned() };
    let prepared = Endpoint::from_shared(endpoint.to_owned()).map_err(|_| invalid())?;
    let uri = prepared.uri();
    if uri.scheme_str() != Some("http") || uri.host().is_none() {
        return Err(invalid());
    }
    Ok(prepared
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_no_url_is_refused() {
        for endpoint in ["127.0.0.1:7117", "", "https://grid", "http://"] {
            let refused = Connections::prepare(&Options::new(endpoint)).map(|_| ());
            assert!(
                matches!(&refused, Err(Error::InvalidEndpoint { endpoint: named }) if named == endpoint),
                "{endpoint:?}: {refused:?}"
            );
        }
    }
}
