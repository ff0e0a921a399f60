//! GridService.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join;
use futures_util::stream::StreamExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request as Call, Response, Status};
use wattle_core::control::GroupCommand;
use wattle_core::control::grid::{self, GridCommand, Node, NodeState, PartitionState, Role};
use wattle_core::ids::{ClientId, MemberId, NodeId};
use wattle_core::limits::{CLIENT_ID_RENEWAL, MAJORITY_TIME};
use wattle_core::name::Name;
use wattle_core::partition::Partition;
use wattle_proto::v1;
use wattle_proto::v1::grid_service_server::GridService;

use super::convert::wire_duration;
use super::recover::recover_lost;
use super::reports::{reports_about, reports_of};
use super::survivors;
use super::table::{Tables, tables};
use super::{copies, health};
use crate::failure::Failure;
use crate::grid::Grid;
use crate::partition::NoReply;

/// GridService on this node.
#[derive(Debug, Clone)]
pub(crate) struct GridInfo {
    pub(crate) grid: Arc<Grid>,
    pub(crate) started: Instant,
    /// Ends streams that would not end by themselves.
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl GridService for GridInfo {
    async fn status(&self, call: Call<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        let v1::StatusRequest { local, function } = call.into_inner();
        let outdated = !local && self.is_behind().await;
        let decided = self.grid.control.decided();
        let grid = decided.grid().ok_or(Failure::NoMember)?;
        let me = self.grid.partitions.replication().me();
        let (leader, voters) = self.grid.control.voters();
        let own = self.report(grid, me).await?;
        let others = grid.nodes().filter(|node| !local && node.member != me);
        let (mut reports, mut answering) =
            join(reports_about(&function, grid.id(), others), self.answering(grid, local)).await;
        answering.extend(reports.keys().copied());
        let (not_loaded, runs) = (self.not_loaded(), self.runs(&function));
        let own = v1::Member { report: Some(own), not_loaded, runs, ..v1::Member::default() };
        reports.insert(me, own);
        let shares = shares(grid);
        let shown = grid.nodes().filter(|node| !local || node.member == me);
        let members = shown.map(|node| {
            let told = reports.remove(&node.member).unwrap_or_default();
            let (primary, backup) = shares.get(&node.member).copied().unwrap_or_default();
            v1::Member {
                votes: voters.iter().any(|(voter, _)| *voter == node.member),
                leads: leader == Some(node.id()),
                primary_partitions: primary,
                backup_partitions: backup,
                report: told.report,
                not_loaded: told.not_loaded,
                runs: told.runs,
                ..described(node)
            }
        });
        Ok(Response::new(v1::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            partitions: Some(health::counts(grid, &answering)),
            members: members.collect(),
            name: grid.name().to_string(),
            grid_id: grid.id().0.to_vec().into(),
            generation: grid.generation(),
            table_version: grid.version(),
            leader: leader.map(|leader| leader.0),
            maps: count(decided.catalog().maps().len()),
            functions: count(decided.catalog().functions().len()),
            outdated,
        }))
    }

    async fn list_partitions(
        &self,
        _: Call<v1::ListPartitionsRequest>,
    ) -> Result<Response<v1::ListPartitionsResponse>, Status> {
        let outdated = self.is_behind().await;
        let decided = self.grid.control.decided();
        let grid = decided.grid().ok_or(Failure::NoMember)?;
        Ok(Response::new(v1::ListPartitionsResponse {
            table_version: grid.version(),
            outdated,
            partitions: health::list(grid, &self.grid.control.answering(grid).await),
        }))
    }

    async fn drain_node(
        &self,
        call: Call<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        let v1::DrainNodeRequest { node, cancel } = call.into_inner();
        let node = NodeId(node);
        self.grid.control.catch_up().await.map_err(Failure::from)?;
        let decided = self.grid.control.decided();
        let grid = decided.grid().ok_or(Failure::NoMember)?;
        if !cancel && !grid.nodes().any(|other| other.id() != node && other.takes_partitions()) {
            return Err(Failure::NobodyTakes { node: node.0 }.into());
        }
        let command = if cancel { GridCommand::CancelDrain { node } } else { GridCommand::Drain { node } };
        self.grid.control.propose(GroupCommand::Grid(command)).await.map_err(Failure::from)?;
        tracing::info!(node = node.0, cancel, "node is to be drained");
        Ok(Response::new(v1::DrainNodeResponse {}))
    }

