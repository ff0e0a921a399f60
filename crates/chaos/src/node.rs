//! [`Node`]: one `wattle serve`, with what is told of it on its standard error, and who stands for it.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use wattle_client::{Client, Options};

use crate::links::{Links, Proxy};
use crate::violation::Violation;

/// How long a start may take, with joining a grid; and a stop.
const START_TIME: Duration = Duration::from_secs(60);
const STOP_TIME: Duration = Duration::from_secs(120);
/// Every node has the same port, at an address of its own.
const PORT: u16 = 7117;

#[derive(Debug)]
pub(crate) struct Node {
    number: usize,
    binary: PathBuf,
    folder: PathBuf,
    /// Where it listens, and where the others find it.
    listens: SocketAddrV4,
    place: SocketAddrV4,
    links: Links,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    proxy: Proxy,
}

impl Node {
    pub(crate) fn new(number: usize, (binary, folder): (&Path, &Path), links: Links) -> Self {
        Self {
            number,
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            listens: address(number, 1),
            place: address(number, 101),
            links,
            running: None,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.listens)
    }

    /// Where the others find it.
    pub(crate) fn place(&self) -> String {
        self.place.to_string()
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join(format!("node-{}.log", self.number))
    }

    /// Starts it. Without others it founds a grid, unless it has one.
    pub(crate) async fn launch(&mut self, others: &[String]) -> Result<(), Violation> {
        let log = OpenOptions::new().create(true).append(true).open(self.log()).map_err(Violation::System)?;
        let child = self.spawn(others, &log).map_err(Violation::System)?;
        self.links.set_process(self.number, child.id());
        let proxy = self.links.stand_for(self.number, self.place, self.listens).await;
        self.running = Some(Running { child, proxy: proxy.map_err(Violation::System)? });
        Ok(())
    }

    /// Waits until it serves.
    pub(crate) async fn serves(&self) -> Result<(), Violation> {
        let options = Options::new(self.endpoint()).connections(1).connect_timeout(START_TIME);
        match Client::connect(options).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Violation::NotStarted { node: self.number, error: Box::new(error) }),
        }
    }

    fn spawn(&self, others: &[String], log: &File) -> std::io::Result<Child> {
        let mut command = Command::new(&self.binary);
        command.args(["serve", "--listen", &self.listens.to_string(), "--advertise", &self.place()]);
        command.arg("--data-dir").arg(self.folder.join(format!("node-{}", self.number)));
        if !others.is_empty() {
            command.arg("--join").arg(others.join(","));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
        command.kill_on_drop(true).spawn()
    }

    fn child(&mut self) -> Option<&mut Child> {
        self.running.as_mut().map(|running| &mut running.child)
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Violation> {
        let process = self.child().and_then(|child| i32::try_from(child.id()?).ok()).and_then(Pid::from_raw);
        let Some(process) = process else { return Err(self.has_ended(None)) };
        kill_process(process, signal).map_err(|error| Violation::System(error.into()))
    }

    fn has_ended(&self, status: Option<ExitStatus>) -> Violation {
        Violation::NodeEnded { node: self.number, status }
    }

    /// That it has not ended by itself.
    pub(crate) fn check(&mut self) -> Result<(), Violation> {
        match self.child().map(Child::try_wait) {
            None | Some(Ok(None)) => Ok(()),
            Some(Ok(status)) => Err(self.has_ended(status)),
            Some(Err(error)) => Err(Violation::System(error)),
        }
    }

    /// SIGKILL: its memory is gone.
    pub(crate) async fn kill(&mut self) -> Result<(), Violation> {
        self.check()?;
        if let Some(Running { mut child, proxy }) = self.running.take() {
            let killed = child.kill().await;
            proxy.close().await;
            killed.map_err(Violation::System)?;
        }
        self.links.set_process(self.number, None);
        Ok(())
    }

    /// SIGSTOP: it does nothing, and notices nothing.
    pub(crate) fn pause(&mut self) -> Result<(), Violation> {
        self.signal(Signal::STOP)
    }

    pub(crate) fn resume(&mut self) -> Result<(), Violation> {
        self.signal(Signal::CONT)
    }

    /// SIGTERM, and it ends well.
    pub(crate) async fn stop(&mut self) -> Result<(), Violation> {
        self.signal(Signal::TERM)?;
        let Some(Running { mut child, proxy }) = self.running.take() else { return Ok(()) };
        let ended = timeout(STOP_TIME, child.wait()).await;
        proxy.close().await;
        self.links.set_process(self.number, None);
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.has_ended(Some(status))),
            Ok(Err(error)) => Err(Violation::System(error)),
            Err(_elapsed) => Err(Violation::NotStopped { node: self.number }),
        }
    }
}

/// All of 127/8 is this machine, and a run has addresses that nobody else is given by chance.
fn address(number: usize, from: u8) -> SocketAddrV4 {
    let [.., high, low] = std::process::id().to_be_bytes();
    let last = from + u8::try_from(number).expect("there are few nodes");
    SocketAddrV4::new(Ipv4Addr::new(127, 64 + high % 64, low, last), PORT)
}
