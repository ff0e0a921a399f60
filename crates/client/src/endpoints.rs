//! [`Endpoints`]: connections to the addresses that the client was given. Each is made when it is first needed, and again when it broke:
//! then its name is resolved anew. One that fails is left out for a while, as long as another does not.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::error::Error;
use crate::failure::Failure;
use crate::options::Options;
use crate::retry::{Backoff, RetryPolicy, random};

/// A connection with something on its way is probed this often, so that a dead one is noticed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// For so long a connection that failed is left out, longer each time.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// A connection to an address that was given.
#[derive(Debug)]
pub(crate) struct Connection {
    channel: Channel,
    /// It has failed since it last answered.
    is_suspect: AtomicBool,
    /// Until when nobody else is to try it. A leaf.
    rest: Mutex<Option<Rest>>,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    backoff: Backoff,
}

impl Rest {
    fn begin(rest: &mut Option<Self>, now: Instant) {
        let policy = RetryPolicy::new(FIRST_REST, LONGEST_REST);
        let rest = rest.get_or_insert_with(|| Self { until: now, backoff: policy.backoff() });
        rest.until = now + rest.backoff.pause(None, random());
    }
}

impl Connection {
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// What became of a call on it.
    pub(crate) fn note(&self, failure: Option<&Failure>) {
        let is_broken = failure.is_some_and(Failure::is_of_the_connection);
        if !is_broken && !self.is_suspect.load(Ordering::Relaxed) {
            return;
        }
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_suspect.store(is_broken, Ordering::Relaxed);
        if !is_broken {
            *rest = None;
        } else if rest.as_ref().is_none_or(|rest| rest.until <= Instant::now()) {
            Rest::begin(&mut rest, Instant::now());
        }
    }

    /// Whether a call may take it. One of those that may when it has rested takes it, and the others leave it alone until that is
    /// answered: it may have to wait for a connection that cannot be made.
    fn may_be_taken(&self) -> bool {
        if !self.is_suspect.load(Ordering::Relaxed) {
            return true;
        }
        let now = Instant::now();
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let has_rested = rest.as_ref().is_none_or(|rest| rest.until <= now);
        if has_rested {
            Rest::begin(&mut rest, now);
        }
        has_rested
    }
}

#[derive(Debug)]
pub(crate) struct Endpoints {
    connections: Vec<Arc<Connection>>,
    turn: AtomicUsize,
}

impl Endpoints {
    pub(crate) fn prepare(options: &Options) -> Result<Self, Error> {
        let endpoints = options.endpoints.iter().map(|endpoint| prepare(endpoint, options));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        let count = options.connections.max(endpoints.len());
        let connection = |endpoint: &Endpoint| {
            let (is_suspect, rest) = Default::default();
            Arc::new(Connection { channel: endpoint.connect_lazy(), is_suspect, rest })
        };
        let connections = endpoints.iter().cycle().take(count).map(connection).collect();
        Ok(Self { connections, turn: AtomicUsize::new(0) })
    }

    /// The next connection that does not rest.
    pub(crate) fn sound(&self) -> Option<&Arc<Connection>> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let turns = (0..self.connections.len()).map(|turn| self.turn(first.wrapping_add(turn)));
        turns.into_iter().find(|connection| connection.may_be_taken())
    }

    /// The next connection.
    pub(crate) fn next(&self) -> &Arc<Connection> {
        self.turn(self.turn.fetch_add(1, Ordering::Relaxed))
    }

    fn turn(&self, turn: usize) -> &Arc<Connection> {
        &self.connections[turn % self.connections.len()]
    }
}

/// An address to connect to.
pub(crate) fn prepare(endpoint: &str, options: &Options) -> Result<Endpoint, Error> {
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
    use tonic::Status;

    use super::*;

    #[test]
    fn an_endpoint_that_is_no_url_is_refused() {
        for endpoint in ["127.0.0.1:7117", "", "https://grid", "http://"] {
            let refused = Endpoints::prepare(&Options::new(endpoint)).map(|_| ());
            assert!(
                matches!(&refused, Err(Error::InvalidEndpoint { endpoint: named }) if named == endpoint),
                "{endpoint:?}: {refused:?}"
            );
        }
    }

    fn place(endpoints: &Endpoints, of: Option<&Arc<Connection>>) -> Option<usize> {
        let of = of?;
        endpoints.connections.iter().position(|connection| Arc::ptr_eq(connection, of))
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_failed_is_left_out_until_it_has_rested_and_then_tried_by_one() {
        let options = Options::new("http://127.0.0.1:1").endpoint("http://127.0.0.1:2").connections(2);
        let endpoints = Endpoints::prepare(&options).unwrap();
        let taken = || place(&endpoints, endpoints.sound());
        assert_eq!([taken(), taken(), taken()], [Some(0), Some(1), Some(0)]);
        let broken = Failure::from(&Status::unavailable("transport error"));
        endpoints.connections[1].note(Some(&broken));
        assert_eq!([taken(), taken(), taken()], [Some(0); 3]);
        tokio::time::advance(FIRST_REST).await;
        let mut tried = [taken(), taken(), taken()];
        tried.sort();
        assert_eq!(tried, [Some(0), Some(0), Some(1)]);
        endpoints.connections[1].note(None);
        assert_ne!(taken(), taken());
        // When all have failed there is none that has not.
        endpoints.connections.iter().for_each(|connection| connection.note(Some(&broken)));
        assert_eq!(taken(), None);
    }
}
