//! Watches that go on after their last token when a connection broke.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tonic::Streaming;
use wattle_proto::v1;

use crate::breaks::Breaks;
use crate::call::Caller;
use crate::error::Error;
use crate::failure::Failure;

/// Where a watch begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchFrom {
    /// With the next change.
    Now,
    /// After the changes of an earlier message: its [`Changes::token`].
    Token(Bytes),
}

impl WatchFrom {
    pub(crate) fn token(self) -> Bytes {
        match self {
            Self::Now => Bytes::new(),
            Self::Token(token) => token,
        }
    }
}

/// Changes in the order they were committed, per key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// What changed.
    pub changes: Vec<Change>,
    /// Changes before these were missed: read again what you need.
    pub missed: bool,
    /// Where to go on after these changes.
    pub token: Bytes,
}

/// One committed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// To which entry; empty for [`ChangeKind::Cleared`].
    pub key: Bytes,
    /// What the entry holds now.
    pub value: Bytes,
    /// The version of the change.
    pub version: u64,
}

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// It was written.
    Put,
    /// It was removed.
    Removed,
    /// Its time to live ended.
    Expired,
    /// It made room for others.
    Evicted,
    /// All entries of one partition went.
    Cleared,
    /// Something that this client is too old to know.
    Unknown,
}

/// A watch. From [`RawMap::watch`](crate::RawMap::watch).
#[derive(Debug)]
pub struct Watch {
    caller: Arc<Caller>,
    request: v1::WatchRequest,
    stream: Option<Box<Streaming<v1::WatchResponse>>>,
    /// The stream broke before it gave a token: what happened meanwhile is lost.
    lost: bool,
    breaks: Breaks,
}

impl Watch {
    pub(crate) fn new(caller: Arc<Caller>, request: v1::WatchRequest) -> Self {
        let breaks = Breaks::new(&caller);
        Self { caller, request, stream: None, lost: false, breaks }
    }

    /// The next changes; waits for them.
    ///
    /// # Errors
    /// [`Error::MapNotFound`], also when the map is deleted meanwhile, and what else refuses the watch or lasts longer
    /// than the client's timeout.
    pub async fn next(&mut self) -> Result<Changes, Error> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.stream = Some(Box::new(self.open().await?));
                continue;
            };
            match stream.message().await {
                Ok(Some(message)) => return Ok(self.take(message)),
                // A node that shuts down ends its streams.
                Ok(None) => {
                    self.reopen(Failure::from(&tonic::Status::unavailable("the watch ended"))).await?
                }
                Err(status) => self.reopen(Failure::from(&status)).await?,
            }
        }
    }

    /// The changes as a stream; it ends with the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Changes, Error>> + Send {
        stream::try_unfold(self, async |mut watch: Self| Ok(Some((watch.next().await?, watch))))
    }

    async fn open(&self) -> Result<Streaming<v1::WatchResponse>, Error> {
        let opened = self.caller.open(|attempt| {
            let message = self.request.clone();
            async move { attempt.maps().watch(attempt.request(message)).await }
        });
        opened.await
    }

    async fn reopen(&mut self, failure: Failure) -> Result<(), Error> {
        self.stream = None;
        self.lost |= self.request.token.is_empty();
        self.breaks.pause_after(failure).await
    }

    fn take(&mut self, message: v1::WatchResponse) -> Changes {
        self.breaks.healed();
        let missed = message.missed | std::mem::take(&mut self.lost);
        if !message.token.is_empty() {
            self.request.token = message.token;
        }
        let changes = message.changes.into_iter().map(Change::from).collect();
        Changes { changes, missed, token: self.request.token.clone() }
    }
}

impl From<v1::Change> for Change {
    fn from(change: v1::Change) -> Self {
        use v1::change::Kind;
        let kind = match change.kind() {
            Kind::Put => ChangeKind::Put,
            Kind::Removed => ChangeKind::Removed,
            Kind::Expired => ChangeKind::Expired,
            Kind::Evicted => ChangeKind::Evicted,
            Kind::Cleared => ChangeKind::Cleared,
            Kind::Unspecified => ChangeKind::Unknown,
        };
        Self { kind, key: change.key, value: change.value, version: change.version }
    }
}
