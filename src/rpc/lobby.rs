//! GridService on a node that is in no grid yet.

use tonic::{Request as Call, Response, Status};
use wattle_core::control::grid::Told;
use wattle_core::ids::NodeId;
use wattle_proto::v1;
use wattle_proto::v1::grid_service_server::GridService;

use super::table::Tables;
use crate::failure::Failure;
use crate::peering::Inside;

/// GridService on a node that waits for a grid: people can have one founded, or forget those for whom it waits.
#[derive(Debug, Clone)]
pub(crate) struct Lobby(pub(crate) Inside);

#[tonic::async_trait]
impl GridService for Lobby {
    async fn create_grid(
        &self,
        call: Call<v1::CreateGridRequest>,
    ) -> Result<Response<v1::CreateGridResponse>, Status> {
        let told = match call.into_inner().despite_silence {
            true => Told::WhoeverAnswers,
            false => Told::IfAllAnswer,
        };
        let grid = self.0.create(told).await?;
        Ok(Response::new(v1::CreateGridResponse {
            name: grid.name,
            grid_id: grid.id.to_be_bytes().to_vec().into(),
        }))
    }

    async fn status(&self, _: Call<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        Err(Failure::NoMember.into())
    }

    async fn list_partitions(
        &self,
        _: Call<v1::ListPartitionsRequest>,
    ) -> Result<Response<v1::ListPartitionsResponse>, Status> {
        Err(Failure::NoMember.into())
    }

    async fn drain_node(
        &self,
        _: Call<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        Err(Failure::NoMember.into())
    }

    type WatchTableStream = Tables;

    async fn watch_table(
        &self,
        _: Call<v1::WatchTableRequest>,
    ) -> Result<Response<Self::WatchTableStream>, Status> {
        Err(Failure::NoMember.into())
    }

    async fn forget_node(
        &self,
        call: Call<v1::ForgetNodeRequest>,
    ) -> Result<Response<v1::ForgetNodeResponse>, Status> {
        let lost_partitions = self.0.forget(NodeId(call.into_inner().node)).await?;
        Ok(Response::new(v1::ForgetNodeResponse { lost_partitions }))
    }

    async fn list_copies(
        &self,
        _: Call<v1::ListCopiesRequest>,
    ) -> Result<Response<v1::ListCopiesResponse>, Status> {
        Err(Failure::NoMember.into())
    }

    async fn recover_lost(
        &self,
        _: Call<v1::RecoverLostRequest>,
    ) -> Result<Response<v1::RecoverLostResponse>, Status> {
        Err(Failure::NoMember.into())
    }

    async fn survey_control(
        &self,
        _: Call<v1::SurveyControlRequest>,
    ) -> Result<Response<v1::SurveyControlResponse>, Status> {
        Err(Failure::NoMember.into())
    }

    async fn recover_control(
        &self,
        _: Call<v1::RecoverControlRequest>,
    ) -> Result<Response<v1::RecoverControlResponse>, Status> {
        Err(Failure::NoMember.into())
    }

    async fn issue_client_id(
        &self,
        _: Call<v1::IssueClientIdRequest>,
    ) -> Result<Response<v1::IssueClientIdResponse>, Status> {
        Err(Failure::NoMember.into())
    }
}
