//! Asks members what only they know, as any client could.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tracing::debug;
use wattle_core::control::grid::{GridId, Node};
use wattle_core::ids::MemberId;
use wattle_core::limits::REPORT_TIME;
use wattle_proto::v1;
use wattle_proto::v1::grid_service_client::GridServiceClient;

/// Why a member does not tell.
#[derive(Debug, thiserror::Error)]
enum NoReport {
    #[error("nobody is there")]
    Nobody(#[from] tonic::transport::Error),
    #[error("no answer in time")]
    Late(#[from] Elapsed),
    #[error("refused: {0}")]
    Refused(#[from] tonic::Status),
    #[error("somebody else answers")]
    SomebodyElse,
}

/// The reports of members of a grid, all of which are asked at once.
pub(super) async fn reports_of(
    grid: GridId,
    members: impl Iterator<Item = &Node>,
) -> BTreeMap<MemberId, v1::MemberReport> {
    let asked = members.map(|node| async move {
        let told = timeout(REPORT_TIME, report(grid, node)).await;
        match told.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            Ok(report) => Some((node.member, report)),
            Err(error) => {
                let (node, address) = (node.id().0, &node.description.client_address);
                debug!(node, address, error = &error as &dyn std::error::Error, "a member does not report");
                None
            }
        }
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// An address may be another's by now: who answers must be who is meant.
async fn report(grid: GridId, node: &Node) -> Result<v1::MemberReport, NoReport> {
    let url = format!("http://{}", node.description.client_address);
    let endpoint = Endpoint::from_shared(url)?.tcp_nodelay(true);
    let mut client = GridServiceClient::new(endpoint.connect().await?);
    let told = client.status(v1::StatusRequest { local: true }).await?.into_inner();
    let meant =
        |member: &v1::Member| (member.node, member.incarnation) == (node.id().0, node.member.incarnation);
    let member = told.members.into_iter().find(meant).filter(|_| told.grid_id == grid.0[..]);
    member.and_then(|member| member.report).ok_or(NoReport::SomebodyElse)
}
