//! The life of one pod on its node: prepared, run, reported, stopped, removed. One task owns it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::Host;
use super::container::{Launch, Phase, Restart, Slot, View, supervise};
use super::environment::{self, Place};
use super::journal::Journal;
use super::probe::Probe;
use super::rewrite::{Rewriter, expand};
use super::status::{restart, resumed, status, with_others};
use super::token::{Account, MOUNT};
use super::unprepared::Unprepared;
use super::volumes::{self, Sources};
use crate::address::Lease;
use crate::controller::RETRY;
use crate::error::is_status;
use crate::object;

/// Between attempts to prepare a pod that lacks something.
const PREPARE: Duration = Duration::from_millis(500);
/// What is left to a pod whose object is gone.
const FORCED: Duration = Duration::from_secs(1);
const GRACE: i64 = 30;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the kubelet has heard of a pod last.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    Present(Arc<Pod>),
    Gone,
}

impl Seen {
    fn is_ending(&self) -> bool {
        match self {
            Self::Present(pod) => object::is_terminating(pod),
            Self::Gone => true,
        }
    }
}

pub(crate) struct Worker {
    host: Arc<Host>,
    /// As it was when this began: nothing of it that matters here can change.
    pod: Arc<Pod>,
    machine: Ipv4Addr,
    seen: watch::Receiver<Seen>,
    views: watch::Sender<Vec<View>>,
    stop: watch::Sender<Option<Instant>>,
    containers: JoinSet<()>,
    lease: Option<Lease>,
    shown: Arc<Shown>,
    written: PodStatus,
}

/// What is known of a pod beside the state of its containers.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Once it has one.
    pub(crate) address: OnceLock<Ipv4Addr>,
    /// One for each container.
    pub(crate) journals: Vec<Journal>,
}

impl Worker {
    pub(crate) fn new(
        host: Arc<Host>,
        pod: Arc<Pod>,
        machine: Ipv4Addr,
        seen: watch::Receiver<Seen>,
    ) -> Self {
        let containers = || pod.spec.iter().flat_map(|spec| &spec.containers);
        let views = containers().map(|container| resumed(&pod, &container.name)).collect();
        let (namespace, name) = (object::namespace(&pod.metadata), object::name(&pod.metadata));
        let journals = containers().map(|container| Journal::new(host.log(namespace, name, &container.name)));
        let shown = Shown { address: OnceLock::new(), journals: journals.collect() };
        Self {
            host,
            machine,
            seen,
            views: watch::Sender::new(views),
            stop: watch::Sender::new(None),
            containers: JoinSet::new(),
            lease: None,
            shown: Arc::new(shown),
            written: pod.status.clone().unwrap_or_default(),
            pod,
        }
    }

    pub(crate) fn views(&self) -> watch::Receiver<Vec<View>> {
        self.views.subscribe()
    }

