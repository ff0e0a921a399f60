//! `wattle serve`: runs a node until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use wattle::config::{Config, DiscoveryKind, LogFormat, RawConfig, StopPolicy};
use wattle::node::{Node, Signals};
use wattle::observability::start_logs;

/// Flags go before the file of `--config`.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where the gRPC API listens [default: 127.0.0.1:7117]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Where metrics and probes listen, instead of on the API's port, which then speaks HTTP/2 only
    #[arg(long, value_name = "ADDR", value_parser = address)]
    http_listen: Option<SocketAddr>,
    /// Where other nodes find this one, instead of on the API's port
    #[arg(long, value_name = "ADDR", value_parser = address)]
    peer_listen: Option<SocketAddr>,
    /// Where modules, functions and map definitions are kept; entries live in memory only
    #[arg(long, value_name = "DIR", env = "WATTLE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Join the grid of other nodes; without it this node founds one, unless its data directory is of one
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "WATTLE_JOIN")]
    join: Option<Vec<String>>,
    /// Join the grid of the nodes that are found, too
    #[arg(long, value_name = "HOW")]
    discovery: Option<Discovery>,
    /// What DNS or Kubernetes knows the nodes by. DNS: SRV records, or addresses with this node's port. Kubernetes: a headless service,
    /// whose port `peers` is taken. With a port: addresses with that one
    #[arg(long, value_name = "NAME[:PORT]", env = "WATTLE_SERVICE")]
    service: Option<String>,
    /// The namespace of the service in Kubernetes [default: that of the pod's service account, or of the kubeconfig]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Which DNS server to ask [default: those of /etc/resolv.conf]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    dns_server: Option<SocketAddr>,
    /// Found a grid with the nodes of --join or --discovery when so many, this one too, are there and in no grid
    #[arg(long, value_name = "NODES")]
    bootstrap_expect: Option<usize>,
    /// Where other nodes and clients reach this one; without a port, at that of --listen [default: where it listens]
    #[arg(long, value_name = "HOST[:PORT]")]
    advertise: Option<String>,
    /// Where other nodes reach --peer-listen [default: there; on the host of --advertise if that is everywhere]
    #[arg(long, value_name = "HOST:PORT")]
    peer_advertise: Option<String>,
    /// Vote, and hold no data: with two others, either of them may die
    #[arg(long)]
    arbiter: bool,
    /// What fails together with this node: copies are kept in other zones
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// The name of the grid to found [default: wattle], or to join [default: any]
    #[arg(long, value_name = "NAME")]
    grid: Option<String>,
    /// A file with the secret that all nodes of the grid share
    #[arg(long, value_name = "FILE")]
    grid_secret_file: Option<PathBuf>,
    /// A TOML file with the same settings, and those without a flag: memory_bytes, value_bytes, partitions,
    /// copy_bytes_per_second, lease_milliseconds, compile_seconds, compile_memory_bytes
    #[arg(long, value_name = "FILE", env = "WATTLE_CONFIG")]
    config: Option<PathBuf>,
    /// What to do first when told to stop [default: drain]
    #[arg(long, value_name = "POLICY")]
    stop_policy: Option<Policy>,
    /// How long draining may take; a second signal ends at once [default: 60]
    #[arg(long, value_name = "SECONDS")]
    stop_seconds: Option<u64>,
    /// Listen beyond loopback although nobody is asked who they are
    #[arg(long)]
    insecure: bool,
    /// How log lines look [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// What is logged, such as `info` or `wattle=debug` [default: info]
    #[arg(long, value_name = "FILTER", env = "WATTLE_LOG")]
    log_filter: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Policy {
    /// Have others take what this node holds, while it goes on serving
    Drain,
    /// Nothing: others take over as if it had died
    LeaveNow,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Discovery {
    /// Those that --service stands for, as DNS says
    Dns,
    /// The pods of the headless service --service, as the API server of the cluster says
    Kubernetes,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let signals = Signals::listen()?;
        let file = match &self.config {
            None => RawConfig::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                toml::from_str(&text).with_context(|| format!("{} is no configuration", path.display()))?
            }
        };
        let flags = RawConfig {
            listen: self.listen,
            http_listen: self.http_listen,
            peer_listen: self.peer_listen,
            data_dir: self.data_dir,
            join: self.join,
            discovery: self.discovery.map(|discovery| match discovery {
                Discovery::Dns => DiscoveryKind::Dns,
                Discovery::Kubernetes => DiscoveryKind::Kubernetes,
            }),
            service: self.service,
            namespace: self.namespace,
            dns_server: self.dns_server,
            bootstrap_expect: self.bootstrap_expect,
            advertise: self.advertise,
            peer_advertise: self.peer_advertise,
            arbiter: self.arbiter.then_some(true),
            zone: self.zone,
            grid: self.grid,
            grid_secret_file: self.grid_secret_file,
            stop_policy: self.stop_policy.map(|policy| match policy {
                Policy::Drain => StopPolicy::Drain,
                Policy::LeaveNow => StopPolicy::LeaveNow,
            }),
            stop_seconds: self.stop_seconds,
            insecure: self.insecure.then_some(true),
            log_format: self.log_format.map(|format| match format {
                Format::Text => LogFormat::Text,
                Format::Json => LogFormat::Json,
            }),
            log_filter: self.log_filter,
            ..RawConfig::default()
        };
        let program = std::env::current_exe().context("the path of this program is not known")?;
        let config = Config::new(flags.or(file), program)?;
        start_logs(config.log_format, &config.log_filter).context("--log-filter")?;
        Node::run(&config, signals)?;
        Ok(())
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "an IP address and a port are expected, such as 127.0.0.1:7117")
}
