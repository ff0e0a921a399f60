//! Request ids: which of this client's mutations is which, so that a retry of one takes effect once.
//!
//! A node issues the client id; sequences are counted here. Every request says which the oldest one is that still waits
//! for its answer, for below it the grid may forget results. A new client id starts a new count; requests that began
//! under the old one keep it, retries included.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use wattle_proto::v1;

use crate::error::Error;

/// A client id as a node issued it.
#[derive(Debug, Clone)]
pub(crate) struct IssuedId {
    pub(crate) client_id: Bytes,
    pub(crate) renew_after: Duration,
}

/// Hands out request ids and knows when a new client id is due.
#[derive(Debug)]
pub(crate) struct RequestIds {
    /// A leaf: held for the length of a clone.
    current: Mutex<Option<Arc<Tenure>>>,
    /// Whoever holds it asks for the next client id; the others go on with the current one.
    renewal: tokio::sync::Mutex<()>,
}

/// The time under one client id.
#[derive(Debug)]
struct Tenure {
    client_id: Bytes,
    renew_at: Instant,
    /// Past it the grid may refuse the id: wait for a new one.
    stale_at: Instant,
    sequences: Mutex<Sequences>,
}

/// Counts requests and knows the oldest that is still awaited.
#[derive(Debug, Default)]
struct Sequences {
    last: u64,
    awaited: BTreeSet<u64>,
}

impl Sequences {
    fn begin(&mut self) -> u64 {
        self.last += 1;
        self.awaited.insert(self.last);
        self.last
    }

    fn end(&mut self, sequence: u64) {
        self.awaited.remove(&sequence);
    }

    /// With nothing awaited: the next one to come.
    fn oldest_awaited(&self) -> u64 {
        self.awaited.first().copied().unwrap_or(self.last + 1)
    }
}

/// A request whose answer is awaited until this is dropped.
#[derive(Debug)]
pub(crate) struct AwaitedRequest {
    tenure: Arc<Tenure>,
    sequence: u64,
}

impl AwaitedRequest {
    /// The same id for every attempt; only the watermark moves on. `repeated` says that an earlier attempt may still be on its way.
    pub(crate) fn id(&self, repeated: bool) -> v1::RequestId {
        v1::RequestId {
            client_id: self.tenure.client_id.clone(),
            sequence: self.sequence,
            oldest_pending: lock(&self.tenure.sequences).oldest_awaited(),
            repeated,
        }
    }
}

impl Drop for AwaitedRequest {
    fn drop(&mut self) {
        lock(&self.tenure.sequences).end(self.sequence);
    }
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        Self { current: Mutex::new(None), renewal: tokio::sync::Mutex::new(()) }
    }

    /// An id for a new request. `issue` asks a node for a client id; it is called when none is there, or the one there
    /// is due, and then by one request alone while the others go on.
    pub(crate) async fn begin<F>(&self, issue: impl Fn() -> F) -> Result<AwaitedRequest, Error>
    where
        F: Future<Output = Result<IssuedId, Error>>,
    {
        let now = Instant::now();
        let current = lock(&self.current).clone();
        let Some(tenure) = current.filter(|tenure| now < tenure.stale_at) else {
            let _turn = self.renewal.lock().await;
            return self.begin_under_new_id(now, issue).await;
        };
        if now < tenure.renew_at {
            return Ok(tenure.begin());
        }
        let Ok(_turn) = self.renewal.try_lock() else { return Ok(tenure.begin()) };
        // The old id serves a while longer when no node can issue a new one now.
        Ok(self.begin_under_new_id(now, issue).await.unwrap_or_else(|_| tenure.begin()))
    }

    async fn begin_under_new_id<F>(
        &self,
        now: Instant,
        issue: impl Fn() -> F,
    ) -> Result<AwaitedRequest, Error>
    where
        F: Future<Output = Result<IssuedId, Error>>,
    {
        let renewed_meanwhile = lock(&self.current).clone().filter(|tenure| now < tenure.renew_at);
        if let Some(tenure) = renewed_meanwhile {
            return Ok(tenure.begin());
        }
        let asked = Instant::now();
        let issued = issue().await?;
        let tenure = Arc::new(Tenure {
            client_id: issued.client_id,
            renew_at: asked + issued.renew_after,
            stale_at: asked + issued.renew_after * 2,
            sequences: Mutex::default(),
        });
        *lock(&self.current) = Some(tenure.clone());
        Ok(tenure.begin())
    }
}

