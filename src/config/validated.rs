//! [`Config`]: a configuration that makes sense.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use wattle_core::control::grid::Role;
use wattle_core::limits::{
    COPY_BYTES_PER_SECOND_MIN, LEASE_TERM_MAX, LEASE_TERM_MIN, NODES, PARTITIONS, PARTITIONS_MAX,
    VALUE_BYTES, VALUE_BYTES_MAX,
};
use wattle_core::name::{InvalidName, Name};
use wattle_discovery::{ServiceError, ServiceName};
use wattle_wasm::compile::CompileLimits;

use super::memory;
use super::raw::{DiscoveryKind, LogFormat, RawConfig, StopPolicy};
use crate::replication::Settings;

/// Where the API listens if nothing else is said.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7117);
/// Entries get this share of the memory: the rest is for requests, guests and what allocators keep.
const MEMORY_PERCENT: u64 = 70;
/// Less than this holds nothing worth a grid.
const MEMORY_BYTES_MIN: u64 = 1 << 20;
/// Less than what init systems wait before they kill.
const STOP_SECONDS: u64 = 60;
/// Whoever waits longer does not want it to stop.
const STOP_SECONDS_MAX: u64 = 86_400;
/// Whoever waits longer for an upload has given up.
const COMPILE_SECONDS_MAX: u64 = 3600;
/// With less the compiler does not even start.
const COMPILE_MEMORY_BYTES_MIN: u64 = 64 << 20;

/// How a node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) http_listen: Option<SocketAddr>,
    pub(crate) peer_listen: Option<SocketAddr>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) join: Vec<String>,
    pub(crate) service: Option<(DiscoveryKind, ServiceName)>,
    pub(crate) namespace: Option<String>,
    pub(crate) dns_server: Option<SocketAddr>,
    pub(crate) bootstrap_expect: Option<usize>,
    pub(crate) advertise: Option<String>,
    pub(crate) peer_advertise: Option<String>,
    pub(crate) role: Role,
    pub(crate) zone: Option<String>,
    pub(crate) grid: Option<Name>,
    pub(crate) grid_secret_file: Option<PathBuf>,
    pub(crate) stop_policy: StopPolicy,
    /// How long draining may take.
    pub(crate) stop_within: Duration,
    pub(crate) memory_bytes: u64,
    pub(crate) value_bytes: usize,
    pub(crate) partitions: u16,
    pub(crate) replication: Settings,
    pub(crate) compile: CompileLimits,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_filter: String,
    /// The program that compiles modules when it is called with `compile-module`: this one.
    pub(crate) compiler: PathBuf,
}

/// Why a configuration makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Everybody who reaches the address could do anything.
    #[error(
        "{address} is reachable from other machines, and nobody is asked who they are: listen on loopback, or say --insecure if the network is trusted"
    )]
    BeyondLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// Everybody who reaches the address could say that it is a node.
    #[error(
        "{address} is reachable from other machines, and other nodes need no secret: give them one (grid_secret_file), or say --insecure if the network is trusted"
    )]
    PeersBeyondLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// A number is out of its range.
    #[error("{field} must be between {min} and {max}, not {found}")]
    OutOfRange {
        /// Which.
        field: &'static str,
        /// At least.
        min: u64,
        /// At most.
        max: u64,
        /// As configured.
        found: u64,
    },
    /// A name is none.
    #[error("the grid's name is none")]
    Name(#[from] InvalidName),
    /// Nobody can be reached there.
    #[error("{address:?} is no HOST:PORT")]
    NoPlace {
        /// What was said.
        address: String,
    },
    /// A service is none.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A setting means nothing without another one.
    #[error("{setting} means nothing without {needs}")]
    Incomplete {
        /// Which.
        setting: &'static str,
        /// What is missing.
        needs: &'static str,
    },
    /// The memory of the machine is not known.
    #[error("the system does not tell how much memory there is: say memory_bytes")]
    UnknownMemory,
}

impl Config {
    /// Whether founders of a grid claim it at the API server of a cluster.
    pub(crate) fn claims(&self) -> bool {
        matches!(self.service, Some((DiscoveryKind::Kubernetes, _)))
    }

