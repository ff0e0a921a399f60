//! MapService.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request as Call, Response, Status, Streaming};
use wattle_core::control::{Applied, Command};
use wattle_core::ids::{PartitionId, ReplicationClass};
use wattle_core::map::{MapDescriptor, OptionsChange};
use wattle_core::name::Name;
use wattle_core::partition::Statistics;
use wattle_proto::v1;
use wattle_proto::v1::map_service_client::MapServiceClient;
use wattle_proto::v1::map_service_server::MapService;
use wattle_proto::v1::operation_result::Result as WireResult;

use super::convert::{
    class_options, duration, eviction, map_options, operation_result, put_step, remove_step, request_id,
    touch_step, wire_map,
};
use super::watch::Watches;
use super::{pipeline, scan};
use crate::failure::Failure;
use crate::grid::Grid;
use crate::maps::Map;
use crate::partition::{ReadMode, Shard, Source, Step, StepKind};
use crate::request::{Forwarded, Request};
use crate::routing::{read_mode, reading};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// MapService on this node.
#[derive(Debug, Clone)]
pub(crate) struct MapCalls {
    pub(crate) grid: Arc<Grid>,
    pub(crate) watches: Arc<Watches>,
    /// Ends streams that would not end by themselves.
    pub(crate) stop: CancellationToken,
}

impl MapCalls {
    /// One operation on one key.
    async fn one(
        &self,
        (map, key): (String, Bytes),
        (id, reads): (Option<v1::RequestId>, ReadMode),
        kind: StepKind,
    ) -> Result<WireResult, Status> {
        let id = request_id(id, self.grid.partitions.clock().now())?;
        let source = Source::Steps(vec![Step { map: 0, key, kind }]);
        let mut outcome = Err(Failure::Internal { what: "an operation had no result" });
        let forwarded = Forwarded::No;
        let request = Request { id, names: vec![map], function: None, source, forwarded, reads };
        self.grid
            .perform(request, &mut |_, result| {
                outcome = result.map(|found| operation_result(Ok(found)).result)
            })
            .await?;
        Ok(outcome?.ok_or(Failure::Internal { what: "an operation had no result" })?)
    }

    fn wire(&self, map: &MapDescriptor) -> v1::Map {
        let state = self.grid.control.decided();
        let class = state.grid().and_then(|grid| grid.class(map.options.class)).copied();
        wire_map(map, class)
    }

    fn named(&self, applied: &Applied) -> Result<v1::Map, Status> {
        match applied {
            Applied::Map(map) => Ok(self.wire(map)),
            Applied::MapDeleted(_)
            | Applied::Function(..)
            | Applied::FunctionDeleted(_)
            | Applied::Unchanged => {
                Err(Failure::Internal { what: "a command about a map answered something else" }.into())
            }
        }
    }
}

fn unexpected() -> Status {
    Failure::Internal { what: "an operation had a result of another kind" }.into()
}

/// Expects the result of one kind of operation.
macro_rules! expect {
    ($result:expr, $kind:ident) => {
        match $result {
            WireResult::$kind(response) => Ok(Response::new(response)),
            _ => Err(unexpected()),
        }
    };
}

#[tonic::async_trait]
impl MapService for MapCalls {
    async fn create_map(
        &self,
        call: Call<v1::CreateMapRequest>,
    ) -> Result<Response<v1::CreateMapResponse>, Status> {
        let request = call.into_inner();
        let name = Name::new(&request.name).map_err(Failure::from)?;
        let options = request.options.unwrap_or_default();
        let class = match options.replication {
            Some(asked) => self.grid.class_like(|partitions| class_options(asked, partitions)).await?,
            None => ReplicationClass::default(),
        };
        let options = map_options(options, class)?;
        let applied = self.grid.propose(Command::CreateMap { name, options }).await?;
        Ok(Response::new(v1::CreateMapResponse { map: Some(self.named(&applied)?) }))
    }

    async fn update_map(
        &self,
        call: Call<v1::UpdateMapRequest>,
    ) -> Result<Response<v1::UpdateMapResponse>, Status> {
        let request = call.into_inner();
        let policy = request.eviction.map(|_| eviction(request.eviction()));
        let time = |field, time: Option<prost_types::Duration>| {
            let time = time.map(|time| duration(field, time)).transpose()?;
            Ok::<_, Failure>(time.map(|time| Some(time).filter(|time| !time.is_zero())))
        };
        let change = OptionsChange {
            ttl: time("ttl", request.ttl)?,
            max_idle: time("max_idle", request.max_idle)?,
            max_bytes: request.max_bytes.map(|bytes| Some(bytes).filter(|bytes| *bytes > 0)),
            eviction: policy,
        };
        let name = Name::new(&request.name).map_err(Failure::from)?;
        let applied = self.grid.propose(Command::UpdateMap { name, change }).await?;
        Ok(Response::new(v1::UpdateMapResponse { map: Some(self.named(&applied)?) }))
    }

