//! [`Cluster`]: all controllers and kubelets together, and what tests make go wrong with them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustix::process::{Pid, Signal};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::address::{MAX_MACHINES, Network};
use crate::controller::{Context, Events};
use crate::error::Error;
use crate::kubelet::{self, Command, Entrance, Host, Kubelet, Spawner};
use crate::machines::Machines;
use crate::nodes::{self, NodeSettings, Patience};
use crate::{claims, deployment, disruption, endpoint_slices, power};
use crate::{scheduler, service_accounts, stateful_set};

const COMMANDS: usize = 64;

#[derive(Debug, Clone)]
pub struct Settings {
    /// Leads to the API server, as somebody who may do everything.
    pub kubeconfig: Kubeconfig,
    /// For the directories of pods and claims, and the logs.
    pub directory: PathBuf,
    /// Programs by the name of the image they stand for: with tag or registry, or without.
    pub images: BTreeMap<String, PathBuf>,
    pub nodes: Vec<NodeSettings>,
    /// The second restart of a container waits so long, each further one twice as long as the one before.
    pub restart_back_off: Duration,
    /// Tokens in pods are replaced when four fifths of it are over.
    pub token_lifetime: Duration,
    /// Until a node that is taken away counts as unreachable.
    pub node_monitor_grace: Duration,
    /// From then until its pods are evicted.
    pub eviction: Duration,
}

impl Settings {
    /// One node in each of three zones, and times as in clusters.
    pub fn new(kubeconfig: Kubeconfig, directory: PathBuf) -> Self {
        let node = |name: &str, zone: &str| NodeSettings { name: name.to_owned(), zone: zone.to_owned() };
        Self {
            kubeconfig,
            directory,
            images: BTreeMap::new(),
            nodes: vec![node("node-1", "zone-a"), node("node-2", "zone-b"), node("node-3", "zone-c")],
            restart_back_off: Duration::from_secs(10),
            token_lifetime: Duration::from_secs(3600),
            node_monitor_grace: Duration::from_secs(50),
            eviction: Duration::from_secs(300),
        }
    }

    #[must_use]
    pub fn image(mut self, name: &str, program: &Path) -> Self {
        self.images.insert(name.to_owned(), program.to_owned());
        self
    }
}