    /// Checks a configuration and fills in what it leaves open. `program` is the path of this program.
    ///
    /// # Errors
    /// [`ConfigError`] says what to change.
    pub fn new(raw: RawConfig, program: PathBuf) -> Result<Self, ConfigError> {
        let listen = raw.listen.unwrap_or(LISTEN);
        if !raw.insecure.unwrap_or(false) {
            let exposed =
                [Some(listen), raw.http_listen].into_iter().flatten().find(|a| !a.ip().is_loopback());
            if let Some(address) = exposed {
                return Err(ConfigError::BeyondLoopback { address });
            }
            let peers = raw.peer_listen.filter(|a| !a.ip().is_loopback() && raw.grid_secret_file.is_none());
            if let Some(address) = peers {
                return Err(ConfigError::PeersBeyondLoopback { address });
            }
        }
        let memory = || memory::available().map(|bytes| bytes / 100 * MEMORY_PERCENT);
        let memory_bytes = raw.memory_bytes.or_else(memory).ok_or(ConfigError::UnknownMemory)?;
        let value_bytes = raw.value_bytes.unwrap_or(VALUE_BYTES);
        let partitions = raw.partitions.unwrap_or(PARTITIONS);
        in_range("memory_bytes", memory_bytes, MEMORY_BYTES_MIN, u64::MAX)?;
        in_range("value_bytes", value_bytes as u64, 1, VALUE_BYTES_MAX as u64)?;
        in_range("partitions", partitions.into(), 1, PARTITIONS_MAX.into())?;
        let advertise = raw.advertise.as_ref().map(|place| with_port(place, listen.port()));
        let places = raw.join.iter().flatten().chain(&advertise).chain(&raw.peer_advertise);
        if let Some(address) = places.into_iter().find(|address| !is_place(address)) {
            return Err(ConfigError::NoPlace { address: address.clone() });
        }
        let service = service(&raw)?;
        let alone = raw.join.as_ref().is_none_or(Vec::is_empty) && service.is_none();
        needs("bootstrap_expect", raw.bootstrap_expect.is_some(), "join or discovery", !alone)?;
        let role = if raw.arbiter.unwrap_or(false) { Role::Arbiter } else { Role::Data };
        needs("arbiter", role == Role::Arbiter, "join or discovery", !alone)?;
        needs("peer_advertise", raw.peer_advertise.is_some(), "peer_listen", raw.peer_listen.is_some())?;
        in_range("bootstrap_expect", raw.bootstrap_expect.map_or(1, |nodes| nodes as u64), 1, NODES as u64)?;
        let stop_seconds = raw.stop_seconds.unwrap_or(STOP_SECONDS);
        in_range("stop_seconds", stop_seconds, 1, STOP_SECONDS_MAX)?;
        let replication = replication(raw.copy_bytes_per_second, raw.lease_milliseconds)?;
        let compile = compile_limits(raw.compile_seconds, raw.compile_memory_bytes)?;
        Ok(Self {
            listen,
            http_listen: raw.http_listen,
            peer_listen: raw.peer_listen,
            data_dir: raw.data_dir,
            join: raw.join.unwrap_or_default(),
            service,
            namespace: raw.namespace,
            dns_server: raw.dns_server,
            bootstrap_expect: raw.bootstrap_expect,
            advertise,
            peer_advertise: raw.peer_advertise,
            role,
            zone: raw.zone,
            grid: raw.grid.map(|name| Name::new(&name)).transpose()?,
            grid_secret_file: raw.grid_secret_file,
            stop_policy: raw.stop_policy.unwrap_or_default(),
            stop_within: Duration::from_secs(stop_seconds),
            memory_bytes,
            value_bytes,
            partitions,
            replication,
            compile,
            log_format: raw.log_format.unwrap_or_default(),
            log_filter: raw.log_filter.unwrap_or_else(|| "info".to_owned()),
            compiler: program,
        })
    }
}

/// What other nodes are looked for by, if they are.
fn service(raw: &RawConfig) -> Result<Option<(DiscoveryKind, ServiceName)>, ConfigError> {
    let is = |kind| raw.discovery == Some(kind);
    needs("service", raw.service.is_some(), "discovery", raw.discovery.is_some())?;
    needs("dns_server", raw.dns_server.is_some(), "discovery dns", is(DiscoveryKind::Dns))?;
    needs("namespace", raw.namespace.is_some(), "discovery kubernetes", is(DiscoveryKind::Kubernetes))?;
    let Some(kind) = raw.discovery else { return Ok(None) };
    let name = raw.service.as_deref();
    let name = name.ok_or(ConfigError::Incomplete { setting: "discovery", needs: "service" })?;
    Ok(Some((kind, name.parse()?)))
}

/// A host alone is one with this port.
fn with_port(place: &str, port: u16) -> String {
    match place.parse() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) if !place.is_empty() && !place.contains(':') => format!("{place}:{port}"),
        Err(_) => place.to_owned(),
    }
}

