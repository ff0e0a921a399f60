//! What is left of a control group that is lost, and the one that goes on from there.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use futures_util::future::join_all;
use wattle_control::GroupId;
use wattle_core::control::grid::{Grid as Table, Node};
use wattle_core::ids::NodeId;
use wattle_peers::ControlPosition;
use wattle_proto::v1;

use super::reports::{reached, surveys_of};
use crate::control::NotRebuilt;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::routing::not_answered;

/// What those know who answer.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    members: Vec<v1::ControlMember>,
    /// Who knows most.
    newest: u64,
    /// Who votes in which group, as each says that answers; and who may vote in the newest one if nobody says it. A majority of each set
    /// decides: there are two while voters are being changed.
    electorates: Vec<(v1::ControlGroup, Vec<BTreeSet<u64>>)>,
}

/// What this node knows.
pub(super) fn survey_here(grid: &Grid) -> Result<v1::SurveyControlResponse, Failure> {
    let decided = grid.control.decided();
    let table = decided.grid().ok_or(Failure::NoMember)?;
    let me = grid.partitions.replication().me().node;
    let own = table.node(me).ok_or(Failure::NoMember)?;
    let electorates = grid.control.electorates();
    let ControlPosition { generation, version } = grid.control.known();
    let own = v1::ControlMember {
        // Without its voter it can build nothing.
        position: electorates.is_some().then_some(v1::ControlPosition { generation, version }),
        answers: true,
        group: Some(shown(grid.control.group_id())),
        ..described(own)
    };
    let electorates = electorates.unwrap_or_default();
    let voters: BTreeSet<u64> = electorates.iter().flatten().map(|voter| voter.0).collect();
    let electorate =
        |voters: &BTreeSet<NodeId>| v1::Electorate { voters: voters.iter().map(|voter| voter.0).collect() };
    Ok(v1::SurveyControlResponse {
        members: vec![own],
        newest: me.0,
        voters: voters.into_iter().collect(),
        electorates: electorates.iter().map(electorate).collect(),
    })
}

/// What all members know that answer.
pub(super) async fn survey(grid: &Grid) -> Result<Survey, Failure> {
    let decided = grid.control.decided();
    let table = decided.grid().ok_or(Failure::NoMember)?;
    let own = survey_here(grid)?;
    let others = table.nodes().filter(|node| node.id().0 != own.newest);
    let told = surveys_of(table.id(), others).await;
    let told: Vec<v1::SurveyControlResponse> = told.into_values().chain([own]).collect();
    let of = |node: &Node| {
        let told = told.iter().find(|told| told.newest == node.id().0);
        told.and_then(|told| told.members.first().cloned())
    };
    let members = join_all(table.nodes().map(|node| async {
        if let Some(told) = of(node) {
            return told;
        }
        let group = grid.control.group_of(node).await.map(shown);
        v1::ControlMember { answers: group.is_some(), group, ..described(node) }
    }));
    Ok(Survey::of(members.await, &told))
}

impl Survey {
    fn of(members: Vec<v1::ControlMember>, told: &[v1::SurveyControlResponse]) -> Self {
        let rank = |member: &&v1::ControlMember| (member.position.map(ordered), Reverse(member.node));
        let newest = members.iter().max_by_key(rank).map_or(0, |member| member.node);
        let said = |told: &v1::SurveyControlResponse| {
            let group = told.members.first().and_then(|member| member.group)?;
            // A node of a version before says only who votes.
            let all = [v1::Electorate { voters: told.voters.clone() }];
            let sets = if told.electorates.is_empty() { &all[..] } else { &told.electorates };
            let sets = sets.iter().map(|set| set.voters.iter().copied().collect());
            (!told.voters.is_empty()).then(|| (group, sets.collect()))
        };
        let mut survey = Self { members, newest, electorates: told.iter().filter_map(said).collect() };
        for group in survey.newest_groups() {
            if survey.electorates.iter().all(|(known, _)| *known != group) {
                survey.electorates.push((group, vec![BTreeSet::from([group.founder])]));
            }
        }
        let voters = survey.voters();
        survey.members.iter_mut().for_each(|member| member.votes = voters.contains(&member.node));
        survey
    }

    /// The groups of the latest generation of which anybody has heard.
    fn newest_groups(&self) -> Vec<v1::ControlGroup> {
        let groups = || self.members.iter().filter_map(|member| member.group);
        let generation = groups().map(|group| group.generation).max();
        let mut newest: Vec<_> = groups().filter(|group| Some(group.generation) == generation).collect();
        newest.sort_unstable_by_key(|group| group.founder);
        newest.dedup();
        newest
    }

    /// Who votes in those.
    fn voters(&self) -> BTreeSet<u64> {
        let newest = self.newest_groups();
        let electorates = self.electorates.iter().filter(|(group, _)| newest.contains(group));
        electorates.flat_map(|(_, sets)| sets.iter().flatten().copied()).collect()
    }

