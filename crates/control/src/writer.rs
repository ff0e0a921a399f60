//! The one task that writes to a voter's disk: what waits together is made durable by one transaction, in the order in which it came.

use std::io;
use std::sync::Arc;

use openraft::storage::LogFlushed;
use redb::Database;
use tokio::sync::{mpsc, oneshot};
use tracing::error;
use wattle_core::limits::CONTROL_WRITES;

use crate::disk::{self, Write};
use crate::raft::Types;

/// Hands writes to the task. The task ends when the last of these is gone.
#[derive(Debug, Clone)]
pub(crate) struct Writer(mpsc::Sender<Job>);

struct Job {
    write: Write,
    done: Done,
}

/// Whom to tell that a write is durable.
enum Done {
    Raft(LogFlushed<Types>),
    Caller(oneshot::Sender<Result<(), WriteError>>),
    /// It is durable before all that follows it.
    Nobody,
}

/// A write is not known to be durable, and redb takes none after it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot write to the control log")]
pub(crate) struct WriteError(#[source] Arc<redb::Error>);

impl Writer {
    /// The other half is to be run.
    pub(crate) fn new(database: Database) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, jobs) = mpsc::channel(CONTROL_WRITES);
        (Self(sender), run(Arc::new(database), jobs))
    }

    /// Returns when it is durable.
    pub(crate) async fn write(&self, write: Write) -> Result<(), WriteError> {
        let (sender, done) = oneshot::channel();
        self.submit(Job { write, done: Done::Caller(sender) }).await;
        done.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Returns at once, unless too many wait, and tells Raft when it is durable.
    pub(crate) async fn append(&self, write: Write, flushed: LogFlushed<Types>) {
        self.submit(Job { write, done: Done::Raft(flushed) }).await;
    }

    /// Returns at once, unless too many wait. If it fails, so does what is written next.
    pub(crate) async fn write_soon(&self, write: Write) {
        self.submit(Job { write, done: Done::Nobody }).await;
    }

    async fn submit(&self, job: Job) {
        if let Err(mpsc::error::SendError(job)) = self.0.send(job).await {
            job.done.tell(Err(ended()));
        }
    }
}

impl Done {
    fn tell(self, result: Result<(), WriteError>) {
        match self {
            Self::Raft(flushed) => flushed.log_io_completed(result.map_err(io::Error::other)),
            // A caller that has gone does not want to know.
            Self::Caller(sender) => drop(sender.send(result)),
            Self::Nobody => {}
        }
    }
}

/// The runtime stopped the task before the voter.
fn ended() -> WriteError {
    WriteError(Arc::new(redb::Error::Io(io::ErrorKind::BrokenPipe.into())))
}

async fn run(database: Arc<Database>, mut jobs: mpsc::Receiver<Job>) {
    let mut waiting = Vec::with_capacity(CONTROL_WRITES);
    while jobs.recv_many(&mut waiting, CONTROL_WRITES).await > 0 {
        let (writes, done): (Vec<_>, Vec<_>) = waiting.drain(..).map(|job| (job.write, job.done)).unzip();
        let result = write(&database, writes).await;
        if let Err(error) = &result {
            error!(error = %error.0, "control log not written: this voter ends");
        }
        done.into_iter().for_each(|done| done.tell(result.clone()));
    }
}

/// On a thread of its own: an fsync may take longer than a heartbeat may.
async fn write(database: &Arc<Database>, writes: Vec<Write>) -> Result<(), WriteError> {
    let database = Arc::clone(database);
    let written = tokio::task::spawn_blocking(move || disk::write(&database, &writes)).await;
    let written = written.unwrap_or_else(|panicked| Err(redb::Error::Io(io::Error::other(panicked))));
    written.map_err(|error| WriteError(Arc::new(error)))
}