fn needs(
    setting: &'static str,
    is_set: bool,
    needs: &'static str,
    is_there: bool,
) -> Result<(), ConfigError> {
    if is_set && !is_there { Err(ConfigError::Incomplete { setting, needs }) } else { Ok(()) }
}

fn replication(copy_rate: Option<u64>, lease_milliseconds: Option<u64>) -> Result<Settings, ConfigError> {
    let default = Settings::default();
    let copy_rate = copy_rate.unwrap_or(default.copy_rate);
    let lease_term = lease_milliseconds.map_or(default.lease_term, Duration::from_millis);
    in_range("copy_bytes_per_second", copy_rate, COPY_BYTES_PER_SECOND_MIN, u64::MAX)?;
    let millis = |term: Duration| u64::try_from(term.as_millis()).unwrap_or(u64::MAX);
    in_range("lease_milliseconds", millis(lease_term), millis(LEASE_TERM_MIN), millis(LEASE_TERM_MAX))?;
    Ok(Settings { copy_rate, lease_term })
}

fn compile_limits(seconds: Option<u64>, memory_bytes: Option<u64>) -> Result<CompileLimits, ConfigError> {
    let default = CompileLimits::default();
    let cpu_seconds = seconds.unwrap_or(default.cpu_seconds);
    let memory_bytes = memory_bytes.unwrap_or(default.memory_bytes);
    in_range("compile_seconds", cpu_seconds, 1, COMPILE_SECONDS_MAX)?;
    in_range("compile_memory_bytes", memory_bytes, COMPILE_MEMORY_BYTES_MIN, u64::MAX)?;
    Ok(CompileLimits { memory_bytes, cpu_seconds, wall: Duration::from_secs(2 * cpu_seconds) })
}