    type WatchTableStream = Tables;

    async fn watch_table(
        &self,
        _: Call<v1::WatchTableRequest>,
    ) -> Result<Response<Self::WatchTableStream>, Status> {
        let tables = tables(&self.grid)?;
        Ok(Response::new(tables.take_until(self.stop.clone().cancelled_owned()).boxed()))
    }

    async fn forget_node(
        &self,
        call: Call<v1::ForgetNodeRequest>,
    ) -> Result<Response<v1::ForgetNodeResponse>, Status> {
        let node = NodeId(call.into_inner().node);
        self.grid.control.catch_up().await.map_err(Failure::from)?;
        let decided = self.grid.control.decided();
        let grid = decided.grid().ok_or(Failure::NoMember)?;
        let described = grid.nodes().filter(|other| other.id() == node);
        let answers = node == self.grid.partitions.replication().me().node
            || !reports_of(grid.id(), described).await.is_empty()
            || self.is_there(grid.node(node)).await;
        if answers {
            return Err(Failure::NodeAnswers { node: node.0 }.into());
        }
        let before = lost(grid);
        let forget = GroupCommand::Grid(GridCommand::Forget { node });
        self.grid.control.propose(forget).await.map_err(Failure::from)?;
        let after = self.grid.control.decided().grid().map_or(0, lost);
        tracing::warn!(node = node.0, "node forgotten");
        Ok(Response::new(v1::ForgetNodeResponse { lost_partitions: after.saturating_sub(before) }))
    }

    async fn create_grid(
        &self,
        _: Call<v1::CreateGridRequest>,
    ) -> Result<Response<v1::CreateGridResponse>, Status> {
        Err(Failure::InGrid.into())
    }

    async fn list_copies(
        &self,
        call: Call<v1::ListCopiesRequest>,
    ) -> Result<Response<v1::ListCopiesResponse>, Status> {
        let v1::ListCopiesRequest { partitions, local } = call.into_inner();
        let listed = if local {
            copies::list_here(&self.grid, &partitions).await?
        } else {
            // That nothing is lost is not said by who has not heard of it.
            self.grid.control.catch_up().await.map_err(Failure::from)?;
            copies::list(&self.grid, &partitions).await?
        };
        Ok(Response::new(listed))
    }

    async fn recover_lost(
        &self,
        call: Call<v1::RecoverLostRequest>,
    ) -> Result<Response<v1::RecoverLostResponse>, Status> {
        let recoveries = call.into_inner().partitions;
        self.grid.control.catch_up().await.map_err(Failure::from)?;
        recover_lost(&self.grid, &recoveries).await?;
        Ok(Response::new(v1::RecoverLostResponse {}))
    }

    async fn survey_control(
        &self,
        call: Call<v1::SurveyControlRequest>,
    ) -> Result<Response<v1::SurveyControlResponse>, Status> {
        let listed = match call.into_inner().local {
            true => survivors::survey_here(&self.grid)?,
            false => survivors::survey(&self.grid).await?.into(),
        };
        Ok(Response::new(listed))
    }

    async fn recover_control(
        &self,
        call: Call<v1::RecoverControlRequest>,
    ) -> Result<Response<v1::RecoverControlResponse>, Status> {
        let generation = survivors::recover_control(&self.grid, call.into_inner()).await?;
        Ok(Response::new(v1::RecoverControlResponse { generation }))
    }

