//! The client: a handle on a grid, cheap to clone.

use std::sync::Arc;

use wattle_proto::v1;

use crate::call::{Attempt, Caller};
use crate::codec::Json;
use crate::connection::Connections;
use crate::error::Error;
use crate::functions::Functions;
use crate::map::{Map, RawMap};
use crate::maps::Maps;
use crate::options::Options;
use crate::pipeline::{Pipeline, PipelineOptions};

/// A handle on a grid. Clones share their connections.
///
/// ```no_run
/// # async fn example() -> Result<(), wattle_client::Error> {
/// use wattle_client::Client;
///
/// let client = Client::connect("http://127.0.0.1:7117").await?;
/// let stock = client.map::<String, u64>("stock");
/// stock.put("apples", &12).await?;
/// assert_eq!(stock.get("apples").await?.map(|apples| apples.value), Some(12));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    caller: Arc<Caller>,
}

impl Client {
    /// Connects to a grid and asks it for a client id, trying for as long as [`Options::connect_timeout`] says.
    ///
    /// # Errors
    /// [`Error::InvalidEndpoint`], and [`Error::Unavailable`] when no node answers in time.
    pub async fn connect(options: impl Into<Options>) -> Result<Self, Error> {
        let options = options.into();
        let patience = options.connect_timeout;
        let client = Self::prepare(options)?;
        drop(client.caller.begin_request_within(patience).await?);
        Ok(client)
    }

    /// A client that connects with its first call.
    ///
    /// # Errors
    /// [`Error::InvalidEndpoint`]
    pub fn prepare(options: impl Into<Options>) -> Result<Self, Error> {
        let options = options.into();
        let connections = Connections::prepare(&options)?;
        Ok(Self { caller: Arc::new(Caller::new(connections, options.retry, options.timeout)) })
    }

    /// A map with keys `K` and values `V` in JSON. Neither asks the grid nor creates the map: the first write does.
    pub fn map<K, V>(&self, name: impl Into<String>) -> Map<K, V, Json> {
        Map::new(self.raw_map(name))
    }

    /// A map whose values another codec encodes: [`MessagePack`](crate::MessagePack), [`Postcard`](crate::Postcard),
    /// [`Text`](crate::Text), [`Raw`](crate::Raw).
    pub fn map_with<K, V, C>(&self, name: impl Into<String>) -> Map<K, V, C> {
        Map::new(self.raw_map(name))
    }

    /// A map of bytes to bytes.
    pub fn raw_map(&self, name: impl Into<String>) -> RawMap {
        RawMap::new(self.caller.clone(), name.into())
    }

    /// Creates, describes and deletes maps.
    pub fn maps(&self) -> Maps {
        Maps::new(self.caller.clone())
    }

    /// Uploads, promotes and describes functions.
    pub fn functions(&self) -> Functions {
        Functions::new(self.caller.clone())
    }

    /// Opens a pipeline: many batches in flight on one connection.
    pub fn pipeline(&self, options: PipelineOptions) -> Pipeline {
        Pipeline::open(self.caller.clone(), options)
    }

    /// What the grid is made of, as a node of it knows: its members, and how many partitions are in which state. What only a member
    /// itself knows is asked of each; who does not answer within two seconds has no [`report`](v1::Member::report).
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node answers in time.
    pub async fn status(&self) -> Result<v1::StatusResponse, Error> {
        let status = |attempt: Attempt| async move {
            attempt.grid().status(attempt.request(v1::StatusRequest::default())).await
        };
        self.caller.read(status).await
    }

    /// Who holds each partition and who should, and its state, as a node of the grid knows.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node answers in time.
    pub async fn partitions(&self) -> Result<v1::ListPartitionsResponse, Error> {
        let list = |attempt: Attempt| async move {
            attempt.grid().list_partitions(attempt.request(v1::ListPartitionsRequest {})).await
        };
        self.caller.read(list).await
    }
}
