//! The kubelets of all nodes: a worker for each pod that a node of this machine is to run.

mod container;
mod environment;
mod image;
mod journal;
mod last_words;
mod logs;
mod port_forward;
mod probe;
mod process;
mod rewrite;
mod server;
mod spdy;
mod status;
mod token;
mod unprepared;
mod volumes;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use rustix::process::{Pid, Signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::warn;

use self::container::{Phase, View};
pub(crate) use self::image::Images;
pub(crate) use self::process::Spawner;
pub(crate) use self::server::serve;
pub(crate) use self::token::Entrance;
use self::worker::{Seen, Shown, Worker};
use crate::address::Network;
use crate::controller::{Context, RETRY, Steady, everything};
use crate::object;

/// What the pods of all nodes share.
pub(crate) struct Host {
    pub(crate) context: Arc<Context>,
    pub(crate) entrance: Entrance,
    pub(crate) images: watch::Sender<Images>,
    pub(crate) network: Network,
    /// Where the directories of pods and claims are, and the logs.
    pub(crate) root: Arc<PathBuf>,
    pub(crate) spawner: Spawner,
    /// The second restart of a container waits so long.
    pub(crate) back_off: Duration,
}

impl Host {
    pub(crate) fn log(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        self.root.join("logs").join(namespace).join(pod).join(format!("{container}.log"))
    }
}

/// What is asked of the kubelets from outside.
#[derive(Debug)]
pub(crate) enum Command {
    /// Answers with the processes that were signalled, which are none if no such pod runs.
    Signal {
        namespace: String,
        pod: String,
        signal: Option<Signal>,
        reply: oneshot::Sender<Vec<Pid>>,
    },
    /// Answers with a pod of this node that a worker looks after.
    Find {
        node: String,
        namespace: String,
        pod: String,
        reply: oneshot::Sender<Option<Found>>,
    },
    /// All processes of the node end, and nobody says so to the server.
    Fail {
        node: String,
        reply: oneshot::Sender<()>,
    },
    Restore {
        node: String,
    },
    /// All processes end.
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// A pod, and what its worker shows of it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) pod: Arc<Pod>,
    pub(crate) views: watch::Receiver<Vec<View>>,
    pub(crate) shown: Arc<Shown>,
}

struct Running {
    seen: watch::Sender<Seen>,
    views: watch::Receiver<Vec<View>>,
    shown: Arc<Shown>,
    task: AbortHandle,
}

impl Running {
    fn processes(&self) -> Vec<Pid> {
        let views = self.views.borrow();
        let running = views.iter().filter_map(|view| match view.phase {
            Phase::Running { process, .. } => Some(process),
            Phase::Waiting { .. } | Phase::Ended(_) => None,
        });
        running.collect()
    }
}

pub(crate) struct Kubelet {
    host: Arc<Host>,
    nodes: BTreeMap<String, Ipv4Addr>,
    /// The servers of the nodes hear of it.
    down: watch::Sender<BTreeSet<String>>,
    /// By uid: all pods that are assigned to our nodes, and those of them that run. A worker that has done its work stays
    /// here until its pod is gone.
    pods: BTreeMap<String, Arc<Pod>>,
    workers: BTreeMap<String, Running>,
    tasks: JoinSet<()>,
    /// What a list that is being read again has shown so far.
    listed: BTreeSet<String>,
}

impl Kubelet {
    pub(crate) fn new(host: Arc<Host>, nodes: BTreeMap<String, Ipv4Addr>) -> Self {
        Self {
            host,
            nodes,
            down: watch::Sender::default(),
            pods: BTreeMap::new(),
            workers: BTreeMap::new(),
            tasks: JoinSet::new(),
            listed: BTreeSet::new(),
        }
    }

