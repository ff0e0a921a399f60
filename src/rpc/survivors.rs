//! What is left of a control group that is lost, and the one that goes on from there.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use futures_util::future::join_all;
use wattle_core::control::grid::{Grid as Table, Node};
use wattle_core::ids::NodeId;
use wattle_peers::ControlPosition;
use wattle_proto::v1;

use super::reports::{reached, surveys_of};
use crate::control::NotRebuilt;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::routing::not_answered;

/// What this node knows.
pub(super) fn survey_here(grid: &Grid) -> Result<v1::SurveyControlResponse, Failure> {
    let decided = grid.control.decided();
    let table = decided.grid().ok_or(Failure::NoMember)?;
    let me = grid.partitions.replication().me().node;
    let own = table.node(me).ok_or(Failure::NoMember)?;
    let ControlPosition { generation, version } = grid.control.known();
    let position = v1::ControlPosition { generation, version };
    let (_, voters) = grid.control.voters();
    let voters: BTreeSet<u64> = voters.iter().map(|(member, _)| member.node.0).collect();
    let own = v1::ControlMember { position: Some(position), answers: true, ..described(own, &voters) };
    Ok(v1::SurveyControlResponse { members: vec![own], newest: me.0, voters: voters.into_iter().collect() })
}

/// What all members know that answer.
pub(super) async fn survey(grid: &Grid) -> Result<v1::SurveyControlResponse, Failure> {
    let decided = grid.control.decided();
    let table = decided.grid().ok_or(Failure::NoMember)?;
    let own = survey_here(grid)?;
    let others = table.nodes().filter(|node| node.id().0 != own.newest);
    let told = surveys_of(table.id(), others).await;
    let told: Vec<v1::SurveyControlResponse> = told.into_values().chain([own]).collect();
    let known = |told: &v1::SurveyControlResponse| told.members.first().and_then(|member| member.position);
    let rank = |told: &&v1::SurveyControlResponse| (known(told).map(ordered), Reverse(told.newest));
    let best = told.iter().max_by_key(rank).ok_or(Failure::NoMember)?;
    let voters: BTreeSet<u64> = best.voters.iter().copied().collect();
    let members = join_all(table.nodes().map(|node| async {
        let position = told.iter().find(|told| told.newest == node.id().0).and_then(known);
        let answers = position.is_some() || grid.control.is_there(node).await;
        v1::ControlMember { answers, position, ..described(node, &voters) }
    }));
    let members = members.await;
    Ok(v1::SurveyControlResponse { members, newest: best.newest, voters: best.voters.clone() })
}

fn ordered(position: v1::ControlPosition) -> ControlPosition {
    ControlPosition { generation: position.generation, version: position.version }
}

fn described(node: &Node, voters: &BTreeSet<u64>) -> v1::ControlMember {
    v1::ControlMember {
        node: node.id().0,
        name: node.description.host.clone(),
        address: node.description.client_address.clone(),
        votes: voters.contains(&node.id().0),
        ..v1::ControlMember::default()
    }
}

/// Has the control group built anew by the node that knows most, if that is still what people were shown; returns its generation.
pub(super) async fn recover_control(grid: &Grid, asked: v1::RecoverControlRequest) -> Result<u32, Failure> {
    let survey = survey(grid).await?;
    let there = |member: &&v1::ControlMember| member.votes && member.answers;
    let there = survey.members.iter().filter(there).count();
    if 2 * there > survey.voters.len() {
        return Err(NotRebuilt::Lives { there, voters: survey.voters.len() }.into());
    }
    let newest = survey.members.iter().find(|member| member.node == survey.newest);
    if survey.newest != asked.newest || newest.and_then(|newest| newest.position) != asked.position {
        return Err(NotRebuilt::Changed.into());
    }
    if survey.newest == grid.partitions.replication().me().node.0 {
        let generation = grid.control.rebuild().await?;
        tracing::warn!(?survey, generation, "the control group was built anew, as was asked for");
        return Ok(generation);
    }
    if asked.local {
        return Err(NotRebuilt::Changed.into());
    }
    let decided = grid.control.decided();
    let table = decided.grid().ok_or(Failure::NoMember)?;
    recovered_by(table, NodeId(survey.newest), asked).await
}

async fn recovered_by(table: &Table, node: NodeId, asked: v1::RecoverControlRequest) -> Result<u32, Failure> {
    let node = table.node(node).ok_or(NotRebuilt::Changed)?;
    let (mut client, _) = reached(table.id(), node).await.map_err(|_| NotRebuilt::Changed)?;
    let recovered = client.recover_control(v1::RecoverControlRequest { local: true, ..asked }).await;
    Ok(recovered.map_err(|status| not_answered(&status))?.into_inner().generation)
}
