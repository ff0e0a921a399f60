//! What every command that talks to a grid takes: where it is, how long to wait, how to print.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, ValueEnum};
use wattle_client::{Client, Error, Options};

use super::quantity::duration;

/// How long a command looks for a node before it says that there is none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// They may stand before the command, and anywhere behind it.
const HEADING: &str = "Common options";

#[derive(Debug, Args)]
pub(super) struct Remote {
    /// A node of the grid
    #[arg(
        long,
        env = "WATTLE_ENDPOINT",
        default_value = "http://127.0.0.1:7117",
        value_name = "URL",
        global = true,
        help_heading = HEADING
    )]
    pub(super) endpoint: String,

    /// How to print: a table for people, or JSON for programs, one value or one for each line
    #[arg(long, value_enum, default_value_t, global = true, help_heading = HEADING)]
    pub(super) output: Format,

    /// How long a call may take
    #[arg(
        long,
        value_parser = duration,
        default_value = "30s",
        value_name = "DURATION",
        global = true,
        help_heading = HEADING
    )]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    // Without words of their own, which would make every command's help long.
    #[default]
    Table,
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
    /// The same options for a command that talks to no grid: its help leaves them out, and [`Remote::given`] tells of them.
    pub(super) fn hidden() -> Vec<Arg> {
        let listed = Self::augment_args(Command::new(""));
        listed.get_arguments().map(|option| option.clone().global(false).hide(true)).collect()
    }

    /// One of the options that was typed.
    pub(super) fn given(matches: &ArgMatches) -> Option<&'static str> {
        let typed = |option: &&str| matches.value_source(option) == Some(ValueSource::CommandLine);
        ["endpoint", "output", "timeout"].into_iter().find(typed)
    }

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

    /// A client of a node that may be in no grid.
    pub(super) fn prepare(&self) -> anyhow::Result<Client> {
        Ok(Client::prepare(self.options())?)
    }

    fn options(&self) -> Options {
        Options::new(&self.endpoint).timeout(self.timeout).connect_timeout(CONNECT_TIMEOUT).connections(1)
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        self.connect_with(|options| options).await
    }

    pub(super) async fn connect_with(&self, more: impl FnOnce(Options) -> Options) -> anyhow::Result<Client> {
        let connected = Client::connect(more(self.options())).await;
        connected.with_context(|| self.at())
    }
}
