//! Where other nodes may be: addresses that were given, and those that DNS has for a name, looked up each time. They are hints
//! whom to ask, and say nothing of who is a member. It knows no grid.

mod error;
mod service;

pub use error::{LookupError, ServiceError};
pub use service::{Service, ServiceName};

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
        if let Some(service) = &self.service {
            addresses.extend(service.addresses().await?);
        }
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests;
