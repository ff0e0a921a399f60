//! The configuration as files and flags give it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// What may be configured; what is absent has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// Where the gRPC API listens. 127.0.0.1:7117 by default.
    pub listen: Option<SocketAddr>,
    /// Where metrics and probes listen, instead of on the API's port, which then speaks HTTP/2 only.
    pub http_listen: Option<SocketAddr>,
    /// Where other nodes find this one, instead of on the API's port.
    pub peer_listen: Option<SocketAddr>,
    /// Where modules, functions and map definitions are kept. Without it they are forgotten when the node stops.
    pub data_dir: Option<PathBuf>,
    /// Where other nodes may be, `HOST:PORT`: this one joins their grid. Without any it founds one, unless its data directory is of one.
    pub join: Option<Vec<String>>,
    /// How nodes are found beside those of `join`.
    pub discovery: Option<DiscoveryKind>,
    /// What DNS or Kubernetes knows them by, `NAME` or `NAME:PORT`.
    pub service: Option<String>,
    /// In which namespace of Kubernetes the service is. In that of the pod's service account, or of the kubeconfig, by default.
    pub namespace: Option<String>,
    /// Who is asked. The servers of `/etc/resolv.conf` by default.
    pub dns_server: Option<SocketAddr>,
    /// Found a grid with the nodes that are found when so many of them, this one too, are there and in no grid.
    pub bootstrap_expect: Option<usize>,
    /// Where other nodes and clients reach this one, `HOST:PORT`, or `HOST` with the port of `listen`. Where it listens by default.
    pub advertise: Option<String>,
    /// Where other nodes reach `peer_listen`, `HOST:PORT`. There, on the host of `advertise` if it listens everywhere, by default.
    pub peer_advertise: Option<String>,
    /// Vote, and hold no data.
    pub arbiter: Option<bool>,
    /// What fails together with this node, such as a zone of a cloud.
    pub zone: Option<String>,
    /// The name of the grid that the node founds (`wattle` by default), or looks for (any by default).
    pub grid: Option<String>,
    /// A file with the secret that all nodes of a grid share, at least 16 bytes.
    pub grid_secret_file: Option<PathBuf>,
    /// What a node does first that is told to stop. `drain` by default.
    pub stop_policy: Option<StopPolicy>,
    /// How long draining may take, in seconds. 60 by default.
    pub stop_seconds: Option<u64>,
    /// Whether to listen beyond loopback although nobody is asked who they are.
    pub insecure: Option<bool>,
    /// What entries may take of the memory, in bytes. 70 % of the machine's or the cgroup's by default.
    pub memory_bytes: Option<u64>,
    /// The longest value, in bytes. 1 MiB by default, 4 MiB at most.
    pub value_bytes: Option<usize>,
    /// The number of partitions, 271 by default.
    pub partitions: Option<u16>,
    /// What is sent in a second to bring other copies in sync, in bytes. 64 MiB by default.
    pub copy_bytes_per_second: Option<u64>,
    /// For how long leases are granted to other nodes, in milliseconds. 2000 by default.
    pub lease_milliseconds: Option<u64>,
    /// CPU time that compiling an uploaded module may take, in seconds; twice as much by the clock. 60 by default.
    pub compile_seconds: Option<u64>,
    /// Memory that compiling an uploaded module may take, in bytes. 2 GiB by default.
    pub compile_memory_bytes: Option<u64>,
    /// How log lines look. `text` by default.
    pub log_format: Option<LogFormat>,
    /// What is logged, as a directive of tracing's `EnvFilter`, such as `info` or `wattle=debug`. `info` by default.
    pub log_filter: Option<String>,
}

/// What a node does first that is told to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopPolicy {
    /// It has others take what it holds.
    #[default]
    Drain,
    /// Nothing: others take over as if it had died.
    LeaveNow,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// How nodes are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscoveryKind {
    /// By the SRV or address records of a name.
    Dns,
    /// By the EndpointSlices of a headless service.
    Kubernetes,
}

impl RawConfig {
    /// This configuration, and where it says nothing, the other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            http_listen: self.http_listen.or(other.http_listen),
            peer_listen: self.peer_listen.or(other.peer_listen),
            data_dir: self.data_dir.or(other.data_dir),
            join: self.join.or(other.join),
            discovery: self.discovery.or(other.discovery),
            service: self.service.or(other.service),
            namespace: self.namespace.or(other.namespace),
            dns_server: self.dns_server.or(other.dns_server),
            bootstrap_expect: self.bootstrap_expect.or(other.bootstrap_expect),
            advertise: self.advertise.or(other.advertise),
            peer_advertise: self.peer_advertise.or(other.peer_advertise),
            arbiter: self.arbiter.or(other.arbiter),
            zone: self.zone.or(other.zone),
            grid: self.grid.or(other.grid),
            grid_secret_file: self.grid_secret_file.or(other.grid_secret_file),
            stop_policy: self.stop_policy.or(other.stop_policy),
            stop_seconds: self.stop_seconds.or(other.stop_seconds),
            insecure: self.insecure.or(other.insecure),
            memory_bytes: self.memory_bytes.or(other.memory_bytes),
            value_bytes: self.value_bytes.or(other.value_bytes),
            partitions: self.partitions.or(other.partitions),
            copy_bytes_per_second: self.copy_bytes_per_second.or(other.copy_bytes_per_second),
            lease_milliseconds: self.lease_milliseconds.or(other.lease_milliseconds),
            compile_seconds: self.compile_seconds.or(other.compile_seconds),
            compile_memory_bytes: self.compile_memory_bytes.or(other.compile_memory_bytes),
            log_format: self.log_format.or(other.log_format),
            log_filter: self.log_filter.or(other.log_filter),
        }
    }
}
