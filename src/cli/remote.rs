//! What every command that talks to a grid takes: where it is, how long to wait, how to print.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use wattle_client::{Client, Error, Options};

use super::quantity::duration;

/// How long a command looks for a node before it says that there is none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Remote {
    /// A node of the grid
    #[arg(
        long,
        env = "WATTLE_ENDPOINT",
        default_value = "http://127.0.0.1:7117",
        value_name = "URL",
        global = true
    )]
    endpoint: String,

    /// How to print
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(super) output: Format,

    /// How long a call may take
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "DURATION", global = true)]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: one value, or one for each line
    Json,
}

/// Where an error happened.
#[derive(Debug)]
pub(super) struct At {
    pub(super) endpoint: String,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection to {}", self.endpoint)
    }
}

impl Remote {
    /// Runs a command on a runtime of one thread.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let done = runtime.context("the runtime cannot start")?.block_on(work);
        done.map_err(|error| self.located(error))
    }

    /// A node that goes away during a command is named as one that was never there.
    fn located(&self, error: anyhow::Error) -> anyhow::Error {
        let gone =
            matches!(error.downcast_ref(), Some(Error::Unavailable(failure)) if failure.reason().is_none());
        if gone && !error.is::<At>() { error.context(self.at()) } else { error }
    }

    fn at(&self) -> At {
        At { endpoint: self.endpoint.clone() }
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        self.connect_with(|options| options).await
    }

    pub(super) async fn connect_with(&self, more: impl FnOnce(Options) -> Options) -> anyhow::Result<Client> {
        let options = Options::new(&self.endpoint).timeout(self.timeout).connect_timeout(CONNECT_TIMEOUT);
        let connected = Client::connect(more(options.connections(1))).await;
        connected.with_context(|| self.at())
    }
}