/// Controllers and kubelets that run until this is dropped; then all pods' processes are killed.
pub struct Cluster {
    host: Arc<Host>,
    machines: Machines,
    commands: mpsc::Sender<Command>,
    _tasks: JoinSet<()>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cluster").field("root", &self.host.root).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts on the current tokio runtime.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        let count = settings.nodes.len();
        if count == 0 || count > MAX_MACHINES {
            return Err(Error::Nodes { found: count, most: MAX_MACHINES });
        }
        let root = std::path::absolute(&settings.directory)
            .and_then(|root| std::fs::create_dir_all(&root).map(|()| root))
            .map_err(|error| Error::file(&settings.directory, error))?;
        let mut images = BTreeMap::new();
        for (name, program) in settings.images {
            images.insert(name, absolute(&program)?);
        }
        let entrance = Entrance::new(&settings.kubeconfig, settings.token_lifetime);
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(settings.kubeconfig, &options).await?;
        // Controllers try again themselves, and sooner: the client would wait for minutes in the end.
        config.default_retry = false;
        let client = Client::try_from(config)?;
        let (events, write_events) = Events::new(client.clone(), "wattle-pods");
        let context = Arc::new(Context { client, events });
        let host = Arc::new(Host {
            context: Arc::clone(&context),
            entrance,
            images: watch::Sender::new(images),
            network: Network::reserve()?,
            root: Arc::new(root),
            spawner: Spawner::start().map_err(Error::Thread)?,
            back_off: settings.restart_back_off,
        });
        let mut nodes = BTreeMap::new();
        let mut listeners = Vec::new();
        for (at, node) in settings.nodes.iter().enumerate() {
            let address = host.network.machine(at);
            let unheard = |source| Error::Kubelet { address, source };
            listeners.push((node.name.clone(), listener(&host.network, at).map_err(unheard)?));
            nodes::register(&context, node, address).await?;
            nodes.insert(node.name.clone(), address);
        }
        let (commands, obeyed) = mpsc::channel(COMMANDS);
        let (changes, heard) = mpsc::channel(COMMANDS);
        let patience = Patience { unreachable: settings.node_monitor_grace, evicted: settings.eviction };
        let mut tasks = JoinSet::new();
        tasks.spawn(write_events);
        tasks.spawn(service_accounts::control(Arc::clone(&context)));
        tasks.spawn(scheduler::control(Arc::clone(&context)));
        tasks.spawn(claims::control(Arc::clone(&context), Arc::clone(&host.root)));
        tasks.spawn(stateful_set::control(Arc::clone(&context)));
        tasks.spawn(deployment::control(Arc::clone(&context)));
        tasks.spawn(disruption::control(Arc::clone(&context)));
        tasks.spawn(endpoint_slices::control(Arc::clone(&context)));
        tasks.spawn(nodes::control(Arc::clone(&context), patience, heard));
        let machines = Machines::new(nodes.keys(), commands.clone(), changes);
        tasks.spawn(power::control(context, machines.clone()));
        let kubelet = Kubelet::new(Arc::clone(&host), nodes);
        for (node, listener) in listeners {
            tasks.spawn(kubelet::serve(node, listener, commands.clone(), kubelet.down()));
        }
        tasks.spawn(kubelet.run(obeyed));
        Ok(Self { host, machines, commands, _tasks: tasks })
    }

    /// From now on this program stands for the image. Containers that wait for it start.
    pub fn set_image(&self, name: &str, program: &Path) -> Result<(), Error> {
        let program = absolute(program)?;
        self.host.images.send_modify(|images| {
            images.insert(name.to_owned(), program);
        });
        Ok(())
    }

    /// What a container has written, in all its lives under this pod's name.
    pub fn log(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        self.host.log(namespace, pod, container)
    }

    /// The directory of a PersistentVolumeClaim.
    pub fn claim(&self, namespace: &str, claim: &str) -> PathBuf {
        claims::directory(&self.host.root, namespace, claim)
    }

    /// The ids of the processes that a pod's containers have started, which lead groups of their own.
    pub async fn processes(&self, namespace: &str, pod: &str) -> Result<Vec<u32>, Error> {
        let found = self.signal(namespace, pod, None).await?;
        Ok(found.into_iter().map(|process| process.as_raw_nonzero().get().unsigned_abs()).collect())
    }

    /// As if the pod's containers had run out of memory: SIGKILL.
    pub async fn kill_pod(&self, namespace: &str, pod: &str) -> Result<(), Error> {
        self.signal_some(namespace, pod, Signal::KILL).await
    }

    /// The pod's processes stand still, with their connections open.
    pub async fn freeze_pod(&self, namespace: &str, pod: &str) -> Result<(), Error> {
        self.signal_some(namespace, pod, Signal::STOP).await
    }

    pub async fn thaw_pod(&self, namespace: &str, pod: &str) -> Result<(), Error> {
        self.signal_some(namespace, pod, Signal::CONT).await
    }

    /// Takes a node away: its processes die, and its kubelet says nothing any more.
    pub async fn fail_node(&self, name: &str) -> Result<(), Error> {
        self.machines.fail(name).await
    }

    /// The node is back: its pods' containers start again, with new addresses.
    pub async fn restore_node(&self, name: &str) -> Result<(), Error> {
        self.machines.restore(name).await
    }

    /// The next pod to start after this address is free gets it, although another has had it.
    pub fn reuse_address(&self, address: Ipv4Addr) -> Result<(), Error> {
        if self.host.network.prefer(address) { Ok(()) } else { Err(Error::ForeignAddress { address }) }
    }

    /// Kills all pods' processes, and returns when they have been killed. The objects stay as they are.
    pub async fn stop(self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Stop { reply }).await?;
        answer.await.map_err(|_| Error::Stopped)
    }

    async fn command(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| Error::Stopped)
    }

    async fn signal_some(&self, namespace: &str, pod: &str, signal: Signal) -> Result<(), Error> {
        self.signal(namespace, pod, Some(signal)).await.map(drop)
    }

    async fn signal(&self, namespace: &str, pod: &str, signal: Option<Signal>) -> Result<Vec<Pid>, Error> {
        let (namespace, pod) = (namespace.to_owned(), pod.to_owned());
        let (reply, answer) = oneshot::channel();
        let command = Command::Signal { namespace: namespace.clone(), pod: pod.clone(), signal, reply };
        self.command(command).await?;
        let found = answer.await.map_err(|_| Error::Stopped)?;
        if found.is_empty() { Err(Error::NoSuchPod { namespace, name: pod }) } else { Ok(found) }
    }
}

fn listener(network: &Network, at: usize) -> io::Result<TcpListener> {
    let listener = network.kubelet(at)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn absolute(program: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(program).map_err(|error| Error::file(program, error))
}
