//! What happens to the pods of a grid and is said of it, from the first to the last: a test that only looks now and then misses it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use wattle_operator::api::{Grid, Phase};

/// A pod that served was told to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) pod: String,
    /// The pods that served at that moment, beside it.
    pub(super) serving: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) taken: Vec<Taken>,
    /// Of the Grid, each when it was another one than before; but for waiting until the grid answers, or is safe.
    pub(super) phases: Vec<Phase>,
    pub(super) messages: Vec<String>,
    /// Whether a pod serves, by its name.
    pods: BTreeMap<String, bool>,
    /// As which version each pod was heard of last.
    pub(super) versions: BTreeMap<String, Option<String>>,
    /// The Grid, as it was heard of last.
    pub(super) grid: Option<Grid>,
}

impl Seen {
    fn hear_of_pod(&mut self, pod: &Pod) {
        let name = pod.name_any();
        self.versions.insert(name.clone(), pod.resource_version());
        let serves = is_ready(pod) && pod.metadata.deletion_timestamp.is_none();
        let served = self.pods.insert(name.clone(), serves).unwrap_or_default();
        if served && pod.metadata.deletion_timestamp.is_some() {
            let serving = self.pods.iter().filter(|(_, serves)| **serves).map(|(name, _)| name.clone());
            self.taken.push(Taken { pod: name, serving: serving.collect() });
        }
    }

    fn hear_of_grid(&mut self, grid: Grid) {
        self.grid = Some(grid.clone());
        let Some(status) = grid.status else { return };
        // On a busy machine a grid may have to be asked again whether it is safe.
        let is_unsure =
            status.phase == Some(Phase::Waiting) && status.message.starts_with("waiting: the grid ");
        let phase = status.phase.filter(|phase| !is_unsure && self.phases.last() != Some(phase));
        self.phases.extend(phase);
        if self.messages.last() != Some(&status.message) {
            self.messages.push(status.message);
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Short, however long the API server is away: what has happened meanwhile is asked for soon.
struct Pause;

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(500))
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {}
}

/// Looks on until it is dropped.
pub(super) struct Observer {
    // A leaf: what two tasks write and the test reads.
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

impl Observer {
    pub(super) fn start(client: Client, namespace: &str, pods: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut tasks = JoinSet::new();
        let all: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let changes = watcher(all, Config::default().labels(pods)).backoff(Pause);
        let told = Arc::clone(&seen);
        tasks.spawn(changes.for_each(move |event| {
            match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => told.lock().hear_of_pod(&pod),
                Ok(Event::Delete(pod)) => drop(told.lock().pods.insert(pod.name_any(), false)),
                Ok(Event::Init | Event::InitDone) | Err(_) => {}
            }
            std::future::ready(())
        }));
        let changes = watcher(Api::<Grid>::namespaced(client, namespace), Config::default()).backoff(Pause);
        let told = Arc::clone(&seen);
        tasks.spawn(changes.for_each(move |event| {
            if let Ok(Event::Apply(grid) | Event::InitApply(grid)) = event {
                told.lock().hear_of_grid(grid);
            }
            std::future::ready(())
        }));
        Self { seen, _tasks: tasks }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    pub(super) fn taken(&self) -> usize {
        self.seen.lock().taken.len()
    }

    /// What has been seen since this was asked last.
    pub(super) fn take(&self) -> Seen {
        let mut seen = self.seen.lock();
        let (pods, grid, versions) = (seen.pods.clone(), seen.grid.clone(), seen.versions.clone());
        std::mem::replace(&mut *seen, Seen { pods, grid, versions, ..Seen::default() })
    }
}
