//! Who acts, of several operators: who holds the Lease. Times of others are not trusted: a lease is over when it was not renewed for its
//! duration by this process's clock.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, Request};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::client::Body;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{BoxError, service_fn};

use crate::error::Error;

/// How long a lease lasts, how often it is renewed, and after how long without that its holder gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) duration: Duration,
    pub(crate) renew_every: Duration,
    /// Shorter than the duration: who leads stops before another one begins.
    pub(crate) give_up_after: Duration,
}

impl Terms {
    pub(crate) fn of(duration: Duration) -> Self {
        Self { duration, renew_every: duration / 5, give_up_after: duration * 2 / 3 }
    }
}

/// Until when this process may act. A process that stood still in the midst of its work asks this before it goes on with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tenure {
    /// A leaf: none before the first lease.
    end: Arc<Mutex<Option<Instant>>>,
}

impl Tenure {
    pub(crate) fn lasts(&self) -> bool {
        self.end.lock().is_some_and(|end| Instant::now() < end)
    }

    /// A client that reads at any time, and writes only as long as this lasts: others fail with [`Error::LeaseOver`].
    pub(crate) fn guard(&self, client: &Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let (tenure, client) = (self.clone(), client.clone());
        let send = move |request: Request<Body>| {
            let (tenure, client) = (tenure.clone(), client.clone());
            async move {
                if request.method() != Method::GET && !tenure.lasts() {
                    return Err(BoxError::from(Error::LeaseOver));
                }
                client.send(request).await.map_err(BoxError::from)
            }
        };
        Client::new(service_fn(send), namespace)
    }

    fn extend_to(&self, end: Instant) {
        *self.end.lock() = Some(end);
    }
}

#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) leases: Api<Lease>,
    pub(crate) name: String,
    /// Of this process, and of no other.
    pub(crate) identity: String,
    pub(crate) terms: Terms,
    pub(crate) tenure: Tenure,
    pub(crate) seen: Option<Seen>,
}

/// A lease as it was when it last changed, and when that was noticed.
#[derive(Debug)]
pub(crate) struct Seen {
    version: Option<String>,
    at: Instant,
}

/// What a candidate may do about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    Renew,
    Take,
    Wait,
}

impl Candidate {
    /// Waits until this process holds the lease.
    pub(crate) async fn acquire(&mut self) {
        loop {
            let asked = Instant::now();
            let attempt = tokio::time::timeout(self.terms.duration, self.attempt()).await;
            match attempt.unwrap_or(Err(Error::TooLate)) {
                Ok(true) => return self.tenure.extend_to(asked + self.terms.give_up_after),
                Ok(false) => {}
                Err(error) => tracing::warn!(lease = self.name, %error, "lease not acquired"),
            }
            tokio::time::sleep(self.terms.renew_every).await;
        }
    }

    /// Renews the lease until that fails for too long, or somebody else has it. A renewal counts from when it was asked for: others
    /// may have heard of it before this process does.
    pub(crate) async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.terms.renew_every).await;
            let asked = Instant::now();
            let left = self.terms.give_up_after.saturating_sub(asked - renewed);
            match tokio::time::timeout(left, self.attempt()).await {
                Ok(Ok(true)) => {
                    renewed = asked;
                    self.tenure.extend_to(asked + self.terms.give_up_after);
                }
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "lease not renewed"),
                Err(_) => return,
            }
        }
    }

    /// Lets the next candidate act at once.
    pub(crate) async fn release(&mut self) -> Result<(), Error> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
        if holder(&lease) == Some(self.identity.as_str()) {
            let spec = lease.spec.get_or_insert_default();
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    /// Whether the lease is held after this attempt.
    async fn attempt(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            let mine = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(None)),
            };
            return won(self.leases.create(&PostParams::default(), &mine).await);
        };
        if self.seen.as_ref().is_none_or(|seen| seen.version != lease.metadata.resource_version) {
            self.seen = Some(Seen { version: lease.metadata.resource_version.clone(), at: now });
        }
        let unchanged = self.seen.as_ref().map_or(Duration::ZERO, |seen| now - seen.at);
        if claim(&lease, &self.identity, unchanged) == Claim::Wait {
            return Ok(false);
        }
        let mine = Lease { spec: Some(self.spec(lease.spec.as_ref())), metadata: lease.metadata };
        won(self.leases.replace(&self.name, &PostParams::default(), &mine).await)
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let is_mine = before.and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.identity);
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            // Whole seconds, and no less than it is.
            lease_duration_seconds: i32::try_from(self.terms.duration.as_millis().div_ceil(1000)).ok(),
            acquire_time: before
                .filter(|_| is_mine)
                .and_then(|spec| spec.acquire_time.clone())
                .or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if is_mine { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }
}

