//! What all reconcilers share.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::runtime::controller::{self, Action};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::backoff;
use crate::error::Error;
use crate::lease::Tenure;
use crate::manifests::Images;
use crate::metrics::Metrics;
use crate::operator::Settings;
use crate::reach::Ports;

/// No event says more.
const NOTE_BYTES: usize = 1024;
const ACTION_BYTES: usize = 128;
const FETCHES: usize = 4;

#[derive(Clone)]
pub(crate) struct Context {
    /// It writes only as long as the tenure lasts.
    pub(crate) client: Client,
    pub(crate) images: Images,
    pub(crate) ports: Ports,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) recorder: Recorder,
    /// Grids are changed only as long as this lasts.
    tenure: Tenure,
    /// For functions that are looked at at once, of all namespaces: each may hold a module, twice while it is uploaded.
    pub(crate) fetches: Arc<Semaphore>,
    /// A leaf: how often each object has failed since it last did not.
    failures: Arc<Mutex<HashMap<String, u32>>>,
    /// A leaf: objects that were looked at just now.
    looked_at: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("images", &self.images)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

impl Context {
    pub(crate) fn new(
        client: Client,
        recorder: Recorder,
        metrics: Arc<Metrics>,
        settings: &Settings,
        tenure: Tenure,
    ) -> Self {
        Self {
            client,
            images: settings.images.clone(),
            ports: settings.ports,
            metrics,
            recorder,
            tenure,
            fetches: Arc::new(Semaphore::new(FETCHES)),
            failures: Arc::default(),
            looked_at: Arc::default(),
        }
    }

    /// Before a grid is changed: what was seen may be long ago if this process stood still, and another one may have done something since.
    pub(crate) fn check_tenure(&self) -> Result<(), Error> {
        if self.tenure.lasts() { Ok(()) } else { Err(Error::LeaseOver) }
    }

    /// What is in an object's namespace.
    pub(crate) fn api_beside<K>(&self, object: &impl Resource) -> Result<Api<K>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        let namespace =
            object.meta().namespace.as_deref().ok_or(Error::Malformed { what: "no namespace" })?;
        Ok(Api::namespaced(self.client.clone(), namespace))
    }

    /// Tells whoever looks at the object's events. Losing one does no harm.
    pub(crate) async fn tell<K>(&self, object: &K, type_: EventType, reason: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        tracing::info!(reason, note, "told");
        let shortened = |most| note[..note.floor_char_boundary(most)].to_owned();
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shortened(NOTE_BYTES)),
            // The recorder counts events with the same action as one, whatever their notes say.
            action: shortened(ACTION_BYTES),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            let error = Error::from(error);
            tracing::warn!(%error, reason, "event not recorded");
        }
    }

    /// How long an object has to wait that was looked at just now. kube's own debouncing has one wait for ever that changes all the time.
    pub(crate) fn pause_before<K>(&self, object: &K) -> Option<Duration>
    where
        K: Resource<DynamicType = ()>,
    {
        let now = Instant::now();
        let mut looked_at = self.looked_at.lock();
        looked_at.retain(|_, at| now - *at < backoff::AT_MOST_EVERY);
        match looked_at.entry(Self::name_of(object)) {
            Entry::Occupied(before) => Some(backoff::AT_MOST_EVERY - (now - *before.get())),
            Entry::Vacant(entry) => {
                entry.insert(now);
                None
            }
        }
    }

    /// When an object is looked at again that could not be reconciled.
    pub(crate) fn after_failure<K>(&self, object: &K, error: &Error) -> Action
    where
        K: Resource<DynamicType = ()>,
    {
        let name = Self::name_of(object);
        if let Error::DeletionRefused { why, retry } = error {
            tracing::info!(object = name, why, "not deleted");
            return Action::requeue(*retry);
        }
        let failures = {
            let mut failures = self.failures.lock();
            let count = failures.entry(name.clone()).or_default();
            *count = count.saturating_add(1);
            *count
        };
        let pause = backoff::after_failures(failures);
        tracing::warn!(object = name, %error, failures, ?pause, "not reconciled");
        Action::requeue(pause)
    }

    /// Counts what came of an object.
    pub(crate) fn finished<K>(
        &self,
        kind: &'static str,
        object: &K,
        done: Result<Action, Error>,
    ) -> Result<Action, Error>
    where
        K: Resource<DynamicType = ()>,
    {
        match &done {
            Ok(_) => {
                self.failures.lock().remove(&Self::name_of(object));
                self.metrics.count_reconciliation(kind, "Done");
            }
            Err(error) => self.metrics.count_reconciliation(kind, error.reason()),
        }
        done
    }

    fn name_of<K>(object: &K) -> String
    where
        K: Resource<DynamicType = ()>,
    {
        ObjectRef::from_obj(object).to_string()
    }
}

/// What a controller says beside the results of its reconcilers, which are logged where they fail: watches that break, above all those that
/// are forbidden.
pub(crate) fn log_queue<K>(
    done: Result<(ObjectRef<K>, Action), controller::Error<Error, watcher::Error>>,
) -> Ready<()>
where
    K: Resource<DynamicType = ()>,
{
    match done {
        Ok(_) | Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) => {}
        Err(controller::Error::QueueError(error)) => {
            let error = watch_error(error);
            tracing::warn!(kind = %K::kind(&()), %error, "watch broken");
        }
        Err(error @ controller::Error::RunnerError(_)) => tracing::error!(%error, "controller broken"),
    }
    ready(())
}

fn watch_error(error: watcher::Error) -> Error {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error.into(),
        watcher::Error::WatchError(status) => kube::Error::Api(status).into(),
        watcher::Error::NoResourceVersion => Error::Malformed { what: "no resource version" },
    }
}
