//! The definitions of maps.

use std::sync::Arc;
use std::time::Duration;

use wattle_proto::v1;

use crate::call::Caller;
use crate::error::Error;
use crate::wire::to_wire;

pub use wattle_proto::v1::{ContentType, EvictionPolicy};

/// Creates, changes, describes and deletes maps. From [`Client::maps`](crate::Client::maps).
///
/// ```no_run
/// # async fn example(client: wattle_client::Client) -> Result<(), wattle_client::Error> {
/// use std::time::Duration;
/// use wattle_client::{ContentType, MapOptions};
///
/// let sessions = MapOptions::new().content_type(ContentType::Json).max_idle(Duration::from_secs(1800));
/// client.maps().create("sessions", &sessions).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Maps {
    caller: Arc<Caller>,
}

/// What a new map is like. Without options its entries are bytes and live for ever.
#[derive(Debug, Clone, Default)]
pub struct MapOptions {
    wire: v1::MapOptions,
}

impl MapOptions {
    /// The grid's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Values that are not of this type are refused.
    #[must_use]
    pub fn content_type(mut self, content_type: ContentType) -> Self {
        self.wire.content_type = content_type.into();
        self
    }

    /// How long an entry lives after its last write, unless the write says otherwise.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.wire.ttl = Some(to_wire(ttl));
        self
    }

    /// How long an entry lives after its last use.
    #[must_use]
    pub fn max_idle(mut self, max_idle: Duration) -> Self {
        self.wire.max_idle = Some(to_wire(max_idle));
        self
    }

    /// A limit over the whole grid on keys, values and what they cost in memory.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.wire.max_bytes = max_bytes;
        self
    }

    /// What happens to a write when the map is full.
    #[must_use]
    pub fn eviction(mut self, policy: EvictionPolicy) -> Self {
        self.wire.eviction = policy.into();
        self
    }

    /// How many copies an entry has beside the primary's (0 to 6; one without this), and how many of all must be in sync for a write:
    /// else it is refused. With 0 that is one more than half the backups.
    #[must_use]
    pub fn replication(mut self, backups: u32, min_in_sync: u32) -> Self {
        self.wire.replication = Some(v1::Replication { backups, min_in_sync });
        self
    }
}

/// What to change about a map; what is not named stays. A zero takes a limit away.
#[derive(Debug, Clone, Default)]
pub struct MapChanges {
    wire: v1::UpdateMapRequest,
}

impl MapChanges {
    /// Changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// See [`MapOptions::ttl`].
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.wire.ttl = Some(to_wire(ttl));
        self
    }

    /// See [`MapOptions::max_idle`].
    #[must_use]
    pub fn max_idle(mut self, max_idle: Duration) -> Self {
        self.wire.max_idle = Some(to_wire(max_idle));
        self
    }

    /// See [`MapOptions::max_bytes`].
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.wire.max_bytes = Some(max_bytes);
        self
    }

    /// See [`MapOptions::eviction`].
    #[must_use]
    pub fn eviction(mut self, policy: EvictionPolicy) -> Self {
        self.wire.eviction = Some(policy.into());
        self
    }
}

impl Maps {
    pub(crate) fn new(caller: Arc<Caller>) -> Self {
        Self { caller }
    }

    /// Creates a map.
    ///
    /// # Errors
    /// [`Error::MapExists`]
    pub async fn create(&self, name: &str, options: &MapOptions) -> Result<v1::Map, Error> {
        let message = v1::CreateMapRequest { name: name.to_owned(), options: Some(options.wire) };
        let answer = self.caller.define(|attempt| {
            let message = message.clone();
            async move { attempt.maps().create_map(attempt.request(message)).await }
        });
        defined(answer.await?.map)
    }

    /// Changes what can change while the map is in use.
    ///
    /// # Errors
    /// [`Error::MapNotFound`]
    pub async fn update(&self, name: &str, changes: &MapChanges) -> Result<v1::Map, Error> {
        let message = v1::UpdateMapRequest { name: name.to_owned(), ..changes.wire.clone() };
        let answer = self.caller.define(|attempt| {
            let message = message.clone();
            async move { attempt.maps().update_map(attempt.request(message)).await }
        });
        defined(answer.await?.map)
    }

    /// A map's options and figures.
    ///
    /// # Errors
    /// [`Error::MapNotFound`]
    pub async fn describe(&self, name: &str) -> Result<(v1::Map, v1::MapStatistics), Error> {
        let answer = self.caller.read(|attempt| {
            let message = v1::DescribeMapRequest { name: name.to_owned(), partitions: Vec::new() };
            async move { attempt.maps().describe_map(attempt.request(message)).await }
        });
        let answer = answer.await?;
        Ok((defined(answer.map)?, answer.statistics.unwrap_or_default()))
    }

    /// All maps.
    pub async fn list(&self) -> Result<Vec<v1::Map>, Error> {
        let answer = self.caller.read(|attempt| async move {
            attempt.maps().list_maps(attempt.request(v1::ListMapsRequest {})).await
        });
        Ok(answer.await?.maps)
    }

    /// Deletes a map and its entries for good.
    ///
    /// # Errors
    /// [`Error::MapNotFound`]
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let answer = self.caller.define(|attempt| {
            let message = v1::DeleteMapRequest { name: name.to_owned() };
            async move { attempt.maps().delete_map(attempt.request(message)).await }
        });
        answer.await.map(drop)
    }
}

fn defined(map: Option<v1::Map>) -> Result<v1::Map, Error> {
    map.ok_or(Error::MalformedAnswer { what: "the answer describes the map" })
}
