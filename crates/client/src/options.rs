//! Where the grid is and how patiently to talk to it.

use std::time::Duration;

use crate::retry::RetryPolicy;

/// How a [`Client`](crate::Client) connects and retries. A plain URL converts into one.
///
/// ```
/// use std::time::Duration;
/// use wattle_client::Options;
///
/// let options = Options::new("http://127.0.0.1:7117").connections(2).timeout(Duration::from_secs(5));
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) endpoints: Vec<String>,
    pub(crate) connections: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) straight: bool,
    pub(crate) confirm_reads: bool,
}

/// Connections past this number only cost: calls are multiplexed.
const MAX_CONNECTIONS: usize = 64;

impl Options {
    /// One endpoint, such as `http://127.0.0.1:7117`.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoints: vec![endpoint.into()],
            connections: 4,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            straight: true,
            confirm_reads: false,
        }
    }

    /// One more endpoint of the same grid; connections are dealt to the endpoints in turn. One that does not answer is left out for a
    /// while. Its name is resolved again whenever it is connected to.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// How many connections to open, 4 by default; each endpoint gets at least one, and so does each member that calls go straight to.
    /// Calls share them in turn. A handful
    /// serves any number of concurrent calls; one connection for each caller would be slower.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, MAX_CONNECTIONS);
        self
    }

    /// How long a call may take with all its retries; 30 seconds by default. Streams (scan, watch, functions on many
    /// keys) may take longer, but not make no progress for so long once they broke.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long [`Client::connect`](crate::Client::connect) tries to reach the grid, and a broken connection to come
    /// back; 5 seconds by default.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Take the endpoints alone. By default what is about a key goes straight to the member that decides about it, at the member's own
    /// address, and to an endpoint only when that does not answer. If it never can, behind a port that is forwarded, say, this saves
    /// the client trying.
    #[must_use]
    pub fn endpoints_only(mut self) -> Self {
        self.straight = false;
        self
    }

    /// Confirm every answer that changed nothing by a round trip to the other copies. By default leases between nodes make sure that it
    /// shows all that was acknowledged, which trusts that their clocks run about equally fast; this trusts no clock, and takes longer.
    #[must_use]
    pub fn confirm_reads(mut self) -> Self {
        self.confirm_reads = true;
        self
    }

    /// How long to pause between attempts.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }
}

impl From<&str> for Options {
    fn from(endpoint: &str) -> Self {
        Self::new(endpoint)
    }
}

impl From<String> for Options {
    fn from(endpoint: String) -> Self {
        Self::new(endpoint)
    }
}