fn is_place(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn in_range(field: &'static str, found: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&found) {
        Ok(())
    } else {
        Err(ConfigError::OutOfRange { field, min, max, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(raw: RawConfig) -> Result<Config, ConfigError> {
        Config::new(raw, PathBuf::from("wattle"))
    }

    #[test]
    fn listening_beyond_loopback_needs_a_word() {
        let any: SocketAddr = "0.0.0.0:7117".parse().unwrap();
        for raw in [
            RawConfig { listen: Some(any), ..RawConfig::default() },
            RawConfig { http_listen: Some(any), ..RawConfig::default() },
        ] {
            let refused = config(raw.clone());
            assert!(matches!(refused, Err(ConfigError::BeyondLoopback { address }) if address == any));
            assert!(config(RawConfig { insecure: Some(true), ..raw }).is_ok());
        }
        let peers = RawConfig { peer_listen: Some(any), ..RawConfig::default() };
        let refused = config(peers.clone());
        assert!(matches!(refused, Err(ConfigError::PeersBeyondLoopback { address }) if address == any));
        let secret = Some(PathBuf::from("secret"));
        for raw in [
            RawConfig { grid_secret_file: secret, ..peers.clone() },
            RawConfig { insecure: Some(true), ..peers },
        ] {
            assert_eq!(config(raw).unwrap().peer_listen, Some(any));
        }
        assert!(config(RawConfig { listen: "[::1]:1".parse().ok(), ..RawConfig::default() }).is_ok());
    }

    #[test]
    fn the_sample_file_has_every_setting_with_its_default_and_the_readme_names_them() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        let sample = read("examples/wattle.toml");
        let raw: RawConfig = toml::from_str(&sample).unwrap();
        // Prose has a space behind its `#`.
        let with_all = sample.replace("\n#", "\n").replace("\n ", "\n# ");
        let all: RawConfig = toml::from_str(&with_all).unwrap();
        assert!(!format!("{all:?}").contains("None"), "{all:?}");
        let settings: toml::Table = with_all.parse().unwrap();
        let readme = read("README.md");
        for setting in settings.keys() {
            assert!(readme.contains(&format!("`{setting}`")), "{setting}");
        }
        assert_eq!(config(raw).unwrap(), config(RawConfig::default()).unwrap());
    }

    #[test]
    fn numbers_have_ranges() {
        let value =
            |value_bytes| config(RawConfig { value_bytes: Some(value_bytes), ..RawConfig::default() });
        assert_eq!(value(4 << 20).unwrap().value_bytes, 4 << 20);
        assert!(matches!(value((4 << 20) + 1), Err(ConfigError::OutOfRange { field: "value_bytes", .. })));
        let compile = |seconds| config(RawConfig { compile_seconds: Some(seconds), ..RawConfig::default() });
        assert_eq!(compile(2).unwrap().compile.wall, Duration::from_secs(4));
        assert!(matches!(compile(0), Err(ConfigError::OutOfRange { field: "compile_seconds", .. })));
        assert_eq!(config(RawConfig::default()).unwrap().compile, CompileLimits::default());
        let leases = |term| config(RawConfig { lease_milliseconds: Some(term), ..RawConfig::default() });
        for term in [200, 10_000] {
            assert_eq!(leases(term).unwrap().replication.lease_term, Duration::from_millis(term));
        }
        for found in [0, 199, 10_001, u64::MAX] {
            let refused = leases(found);
            assert!(
                matches!(
                    refused,
                    Err(ConfigError::OutOfRange { field: "lease_milliseconds", min: 200, max: 10_000, .. })
                ),
                "{found}: {refused:?}"
            );
        }
        let none = config(RawConfig { partitions: Some(0), ..RawConfig::default() });
        assert!(matches!(none, Err(ConfigError::OutOfRange { field: "partitions", .. })));
    }

    #[test]
    fn settings_that_mean_nothing_alone_are_refused() {
        let service = Some("wattle.test".to_owned());
        let nothing_without = |raw: RawConfig, expected: (&str, &str)| {
            let refused = config(raw);
            let Err(ConfigError::Incomplete { setting, needs }) = refused else { panic!("{refused:?}") };
            assert_eq!((setting, needs), expected);
        };
        let raw = RawConfig { service: service.clone(), ..RawConfig::default() };
        nothing_without(raw, ("service", "discovery"));
        let raw = RawConfig { dns_server: "127.0.0.1:53".parse().ok(), ..RawConfig::default() };
        nothing_without(raw, ("dns_server", "discovery dns"));
        let namespace = Some("apps".to_owned());
        let raw = RawConfig {
            namespace,
            discovery: Some(DiscoveryKind::Dns),
            service: service.clone(),
            ..RawConfig::default()
        };
        nothing_without(raw, ("namespace", "discovery kubernetes"));
        let raw = RawConfig { discovery: Some(DiscoveryKind::Dns), ..RawConfig::default() };
        nothing_without(raw.clone(), ("discovery", "service"));
        let expecting = RawConfig { bootstrap_expect: Some(3), ..RawConfig::default() };
        nothing_without(expecting.clone(), ("bootstrap_expect", "join or discovery"));
        let raw_advertise = RawConfig { peer_advertise: Some("a:1".to_owned()), ..RawConfig::default() };
        nothing_without(raw_advertise, ("peer_advertise", "peer_listen"));
        let arbiter = RawConfig { arbiter: Some(true), ..RawConfig::default() };
        nothing_without(arbiter.clone(), ("arbiter", "join or discovery"));
        let join = Some(vec!["a:1".to_owned()]);
        assert_eq!(config(RawConfig { join, ..arbiter }).unwrap().role, Role::Arbiter);
        let found = config(RawConfig { service, ..raw }.or(expecting)).unwrap();
        assert_eq!(found.service, Some((DiscoveryKind::Dns, "wattle.test".parse().unwrap())));
        let nameless = toml::from_str("discovery = 'dns'\nservice = 'a:b'").unwrap();
        assert!(matches!(config(nameless), Err(ConfigError::Service(ServiceError::NoName { .. }))));
    }

    #[test]
    fn a_host_alone_has_the_port_of_the_api() {
        let check = |advertise: &str, expected: &str| {
            let listen = "127.0.0.1:7200".parse().ok();
            let raw = RawConfig { listen, advertise: Some(advertise.to_owned()), ..RawConfig::default() };
            assert_eq!(config(raw).unwrap().advertise.as_deref(), Some(expected));
        };
        check("10.0.0.7", "10.0.0.7:7200");
        check("fd00::7", "[fd00::7]:7200");
        check("one.test", "one.test:7200");
        check("one.test:1", "one.test:1");
        for nowhere in ["", ":1", "one.test:"] {
            let raw = RawConfig { advertise: Some(nowhere.to_owned()), ..RawConfig::default() };
            assert!(matches!(config(raw), Err(ConfigError::NoPlace { address }) if address == nowhere));
        }
    }

    #[test]
    fn unknown_fields_are_refused_and_flags_go_before_files() {
        assert!(toml::from_str::<RawConfig>("lisen = '127.0.0.1:1'").is_err());
        let file: RawConfig = toml::from_str("listen = '127.0.0.1:1'\nlog_format = 'json'").unwrap();
        let flags = RawConfig { listen: "127.0.0.1:2".parse().ok(), ..RawConfig::default() };
        let both = flags.or(file);
        assert_eq!((both.listen, both.log_format), ("127.0.0.1:2".parse().ok(), Some(LogFormat::Json)));
    }
}