    /// The generation of a group that outranks all of which anybody has heard.
    ///
    /// # Errors
    /// It is not to be built: a majority of those may be there who vote in some group, or people have to choose between two first.
    fn next_generation(&self) -> Result<u32, NotRebuilt> {
        if let Some((one, other)) = self.twins() {
            let generation = one.generation;
            return Err(NotRebuilt::Twice { generation, one: one.founder, other: other.founder });
        }
        for (group, sets) in &self.electorates {
            // Who votes there has its log, also if it has yet to hear in which of its lives it is.
            let is_there = |member: &&v1::ControlMember| member.answers && member.group == Some(*group);
            let there: BTreeSet<u64> =
                self.members.iter().filter(is_there).map(|member| member.node).collect();
            let there = |voters: &BTreeSet<u64>| voters.intersection(&there).count();
            if let Some(voters) = sets.last()
                && sets.iter().all(|voters| 2 * there(voters) > voters.len())
            {
                return Err(NotRebuilt::Lives { there: there(voters), voters: voters.len() });
            }
        }
        let known = |member: &v1::ControlMember| member.position.map(|position| position.generation);
        let heard = |member: &v1::ControlMember| member.group.map(|group| group.generation);
        let generations = self.members.iter().flat_map(|member| [known(member), heard(member)]);
        Ok(generations.flatten().max().unwrap_or_default() + 1)
    }

    /// Two groups of the latest generation, if members know something of each.
    fn twins(&self) -> Option<(v1::ControlGroup, v1::ControlGroup)> {
        let newest = self.newest_groups();
        let knows = |member: &&v1::ControlMember, group: &v1::ControlGroup| {
            member.group == Some(*group)
                && member.position.is_some_and(|position| position.generation == group.generation)
        };
        let mut known =
            newest.into_iter().filter(|group| self.members.iter().any(|member| knows(&member, group)));
        known.next().zip(known.next())
    }
}

impl From<Survey> for v1::SurveyControlResponse {
    fn from(survey: Survey) -> Self {
        let voters = survey.voters().into_iter().collect();
        Self { members: survey.members, newest: survey.newest, voters, electorates: Vec::new() }
    }
}

fn shown(group: GroupId) -> v1::ControlGroup {
    v1::ControlGroup { generation: group.generation, founder: group.founder.0 }
}

fn ordered(position: v1::ControlPosition) -> ControlPosition {
    ControlPosition { generation: position.generation, version: position.version }
}

fn described(node: &Node) -> v1::ControlMember {
    v1::ControlMember {
        node: node.id().0,
        name: node.description.host.clone(),
        address: node.description.client_address.clone(),
        ..v1::ControlMember::default()
    }
}