    async fn issue_client_id(
        &self,
        _: Call<v1::IssueClientIdRequest>,
    ) -> Result<Response<v1::IssueClientIdResponse>, Status> {
        let random =
            getrandom::u64().map_err(|_| Failure::Internal { what: "the system has no randomness" })?;
        // Or others would refuse it, or it would soon be too old.
        let issued = self.grid.partitions.clock().known().ok_or(Failure::NoReply(NoReply::NoGridTime))?;
        let client = ClientId { issued, random };
        Ok(Response::new(v1::IssueClientIdResponse {
            client_id: client.to_bytes().to_vec().into(),
            renew_after: Some(wire_duration(CLIENT_ID_RENEWAL)),
        }))
    }
}

impl GridInfo {
    /// Whether more may be decided than this node knows: a report waits only so long.
    async fn is_behind(&self) -> bool {
        !matches!(timeout(MAJORITY_TIME, self.grid.control.catch_up()).await, Ok(Ok(())))
    }

    /// Who lives, or all if nobody is to be asked.
    async fn answering(&self, grid: &grid::Grid, local: bool) -> BTreeSet<MemberId> {
        match local {
            true => grid.nodes().map(|node| node.member).collect(),
            false => self.grid.control.answering(grid).await,
        }
    }

    /// Whether a node's process is there: who prepares answers nobody but other nodes.
    async fn is_there(&self, node: Option<&Node>) -> bool {
        match node {
            Some(node) => self.grid.control.group_of(node).await.is_some(),
            None => false,
        }
    }

    /// Functions that cannot run here.
    fn not_loaded(&self) -> Vec<v1::FunctionProblem> {
        let wire =
            |(name, problem): (Name, String)| v1::FunctionProblem { function: name.to_string(), problem };
        self.grid.follower.problems().into_iter().map(wire).collect()
    }

    /// What calls of a function run here.
    fn runs(&self, function: &str) -> Option<v1::RunningVersion> {
        let active = self.grid.catalog.resolve(function).ok()?;
        Some(v1::RunningVersion { number: active.version(), module: active.export().module.to_string() })
    }

    /// What only this node knows.
    async fn report(&self, table: &grid::Grid, me: MemberId) -> Result<v1::MemberReport, Failure> {
        let partitions = &self.grid.partitions;
        let (mut entries, mut backup_entries) = (0, 0);
        for partition in partitions.ids() {
            let held = partitions.look(partition, Partition::entries).await?;
            let primary = table.row(partition).and_then(|row| row.assignment.primary);
            *if primary == Some(me) { &mut entries } else { &mut backup_entries } += held;
        }
        let counted_on = table.node(me.node).is_some_and(|node| node.member == me);
        Ok(v1::MemberReport {
            uptime: Some(wire_duration(self.started.elapsed())),
            entries,
            backup_entries,
            bytes_held: partitions.memory().held(),
            bytes_limit: partitions.memory().limit(),
            // Without its voter it hears of nothing that is decided.
            ready: counted_on && self.grid.control.running().is_some(),
        })
    }
}

/// How many partitions each member decides about, and how many it holds beside.
fn shares(grid: &grid::Grid) -> BTreeMap<MemberId, (u32, u32)> {
    let mut shares = BTreeMap::<_, (u32, u32)>::new();
    for (_, row) in grid.rows() {
        for member in &row.assignment.in_sync {
            let (primary, backup) = shares.entry(*member).or_default();
            *if row.assignment.primary == Some(*member) { primary } else { backup } += 1;
        }
    }
    shares
}

/// How many partitions nobody holds any more.
fn lost(grid: &grid::Grid) -> u32 {
    count(grid.partitions_in(PartitionState::Lost))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// What the table says about a node.
fn described(node: &Node) -> v1::Member {
    let role = match node.description.role {
        Role::Data => v1::NodeRole::Data,
        Role::Arbiter => v1::NodeRole::Arbiter,
    };
    let state = match node.state {
        NodeState::Joined => v1::NodeState::Joined,
        NodeState::Draining => v1::NodeState::Draining,
    };
    v1::Member {
        name: node.description.host.clone(),
        address: node.description.client_address.clone(),
        node: node.id().0,
        incarnation: node.member.incarnation,
        zone: node.description.zone.clone().unwrap_or_default(),
        role: role.into(),
        state: state.into(),
        version: node.description.version.clone(),
        ..v1::Member::default()
    }
}