    pub(crate) fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }

    pub(crate) async fn run(mut self) {
        let mut seen = self.seen.clone();
        tokio::select! {
            biased;
            _ = seen.wait_for(Seen::is_ending) => {}
            () = self.live() => {}
        }
        self.end().await;
        let folder = self.folder();
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && folder.exists()
        {
            warn!(%error, folder = %folder.display(), "a pod's directory stays");
        }
    }

    fn name(&self) -> &str {
        object::name(&self.pod.metadata)
    }

    fn namespace(&self) -> &str {
        object::namespace(&self.pod.metadata)
    }

    fn folder(&self) -> PathBuf {
        self.host.root.join("pods").join(object::uid(&self.pod.metadata))
    }

    fn place(&self) -> Option<Place> {
        let lease = self.lease.as_ref()?;
        Some(Place { address: lease.address(), host: self.machine })
    }

    /// Until somebody stops it.
    async fn live(&mut self) {
        let account = loop {
            match self.prepare().await {
                Ok(account) => break account,
                Err(unprepared) => self.wait_for(&unprepared).await,
            }
        };
        let mut views = self.views.subscribe();
        let mut renewal = account.as_ref().map(|(_, due)| *due);
        loop {
            views.mark_unchanged();
            let is_reported = self.report(restart(&self.pod)).await;
            tokio::select! {
                changed = views.changed() => changed.expect("this worker keeps the channel open"),
                () = sleep(RETRY), if !is_reported => {}
                () = sleep_until(renewal.unwrap_or_else(Instant::now)), if renewal.is_some() => {
                    let Some((account, _)) = &account else { continue };
                    let written = account.write(&self.host.context, &self.host.entrance, self.namespace()).await;
                    renewal = Some(written.unwrap_or_else(|error| {
                        debug!(%error, pod = self.name(), "no new token");
                        Instant::now() + PREPARE
                    }));
                }
            }
        }
    }

    async fn wait_for(&mut self, unprepared: &Unprepared) {
        let message = unprepared.to_string();
        let waiting = Phase::Waiting { reason: unprepared.reason(), message: Some(message.clone()) };
        let is_news = self.views.send_if_modified(|views| {
            let is_news = views.iter().any(|view| view.phase != waiting);
            views.iter_mut().for_each(|view| view.phase = waiting.clone());
            is_news
        });
        if is_news {
            self.host.context.events.warning(self.pod.object_ref(&()), "FailedMount", &message);
        }
        self.report(restart(&self.pod)).await;
        sleep(PREPARE).await;
    }

    /// Gets all that the containers need, and starts them.
    async fn prepare(&mut self) -> Result<Option<(Account, Instant)>, Unprepared> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        if spec.init_containers.is_some_and(|containers| !containers.is_empty()) {
            return Err(Unprepared::Feature("an init container".to_owned()));
        }
        if self.lease.is_none() {
            let lease = self.host.network.lease().ok_or(Unprepared::NoAddress)?;
            self.shown.address.get_or_init(|| lease.address());
            self.lease = Some(lease);
        }
        let context = &self.host.context;
        let folder = self.folder();
        let account = match Account::of(context, &self.pod, folder.join("account")).await? {
            Some(account) => {
                let due = account.write(context, &self.host.entrance, self.namespace()).await?;
                Some((account, due))
            }
            None => None,
        };
        let sources = Sources { context, namespace: self.namespace(), root: &self.host.root };
        let made = volumes::make(sources, &self.pod, &folder.join("volumes")).await?;
        let mut launches = Vec::new();
        for (container, journal) in spec.containers.iter().zip(&self.shown.journals) {
            let mut mounts = volumes::mounts(container, &made)?;
            mounts.extend(account.iter().map(|(account, _)| (MOUNT.to_owned(), account.folder().to_owned())));
            let account = account.as_ref().map(|(account, _)| account);
            launches.push(self.launch(sources, (container, journal), &mounts, account).await?);
        }
        for (at, launch) in launches.into_iter().enumerate() {
            let slot = Slot { views: self.views.clone(), at };
            let run = supervise(Arc::clone(&self.host), launch, slot, self.stop.subscribe());
            self.containers.spawn(run);
        }
        Ok(account)
    }

    async fn launch(
        &self,
        sources: Sources<'_>,
        (container, journal): (&Container, &Journal),
        mounts: &[(String, PathBuf)],
        account: Option<&Account>,
    ) -> Result<Launch, Unprepared> {
        let place = self.place().ok_or(Unprepared::NoAddress)?;
        if container.lifecycle.is_some() {
            return Err(Unprepared::Feature("a hook of a container's life".to_owned()));
        }
        let probe = |probe: &Option<k8s_openapi::api::core::v1::Probe>| {
            probe.as_ref().map(|probe| Probe::new(probe, container, place.address)).transpose()
        };
        let rewriter = Rewriter::new(mounts, place.address);
        let home = self.folder().join("home");
        volumes::create(&home)?;
        let temporary = rewriter.mounted_at("/tmp").map_or_else(|| home.clone(), PathBuf::from);
        let mut given = self.host.entrance.variables();
        for (name, value) in [("PATH", PATH), ("HOSTNAME", self.name())] {
            given.push((name.to_owned(), value.to_owned()));
        }
        given.push(("HOME".to_owned(), home.display().to_string()));
        given.push(("TMPDIR".to_owned(), temporary.display().to_string()));
        if let Some(account) = account {
            given.push(("KUBECONFIG".to_owned(), account.kubeconfig().display().to_string()));
        }
        // The cluster's own paths are this machine's already.
        let own: BTreeMap<String, String> = given.iter().cloned().collect();
        let mut variables = environment::variables(sources, &self.pod, place, container, given).await?;
        let words = |words: &Option<Vec<String>>| -> Vec<String> {
            let words = words.iter().flatten();
            words.map(|word| rewriter.rewrite(&expand(word, &variables))).collect()
        };
        let (command, arguments) = (words(&container.command), words(&container.args));
        for (name, value) in &mut variables {
            if own.get(name) != Some(value) {
                *value = rewriter.rewrite(value);
            }
        }
        let work = container.working_dir.as_deref().and_then(|path| rewriter.mounted_at(path));
        let spec = self.pod.spec.as_ref();
        let grace = spec.and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(GRACE);
        Ok(Launch {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            command,
            arguments,
            variables,
            folder: work.map_or(home, PathBuf::from),
            journal: journal.clone(),
            falls_back_to_log: container.termination_message_policy.as_deref()
                == Some("FallbackToLogsOnError"),
            restart: restart(&self.pod),
            grace: Duration::from_secs(u64::try_from(grace).unwrap_or(0)),
            startup: probe(&container.startup_probe)?,
            liveness: probe(&container.liveness_probe)?,
            readiness: probe(&container.readiness_probe)?,
            pod: self.pod.object_ref(&()),
        })
    }

    /// Says whether the server knows now.
    async fn report(&mut self, restart: Restart) -> bool {
        let before = match &*self.seen.borrow() {
            Seen::Present(pod) => with_others(&self.written, pod),
            Seen::Gone => self.written.clone(),
        };
        let now = status(&self.pod, restart, self.place(), &self.views.borrow(), &before);
        if now == self.written {
            return true;
        }
        let pods: Api<Pod> = self.host.context.within(self.namespace());
        let patch = json!({"metadata": {"uid": self.pod.metadata.uid}, "status": now});
        match pods.patch_status(self.name(), &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => self.written = now,
            // The object is another one, or none: the watch will say so.
            Err(error) if is_status(&error, 404) || is_status(&error, 409) => {}
            Err(error) => {
                debug!(%error, pod = self.name(), "a pod's status is not written");
                return false;
            }
        }
        true
    }

    async fn end(&mut self) {
        let has_run = !self.containers.is_empty();
        if has_run {
            let note = format!("Stopping pod {}", self.name());
            self.host.context.events.normal(self.pod.object_ref(&()), "Killing", &note);
        }
        let begun = Instant::now();
        let mut seen = self.seen.clone();
        let mut views = self.views.subscribe();
        loop {
            let grace = grace(&seen.borrow_and_update());
            self.stop.send_replace(Some(begun + grace));
            views.mark_unchanged();
            let is_reported = self.report(restart(&self.pod)).await;
            tokio::select! {
                ended = self.containers.join_next() => if ended.is_none() { break },
                Ok(()) = views.changed() => {}
                Ok(()) = seen.changed() => {}
                () = sleep(RETRY), if !is_reported => {}
            }
        }
        while matches!(*seen.borrow_and_update(), Seen::Present(_)) {
            if (!has_run || self.report(Restart::Never).await) && self.remove().await {
                return;
            }
            tokio::select! {
                Ok(()) = seen.changed() => {}
                () = sleep(RETRY) => {}
            }
        }
    }

    /// Says whether the object is gone.
    async fn remove(&self) -> bool {
        let pods: Api<Pod> = self.host.context.within(self.namespace());
        let now = object::deletion_of(&self.pod.metadata).grace_period(0);
        match pods.delete(self.name(), &now).await {
            Ok(_) => true,
            Err(error) => is_status(&error, 404) || is_status(&error, 409),
        }
    }
}

fn grace(seen: &Seen) -> Duration {
    match seen {
        Seen::Present(pod) => {
            let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(GRACE);
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(FORCED)
        }
        Seen::Gone => FORCED,
    }
}
