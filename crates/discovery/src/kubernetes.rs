//! [`KubernetesService`]: the pods of a headless service, as the API server of the cluster tells of them: its EndpointSlices are listed
//! and watched for ever. What was told last holds while the server is out of reach: nothing that runs depends on it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};
use wattle_core::limits::NODES;

use crate::dns::ServiceName;
use crate::error::{LookupError, ServiceError, Unanswered};
use crate::slices::{Pods, Slices, places};

/// Who looks for others waits so long for the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// So long the control plane may take to tell of a pod that has just begun.
const ZONE_TIME: Duration = Duration::from_secs(15);
/// How slices name their service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// How long is waited for an API server that says nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// So long nothing is heard of a list, or between its pages: a server gives up on what it is asked after a minute, too. A pause
    /// after an error that takes as long is cut short.
    pub(crate) list: Duration,
    /// The server ends a stream after that time. That tells one that is quiet from one that has broken without a word: bookmarks
    /// come about once a minute, but nobody promises them. The watcher takes a stream for broken that lasts five seconds longer,
    /// and goes on from where it was, which is cheap. client-go, which sends pings as well, notices within a minute.
    pub(crate) stream_seconds: u32,
    /// So long no change is heard of: all begins anew with a list. Longer than a stream, for this is for what the watcher does
    /// not limit: a server that takes the request for a stream, and does not answer.
    pub(crate) changes: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { list: Duration::from_secs(60), stream_seconds: 120, changes: Duration::from_secs(300) }
    }
}

/// What is known of the pods.
pub(crate) type Told = Result<Arc<Pods>, Arc<Unanswered>>;

/// A headless service of a cluster.
#[derive(Clone)]
pub struct KubernetesService {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) client: Client,
    pub(crate) told: watch::Receiver<Option<Told>>,
    /// Ends with the last clone.
    _watching: Arc<JoinSet<()>>,
}

impl std::fmt::Debug for KubernetesService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, namespace, .. } = self;
        f.debug_struct("KubernetesService")
            .field("name", name)
            .field("namespace", namespace)
            .finish_non_exhaustive()
    }
}

impl KubernetesService {
    /// A service of the cluster that the process runs in, or that its kubeconfig names, whose pods have a certain port if nothing else is
    /// said. Without a namespace it is in that of the process or of the kubeconfig. It is watched from now on.
    ///
    /// # Errors
    /// There is no cluster, or the name is none of a service.
    pub async fn watch(
        name: &ServiceName,
        port: u16,
        namespace: Option<String>,
    ) -> Result<Self, ServiceError> {
        let mut config = Config::infer().await.map_err(|source| ServiceError::NoCluster(Box::new(source)))?;
        // Else a call that is refused for the moment takes minutes: what repeats it here says so.
        config.default_retry = false;
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|source| ServiceError::NoClient(Box::new(source)))?;
        Self::watch_with(client, name, port, namespace, Patience::default())
    }

    pub(crate) fn watch_with(
        client: Client,
        name: &ServiceName,
        port: u16,
        namespace: String,
        patience: Patience,
    ) -> Result<Self, ServiceError> {
        let label = name.label()?;
        let (tell, told) = watch::channel(None);
        let slices = Api::namespaced(client.clone(), &namespace);
        let watched = Watched { service: label.clone(), slices, ports: (name.port, port), patience, tell };
        let mut watching = JoinSet::new();
        watching.spawn(watched.run());
        Ok(Self { name: label, namespace, client, told, _watching: Arc::new(watching) })
    }

    /// Where its pods are, `HOST:PORT`, also those that are not ready.
    ///
    /// # Errors
    /// [`LookupError`]: the API server has not told of them so far.
    pub async fn addresses(&self) -> Result<Vec<String>, LookupError> {
        let mut told = self.told.clone();
        let told = timeout(FIRST_ANSWER, told.wait_for(Option::is_some)).await;
        let told = told.ok().and_then(Result::ok).and_then(|told| told.clone());
        let no_answer = |source| self.no_answer("list and watch endpointslices.discovery.k8s.io", source);
        let pods = told.unwrap_or_else(|| Err(Arc::new(Unanswered::Silent))).map_err(no_answer)?;
        let places = places(&pods);
        if places.len() > NODES {
            return Err(LookupError::TooMany { name: self.name.clone(), found: places.len() });
        }
        Ok(places)
    }

    /// The zone of the pod at a host. Who had that address before and has ended is another one.
    pub async fn zone_of(&self, host: &str) -> Option<String> {
        let mut told = self.told.clone();
        let zone = |told: &Option<Told>| match told {
            Some(Ok(pods)) => pods.get(host).filter(|pod| !pod.is_gone).map(|pod| pod.zone.clone()),
            Some(Err(_)) | None => None,
        };
        let Ok(Ok(told)) = timeout(ZONE_TIME, told.wait_for(|told| zone(told).is_some())).await else {
            warn!(
                host,
                service = self.name,
                "this node is not among the service's pods: its zone is not known"
            );
            return None;
        };
        zone(&told).flatten()
    }

    pub(crate) fn no_answer(&self, asked: &'static str, source: Arc<Unanswered>) -> LookupError {
        LookupError::NoApiServer { asked, namespace: self.namespace.clone(), source }
    }
}

