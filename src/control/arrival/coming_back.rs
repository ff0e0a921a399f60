//! How a node goes on that was in a grid before, as its data directory says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use wattle_control::{CreateError, GroupId, Identity, Role, Storage};
use wattle_core::control::grid::{
    Grid as Table, GridApplied, GridCommand, GridRefusal, Joining, PartitionState,
};
use wattle_core::control::{GroupApplied, GroupCommand, GroupRefusal, GroupState};
use wattle_core::ids::{MemberId, NodeId};
use wattle_peers::{Ask, Grid, Standing};

use super::{ArrivalError, Arriving, FOUNDER, PAUSE, Store, create};
use crate::control::rebuilding::found_at;
use crate::control::{Control, NotDecided};
use crate::failure::Failure;

impl Arriving<'_> {
    /// Goes on as the node that the data directory is of, in a new life: what it held in memory is gone.
    pub(super) async fn come_back(
        self,
        identity: Identity,
        store: Store,
    ) -> Result<(Arc<Control>, MemberId), ArrivalError> {
        let (id, node) = (identity.group.grid, identity.voter.node);
        let first = match &store.1 {
            Storage::Disk(disk) => disk.first_state(),
            Storage::Memory => None,
        };
        let control = self.begin(identity, store).await?;
        // As long as nothing else is known.
        control.unheard.store(true, Ordering::Relaxed);
        if node == FOUNDER && identity.group == GroupId::first(id) && control.decided().grid().is_none() {
            // It may be that an earlier start was interrupted.
            match create(&control, self.founded(id)?).await {
                Ok(_) | Err(ArrivalError::NotFounded(CreateError::Exists)) => {}
                Err(error) => return Err(error),
            }
        }
        let name = |state: &GroupState| state.grid().map_or_else(String::new, |grid| grid.name().to_string());
        let grid = Grid { id, name: name(&control.decided()) };
        self.links.set_standing(Standing::Returning { grid, node });
        self.looks_for(&control.decided())?;
        let mut known = None;
        let mut waits = false;
        let member = loop {
            let state = control.decided();
            let places =
                places(if state.grid().is_some() { &state } else { first.as_ref().unwrap_or(&state) });
            self.links.set_members(places.iter().cloned());
            let heard = self.hear_others(node, &places).await;
            go_on_with_the_newest(&control, &heard).await?;
            if !control.may_go_on(!heard.is_empty()) {
                if !std::mem::replace(&mut waits, true) {
                    say_for_whom(node, &places);
                }
                sleep(PAUSE).await;
                continue;
            }
            // Without anything of the log it has had some life: which one, a refusal says.
            let first = MemberId { node, incarnation: 1 };
            let before = known.or_else(|| state.grid()?.node(node).map(|node| node.member)).or(Some(first));
            let joining = self.joining(id, before);
            let joined = match self.come_back_by(&control, &joining, &places).await {
                Err(ArrivalError::Refused(GroupRefusal::Grid(GridRefusal::OtherIncarnation {
                    current,
                    ..
                }))) => {
                    known = Some(current);
                    continue;
                }
                Err(ArrivalError::Refused(GroupRefusal::Grid(GridRefusal::NodeNotFound { node }))) => {
                    return Err(ArrivalError::Forgotten { node });
                }
                joined => joined?,
            };
            if let Some(member) = joined {
                break member;
            }
            if !waits {
                info!(node = node.0, "waiting for the others of this node's grid");
                waits = true;
            }
            sleep(PAUSE).await;
        };
        self.become_member(Grid { id, name: name(&control.decided()) }, member);
        Ok((control, member))
    }

    /// Others that were in a grid before, as far as they answer, and in which control group each takes part.
    async fn hear_others(&self, node: NodeId, places: &[(MemberId, String)]) -> Vec<(NodeId, GroupId)> {
        let others = self.arrival.others.addresses().await.unwrap_or_default();
        let places = places.iter().filter(|(member, _)| member.node != node);
        let addresses: BTreeSet<String> = places.map(|(_, address)| address.clone()).chain(others).collect();
        let ask = Ask { process: self.arrival.process, founds: false };
        let found = addresses.iter().map(|address| found_at(self.links, address, ask));
        let found = join_all(found).await.into_iter().flatten();
        // Its own address may be among them.
        found.filter(|(other, _)| *other != node).collect()
    }

    /// Checks that the grid of the data directory is the one that the node is to be in.
    fn looks_for(&self, decided: &GroupState) -> Result<(), ArrivalError> {
        match (&self.arrival.grid, decided.grid()) {
            (Some(meant), Some(grid)) if meant != grid.name() => {
                Err(ArrivalError::OtherGrid { found: grid.name().to_string(), meant: meant.clone() })
            }
            (_, _) => Ok(()),
        }
    }

    async fn come_back_by(
        &self,
        control: &Arc<Control>,
        joining: &Joining,
        places: &[(MemberId, String)],
    ) -> Result<Option<MemberId>, ArrivalError> {
        let group = control.voter.group().await?;
        if group.status().voters == BTreeSet::from([group.identity().voter]) {
            // It elects itself.
            group.until(|status| status.role == Role::Leader).await;
        }
        let status = group.status();
        if status.role == Role::Leader {
            let join = GroupCommand::Grid(GridCommand::Join(Box::new(joining.clone())));
            return match group.propose(group.proposal(join)).await {
                Ok(GroupApplied::Grid(GridApplied::Joined { member, .. })) => Ok(Some(member)),
                Ok(other) => unreachable!("a join is answered with {other:?}"),
                Err(wattle_control::ProposeError::Refused(refusal)) => Err(refusal.into()),
                Err(error) => {
                    debug!(%error, "not joined yet");
                    Ok(None)
                }
            };
        }
        let leader = status.leader.map(|leader| leader.node);
        let (first, others): (Vec<_>, Vec<_>) = places
            .iter()
            .filter(|(member, _)| member.node != group.identity().voter.node)
            .partition(|(member, _)| Some(member.node) == leader);
        let known = first.into_iter().chain(others).map(|(_, address)| address.clone()).collect();
        tokio::select! {
            asked = self.admitted_by_any(known, joining) => asked,
            // Nobody else can say so then: they would ask this node, until they give up.
            _ = group.until(|status| status.role == Role::Leader) => Ok(None),
        }
    }

    /// Asks those whom it knows; if none of them answers, others may have come.
    async fn admitted_by_any(
        &self,
        known: Vec<String>,
        joining: &Joining,
    ) -> Result<Option<MemberId>, ArrivalError> {
        for address in known {
            if let Some((member, _)) = self.admitted_by(&address, joining).await? {
                return Ok(Some(member));
            }
        }
        let others = match self.arrival.others.addresses().await {
            Ok(others) => others,
            Err(error) => {
                debug!(%error, "other nodes are not found");
                return Ok(None);
            }
        };
        for address in &others {
            if let Some((member, _)) = self.admitted_by(address, joining).await? {
                return Ok(Some(member));
            }
        }
        Ok(None)
    }
}

