//! What the leader of the control group does for the grid: it looks at what is decided and at who lives, and proposes what is next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};
use wattle_control::{ChangeError, ControlGroup, Role, VoterId};
use wattle_core::control::GroupCommand;
use wattle_core::control::grid::{Grid, GridCommand, Reconciler, desired_voters};
use wattle_core::ids::{MemberId, NodeId};
use wattle_core::limits::HEARTBEAT_TIME;
use wattle_core::membership::Presence;

use super::Sessions;
use crate::control::{Control, voter_of};
use crate::peering::Links;

/// How long to wait before what was not decided is proposed again.
const PAUSE: Duration = Duration::from_millis(200);

/// Leads whenever the control group says so, until it is dropped. Says when it had nothing left to do for the first time after it has
/// prepared.
pub(crate) async fn lead(
    control: Arc<Control>,
    me: MemberId,
    (sessions, links): (Arc<Sessions>, Arc<Links>),
    settled: oneshot::Sender<()>,
) {
    let mut settled = Some(settled);
    loop {
        let group = control.leading().await;
        if let Err(error) = group.confirm_leadership().await {
            debug!(%error, "this node leads no more before it has begun");
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let term = group.status().term;
        info!(term, "this node leads the control group");
        if let Some(grid) = control.decided().grid() {
            sessions.begin(me, grid);
        }
        let mut reign =
            Reign { me, control: &control, sessions: &sessions, links: &links, settled: &mut settled };
        tokio::select! {
            () = reign.run() => {}
            _ = group.until(|status| status.role != Role::Leader || status.term != term) => {}
        }
        sessions.end();
        info!(term, "this node does not lead the control group any more");
    }
}

struct Reign<'a> {
    me: MemberId,
    control: &'a Arc<Control>,
    sessions: &'a Arc<Sessions>,
    links: &'a Arc<Links>,
    settled: &'a mut Option<oneshot::Sender<()>>,
}

impl Reign<'_> {
    async fn run(&mut self) {
        let mut reconciler = Reconciler::default();
        let mut decided = self.control.watch();
        loop {
            let state = Arc::clone(&decided.borrow_and_update().state);
            if let Some(grid) = state.grid()
                && self.advance(grid, &mut reconciler).await
            {
                continue;
            }
            tokio::select! {
                changed = decided.changed() => if changed.is_err() { return },
                () = self.sessions.changed() => {}
                () = tokio::time::sleep(HEARTBEAT_TIME) => {}
            }
        }
    }

    /// Looks who lives, and proposes what is next; whether something was decided.
    async fn advance(&mut self, grid: &Grid, reconciler: &mut Reconciler) -> bool {
        let Some((now, look, presences)) = self.sessions.look(grid) else { return false };
        look.ask.iter().for_each(|member| self.ask(*member));
        if let Some(command) = reconciler.next(now, grid, &presences) {
            return self.is_decided(command).await;
        }
        // Before that nothing is to be done only because this node takes no partitions yet.
        let has_prepared = grid.node(self.me.node).is_some_and(|node| !node.description.prepares);
        if has_prepared && let Some(settled) = self.settled.take() {
            // Who has gone does not wait.
            settled.send(()).ok();
        }
        false
    }

    async fn is_decided(&self, command: GridCommand) -> bool {
        let decided = self.control.propose(GroupCommand::Grid(command)).await;
        if let Err(error) = &decided {
            warn!(%error, "what the grid needs is not decided");
        }
        decided.is_ok()
    }

    /// Asks a member whether it lives.
    fn ask(&self, member: MemberId) {
        let (links, sessions) = (Arc::clone(self.links), Arc::clone(self.sessions));
        tokio::spawn(async move {
            if let Ok(Ok(_)) = tokio::time::timeout(HEARTBEAT_TIME, links.ask_heartbeat(member)).await {
                sessions.heard(member);
            }
        });
    }
}

/// As long as this node leads: gives every member the control log, and votes to those who should have them.
pub(crate) async fn settle_voters(control: Arc<Control>, sessions: Arc<Sessions>) {
    let mut decided = control.watch();
    loop {
        let group = control.leading().await;
        let state = Arc::clone(&decided.borrow_and_update().state);
        if let Some(grid) = state.grid()
            && let Some(change) =
                next_change((grid, &group), &sessions, &newcomers(grid, &group, &control).await)
        {
            match apply(&group, &change).await {
                Ok(()) => {
                    info!(?change, "the control group has changed");
                    continue;
                }
                Err(error) => warn!(%error, ?change, "the control group has not changed"),
            }
        }
        tokio::select! {
            changed = decided.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(HEARTBEAT_TIME) => {}
        }
    }
}

#[derive(Debug)]
enum Change {
    Learner(VoterId),
    /// It is in the grid no more.
    Gone(VoterId),
    Voters(BTreeSet<VoterId>),
}

/// Who has no log yet, and is there, in whatever life: one that went on without this group, as another life than is known here, hears by
/// that that it is no member. A leader that has just begun grants everybody a session: in a group that was built anew many may be dead, and
/// to wait for each of them would take long.
async fn newcomers(grid: &Grid, group: &ControlGroup, control: &Control) -> BTreeSet<NodeId> {
    let status = group.status();
    let has_log = |node: NodeId| {
        let voter = voter_of(node);
        status.voters.contains(&voter) || status.learners.contains(&voter)
    };
    let others = grid.nodes().filter(|node| !has_log(node.id()));
    let own = group.identity().group;
    let answers = others.map(|node| async move {
        let there = tokio::time::timeout(HEARTBEAT_TIME, control.group_of(node)).await.ok()??;
        // Who has gone on in another group takes nothing of this one.
        (there == own || own.succeeds(&there)).then_some(node.id())
    });
    join_all(answers).await.into_iter().flatten().collect()
}

fn next_change(
    (grid, group): (&Grid, &ControlGroup),
    sessions: &Sessions,
    newcomers: &BTreeSet<NodeId>,
) -> Option<Change> {
    let status = group.status();
    let proven = sessions.proven()?;
    // Who has given its own vote away leads for a moment yet.
    let me = group.identity().voter;
    if !status.voters.contains(&me) {
        return status.learners.contains(&me).then_some(Change::Gone(me));
    }
    let votes: BTreeSet<NodeId> = status.voters.iter().map(|voter| voter.node).collect();
    let desired = desired_voters(grid, &votes, &proven);
    let is_alive = |node: &NodeId| {
        let member = grid.node(*node).map(|node| node.member);
        member.is_some_and(|member| proven.get(&member) == Some(&Presence::Alive))
    };
    // Who does not answer gets no vote, and who is silent no log: one that has just joined says nothing before it has that.
    let new_live = desired.difference(&votes).all(is_alive);
    if desired != votes && new_live {
        return Some(Change::Voters(desired.into_iter().map(voter_of).collect()));
    }
    let is_gone = |voter: &&VoterId| grid.node(voter.node).is_none();
    if let Some(gone) = status.learners.iter().find(is_gone) {
        return Some(Change::Gone(*gone));
    }
    newcomers.first().copied().map(voter_of).map(Change::Learner)
}

async fn apply(group: &ControlGroup, change: &Change) -> Result<(), ChangeError> {
    match change {
        Change::Learner(learner) => group.add_learner(*learner).await,
        Change::Gone(learner) => group.remove_learner(*learner).await,
        Change::Voters(voters) => group.change_voters(voters).await,
    }
}
