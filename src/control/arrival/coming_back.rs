//! How a node goes on that was in a grid before, as its data directory says.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};
use wattle_control::{CreateError, GroupId, Identity, Role};
use wattle_core::control::grid::{GridApplied, GridCommand, GridRefusal, Joining};
use wattle_core::control::{GroupApplied, GroupCommand, GroupRefusal, GroupState};
use wattle_core::ids::MemberId;
use wattle_core::limits::REPORT_TIME;
use wattle_peers::{Ask, Generation, Grid, Standing};

use super::{ArrivalError, Arriving, FOUNDER, PAUSE, Store, create};
use crate::control::Control;

impl Arriving<'_> {
    /// Goes on as the node that the data directory is of, in a new life: what it held in memory is gone.
    pub(super) async fn come_back(
        self,
        identity: Identity,
        store: Store,
    ) -> Result<(Arc<Control>, MemberId), ArrivalError> {
        let (id, node) = (identity.group.grid, identity.voter.node);
        let control = self.begin(identity, store).await?;
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
            let places: Vec<(MemberId, String)> = state
                .grid()
                .into_iter()
                .flat_map(|grid| grid.nodes())
                .map(|node| (node.member, node.description.peer_address.clone()))
                .collect();
            self.links.set_members(places.iter().cloned());
            if let Some(newer) = self.newer_group(&control, &places).await {
                control.succeed(newer).await;
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

    /// The control group that has taken the place of this node's while it was away, as others say. Or it would lead the old one by itself.
    async fn newer_group(&self, control: &Control, places: &[(MemberId, String)]) -> Option<GroupId> {
        let own = control.group_id();
        let others = self.arrival.others.addresses().await.unwrap_or_default();
        let addresses =
            places.iter().filter(|(member, _)| member.node != control.voter.identity().voter.node);
        let addresses: BTreeSet<String> =
            addresses.map(|(_, address)| address.clone()).chain(others).collect();
        let asks = addresses.iter().map(|address| async move {
            let asked = self.links.ask(address, Ask { process: self.arrival.process, founds: false });
            let (standing, situation) = timeout(REPORT_TIME, asked).await.ok()?.ok()?;
            let (Standing::Returning { grid, .. } | Standing::Member { grid, .. }) = standing else {
                return None;
            };
            let Generation { number, founder } = situation.generation?;
            Some(GroupId { grid: grid.id, generation: number, founder })
        });
        let groups = join_all(asks).await.into_iter().flatten();
        groups.filter(|group| group.succeeds(&own)).max_by_key(|group| group.generation)
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
