//! What all controllers share: the connection, events, and how they run and try again.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::Client;
use kube::Resource;
use kube::api::Api;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::error::Error;

/// How long a controller waits before it tries again.
pub(crate) const RETRY: Duration = Duration::from_millis(300);
const AT_ONCE: u16 = 8;
const EVENTS: usize = 256;

pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) events: Events,
}

impl Context {
    pub(crate) fn all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    pub(crate) fn within<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Always the same wait: a cluster of tests should be back soon after its API server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady(pub(crate) Duration);

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

/// Watches everything of a type.
pub(crate) fn everything() -> watcher::Config {
    watcher::Config::default()
}

/// Runs until it is dropped.
pub(crate) async fn run<K: Object, Reconcile: Reconciliation>(
    controller: Controller<K>,
    context: Arc<Context>,
    reconcile: impl FnMut(Arc<K>, Arc<Context>) -> Reconcile,
) {
    run_with(controller, context, AT_ONCE, reconcile).await;
}

pub(crate) async fn run_one_by_one<K: Object, Reconcile: Reconciliation>(
    controller: Controller<K>,
    context: Arc<Context>,
    reconcile: impl FnMut(Arc<K>, Arc<Context>) -> Reconcile,
) {
    run_with(controller, context, 1, reconcile).await;
}

pub(crate) trait Object:
    Clone + Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + Sync + 'static
{
}

impl<K> Object for K where
    K: Clone + Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + Sync + 'static
{
}

pub(crate) trait Reconciliation: Future<Output = Result<Action, Error>> + Send + 'static {}

impl<F: Future<Output = Result<Action, Error>> + Send + 'static> Reconciliation for F {}

async fn run_with<K: Object, Reconcile: Reconciliation>(
    controller: Controller<K>,
    context: Arc<Context>,
    at_once: u16,
    reconcile: impl FnMut(Arc<K>, Arc<Context>) -> Reconcile,
) {
    let kind = <K as Resource>::kind(&());
    let retry = move |object: Arc<K>, error: &Error, _context: Arc<Context>| {
        let name = Resource::meta(&*object).name.as_deref().unwrap_or_default();
        if error.is_race() {
            debug!(%kind, name, %error, "reconciled something old");
        } else {
            warn!(%kind, name, %error, "reconciling failed");
        }
        Action::requeue(RETRY)
    };
    controller
        .trigger_backoff(Steady(RETRY))
        .with_config(Config::default().concurrency(at_once))
        .run(reconcile, retry, context)
        .for_each(|_| std::future::ready(()))
        .await;
}

/// What `kubectl describe` shows of an object's history. Nobody waits until it is written.
#[derive(Clone)]
pub(crate) struct Events(mpsc::Sender<(ObjectReference, Event)>);

impl Events {
    /// And what writes them.
    pub(crate) fn new(client: Client, reporter: &str) -> (Self, impl Future<Output = ()> + use<>) {
        let (sender, mut queue) = mpsc::channel(EVENTS);
        let recorder = Recorder::new(client, Reporter::from(reporter));
        let write = async move {
            while let Some((object, event)) = queue.recv().await {
                if let Err(error) = recorder.publish(&event, &object).await {
                    debug!(%error, "an event is not kept");
                }
            }
        };
        (Self(sender), write)
    }

    pub(crate) fn normal(&self, object: ObjectReference, reason: &str, note: &str) {
        self.send(object, EventType::Normal, reason, note);
    }

    pub(crate) fn warning(&self, object: ObjectReference, reason: &str, note: &str) {
        self.send(object, EventType::Warning, reason, note);
    }

    fn send(&self, object: ObjectReference, type_: EventType, reason: &str, note: &str) {
        let (reason, note) = (reason.to_owned(), Some(note.to_owned()));
        let event = Event { type_, action: reason.clone(), reason, note, secondary: None };
        if self.0.try_send((object, event)).is_err() {
            debug!("an event is dropped: too many wait");
        }
    }
}
