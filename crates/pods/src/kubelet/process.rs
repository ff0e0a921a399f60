//! Processes of containers: each leads a group of its own, and none outlives who started it.

use std::io;
use std::process::ExitStatus;
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

type Request = (Command, oneshot::Sender<io::Result<Child>>);

/// Starts processes on a thread of its own: the kernel ends a child with the *thread* that started it, and those of the
/// runtime come and go.
#[derive(Debug, Clone)]
pub(crate) struct Spawner(mpsc::Sender<Request>);

impl Spawner {
    /// The thread ends with the last clone.
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, requests) = mpsc::channel::<Request>();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            let _runtime = runtime.enter();
            for (mut command, reply) in requests {
                if let Err(unwanted) = reply.send(command.spawn()) {
                    drop(unwanted);
                }
            }
        })?;
        Ok(Self(sender))
    }

    pub(crate) async fn spawn(&self, mut command: Command) -> io::Result<Process> {
        command.process_group(0).kill_on_drop(true);
        let end_with_parent = || set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from);
        // SAFETY: between fork and exec this makes one system call, and takes no memory and no lock.
        unsafe { command.pre_exec(end_with_parent) };
        let (reply, answer) = oneshot::channel();
        self.0.send((command, reply)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        let child = answer.await.map_err(|_| io::ErrorKind::BrokenPipe)??;
        let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Process { child, group: id })
    }
}

/// A process and all that it started; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// None once it has ended.
    group: Option<Pid>,
}

impl Process {
    pub(crate) fn id(&self) -> Option<Pid> {
        self.group
    }

    /// To the process alone, as a runtime of containers signals the first process of one.
    pub(crate) fn terminate(&self) {
        if let Some(id) = self.group {
            send(rustix::process::kill_process(id, Signal::TERM));
        }
    }

    pub(crate) fn kill(&self) {
        if let Some(id) = self.group {
            send(kill_process_group(id, Signal::KILL));
        }
    }

    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        // A container ends with its first process.
        self.kill();
        self.group = None;
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// To the process and all that it started.
pub(crate) fn signal(id: Pid, signal: Signal) {
    send(kill_process_group(id, signal));
}

/// One that has just ended needs no signal.
fn send(sent: rustix::io::Result<()>) {
    if let Err(error) = sent
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(%error, "a process cannot be signalled");
    }
}
