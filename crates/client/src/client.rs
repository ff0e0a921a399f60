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
        Ok(Self { caller: Arc::new(Caller::new(connections, options)) })
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

    /// Opens a pipeline: many batches in flight.
    pub fn pipeline(&self, options: PipelineOptions) -> Pipeline {
        Pipeline::open(self.caller.clone(), options)
    }

    /// What the grid is made of, as a node of it knows: its members, and how many partitions are in which state. What only a member
    /// itself knows is asked of each; who does not answer within two seconds has no [`report`](v1::Member::report).
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node answers in time.
    pub async fn status(&self) -> Result<v1::StatusResponse, Error> {
        self.status_about("").await
    }

    /// The same, and what each member [runs](v1::Member::runs) of a function.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node answers in time.
    pub async fn status_about(&self, function: &str) -> Result<v1::StatusResponse, Error> {
        let status = |attempt: Attempt| {
            let message = v1::StatusRequest { local: false, function: function.to_owned() };
            async move { attempt.grid().status(attempt.request(message)).await }
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

    /// Has others take what a node holds, while it goes on serving; then it leaves, and its process ends. With `cancel` it is to stay
    /// after all. [`Self::status`] shows how far it is.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such node, or nobody else could take anything.
    pub async fn drain_node(&self, node: u64, cancel: bool) -> Result<(), Error> {
        let drain = |attempt: Attempt| async move {
            attempt.grid().drain_node(attempt.request(v1::DrainNodeRequest { node, cancel })).await
        };
        self.caller.repeat(drain).await?;
        Ok(())
    }

    /// Takes a node out of the grid for good, whose process must be dead; returns how many partitions are lost with it.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such node, or it answers.
    pub async fn forget_node(&self, node: u64) -> Result<u32, Error> {
        let forget = |attempt: Attempt| async move {
            attempt.grid().forget_node(attempt.request(v1::ForgetNodeRequest { node })).await
        };
        Ok(self.caller.define(forget).await?.lost_partitions)
    }

    /// Has a node found a grid that is in none and waits for one; if need be despite addresses that do not answer it.
    ///
    /// # Errors
    /// [`Error::Refused`] says why there is none.
    pub async fn create_grid(&self, despite_silence: bool) -> Result<v1::CreateGridResponse, Error> {
        let create = |attempt: Attempt| async move {
            attempt.grid().create_grid(attempt.request(v1::CreateGridRequest { despite_silence })).await
        };
        self.caller.define(create).await
    }

    /// What is left of the grid's control group, as the members say that answer.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node answers in time.
    pub async fn survey_control(&self) -> Result<v1::SurveyControlResponse, Error> {
        let survey = |attempt: Attempt| async move {
            attempt.grid().survey_control(attempt.request(v1::SurveyControlRequest::default())).await
        };
        self.caller.read(survey).await
    }

    /// Builds the control group anew from what the node knows that knows most, as [`Self::survey_control`] has shown it; returns the new
    /// group's generation. What was decided beyond that is gone.
    ///
    /// # Errors
    /// [`Error::Refused`] when a majority of the voters is there, or the survey would be another by now.
    pub async fn recover_control(&self, newest: u64, position: v1::ControlPosition) -> Result<u32, Error> {
        let asked = v1::RecoverControlRequest { newest, position: Some(position), local: false };
        let recover =
            |attempt: Attempt| async move { attempt.grid().recover_control(attempt.request(asked)).await };
        Ok(self.caller.define(recover).await?.generation)
    }

    /// What members that answer still hold of lost partitions: of these, or of all if none is named.
    ///
    /// # Errors
    /// [`Error::Refused`] when one of them is not lost, or there is none of that name; [`Error::Unavailable`] when no node answers in time.
    pub async fn copies(&self, partitions: Vec<v1::PartitionName>) -> Result<v1::ListCopiesResponse, Error> {
        let list = |attempt: Attempt| {
            let asked = v1::ListCopiesRequest { partitions: partitions.clone(), local: false };
            async move { attempt.grid().list_copies(attempt.request(asked)).await }
        };
        self.caller.read(list).await
    }

    /// Lets lost partitions go on, each with a copy that [`Self::copies`] has shown, or empty. What was written beside that is gone.
    ///
    /// # Errors
    /// [`Error::Refused`] when one of them is not lost, there is none of that name, or a copy is not there any more.
    pub async fn recover_lost(&self, partitions: Vec<v1::Recovery>) -> Result<(), Error> {
        let recover = |attempt: Attempt| {
            let partitions = partitions.clone();
            async move {
                attempt.grid().recover_lost(attempt.request(v1::RecoverLostRequest { partitions })).await
            }
        };
        self.caller.define(recover).await.map(drop)
    }
}