/// Of two who write at once one is told of a conflict.
fn won(written: kube::Result<Lease>) -> Result<bool, Error> {
    match written.map_err(Error::from) {
        Ok(_) => Ok(true),
        Err(Error::Refused { code: 409, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn claim(lease: &Lease, identity: &str, unchanged: Duration) -> Claim {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|n| u64::try_from(n).ok());
    let over = unchanged > Duration::from_secs(seconds.unwrap_or_default());
    match holder(lease) {
        Some(holder) if holder == identity => Claim::Renew,
        None => Claim::Take,
        Some(_) if over => Claim::Take,
        Some(_) => Claim::Wait,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::Response;

    use super::*;

    fn lease(holder: Option<&str>) -> Lease {
        let holder_identity = holder.map(str::to_owned);
        let spec = LeaseSpec { holder_identity, lease_duration_seconds: Some(15), ..LeaseSpec::default() };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn a_lease_is_taken_only_when_it_is_free_or_over() {
        let check = |holder, seconds, expected| {
            assert_eq!(
                claim(&lease(holder), "me", Duration::from_secs(seconds)),
                expected,
                "{holder:?} {seconds}"
            );
        };
        check(Some("me"), 0, Claim::Renew);
        check(Some("me"), 100, Claim::Renew);
        check(Some("other"), 15, Claim::Wait);
        check(Some("other"), 16, Claim::Take);
        check(None, 0, Claim::Take);
        check(Some(""), 0, Claim::Take);
        assert_eq!(claim(&Lease::default(), "me", Duration::ZERO), Claim::Take);
    }

    #[test]
    fn who_leads_gives_up_before_another_one_begins() {
        for seconds in [1, 15, 60] {
            let terms = Terms::of(Duration::from_secs(seconds));
            assert!(terms.give_up_after < terms.duration && terms.renew_every * 2 < terms.give_up_after);
        }
    }

    #[test]
    fn who_stood_still_for_too_long_may_not_act() {
        let (tenure, second) = (Tenure::default(), Duration::from_secs(1));
        assert!(!tenure.lasts(), "nobody acts before the first lease");
        let now = Instant::now();
        tenure.extend_to(now + 3600 * second);
        assert!(tenure.lasts());
        tenure.extend_to(now.checked_sub(second).unwrap_or(now));
        assert!(!tenure.lasts());
    }

    #[tokio::test]
    async fn who_may_not_act_reads_and_writes_nothing() {
        let written = Arc::new(Mutex::new(0));
        let count = written.clone();
        let server = service_fn(move |request: Request<Body>| {
            *count.lock() += u32::from(request.method() != Method::GET);
            let lease = serde_json::to_vec(&lease(Some("other"))).unwrap();
            async move { Ok::<_, Infallible>(Response::new(Body::from(lease))) }
        });
        let tenure = Tenure::default();
        let leases: Api<Lease> = Api::namespaced(tenure.guard(&Client::new(server, "n")), "n");
        let patch = || async {
            let patch = kube::api::Patch::Merge(serde_json::json!({}));
            leases.patch("l", &Default::default(), &patch).await.map_err(Error::from)
        };
        leases.get("l").await.unwrap();
        assert!(matches!(patch().await, Err(Error::LeaseOver)));
        let deleted = leases.delete("l", &Default::default()).await.map_err(Error::from);
        assert!(matches!(deleted, Err(Error::LeaseOver)));
        assert_eq!(*written.lock(), 0);
        tenure.extend_to(Instant::now() + Duration::from_secs(3600));
        patch().await.unwrap();
        assert_eq!(*written.lock(), 1);
    }
}
