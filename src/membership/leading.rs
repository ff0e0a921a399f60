//! What the leader of the control group does for the grid: it looks at what is decided and at who lives, and proposes what is next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use wattle_control::{ChangeError, ControlGroup, Role, Status, VoterId};
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
/// How long others get their turn after a node that answers has not taken the log.
const PASSED_OVER: Duration = Duration::from_secs(30);

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
    let mut behind = Behind::default();
    loop {
        let group = control.leading().await;
        let state = Arc::clone(&decided.borrow_and_update().state);
        if let Some(grid) = state.grid()
            && let mut newcomers = newcomers(grid, &group, &control).await
            && let Some(mut presence) = sessions.proven()
        {
            let status = group.status();
            behind.pass_over((grid, &status), &mut presence, &mut newcomers);
            let me = group.identity().voter;
            if let Some(change) = next_change(me, (grid, &status), &presence, &newcomers) {
                match apply(&group, &change).await {
                    Ok(()) => {
                        info!(?change, "the control group has changed");
                        continue;
                    }
                    Err(error) => {
                        warn!(%error, ?change, "the control group has not changed");
                        behind.note(&error);
                    }
                }
            }
        }
        tokio::select! {
            changed = decided.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(HEARTBEAT_TIME) => {}
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
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

/// Who answers, and has not taken the log in time, until when it is passed over.
#[derive(Debug, Default)]
struct Behind(BTreeMap<NodeId, Instant>);

impl Behind {
    fn note(&mut self, error: &ChangeError) {
        if let ChangeError::Behind { voter, .. } = error {
            self.0.insert(voter.node, Instant::now() + PASSED_OVER);
        }
    }

    /// Those count as gone who do not vote already.
    fn pass_over(
        &mut self,
        (grid, status): (&Grid, &Status),
        presence: &mut BTreeMap<MemberId, Presence>,
        newcomers: &mut BTreeSet<NodeId>,
    ) {
        let now = Instant::now();
        self.0.retain(|_, until| *until > now);
        for node in self.0.keys().filter(|node| !status.voters.contains(&voter_of(**node))) {
            newcomers.remove(node);
            if let Some(node) = grid.node(*node) {
                presence.insert(node.member, Presence::Gone);
            }
        }
    }
}

fn next_change(
    me: VoterId,
    (grid, status): (&Grid, &Status),
    presence: &BTreeMap<MemberId, Presence>,
    newcomers: &BTreeSet<NodeId>,
) -> Option<Change> {
    // Who has given its own vote away leads for a moment yet.
    if !status.voters.contains(&me) {
        return status.learners.contains(&me).then_some(Change::Gone(me));
    }
    let votes: BTreeSet<NodeId> = status.voters.iter().map(|voter| voter.node).collect();
    let desired = desired_voters(grid, &votes, presence);
    let is_alive = |node: &NodeId| {
        let member = grid.node(*node).map(|node| node.member);
        member.is_some_and(|member| presence.get(&member) == Some(&Presence::Alive))
    };
    // Who does not answer gets no vote, and who is silent no log: one that has just joined says nothing before it has that.
    let new_live = desired.difference(&votes).all(is_alive);
    if desired != votes && new_live {
        return Some(Change::Voters(desired.into_iter().map(voter_of).collect()));
    }
    // A change was left half done, by a leader that has died or because no majority answered. Those who were to lose their votes
    // are needed until it is done.
    if let [_, .., wanted] = status.electorates.as_slice() {
        return Some(Change::Voters(wanted.clone()));
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

#[cfg(test)]
mod tests {
    use wattle_core::control::GroupState;
    use wattle_core::control::grid::{GridId, JoinNonce, Joining, NewGrid, OnFullLoss};
    use wattle_core::name::Name;

    use super::*;
    use crate::partition::tests::description;

    /// With nodes from 1.
    fn state_of(nodes: u8) -> GroupState {
        let grid = GridId([7; 16]);
        let joining =
            |node| Joining { grid, nonce: JoinNonce([node; 16]), known: None, description: description() };
        let (name, on_full_loss) = (Name::new("g").unwrap(), OnFullLoss::StartEmpty);
        let new = NewGrid { name, format: 1, partitions: 1, on_full_loss, founder: joining(1) };
        let mut state = GroupState::default();
        state.apply(&GroupCommand::Create(Box::new(new))).unwrap();
        for node in 2..=nodes {
            state.apply(&GroupCommand::Grid(GridCommand::Join(Box::new(joining(node))))).unwrap();
        }
        state
    }

    fn voters(nodes: &[u64]) -> BTreeSet<VoterId> {
        nodes.iter().map(|node| voter_of(NodeId(*node))).collect()
    }

    /// Led by node 1; all have the log.
    fn status(electorates: &[&[u64]]) -> Status {
        let electorates: Vec<_> = electorates.iter().map(|nodes| voters(nodes)).collect();
        let all: BTreeSet<_> = electorates.iter().flatten().copied().collect();
        Status {
            role: Role::Leader,
            term: 1,
            leader: Some(voter_of(NodeId(1))),
            learners: voters(&[1, 2, 3, 4, 5]).difference(&all).copied().collect(),
            voters: all,
            electorates,
            last_index: None,
            applied_index: None,
            snapshot_index: None,
            purged_index: None,
            matching: BTreeMap::new(),
        }
    }

    fn check(nodes: u8, electorates: &[&[u64]], gone: &[u64], expected: Option<&[u64]>) {
        let (state, status) = (state_of(nodes), status(electorates));
        let grid = state.grid().unwrap();
        let presence = presence(grid, gone);
        let next = next_change(voter_of(NodeId(1)), (grid, &status), &presence, &BTreeSet::new());
        assert_eq!(next, expected.map(|nodes| Change::Voters(voters(nodes))), "{electorates:?}, {gone:?}");
    }

    fn presence(grid: &Grid, gone: &[u64]) -> BTreeMap<MemberId, Presence> {
        let presence = |node: NodeId| if gone.contains(&node.0) { Presence::Gone } else { Presence::Alive };
        grid.nodes().map(|node| (node.member, presence(node.id()))).collect()
    }

    #[test]
    fn a_change_that_was_left_half_done_is_done_to_the_end() {
        check(5, &[&[1, 2, 3, 4, 5]], &[], None);
        check(3, &[&[1], &[1, 2, 3]], &[], Some(&[1, 2, 3]));
        // One of the new ones has died meanwhile: a majority of both is there.
        check(3, &[&[1], &[1, 2, 3]], &[3], Some(&[1, 2, 3]));
        check(4, &[&[1, 2, 3], &[1, 2, 4]], &[3], Some(&[1, 2, 4]));
        check(4, &[&[1, 2, 3], &[1, 2, 4]], &[4], Some(&[1, 2, 3]));
        check(5, &[&[1, 2, 3], &[1, 2, 3, 4, 5]], &[], Some(&[1, 2, 3, 4, 5]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_the_log_is_passed_over_for_a_while() {
        let state = state_of(4);
        let (grid, status) = (state.grid().unwrap(), status(&[&[1]]));
        let mut behind = Behind::default();
        let next = |behind: &mut Behind| {
            let (mut presence, mut newcomers) = (presence(grid, &[]), BTreeSet::from([NodeId(2)]));
            behind.pass_over((grid, &status), &mut presence, &mut newcomers);
            (next_change(voter_of(NodeId(1)), (grid, &status), &presence, &newcomers), newcomers.len())
        };
        let first = || (Some(Change::Voters(voters(&[1, 2, 3]))), 1);
        assert_eq!(next(&mut behind), first());
        behind.note(&ChangeError::InProgress);
        assert_eq!(next(&mut behind), first());
        behind.note(&ChangeError::Behind { voter: voter_of(NodeId(2)), patience: PAUSE });
        assert_eq!(next(&mut behind), (Some(Change::Voters(voters(&[1, 3, 4]))), 0));
        tokio::time::advance(PASSED_OVER).await;
        assert_eq!(next(&mut behind), first());
    }
}
