//! How a member leaves: first it gives away what it holds, while it goes on serving.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use wattle_core::control::grid::{Grid as Table, GridCommand, Node, NodeState, PartitionState};
use wattle_core::control::{GroupCommand, GroupState};
use wattle_core::ids::MemberId;
use wattle_core::limits::{HEARTBEAT_TIME, SILENCE_TIME};
use wattle_core::membership::Presence;
use wattle_core::partition::Partition;

use crate::control::NotDecided;
use crate::grid::Grid;
use crate::peering::{Inside, Links};

/// So long a member that ends waits for others to hear that nobody is left.
const HEARING_TIME: Duration = Duration::from_secs(5);

/// A member that may have to leave.
pub(crate) struct Leaver {
    pub(crate) grid: Arc<Grid>,
    pub(crate) links: Arc<Links>,
    pub(crate) inside: Inside,
    /// Its process is to end, and gives away what it holds first.
    pub(crate) asked: CancellationToken,
    /// How long that may take.
    pub(crate) within: Duration,
    /// Whether it may come back as the node that it is: it has a data directory.
    pub(crate) may_return: bool,
}

/// How giving away has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    /// Others hold all that is to be kept.
    All,
    /// Nobody is there who could take anything.
    Nobody,
    /// It is to stay after all.
    CalledOff,
}

impl Leaver {
    /// Waits until the process may end: it was asked to and has done what it could, or people have drained the node. Then it has left.
    pub(crate) async fn leave(&self) {
        tokio::select! {
            () = self.asked.cancelled() => {}
            () = self.drained_by_people() => return,
        }
        let for_good = !self.may_return || self.is_draining(&self.grid.control.decided());
        match timeout(self.within, self.give_away_and_go(for_good)).await {
            Ok(()) => {}
            Err(_elapsed) => {
                let left = left(&self.grid.control.decided(), self.me());
                warn!(partitions = left, within = ?self.within, "not everything has moved to others in time: the node stops all the same");
                self.grid.control.decided().grid().into_iter().for_each(say_what_stays_lost);
            }
        }
    }

    async fn drained_by_people(&self) {
        let mut decided = self.grid.control.watch();
        let mut told = false;
        loop {
            let is_draining = |state: &GroupState| self.is_draining(state);
            if decided.wait_for(|decided| is_draining(&decided.state)).await.is_err() {
                return std::future::pending().await;
            }
            if !std::mem::replace(&mut told, true) {
                info!("this node is drained: what it holds moves to others, and then it leaves");
            }
            match self.give_away(true).await {
                Given::All => {
                    if self.go().await {
                        return;
                    }
                }
                Given::CalledOff => {
                    told = false;
                    info!("the drain was called off: this node stays");
                }
                Given::Nobody => sleep(HEARTBEAT_TIME).await,
            }
        }
    }

    /// Whether it goes for good: people have drained it before, or it could not come back as the node that it is.
    async fn give_away_and_go(&self, for_good: bool) {
        loop {
            match self.give_away(false).await {
                Given::Nobody => {
                    self.say_what_is_lost().await;
                    if timeout(HEARING_TIME, self.let_others_hear()).await.is_err() {
                        debug!("not all others have heard in time that nobody is left to take anything");
                    }
                    return;
                }
                Given::All if !for_good => return,
                Given::All => {
                    if self.go().await {
                        return;
                    }
                }
                // The process ends nevertheless.
                Given::CalledOff => {}
            }
        }
    }

    /// Has everything moved to others. Whether people want that, or the process is to end, decides what calls it off.
    async fn give_away(&self, by_people: bool) -> Given {
        let mut told = None;
        let mut answered = Instant::now();
        loop {
            let state = self.grid.control.decided();
            let Some(table) = state.grid() else { return Given::Nobody };
            let presence = self.presence(table).await;
            let lives = |node: &Node| presence.get(&node.member) == Some(&Presence::Alive);
            let takes = |node: &&Node| node.member != self.me() && node.takes_partitions();
            if table.nodes().filter(takes).any(lives) {
                answered = Instant::now();
            }
            // Who is silent for a moment is there yet.
            if !table.nodes().any(|node| takes(&node)) || answered.elapsed() > SILENCE_TIME {
                return Given::Nobody;
            }
            if !self.is_draining(&state) {
                if by_people {
                    return Given::CalledOff;
                }
                self.propose(GridCommand::Drain { node: self.me().node }).await;
                continue;
            }
            // Whoever drains a node has been asked about what is lost. Who only ends leaves people the time to recover it.
            let lost = if by_people { 0 } else { self.lost_here(table).await };
            let left = table.needs(self.me(), &presence) + lost;
            let votes = self.grid.control.voters().1.iter().any(|(voter, _)| *voter == self.me());
            if left == 0 && !votes {
                return Given::All;
            }
            if told.replace(left) != Some(left) {
                info!(
                    partitions = left,
                    lost, "waiting until others hold what is here, or people recover what is lost"
                );
            }
            sleep(HEARTBEAT_TIME / 2).await;
        }
    }