/// Follows the slices of a service.
struct Watched {
    service: String,
    slices: Api<EndpointSlice>,
    /// That is given, and that of who asks.
    ports: (Option<u16>, u16),
    patience: Patience,
    tell: watch::Sender<Option<Told>>,
}

impl Watched {
    async fn run(self) {
        loop {
            self.watch_once().await;
        }
    }

    /// Returns when it is to begin anew with a list.
    async fn watch_once(&self) {
        let label = format!("{SERVICE_LABEL}={}", self.service);
        let config = watcher::Config::default().labels(&label).timeout(self.patience.stream_seconds);
        let mut events = Box::pin(watcher(self.slices.clone(), config).default_backoff());
        // What is listed counts when it is complete.
        let (mut slices, mut is_complete) = (Slices::default(), false);
        let mut heard = Instant::now();
        loop {
            // Streams that fail one after the other tell nothing either.
            let left = self.patience.changes.saturating_sub(heard.elapsed());
            let patience = if is_complete { left } else { self.patience.list };
            match timeout(patience, events.next()).await {
                Ok(Some(Ok(event))) => {
                    heard = Instant::now();
                    match event {
                        Event::Init => (slices, is_complete) = (Slices::default(), false),
                        Event::InitApply(slice) | Event::Apply(slice) => slices.apply(slice),
                        Event::Delete(slice) => slices.delete(&slice),
                        Event::InitDone => is_complete = true,
                    }
                    if is_complete {
                        self.tell(&slices);
                    }
                }
                Ok(Some(Err(error))) => self.tell_failed(Unanswered::Watch(error)),
                Ok(None) => return,
                Err(_elapsed) if is_complete => return,
                Err(_elapsed) => return self.tell_failed(Unanswered::Silent),
            }
        }
    }

    fn tell(&self, slices: &Slices) {
        let pods = Arc::new(slices.pods(self.ports.0, self.ports.1));
        self.tell.send_if_modified(|told| {
            if matches!(told, Some(Ok(known)) if *known == pods) {
                return false;
            }
            info!(service = self.service, pods = pods.len(), "the API server tells of the service's pods");
            *told = Some(Ok(pods));
            true
        });
    }

    /// What was told before holds.
    fn tell_failed(&self, error: Unanswered) {
        self.tell.send_if_modified(|told| {
            if matches!(told, Some(Ok(_))) {
                debug!(service = self.service, error = %error, "the API server does not tell of changes");
                return false;
            }
            if told.is_none() {
                warn!(service = self.service, %error, "the API server does not tell of the service's pods: asking again");
            }
            *told = Some(Err(Arc::new(error)));
            true
        });
    }
}