impl Tenure {
    fn begin(self: &Arc<Self>) -> AwaitedRequest {
        AwaitedRequest { tenure: self.clone(), sequence: lock(&self.sequences).begin() }
    }
}

/// Nothing panics while one of these locks is held, and what they guard is whole at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const RENEW_AFTER: Duration = Duration::from_secs(300);

    /// Issues the ids 1, 2, 3 …, or none.
    struct Issuer {
        issued: Cell<u8>,
        reachable: Cell<bool>,
    }

    impl Issuer {
        fn new() -> Self {
            Self { issued: Cell::new(0), reachable: Cell::new(true) }
        }

        async fn issue(&self) -> Result<IssuedId, Error> {
            tokio::task::yield_now().await;
            if !self.reachable.get() {
                return Err(Error::MalformedAnswer { what: "no node" });
            }
            self.issued.set(self.issued.get() + 1);
            Ok(IssuedId { client_id: Bytes::from(vec![self.issued.get()]), renew_after: RENEW_AFTER })
        }
    }

    fn facts(request: &AwaitedRequest) -> (u8, u64, u64) {
        let id = request.id(false);
        (id.client_id[0], id.sequence, id.oldest_pending)
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_pending_is_the_lowest_sequence_still_awaited() {
        let (ids, issuer) = (RequestIds::new(), Issuer::new());
        let first = ids.begin(|| issuer.issue()).await.unwrap();
        let second = ids.begin(|| issuer.issue()).await.unwrap();
        let third = ids.begin(|| issuer.issue()).await.unwrap();
        assert_eq!(facts(&third), (1, 3, 1));
        drop(second);
        assert_eq!(facts(&third), (1, 3, 1), "the first is still awaited");
        drop(first);
        assert_eq!(facts(&third), (1, 3, 3));
        drop(third);
        assert_eq!(facts(&ids.begin(|| issuer.issue()).await.unwrap()), (1, 4, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_due_client_id_is_replaced_and_old_requests_keep_theirs() {
        let (ids, issuer) = (RequestIds::new(), Issuer::new());
        let old = ids.begin(|| issuer.issue()).await.unwrap();
        tokio::time::advance(RENEW_AFTER).await;
        let new = ids.begin(|| issuer.issue()).await.unwrap();
        assert_eq!((facts(&old), facts(&new)), ((1, 1, 1), (2, 1, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_renews_while_the_others_go_on() {
        let (ids, issuer) = (RequestIds::new(), Issuer::new());
        drop(ids.begin(|| issuer.issue()).await.unwrap());
        tokio::time::advance(RENEW_AFTER).await;
        let (renewing, other) = tokio::join!(ids.begin(|| issuer.issue()), ids.begin(|| issuer.issue()));
        assert_eq!((facts(&renewing.unwrap()).0, facts(&other.unwrap()).0), (2, 1));
        assert_eq!(issuer.issued.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_id_outlives_a_failed_renewal_but_not_for_ever() {
        let (ids, issuer) = (RequestIds::new(), Issuer::new());
        drop(ids.begin(|| issuer.issue()).await.unwrap());
        issuer.reachable.set(false);
        tokio::time::advance(RENEW_AFTER).await;
        assert_eq!(facts(&ids.begin(|| issuer.issue()).await.unwrap()), (1, 2, 2));
        tokio::time::advance(RENEW_AFTER).await;
        let refused = ids.begin(|| issuer.issue()).await;
        assert!(matches!(refused, Err(Error::MalformedAnswer { what: "no node" })), "{refused:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_requests_share_one_client_id() {
        let (ids, issuer) = (RequestIds::new(), Issuer::new());
        let (one, two) = tokio::join!(ids.begin(|| issuer.issue()), ids.begin(|| issuer.issue()));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!((facts(&one), facts(&two)), ((1, 1, 1), (1, 2, 1)));
    }
}