    /// Leaves the grid for good; whether it has, or may have: who has left hears of nothing any more, and nothing is needed from it.
    async fn go(&self) -> bool {
        let left = tokio::select! {
            left = self.grid.control.leave(self.me()) => left,
            // Who has decided it may have closed its links before it could answer.
            () = self.inside.is_unknown() => Ok(()),
        };
        match left {
            Ok(()) => {
                info!("this node has left the grid");
                self.grid.control.decided().grid().into_iter().for_each(say_what_stays_lost);
            }
            Err(NotDecided::InDoubt(error)) => {
                warn!(%error, "this node stops without knowing whether the grid has let it go");
            }
            Err(error) => {
                debug!(%error, "the grid does not let this node go yet");
                sleep(HEARTBEAT_TIME / 2).await;
                return false;
            }
        }
        true
    }

    /// How many partitions are lost that could go on with what is here.
    async fn lost_here(&self, table: &Table) -> usize {
        let mut lost = 0;
        for (partition, _) in table.rows().filter(|(_, row)| row.is_lost()) {
            let offer = self.grid.partitions.offer(partition).await;
            lost += usize::from(matches!(offer, Ok(Some(offer)) if offer.entries > 0));
        }
        lost
    }

    async fn propose(&self, command: GridCommand) -> bool {
        match self.grid.control.propose(GroupCommand::Grid(command)).await {
            Ok(_) => true,
            Err(error) => {
                debug!(%error, "what a leaving node needs is not decided");
                sleep(HEARTBEAT_TIME / 2).await;
                false
            }
        }
    }

    /// Where all leave at once, each ends when it has heard that of the others. Without this member's vote it might never: so that says first
    /// that it leaves, and waits until who answers has followed.
    async fn let_others_hear(&self) {
        let state = self.grid.control.decided();
        let Some(table) = state.grid() else { return };
        let presence = self.presence(table).await;
        // Who prepares gives nothing away.
        let waits = |node: &&Node| {
            let answers = presence.get(&node.member) == Some(&Presence::Alive);
            node.member != self.me() && answers && !node.description.prepares
        };
        let others: Vec<MemberId> = table.nodes().filter(waits).map(|node| node.member).collect();
        if others.is_empty() {
            return;
        }
        if !self.is_draining(&state) {
            self.propose(GridCommand::Drain { node: self.me().node }).await;
        }
        let decided = self.grid.control.decided_position();
        let heard = others.into_iter().map(|member| async move {
            while let Ok(Ok(heartbeat)) = timeout(HEARTBEAT_TIME, self.links.ask_heartbeat(member)).await
                && heartbeat.position < decided
            {
                sleep(HEARTBEAT_TIME / 20).await;
            }
        });
        join_all(heard).await;
    }

    async fn say_what_is_lost(&self) {
        let mut entries = 0;
        for partition in self.grid.partitions.ids() {
            entries += self.grid.partitions.look(partition, Partition::entries).await.unwrap_or_default();
        }
        if entries > 0 {
            warn!(entries, "no other node is there to take over: what is in memory is lost");
        }
    }

    /// Who answers now.
    async fn presence(&self, table: &Table) -> BTreeMap<MemberId, Presence> {
        let asked = table.nodes().map(|node| node.member).map(|member| async move {
            let lives = member == self.me()
                || matches!(timeout(HEARTBEAT_TIME, self.links.ask_heartbeat(member)).await, Ok(Ok(_)));
            (member, if lives { Presence::Alive } else { Presence::Suspect })
        });
        join_all(asked).await.into_iter().collect()
    }

    fn me(&self) -> MemberId {
        self.grid.partitions.replication().me()
    }

    fn is_draining(&self, state: &GroupState) -> bool {
        let me = self.me();
        let node = state.grid().and_then(|grid| grid.node(me.node)).filter(|node| node.member == me);
        node.is_some_and(|node| node.state == NodeState::Draining)
    }
}

/// A member that leaves may have the best copies of them that there are.
fn say_what_stays_lost(table: &Table) {
    let lost = table.partitions_in(PartitionState::Lost);
    if lost > 0 {
        warn!(
            partitions = lost,
            "partitions are lost, and what this node may still have of them goes with it"
        );
    }
}

/// In how many partitions a member still counts.
fn left(state: &GroupState, member: MemberId) -> usize {
    let rows = state.grid().into_iter().flat_map(Table::rows);
    rows.filter(|(_, row)| row.assignment.in_sync.contains(&member)).count()
}
