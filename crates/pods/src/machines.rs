//! [`Machines`]: what takes nodes away and brings them back, for tests and for people with kubectl.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::kubelet::Command;
use crate::nodes::Change;

/// Tells the kubelets first, and then the controller of nodes, which hears nothing of a machine that is off.
#[derive(Debug, Clone)]
pub(crate) struct Machines {
    names: BTreeSet<String>,
    commands: mpsc::Sender<Command>,
    changes: mpsc::Sender<Change>,
}

impl Machines {
    pub(crate) fn new<'a>(
        names: impl Iterator<Item = &'a String>,
        commands: mpsc::Sender<Command>,
        changes: mpsc::Sender<Change>,
    ) -> Self {
        Self { names: names.cloned().collect(), commands, changes }
    }

    /// All processes of the machine have been killed when this returns.
    pub(crate) async fn fail(&self, name: &str) -> Result<(), Error> {
        self.check(name)?;
        let (reply, answer) = oneshot::channel();
        self.command(Command::Fail { node: name.to_owned(), reply }).await?;
        answer.await.map_err(|_| Error::Stopped)?;
        self.report(Change::Failed(name.to_owned())).await
    }

    pub(crate) async fn restore(&self, name: &str) -> Result<(), Error> {
        self.check(name)?;
        self.command(Command::Restore { node: name.to_owned() }).await?;
        self.report(Change::Restored(name.to_owned())).await
    }

    fn check(&self, name: &str) -> Result<(), Error> {
        let is_known = self.names.contains(name);
        if is_known { Ok(()) } else { Err(Error::NoSuchNode { name: name.to_owned() }) }
    }

    async fn command(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| Error::Stopped)
    }

    async fn report(&self, change: Change) -> Result<(), Error> {
        self.changes.send(change).await.map_err(|_| Error::Stopped)
    }
}
