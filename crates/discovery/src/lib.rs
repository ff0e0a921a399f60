//! Where other nodes may be: addresses that were given, and those that DNS or Kubernetes has for a service. They are hints
//! whom to ask, and say nothing of who is a member. It knows no grid.

mod claim;
mod dns;
mod error;
mod kubernetes;
mod slices;

use std::net::SocketAddr;

pub use claim::Claim;
pub use dns::{DnsService, ServiceName};
pub use error::{LookupError, ServiceError};
pub use kubernetes::KubernetesService;

/// Who knows the addresses of a service.
#[derive(Debug, Clone)]
pub enum Service {
    /// DNS, which is asked each time.
    Dns(Box<DnsService>),
    /// The API server of a cluster, which tells of changes.
    Kubernetes(KubernetesService),
}

/// Where other nodes may be.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    places: Vec<String>,
    service: Option<Service>,
}

impl Discovery {
    /// At places (`HOST:PORT`), and wherever a service is.
    #[must_use]
    pub fn new(places: Vec<String>, service: Option<Service>) -> Self {
        Self { places, service }
    }

    /// Whether there is nobody to be looked for.
    #[must_use]
    pub fn is_nowhere(&self) -> bool {
        self.places.is_empty() && self.service.is_none()
    }

    /// Where they may be now, `HOST:PORT`. This node may be among them.
    ///
    /// # Errors
    /// The service cannot be looked up: it is not known who may be there.
    pub async fn addresses(&self) -> Result<Vec<String>, LookupError> {
        let mut addresses = self.places.clone();
        match &self.service {
            Some(Service::Dns(service)) => addresses.extend(service.addresses().await?),
            Some(Service::Kubernetes(service)) => addresses.extend(service.addresses().await?),
            None => {}
        }
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// The zone that the service tells of a host, if it tells of zones. It is waited for while the service may not know the host yet.
    pub async fn zone_of(&self, host: &str) -> Option<String> {
        match &self.service {
            Some(Service::Kubernetes(service)) => service.zone_of(host).await,
            Some(Service::Dns(_)) | None => None,
        }
    }

    /// Whether a grid may be founded by who asks: nobody else has claimed that, where claims are kept. Who has claimed it once may ask again.
    ///
    /// # Errors
    /// It is not known whether somebody has.
    pub async fn claim(&self, grid: &str) -> Result<Claim, LookupError> {
        match &self.service {
            Some(Service::Kubernetes(service)) => service.claim(grid).await,
            Some(Service::Dns(_)) | None => Ok(Claim::Own),
        }
    }
}

/// `HOST:PORT`, with brackets around an IPv6 address.
fn place(host: &str, port: u16) -> String {
    host.parse().map_or_else(|_| format!("{host}:{port}"), |ip| SocketAddr::new(ip, port).to_string())
}

#[cfg(test)]
mod tests;
