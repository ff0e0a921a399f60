//! GridService.

use std::sync::Arc;
use std::time::Instant;

use tonic::{Request as Call, Response, Status};
use wattle_core::ids::ClientId;
use wattle_core::limits::CLIENT_ID_RENEWAL;
use wattle_core::partition::Partition;
use wattle_proto::v1;
use wattle_proto::v1::grid_service_server::GridService;

use super::convert::wire_duration;
use crate::failure::Failure;
use crate::grid::Grid;

/// GridService on this node.
#[derive(Debug, Clone)]
pub(crate) struct GridInfo {
    pub(crate) grid: Arc<Grid>,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) started: Instant,
}

#[tonic::async_trait]
impl GridService for GridInfo {
    async fn status(&self, _: Call<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        let grid = &self.grid;
        let mut entries = 0;
        for index in 0..grid.partitions.count() {
            entries += grid.partitions.look(index, Partition::entries).await.map_err(Failure::from)?;
        }
        let functions = grid.control.read(|state| state.functions().len());
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let member = v1::Member {
            name: self.name.clone(),
            address: self.address.clone(),
            uptime: Some(wire_duration(self.started.elapsed())),
            entries,
            bytes_held: grid.partitions.memory().held(),
            bytes_limit: grid.partitions.memory().limit(),
            maps: count(grid.maps.all().len()),
            functions: count(functions),
            ready: true,
        };
        Ok(Response::new(v1::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            partitions: grid.partitions.count().into(),
            members: vec![member],
        }))
    }

    async fn issue_client_id(
        &self,
        _: Call<v1::IssueClientIdRequest>,
    ) -> Result<Response<v1::IssueClientIdResponse>, Status> {
        let random =
            getrandom::u64().map_err(|_| Failure::Internal { what: "the system has no randomness" })?;
        let client = ClientId { issued: self.grid.partitions.clock().now(), random };
        Ok(Response::new(v1::IssueClientIdResponse {
            client_id: client.to_bytes().to_vec().into(),
            renew_after: Some(wire_duration(CLIENT_ID_RENEWAL)),
        }))
    }
}
