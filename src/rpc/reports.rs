//! Asks members what only they know, as any client could.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tracing::debug;
use wattle_core::control::grid::{GridId, Node};
use wattle_core::ids::MemberId;
use wattle_core::limits::REPORT_TIME;
use wattle_proto::v1;
use wattle_proto::v1::grid_service_client::GridServiceClient;

/// Why a member does not tell.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoReport {
    #[error("nobody is there")]
    Nobody(#[from] tonic::transport::Error),
    #[error("no answer in time")]
    Late(#[from] Elapsed),
    #[error("refused: {0}")]
    Refused(#[from] tonic::Status),
    #[error("somebody else answers")]
    SomebodyElse,
}

/// What members of a grid say of themselves, all of which are asked at once.
pub(super) async fn reports_of(
    grid: GridId,
    members: impl Iterator<Item = &Node>,
) -> BTreeMap<MemberId, v1::Member> {
    reports_about("", grid, members).await
}

/// The same, and what they run of a function.
pub(super) async fn reports_about(
    function: &str,
    grid: GridId,
    members: impl Iterator<Item = &Node>,
) -> BTreeMap<MemberId, v1::Member> {
    told_by(members.map(|node| (node, async move { Ok(asked(grid, node, function).await?.1) }))).await
}

/// What members of a grid have of partitions, all of which are asked at once.
pub(super) async fn copies_of(
    grid: GridId,
    members: impl Iterator<Item = &Node>,
    partitions: &[v1::PartitionName],
) -> BTreeMap<MemberId, v1::ListCopiesResponse> {
    let copies = |node| async move {
        let (mut client, _) = reached(grid, node).await?;
        let list = v1::ListCopiesRequest { partitions: partitions.to_vec(), local: true };
        Ok(client.list_copies(list).await?.into_inner())
    };
    told_by(members.map(|node| (node, copies(node)))).await
}

/// What members of a grid know of its control group, all of which are asked at once.
pub(super) async fn surveys_of(
    grid: GridId,
    members: impl Iterator<Item = &Node>,
) -> BTreeMap<MemberId, v1::SurveyControlResponse> {
    let survey = |node| async move {
        let (mut client, _) = reached(grid, node).await?;
        Ok(client.survey_control(v1::SurveyControlRequest { local: true }).await?.into_inner())
    };
    told_by(members.map(|node| (node, survey(node)))).await
}

/// What members say in time.
async fn told_by<'a, T>(
    asked: impl Iterator<Item = (&'a Node, impl Future<Output = Result<T, NoReport>>)>,
) -> BTreeMap<MemberId, T> {
    let asked = asked.map(|(node, told)| async move {
        let told = timeout(REPORT_TIME, told).await;
        match told.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            Ok(told) => Some((node.member, told)),
            Err(error) => {
                let (node, address) = (node.id().0, &node.description.client_address);
                debug!(node, address, error = &error as &dyn std::error::Error, "a member does not report");
                None
            }
        }
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// A way to a member, and what it says of itself. An address may be another's by now: who answers must be who is meant.
pub(super) async fn reached(
    grid: GridId,
    node: &Node,
) -> Result<(GridServiceClient<Channel>, v1::Member), NoReport> {
    asked(grid, node, "").await
}

async fn asked(
    grid: GridId,
    node: &Node,
    function: &str,
) -> Result<(GridServiceClient<Channel>, v1::Member), NoReport> {
    let url = format!("http://{}", node.description.client_address);
    let endpoint = Endpoint::from_shared(url)?.tcp_nodelay(true);
    let mut client = GridServiceClient::new(endpoint.connect().await?);
    let told =
        client.status(v1::StatusRequest { local: true, function: function.to_owned() }).await?.into_inner();
    let meant =
        |member: &v1::Member| (member.node, member.incarnation) == (node.id().0, node.member.incarnation);
    let member = told.members.into_iter().find(meant).filter(|_| told.grid_id == grid.0[..]);
    let member = member.filter(|member| member.report.is_some()).ok_or(NoReport::SomebodyElse)?;
    Ok((client, member))
}