fn places(state: &GroupState) -> Vec<(MemberId, String)> {
    let nodes = state.grid().into_iter().flat_map(Table::nodes);
    nodes.map(|node| (node.member, node.description.peer_address.clone())).collect()
}

fn say_for_whom(node: NodeId, places: &[(MemberId, String)]) {
    let others = places.iter().map(|(other, _)| other.node.0).filter(|other| *other != node.0);
    let others: Vec<u64> = others.collect();
    warn!(
        node = node.0,
        ?others,
        "this node votes alone, and none of the others answers that were in its grid: they may have gone on without it. It waits for one of \
         them; if all are dead, forget them at this node (wattle grid forget)"
    );
}

/// Takes part in the control group that has taken the place of this node's while it was away, as others say. Or it would lead the old one
/// by itself.
async fn go_on_with_the_newest(control: &Control, heard: &[(NodeId, GroupId)]) -> Result<(), ArrivalError> {
    let own = control.group_id();
    let groups = || heard.iter().map(|(_, group)| *group);
    if let Some(newest) = groups().filter(|group| group.succeeds(&own)).max_by_key(|group| group.generation) {
        control.succeed(newest).await;
        return Ok(());
    }
    let has_some_of_it = control.known().generation == own.generation;
    let twin = groups().find(|group| group.generation == own.generation && *group != own);
    match twin.filter(|_| has_some_of_it) {
        Some(twin) => {
            let (generation, here, there) = (own.generation, own.founder, twin.founder);
            Err(ArrivalError::BuiltTwice { generation, here, there })
        }
        None => Ok(()),
    }
}

impl Control {
    /// Whether a node that was in a grid before may be a member again, as soon as its control group lets it. Who votes alone is that by
    /// itself; so it waits until another has answered that was in the grid: they may have built another group while it was away.
    fn may_go_on(&self, others_answer: bool) -> bool {
        let me = self.voter.identity().voter;
        let votes_alone = self.running().is_some_and(|group| group.status().voters == BTreeSet::from([me]));
        let state = self.decided();
        let has_others = state.grid().is_some_and(|grid| grid.nodes().any(|node| node.id() != me.node));
        let unheard = votes_alone && has_others && !others_answer;
        self.unheard.store(unheard, Ordering::Relaxed);
        !unheard
    }

    /// Whether it waits for others who may have gone on without it.
    pub(in crate::control) fn is_unheard(&self) -> bool {
        self.unheard.load(Ordering::Relaxed)
    }

    /// Has a node forgotten for whom this one waits, as people say who know that it is dead; returns how many partitions are lost with it.
    pub(crate) async fn forget_silent(&self, node: NodeId) -> Result<u32, Failure> {
        if !self.is_unheard() {
            return Err(Failure::NoMember);
        }
        let lost = || self.decided().grid().map_or(0, |grid| grid.partitions_in(PartitionState::Lost));
        let (state, before) = (self.decided(), lost());
        let described = state.grid().and_then(|grid| grid.node(node));
        let answers = match described {
            Some(described) => self.group_of(described).await.is_some(),
            None => false,
        };
        if answers || node == self.voter.identity().voter.node {
            return Err(Failure::NodeAnswers { node: node.0 });
        }
        let group = self.voter.group().await.map_err(NotDecided::from)?;
        let forget = group.proposal(GroupCommand::Grid(GridCommand::Forget { node }));
        self.decide(&forget).await?.result.map_err(NotDecided::from)?;
        warn!(node = node.0, "node forgotten");
        Ok(u32::try_from(lost().saturating_sub(before)).unwrap_or(u32::MAX))
    }
}