    async fn describe_map(
        &self,
        call: Call<v1::DescribeMapRequest>,
    ) -> Result<Response<v1::DescribeMapResponse>, Status> {
        let forwarded = self.grid.taken_over(call.metadata()).await?;
        let v1::DescribeMapRequest { name, partitions } = call.into_inner();
        let map = self.grid.map(&name)?;
        let mut here = self.grid.named_partitions(map.class(), ("partitions", &partitions))?;
        let elsewhere = self.grid.take_elsewhere(&mut here, forwarded, |partition| *partition);
        let mut sum = statistics(&self.grid, &map, here).await?;
        let request = |partitions| v1::DescribeMapRequest { name: name.clone(), partitions };
        let others =
            |mut client: MapServiceClient<_>, request| async move { client.describe_map(request).await };
        for other in self.grid.ask_others(elsewhere, request, others).await? {
            let other = other.statistics.unwrap_or_default();
            sum.entries += other.entries;
            sum.bytes += other.bytes;
            sum.evictions += other.evictions;
            sum.expirations += other.expirations;
        }
        Ok(Response::new(v1::DescribeMapResponse {
            map: Some(self.wire(&map.descriptor)),
            statistics: Some(v1::MapStatistics {
                entries: sum.entries,
                bytes: sum.bytes,
                evictions: sum.evictions,
                expirations: sum.expirations,
            }),
        }))
    }

    async fn list_maps(
        &self,
        _: Call<v1::ListMapsRequest>,
    ) -> Result<Response<v1::ListMapsResponse>, Status> {
        let maps = self.grid.maps.all().iter().map(|map| self.wire(&map.descriptor)).collect();
        Ok(Response::new(v1::ListMapsResponse { maps }))
    }

    async fn delete_map(
        &self,
        call: Call<v1::DeleteMapRequest>,
    ) -> Result<Response<v1::DeleteMapResponse>, Status> {
        let name = Name::new(&call.into_inner().name).map_err(Failure::from)?;
        let at = self.grid.partitions.clock().now();
        self.grid.propose(Command::DeleteMap { name, at }).await?;
        Ok(Response::new(v1::DeleteMapResponse {}))
    }

    async fn get(&self, call: Call<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let reads = read_mode(call.metadata())?;
        let request = call.into_inner();
        expect!(self.one((request.map, request.key), (None, reads), StepKind::Get).await?, Get)
    }

    async fn put(&self, call: Call<v1::PutRequest>) -> Result<Response<v1::PutResponse>, Status> {
        let reads = read_mode(call.metadata())?;
        let mut request = call.into_inner();
        let target = (std::mem::take(&mut request.map), std::mem::take(&mut request.key));
        let id = request.request_id.take();
        expect!(self.one(target, (id, reads), put_step(request)?).await?, Put)
    }

    async fn remove(&self, call: Call<v1::RemoveRequest>) -> Result<Response<v1::RemoveResponse>, Status> {
        let reads = read_mode(call.metadata())?;
        let request = call.into_inner();
        let kind = remove_step(&request);
        expect!(self.one((request.map, request.key), (request.request_id, reads), kind).await?, Remove)
    }

    async fn increment(
        &self,
        call: Call<v1::IncrementRequest>,
    ) -> Result<Response<v1::IncrementResponse>, Status> {
        let reads = read_mode(call.metadata())?;
        let request = call.into_inner();
        let kind = StepKind::Increment { delta: request.delta };
        expect!(self.one((request.map, request.key), (request.request_id, reads), kind).await?, Increment)
    }

    async fn touch(&self, call: Call<v1::TouchRequest>) -> Result<Response<v1::TouchResponse>, Status> {
        let reads = read_mode(call.metadata())?;
        let request = call.into_inner();
        let kind = touch_step(&request)?;
        expect!(self.one((request.map, request.key), (request.request_id, reads), kind).await?, Touch)
    }