    /// The nodes that were taken away.
    pub(crate) fn down(&self) -> watch::Receiver<BTreeSet<String>> {
        self.down.subscribe()
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let pods = self.host.context.all::<Pod>();
        let watch = watcher::watcher(pods, everything()).backoff(Steady(RETRY));
        let mut watch = std::pin::pin!(watch);
        loop {
            tokio::select! {
                Some(command) = commands.recv() => self.obey(command),
                event = watch.next() => match event {
                    Some(Ok(event)) => self.hear(event),
                    Some(Err(error)) => warn!(%error, "the watch of pods broke"),
                    None => return,
                },
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        warn!(%error, "the worker of a pod is gone");
                    }
                }
            }
        }
    }

    fn hear(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.insert(object::uid(&pod.metadata).to_owned());
                self.settle(pod);
            }
            Event::InitDone => {
                let gone = self.pods.keys().filter(|uid| !self.listed.contains(*uid)).cloned();
                gone.collect::<Vec<_>>().iter().for_each(|uid| self.forget(uid));
            }
            Event::Apply(pod) => self.settle(pod),
            Event::Delete(pod) => self.forget(object::uid(&pod.metadata)),
        }
    }

    fn settle(&mut self, pod: Pod) {
        if !self.nodes.contains_key(object::node_name(&pod)) {
            return;
        }
        let uid = object::uid(&pod.metadata).to_owned();
        let pod = Arc::new(pod);
        self.pods.insert(uid.clone(), Arc::clone(&pod));
        match self.workers.get(&uid) {
            Some(running) => {
                running.seen.send_replace(Seen::Present(pod));
            }
            None => self.start(&uid, pod),
        }
    }

    fn start(&mut self, uid: &str, pod: Arc<Pod>) {
        let node = object::node_name(&pod);
        let Some(machine) = self.nodes.get(node).filter(|_| !self.down.borrow().contains(node)) else {
            return;
        };
        if object::is_over(&pod) && !object::is_terminating(&pod) {
            return;
        }
        let (seen, receiver) = watch::channel(Seen::Present(Arc::clone(&pod)));
        let worker = Worker::new(Arc::clone(&self.host), pod, *machine, receiver);
        let (views, shown) = (worker.views(), worker.shown());
        let task = self.tasks.spawn(worker.run());
        self.workers.insert(uid.to_owned(), Running { seen, views, shown, task });
    }

    fn forget(&mut self, uid: &str) {
        self.pods.remove(uid);
        if let Some(running) = self.workers.remove(uid) {
            running.seen.send_replace(Seen::Gone);
        }
    }

    fn find(&self, node: &str, namespace: &str, name: &str) -> Option<Found> {
        let is_meant = |pod: &Arc<Pod>| object::node_name(pod) == node && is_named(pod, namespace, name);
        let meant = self.pods.iter().filter(|(_, pod)| is_meant(pod));
        let mut found = meant.filter_map(|(uid, pod)| {
            let running = self.workers.get(uid)?;
            let (pod, shown) = (Arc::clone(pod), Arc::clone(&running.shown));
            Some(Found { pod, views: running.views.clone(), shown })
        });
        found.next()
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Signal { namespace, pod, signal, reply } => {
                let meant = self.pods.iter().filter(|(_, found)| is_named(found, &namespace, &pod));
                let workers = meant.filter_map(|(uid, _)| self.workers.get(uid));
                let processes: Vec<Pid> = workers.flat_map(Running::processes).collect();
                if let Some(signal) = signal {
                    processes.iter().for_each(|process| process::signal(*process, signal));
                }
                answer(reply, processes);
            }
            Command::Find { node, namespace, pod, reply } => {
                answer(reply, self.find(&node, &namespace, &pod))
            }
            Command::Fail { node, reply } => {
                for (uid, pod) in self.pods.iter().filter(|(_, pod)| object::node_name(pod) == node) {
                    let Some(running) = self.workers.remove(uid) else { continue };
                    running.task.abort();
                    running
                        .processes()
                        .into_iter()
                        .for_each(|process| process::signal(process, Signal::KILL));
                    tracing::debug!(pod = object::name(&pod.metadata), %node, "a pod died with its node");
                }
                self.down.send_if_modified(|down| down.insert(node));
                answer(reply, ());
            }
            Command::Restore { node } => {
                self.down.send_if_modified(|down| down.remove(&node));
                let here: Vec<(String, Arc<Pod>)> = self
                    .pods
                    .iter()
                    .filter(|(uid, pod)| object::node_name(pod) == node && !self.workers.contains_key(*uid))
                    .map(|(uid, pod)| (uid.clone(), Arc::clone(pod)))
                    .collect();
                for (uid, pod) in here {
                    self.start(&uid, pod);
                }
            }
            Command::Stop { reply } => {
                self.tasks.abort_all();
                let processes = self.workers.values().flat_map(Running::processes);
                processes.for_each(|process| process::signal(process, Signal::KILL));
                self.nodes.clear();
                answer(reply, ());
            }
        }
    }
}

fn is_named(pod: &Pod, namespace: &str, name: &str) -> bool {
    object::namespace(&pod.metadata) == namespace && object::name(&pod.metadata) == name
}

fn answer<T>(reply: oneshot::Sender<T>, with: T) {
    if reply.send(with).is_err() {
        tracing::debug!("who asked waits no longer");
    }
}
