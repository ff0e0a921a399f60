//! `wattle operator`: looks after grids on Kubernetes until it is told to stop.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use wattle::config::LogFormat;
use wattle::observability::start_logs;
use wattle_operator::{Images, Operator, Ports, Settings, definitions_as_yaml};

use super::output;
use super::quantity::{QuantityError, duration};

/// Others wait in whole seconds.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// What is installed where no image is named.
const IMAGE: &str = "wattle";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Operate {
    #[command(subcommand)]
    action: Option<Action>,
    /// Look after grids in this namespace only; may be said several times [default: all namespaces]
    #[arg(
        long = "namespace",
        value_name = "NAMESPACE",
        env = "WATTLE_OPERATOR_NAMESPACES",
        value_delimiter = ','
    )]
    namespaces: Vec<String>,
    /// Where probes and metrics listen
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:7120")]
    listen: SocketAddr,
    /// Image of nodes whose Grid names none; the version of a Grid replaces its tag
    #[arg(long, value_name = "IMAGE", env = "WATTLE_IMAGE", default_value = IMAGE)]
    image: String,
    /// The namespace of the Lease by which one of several operators acts [default: this pod's]
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    lease_namespace: Option<String>,
    /// How long another operator waits for this one when it is gone
    #[arg(long, value_parser = lease_duration, value_name = "DURATION", default_value = "15s")]
    lease_duration: Duration,
    /// What this operator is called in the Lease and in events
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "wattle-operator")]
    name: String,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
    /// What is logged, such as `info` or `wattle_operator=debug`
    #[arg(long, value_name = "FILTER", env = "WATTLE_LOG", default_value = "info")]
    log_filter: String,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the definitions of Grid, GridMap and GridFunction, for `kubectl apply -f -`
    Crds,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// A lease that ends before it can be renewed would pass from one to the other for ever.
fn lease_duration(text: &str) -> Result<Duration, LeaseDurationError> {
    let duration = duration(text)?;
    if duration < SHORTEST_LEASE { Err(LeaseDurationError::TooShort) } else { Ok(duration) }
}

#[derive(Debug, thiserror::Error)]
enum LeaseDurationError {
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    #[error("a lease lasts 1s at least")]
    TooShort,
}

impl Operate {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if let Some(Action::Crds) = self.action {
            output::line(definitions_as_yaml()?.trim_end())?;
            return Ok(());
        }
        let format = match self.log_format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        };
        start_logs(format, &self.log_filter).context("--log-filter")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("the runtime cannot start")?.block_on(self.operate())
    }

    async fn operate(self) -> anyhow::Result<()> {
        // First of all: the system does not end the first process of a container that does not listen.
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let operator = Operator::infer(self.settings()?).await?;
        operator.run(stop).await?;
        Ok(())
    }

    fn settings(self) -> anyhow::Result<Settings> {
        let mut random = [0_u8; 4];
        getrandom::fill(&mut random).context("no random numbers can be had")?;
        Ok(Settings {
            namespaces: self.namespaces,
            lease_namespace: self.lease_namespace,
            // A pod keeps its name when its container starts again, which is another operator to those who wait for the Lease.
            identity: format!("{}_{:08x}", self.name, u32::from_ne_bytes(random)),
            lease_duration: self.lease_duration,
            listen: self.listen,
            images: Images::parse(&self.image, env!("CARGO_PKG_VERSION")),
            ports: Ports::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use wattle::config::RawConfig;
    use wattle_operator::api::Settings as GridSettings;
    use wattle_operator::node_configuration;

    #[test]
    fn a_node_understands_what_the_operator_writes() {
        let settings = GridSettings {
            memory_bytes: Some(1 << 30),
            value_bytes: Some(1 << 20),
            partitions: Some(31),
            copy_bytes_per_second: Some(1 << 20),
            lease_milliseconds: Some(500),
            compile_seconds: Some(10),
            compile_memory_bytes: Some(1 << 30),
            log_filter: Some("info,\"quoted\"".to_owned()),
        };
        let read: RawConfig = toml::from_str(&node_configuration(&settings, 3)).unwrap();
        let expected = RawConfig {
            bootstrap_expect: Some(3),
            memory_bytes: Some(1 << 30),
            value_bytes: Some(1 << 20),
            partitions: Some(31),
            copy_bytes_per_second: Some(1 << 20),
            lease_milliseconds: Some(500),
            compile_seconds: Some(10),
            compile_memory_bytes: Some(1 << 30),
            log_filter: Some("info,\"quoted\"".to_owned()),
            ..RawConfig::default()
        };
        assert_eq!(read, expected);
        let read: RawConfig = toml::from_str(&node_configuration(&GridSettings::default(), 1)).unwrap();
        assert_eq!(read, RawConfig { bootstrap_expect: Some(1), ..RawConfig::default() });
    }
}