/// Has the control group built anew by the node that knows most, if that is still what people were shown; returns its generation.
pub(super) async fn recover_control(grid: &Grid, asked: v1::RecoverControlRequest) -> Result<u32, Failure> {
    let survey = survey(grid).await?;
    let generation = survey.next_generation()?;
    let newest = survey.members.iter().find(|member| member.node == survey.newest);
    let position = newest.and_then(|newest| newest.position).ok_or(NotRebuilt::NoVoter)?;
    if survey.newest != asked.newest || Some(position) != asked.position {
        return Err(NotRebuilt::Changed.into());
    }
    if survey.newest == grid.partitions.replication().me().node.0 {
        grid.control.rebuild(generation).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: (u32, u64) = (1, 1);

    /// What a node says: in which group it is, up to where it knows what, and who votes.
    struct Says(u64, (u32, u64), Option<(u32, u64)>, &'static [u64]);

    /// A process that only says in which group it is.
    fn waits(node: u64, group: (u32, u64)) -> Says {
        Says(node, group, None, &[])
    }

    fn survey(silent: &[u64], says: &[Says]) -> Survey {
        let member = |Says(node, (generation, founder), position, _): &Says| v1::ControlMember {
            node: *node,
            answers: true,
            group: Some(v1::ControlGroup { generation: *generation, founder: *founder }),
            position: position.map(|(generation, version)| v1::ControlPosition { generation, version }),
            ..v1::ControlMember::default()
        };
        let told = |says: &Says| v1::SurveyControlResponse {
            members: vec![member(says)],
            newest: says.0,
            voters: says.3.to_vec(),
            electorates: Vec::new(),
        };
        let silent = silent.iter().map(|node| v1::ControlMember { node: *node, ..Default::default() });
        let told: Vec<_> = says.iter().filter(|says| says.2.is_some()).map(told).collect();
        Survey::of(says.iter().map(member).chain(silent).collect(), &told)
    }

    fn check(silent: &[u64], says: &[Says], expected: Result<u32, &str>) {
        let next = survey(silent, says).next_generation();
        assert_eq!(next.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
    }

    fn lives(there: usize, voters: usize) -> String {
        format!("{there} of {voters} voters are there: the control group is not lost")
    }

    #[test]
    fn nothing_is_built_while_a_majority_of_the_voters_is_there() {
        let third = || Says(3, FIRST, Some((1, 40)), &[1, 2, 3]);
        check(&[1, 2], &[third()], Ok(2));
        check(&[1], &[third(), waits(2, FIRST)], Err(&lives(2, 3)));
        let four = || Says(4, FIRST, Some((1, 40)), &[1, 2, 3, 4]);
        check(&[1, 2], &[four(), waits(3, FIRST)], Ok(2));
        check(&[1], &[four(), waits(2, FIRST), waits(3, FIRST)], Err(&lives(3, 4)));
        check(&[], &[Says(1, FIRST, Some((1, 40)), &[1])], Err(&lives(1, 1)));
        // Who votes changes without a decision about anything: one of two who know as much may have yet to hear of it.
        let late = || Says(1, FIRST, Some((1, 40)), &[7, 8, 9]);
        check(&[7, 8, 9], &[late()], Ok(2));
        check(&[7, 8, 9], &[late(), Says(2, FIRST, Some((1, 40)), &[1, 2, 9])], Err(&lives(2, 3)));
    }

    #[test]
    fn while_voters_are_changed_a_majority_of_both_sets_decides() {
        let told = |sets: &[&[u64]]| {
            let set = |voters: &&[u64]| v1::Electorate { voters: voters.to_vec() };
            let voters: BTreeSet<u64> = sets.iter().flat_map(|voters| voters.iter().copied()).collect();
            let (voters, electorates) = (voters.into_iter().collect(), sets.iter().map(set).collect());
            let group = Some(v1::ControlGroup { generation: 1, founder: 1 });
            let members = [1, 2, 3, 4].map(|node| v1::ControlMember {
                node,
                answers: node == 2 || node == 3,
                group: group.filter(|_| node == 2 || node == 3),
                ..v1::ControlMember::default()
            });
            let own = v1::SurveyControlResponse {
                members: vec![members[1].clone()],
                newest: 2,
                voters,
                electorates,
            };
            Survey::of(members.into(), &[own]).next_generation().map_err(|error| error.to_string())
        };
        assert_eq!(told(&[&[1, 2, 3]]), Err(lives(2, 3)));
        // Nobody of the one voter of before is there.
        assert_eq!(told(&[&[1], &[1, 2, 3]]), Ok(2));
        // Half of all that vote, and most of those of before and of those to be.
        assert_eq!(told(&[&[1, 2, 3], &[2, 3, 4]]), Err(lives(2, 3)));
    }

    #[test]
    fn a_group_of_which_somebody_has_heard_is_outranked_if_nobody_of_it_is_there() {
        let told = || Says(5, (2, 4), Some((1, 40)), &[4]);
        check(&[1, 2, 3, 4], &[told()], Ok(3));
        check(&[1, 2, 3, 4], &[told(), Says(6, FIRST, Some((1, 41)), &[1, 2, 3])], Ok(3));
        assert_eq!(survey(&[4], &[told(), Says(6, FIRST, Some((1, 41)), &[1])]).newest, 6);
        // Its founder has come back, with its log or without.
        check(&[1, 2, 3], &[told(), waits(4, (2, 4))], Err(&lives(1, 1)));
        check(&[1, 2, 3], &[told(), waits(4, FIRST)], Ok(3));
        // Nobody says who votes in it: it may be the founder.
        let ended = || Says(6, (2, 4), Some((1, 40)), &[]);
        check(&[4], &[ended()], Ok(3));
        check(&[], &[ended(), waits(4, (2, 4))], Err(&lives(1, 1)));
        // Those who vote in the one before have not heard of it yet.
        let old = |node| Says(node, FIRST, Some((1, 50)), &[1, 2, 3]);
        check(&[3, 4], &[told(), old(1), old(2)], Err(&lives(2, 3)));
    }

    #[test]
    fn the_voters_that_are_shown_are_those_of_the_newest_group() {
        let survey =
            survey(&[1, 4], &[Says(5, (2, 4), Some((1, 40)), &[4]), Says(6, FIRST, Some((1, 9)), &[1, 6])]);
        let shown = v1::SurveyControlResponse::from(survey);
        assert_eq!((shown.newest, shown.voters), (5, vec![4]));
        let votes: Vec<u64> =
            shown.members.iter().filter(|member| member.votes).map(|member| member.node).collect();
        assert_eq!(votes, [4]);
    }

    #[test]
    fn of_two_groups_of_one_generation_people_choose_one() {
        let one = || Says(4, (2, 4), Some((2, 70)), &[4, 6, 7]);
        let twice = "the control group was built anew twice in generation 2, by nodes 4 and 5: choose one, stop the nodes of the other's \
                     group, and start those with empty data directories";
        check(&[6, 7], &[one(), Says(5, (2, 5), Some((2, 60)), &[5])], Err(twice));
        // Who has only heard of the other has done nothing in it.
        check(&[5, 6, 7], &[one(), Says(8, (2, 5), Some((1, 40)), &[5])], Ok(3));
        // Another has gone on from one of them already.
        check(&[6], &[one(), Says(5, (2, 5), Some((2, 60)), &[]), waits(9, (3, 4))], Ok(4));
    }
}
