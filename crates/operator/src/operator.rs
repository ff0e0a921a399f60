//! The whole operator: it waits for its turn, runs the controllers, and answers probes meanwhile.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use kube::api::ListParams;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client, Config};
use tokio::net::TcpListener;

use crate::api::{Grid, GridFunction, GridMap};
use crate::context::Context;
use crate::error::{Error, StartError};
use crate::lease::{Candidate, Tenure, Terms};
use crate::manifests::Images;
use crate::metrics::Metrics;
use crate::probes::Probes;
use crate::reach::Ports;
use crate::triggers::api_in;
use crate::{function, grid, map};

const LEASE: &str = "wattle-operator";
/// A connection on which nothing comes for so long is taken for dead. Watches end sooner by themselves, and begin anew.
const LONGEST_SILENCE: Duration = Duration::from_secs(295);
/// How often the API server is asked again that does not answer, or does not know the kinds.
const START_RETRY: Duration = Duration::from_secs(2);

/// What an operator looks after, and what it says it is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Those whose grids it looks after; none means all.
    pub namespaces: Vec<String>,
    /// Where the Lease is; that of the pod, or of the kubeconfig, by default.
    pub lease_namespace: Option<String>,
    /// Of this process, and of no other.
    pub identity: String,
    pub lease_duration: Duration,
    /// Of probes and metrics.
    pub listen: SocketAddr,
    pub images: Images,
    pub ports: Ports,
}

#[derive(Clone)]
pub struct Operator {
    client: Client,
    settings: Settings,
}

impl Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Operator {
    pub fn new(client: Client, settings: Settings) -> Self {
        Self { client, settings }
    }

    /// An operator of the cluster that this process runs in, or else of that of the kubeconfig.
    ///
    /// # Errors
    /// [`StartError::NoCluster`] if there is neither.
    pub async fn infer(settings: Settings) -> Result<Self, StartError> {
        let mut config = Config::infer().await.map_err(|error| StartError::NoCluster(error.into()))?;
        config.read_timeout = Some(LONGEST_SILENCE);
        let client = Client::try_from(config).map_err(|error| StartError::NoCluster(error.into()))?;
        Ok(Self::new(client, settings))
    }

    /// Runs until `stop` is ready.
    ///
    /// # Errors
    /// [`StartError::LeadershipLost`] when another operator has taken over: the process should end, and may start again.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let address = self.settings.listen;
        let listening = TcpListener::bind(address).await;
        let listener = listening.map_err(|source| StartError::Listen { address, source })?;
        let metrics = Arc::new(Metrics::new());
        let ready = Arc::new(AtomicBool::new(false));
        let probes = Probes { metrics: metrics.clone(), ready: ready.clone() };
        let mut candidate = self.candidate();
        let work = async {
            self.wait_for_kinds().await;
            ready.store(true, Ordering::Relaxed);
            candidate.acquire().await;
            tracing::info!(identity = self.settings.identity, "this operator acts");
            metrics.set_leads(true);
            let controllers = self.controllers(&metrics, candidate.tenure.clone());
            tokio::select! {
                () = controllers => {}
                () = candidate.hold() => {}
            }
            metrics.set_leads(false);
        };
        let mut stop = pin!(stop);
        tokio::select! {
            served = probes.serve(listener) => return served.map_err(StartError::Serve),
            () = work => return Err(StartError::LeadershipLost),
            () = &mut stop => {}
        }
        if let Err(error) = candidate.release().await {
            tracing::warn!(%error, "lease not released");
        }
        Ok(())
    }

    fn candidate(&self) -> Candidate {
        let namespace = self.settings.lease_namespace.as_deref();
        let namespace = namespace.unwrap_or(self.client.default_namespace());
        Candidate {
            leases: Api::namespaced(self.client.clone(), namespace),
            name: LEASE.to_owned(),
            identity: self.settings.identity.clone(),
            terms: Terms::of(self.settings.lease_duration),
            tenure: Tenure::default(),
            seen: None,
        }
    }

    fn namespaces(&self) -> Vec<Option<&str>> {
        if self.settings.namespaces.is_empty() {
            return vec![None];
        }
        let named: BTreeSet<&str> = self.settings.namespaces.iter().map(String::as_str).collect();
        named.into_iter().map(Some).collect()
    }

    /// Without its kinds the operator has nothing to watch.
    async fn wait_for_kinds(&self) {
        while let Err(error) = self.ask_for_kinds().await {
            let hint = match &error {
                Error::Refused { code: 404, .. } => {
                    "apply deploy/operator/crds.yaml, or what `wattle operator crds` prints"
                }
                _ => "it is tried again",
            };
            tracing::warn!(%error, hint, "the API server cannot be asked for grids");
            tokio::time::sleep(START_RETRY).await;
        }
    }

    async fn ask_for_kinds(&self) -> Result<(), Error> {
        let one = ListParams::default().limit(1);
        for namespace in self.namespaces() {
            api_in::<Grid>(&self.client, namespace).list(&one).await?;
            api_in::<GridMap>(&self.client, namespace).list(&one).await?;
            api_in::<GridFunction>(&self.client, namespace).list(&one).await?;
        }
        Ok(())
    }

    async fn controllers(&self, metrics: &Arc<Metrics>, tenure: Tenure) {
        let reporter =
            Reporter { controller: LEASE.to_owned(), instance: Some(self.settings.identity.clone()) };
        let client = tenure.guard(&self.client);
        let recorder = Recorder::new(client.clone(), reporter);
        let context = Context::new(client, recorder, metrics.clone(), &self.settings, tenure);
        let context = Arc::new(context);
        let in_each = self.namespaces().into_iter().map(|namespace| {
            let context = context.clone();
            async move {
                tokio::join!(
                    grid::run(context.clone(), namespace),
                    map::run(context.clone(), namespace),
                    function::run(context, namespace),
                );
            }
        });
        join_all(in_each).await;
    }
}