    async fn batch(&self, call: Call<v1::BatchRequest>) -> Result<Response<v1::BatchResponse>, Status> {
        let forwarded = self.grid.taken_over(call.metadata()).await?;
        let reads = read_mode(call.metadata())?;
        Ok(Response::new(pipeline::batch(&self.grid, call.into_inner(), (forwarded, reads)).await?))
    }

    type PipelineStream = Answers<v1::PipelineResponse>;

    async fn pipeline(
        &self,
        call: Call<Streaming<v1::PipelineRequest>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        let reads = read_mode(call.metadata())?;
        let messages = call.into_inner().take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(pipeline::answers(Arc::clone(&self.grid), reads, messages).boxed()))
    }

    type ScanStream = Answers<v1::ScanResponse>;

    async fn scan(&self, call: Call<v1::ScanRequest>) -> Result<Response<Self::ScanStream>, Status> {
        let forwarded = self.grid.taken_over(call.metadata()).await?;
        let reads = read_mode(call.metadata())?;
        let grid = Arc::clone(&self.grid);
        Ok(Response::new(scan::entries(grid, call.into_inner(), (forwarded, reads))?.boxed()))
    }

    type WatchStream = Answers<v1::WatchResponse>;

    async fn watch(&self, call: Call<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let forwarded = self.grid.taken_over(call.metadata()).await?;
        let grid = Arc::clone(&self.grid);
        let changes = self.watches.changes(grid, call.into_inner(), forwarded).await?;
        Ok(Response::new(changes.take_until(self.stop.clone().cancelled_owned()).boxed()))
    }

    async fn size(&self, call: Call<v1::SizeRequest>) -> Result<Response<v1::SizeResponse>, Status> {
        let forwarded = self.grid.taken_over(call.metadata()).await?;
        let reads = read_mode(call.metadata())?;
        let v1::SizeRequest { map: name, partitions } = call.into_inner();
        let map = self.grid.map(&name)?;
        let mut here = self.grid.named_partitions(map.class(), ("partitions", &partitions))?;
        let elsewhere = self.grid.take_elsewhere(&mut here, forwarded, |partition| *partition);
        let here = scan::size(&self.grid, &map, (here, reads)).await?;
        let request = |partitions| v1::SizeRequest { map: name.clone(), partitions };
        let others = |mut client: MapServiceClient<_>, request| async move {
            client.size(reading(request, reads)).await
        };
        let others = self.grid.ask_others(elsewhere, request, others).await?;
        let entries = here + others.iter().map(|other| other.entries).sum::<u64>();
        Ok(Response::new(v1::SizeResponse { entries }))
    }

    async fn clear(&self, call: Call<v1::ClearRequest>) -> Result<Response<v1::ClearResponse>, Status> {
        let forwarded = self.grid.taken_over(call.metadata()).await?;
        let request = call.into_inner();
        let id = request_id(request.request_id.clone(), self.grid.partitions.clock().now())?;
        let map = match self.grid.map(&request.map) {
            Ok(map) => map,
            Err(gone) => return Err(self.grid.refuse(id, gone).await.into()),
        };
        self.grid.check_attempts(id, &map)?;
        let mut here = self.grid.named_partitions(map.class(), ("partitions", &request.partitions))?;
        let elsewhere = self.grid.take_elsewhere(&mut here, forwarded, |partition| *partition);
        let here = scan::clear(&self.grid, &map, (id, here)).await?;
        let request = |partitions| v1::ClearRequest { partitions, ..request.clone() };
        let others = |mut client: MapServiceClient<_>, request| async move { client.clear(request).await };
        let others = self.grid.ask_others(elsewhere, request, others).await;
        let others = others.map_err(|failure| Failure::HalfWay(Box::new(failure)))?;
        let removed = here + others.iter().map(|other| other.removed).sum::<u64>();
        Ok(Response::new(v1::ClearResponse { removed }))
    }
}

async fn statistics(grid: &Grid, map: &Map, partitions: Vec<PartitionId>) -> Result<Statistics, Failure> {
    let id = map.descriptor.id;
    let mut sum = Statistics::default();
    for partition in partitions {
        let read = move |shard: &mut Shard| shard.with(|partition, _| partition.statistics(id));
        let part = grid.partitions.run(partition, 0, read).await?;
        sum.entries += part.entries;
        sum.bytes += part.bytes;
        sum.evictions += part.evictions;
        sum.expirations += part.expirations;
    }
    Ok(sum)
}
