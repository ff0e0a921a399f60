//! Scans that go on where they stood after a connection broke.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tonic::Streaming;
use wattle_proto::v1;

use crate::breaks::Breaks;
use crate::call::Caller;
use crate::error::Error;
use crate::failure::Failure;
use crate::wire::from_wire;

/// Which entries a scan answers.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    prefix: Bytes,
    keys_only: bool,
    cursor: Bytes,
    limit: u64,
}

impl ScanOptions {
    /// All entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only keys that begin with this.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<Bytes>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Keys without values.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// Go on where an earlier scan stood: see [`Scan::cursor`].
    #[must_use]
    pub fn resume(mut self, cursor: impl Into<Bytes>) -> Self {
        self.cursor = cursor.into();
        self
    }

    /// Stop after about this many entries.
    #[must_use]
    pub fn limit(mut self, entries: u64) -> Self {
        self.limit = entries;
        self
    }
}

/// An entry that a scan met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedEntry<K, V> {
    /// Its key.
    pub key: K,
    /// What it holds; empty in a scan of keys only.
    pub value: V,
    /// Its version.
    pub version: u64,
    /// What is left for it to live; `None` is for ever.
    pub ttl: Option<Duration>,
}

/// A scan: what is there throughout it is seen exactly once. From [`RawMap::scan`](crate::RawMap::scan).
///
/// ```no_run
/// # async fn example(client: wattle_client::Client) -> Result<(), wattle_client::Error> {
/// use wattle_client::ScanOptions;
///
/// let mut scan = client.raw_map("flights").scan(ScanOptions::new().prefix("2013-01-01"));
/// while let Some(entry) = scan.next().await? {
///     println!("{:?}", entry.key);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Scan {
    caller: Arc<Caller>,
    /// Its cursor is where the next page begins.
    request: v1::ScanRequest,
    page: VecDeque<v1::ScannedEntry>,
    page_began: Bytes,
    state: State,
    breaks: Breaks,
}

#[derive(Debug)]
enum State {
    Closed,
    Open(Box<Streaming<v1::ScanResponse>>),
    /// The limit is reached, or the map's end.
    Ended {
        map_ended: bool,
    },
}

impl Scan {
    pub(crate) fn new(caller: Arc<Caller>, map: String, options: ScanOptions) -> Self {
        let ScanOptions { prefix, keys_only, cursor, limit } = options;
        let page_began = cursor.clone();
        let request = v1::ScanRequest { map, prefix, keys_only, cursor, limit };
        let breaks = Breaks::new(&caller);
        Self { caller, request, page: VecDeque::new(), page_began, state: State::Closed, breaks }
    }

    /// The next entry; `None` at the end of the map or of the limit.
    ///
    /// # Errors
    /// [`Error::MapNotFound`], and what else refuses the scan or lasts longer than the client's timeout. The scan may
    /// be asked again.
    pub async fn next(&mut self) -> Result<Option<ScannedEntry<Bytes, Bytes>>, Error> {
        loop {
            if let Some(entry) = self.page.pop_front() {
                let ttl = entry.ttl.map(from_wire);
                let (key, value, version) = (entry.key, entry.value, entry.version);
                return Ok(Some(ScannedEntry { key, value, version, ttl }));
            }
            match &mut self.state {
                State::Ended { .. } => return Ok(None),
                State::Closed => self.state = State::Open(Box::new(self.open().await?)),
                State::Open(stream) => match stream.message().await {
                    Ok(Some(page)) => self.turn(page),
                    Ok(None) => self.state = State::Ended { map_ended: false },
                    Err(status) => {
                        self.state = State::Closed;
                        self.breaks.pause_after(Failure::from(&status)).await?;
                    }
                },
            }
        }
    }

    /// Where to go on after the entries answered so far, with [`ScanOptions::resume`]; `None` at the map's end. It
    /// moves in pages: a page that was not taken as a whole is answered again.
    pub fn cursor(&self) -> Option<Bytes> {
        match self.state {
            _ if !self.page.is_empty() => Some(self.page_began.clone()),
            State::Ended { map_ended: true } => None,
            State::Ended { map_ended: false } | State::Closed | State::Open(_) => {
                Some(self.request.cursor.clone())
            }
        }
    }

    /// The rest of the scan as a stream; it ends with the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<ScannedEntry<Bytes, Bytes>, Error>> + Send {
        stream::try_unfold(self, async |mut scan: Self| Ok(scan.next().await?.map(|entry| (entry, scan))))
    }

    async fn open(&self) -> Result<Streaming<v1::ScanResponse>, Error> {
        let opened = self.caller.open(|attempt| {
            let message = self.request.clone();
            async move { attempt.maps().scan(attempt.request(message)).await }
        });
        opened.await
    }

    fn turn(&mut self, page: v1::ScanResponse) {
        self.breaks.healed();
        if page.cursor.is_empty() {
            self.state = State::Ended { map_ended: true };
        }
        // A scan that is opened again asks for the rest; 0 would be no limit.
        if self.request.limit > 0 {
            self.request.limit = self.request.limit.saturating_sub(page.entries.len() as u64).max(1);
        }
        self.page_began = std::mem::replace(&mut self.request.cursor, page.cursor);
        self.page = page.entries.into();
    }
}
