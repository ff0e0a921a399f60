//! [`DnsService`]: what DNS says of a name, as in Kubernetes of a headless service. The order of questions is that of RFC 2782: SRV, which
//! has the ports; then addresses. Of those, IPv6 only where there is no IPv4: a node listens at one of them.
//!
//! An answer that there is nothing is an answer. No answer is an error: who founds a grid must have seen all who may be there.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use wattle_core::limits::NODES;

use crate::error::{LookupError, ServiceError};

/// An answer is believed for so long, if it says that it holds for longer: nodes come and go.
const FRESH: Duration = Duration::from_secs(5);
/// And that there is nobody for so long.
const NOBODY_YET: Duration = Duration::from_secs(1);

/// What a service is called: `NAME`, or `NAME:PORT` where its nodes have that port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName {
    name: Name,
    pub(crate) port: Option<u16>,
}

impl ServiceName {
    /// As an object of Kubernetes is called: one label.
    ///
    /// # Errors
    /// There are more labels.
    pub(crate) fn label(&self) -> Result<String, ServiceError> {
        let text = self.name.to_utf8();
        let text = text.trim_end_matches('.');
        if self.name.num_labels() == 1 {
            Ok(text.to_owned())
        } else {
            Err(ServiceError::NoLabel { text: text.to_owned() })
        }
    }
}

impl FromStr for ServiceName {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let no_name = || ServiceError::NoName { text: text.to_owned() };
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| no_name())?)),
            None => (text, None),
        };
        let parsed = Name::from_utf8(name).map_err(|_| no_name())?;
        if parsed.num_labels() == 0 || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(no_name());
        }
        Ok(Self { name: parsed, port })
    }
}

/// A service that is looked up.
#[derive(Clone)]
pub struct DnsService {
    name: ServiceName,
    /// Of its nodes, if nothing says another one.
    port: u16,
    resolver: TokioResolver,
}

impl std::fmt::Debug for DnsService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsService")
            .field("name", &self.name)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl DnsService {
    /// A service whose nodes have a certain port if nothing else is said. It is asked for at a DNS server, or where the system asks.
    ///
    /// # Errors
    /// The system does not say where to ask.
    pub fn new(name: ServiceName, port: u16, server: Option<SocketAddr>) -> Result<Self, ServiceError> {
        let broken = |error| ServiceError::System(Box::new(error));
        let mut builder = match server {
            Some(server) => TokioResolver::builder_with_config(only(server), TokioRuntimeProvider::default()),
            None => TokioResolver::builder_tokio().map_err(broken)?,
        };
        let options = builder.options_mut();
        options.positive_max_ttl = Some(FRESH);
        options.negative_max_ttl = Some(NOBODY_YET);
        let resolver = builder.build().map_err(broken)?;
        Ok(Self { name, port, resolver })
    }

    /// Where its nodes are, `HOST:PORT`.
    ///
    /// # Errors
    /// [`LookupError`]: another time there may be an answer.
    pub async fn addresses(&self) -> Result<Vec<String>, LookupError> {
        let name = &self.name.name;
        let places = match self.name.port {
            Some(port) => self.at(name, port).await?,
            None => {
                let records = self.look_up(name, RecordType::SRV).await?;
                let targets: Vec<SRV> = records.iter().filter_map(srv).collect();
                if targets.is_empty() {
                    self.at(name, self.port).await?
                } else {
                    self.places_of(&targets).await?
                }
            }
        };
        if places.len() > NODES {
            return Err(LookupError::TooMany { name: name.to_string(), found: places.len() });
        }
        Ok(places)
    }

    async fn places_of(&self, targets: &[SRV]) -> Result<Vec<String>, LookupError> {
        let mut places = Vec::new();
        for SRV { target, port, .. } in targets {
            let at = self.at(target, *port).await?;
            // Somebody is said to be there, and has to be found before a grid is founded.
            let unknown = at.is_empty().then(|| format!("{}:{port}", target.to_utf8().trim_end_matches('.')));
            places.extend(at.into_iter().chain(unknown));
        }
        Ok(places)
    }

    async fn at(&self, name: &Name, port: u16) -> Result<Vec<String>, LookupError> {
        for family in [RecordType::A, RecordType::AAAA] {
            let records = self.look_up(name, family).await?;
            let places: Vec<String> =
                records.iter().filter_map(ip).map(|ip| SocketAddr::new(ip, port).to_string()).collect();
            if !places.is_empty() {
                return Ok(places);
            }
        }
        Ok(Vec::new())
    }

    /// Records of a name; none if DNS says that there are none.
    async fn look_up(&self, name: &Name, kind: RecordType) -> Result<Vec<RData>, LookupError> {
        match self.resolver.lookup(name.clone(), kind).await {
            Ok(found) => Ok(found.answers().iter().map(|record| record.data.clone()).collect()),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(source) => Err(LookupError::NoAnswer { name: name.to_string(), source: Box::new(source) }),
        }
    }
}

fn only(server: SocketAddr) -> ResolverConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = server.port());
    ResolverConfig::from_name_servers(vec![NameServerConfig::new(server.ip(), true, connections)])
}

fn srv(record: &RData) -> Option<SRV> {
    if let RData::SRV(srv) = record { Some(srv.clone()) } else { None }
}

fn ip(record: &RData) -> Option<IpAddr> {
    match record {
        RData::A(ip) => Some(IpAddr::V4(ip.0)),
        RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
        // Such as the alias that leads to them.
        _ => None,
    }
}
