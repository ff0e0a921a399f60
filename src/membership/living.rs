//! What every member does all the time: it says that it lives, asks for leases, does what it owes as a primary, and notices who is dead.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::debug;
use wattle_control::ControlVersion;
use wattle_core::control::grid::Grid;
use wattle_core::ids::{GridTime, MemberId};
use wattle_core::limits::HEARTBEAT_TIME;
use wattle_core::replication::{LocalTime, Reckoning, Wish};
use wattle_peers::{ControlPosition, Heartbeat, PeerMessage};

use super::Sessions;
use crate::control::Control;
use crate::partition::Partitions;
use crate::peering::Links;

/// Members at whose addresses nobody listens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Suspects(Arc<(Mutex<BTreeSet<MemberId>>, Notify)>);

impl Suspects {
    pub(crate) fn add(&self, member: MemberId) {
        let (members, added) = &*self.0;
        if members.lock().insert(member) {
            added.notify_one();
        }
    }

    /// Waits until there are some, and takes them.
    async fn take(&self) -> BTreeSet<MemberId> {
        let (members, added) = &*self.0;
        loop {
            let taken = std::mem::take(&mut *members.lock());
            if !taken.is_empty() {
                return taken;
            }
            added.notified().await;
        }
    }
}

/// A member's life, until it is dropped.
pub(crate) async fn live(
    control: Arc<Control>,
    me: MemberId,
    (partitions, links): (Arc<Partitions>, Arc<Links>),
    (sessions, suspects): (Arc<Sessions>, Suspects),
) {
    let mut beat = interval(HEARTBEAT_TIME);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wished = Instant::now();
    loop {
        let state = control.decided();
        let members = state.grid().into_iter().flat_map(|grid| others(grid, me));
        let renewal = partitions.replication().renewal(members);
        drop(state);
        tokio::select! {
            _ = beat.tick() => {
                let state = control.decided();
                say_alive(&control, &partitions, (&links, &sessions));
                wished = Instant::now();
                if let Some(grid) = state.grid() {
                    wish_for_leases(grid, me, (&partitions, &links));
                    partitions.do_duties(grid);
                }
            }
            () = sleep_until(wished + renewal), if renewal < HEARTBEAT_TIME => {
                wished = Instant::now();
                if let Some(grid) = control.decided().grid() {
                    others(grid, me).for_each(|member| send_wish(member, (&partitions, &links)));
                }
            }
            dead = suspects.take() => dead.into_iter().for_each(|member| partitions.suspect(member)),
        }
    }
}

fn say_alive(
    control: &Arc<Control>,
    partitions: &Arc<Partitions>,
    (links, sessions): (&Arc<Links>, &Arc<Sessions>),
) {
    let (control, partitions, now) =
        (Arc::clone(control), Arc::clone(partitions), partitions.clock().local());
    let me = partitions.replication().me().node;
    match control.leader() {
        Some(leader) if leader == me => {
            let (Some(group), sessions) = (control.running(), Arc::clone(sessions)) else { return };
            tokio::spawn(async move {
                if let Ok(Ok(())) = timeout(HEARTBEAT_TIME, group.confirm_leadership()).await
                    && keeps_time(&control, &partitions, &sessions)
                {
                    prove(&control, (&partitions, now), control.decided_position()).await;
                }
            });
        }
        leader => {
            let Some(leader) = leader.and_then(|leader| links.member(leader)) else { return };
            let heartbeat = Heartbeat { position: control.position(), time: partitions.clock().known() };
            let links = Arc::clone(links);
            tokio::spawn(async move {
                match timeout(HEARTBEAT_TIME, links.heartbeat(leader, heartbeat)).await {
                    Ok(Ok(answer)) => {
                        let travelled = partitions.clock().local().0.saturating_sub(now.0) / 2;
                        partitions.clock().follow(GridTime(answer.time.0.saturating_add(travelled)));
                        prove(&control, (&partitions, now), answer.position).await;
                    }
                    Ok(Err(error)) => debug!(leader = leader.node.0, %error, "a heartbeat was not heard"),
                    Err(_elapsed) => {
                        debug!(leader = leader.node.0, "a heartbeat was not answered in time");
                    }
                }
            });
        }
    }
}

/// The leader's wall clock is what grid time follows; whether it may, for a leader whose process has only begun goes on with what others
/// have gone on with: it waits until they have said so, or are silent.
fn keeps_time(control: &Control, partitions: &Partitions, sessions: &Sessions) -> bool {
    let clock = partitions.clock();
    let is_alone = || control.decided().grid().is_some_and(|grid| grid.nodes().len() == 1);
    let keeps = clock.is_set() || sessions.have_settled() || is_alone();
    if keeps {
        clock.follow_wall();
    }
    keeps
}

/// The leader has heard what this member said at a time. It may have decided before that this member is gone: that is followed first.
async fn prove(control: &Control, (partitions, said): (&Partitions, LocalTime), position: ControlPosition) {
    let followed = control.has_followed_table(ControlVersion(position.version));
    if timeout(HEARTBEAT_TIME, followed).await.is_ok() {
        partitions.replication().prove(said);
    }
}

fn wish_for_leases(grid: &Grid, me: MemberId, (partitions, links): (&Partitions, &Links)) {
    for member in others(grid, me) {
        if partitions.replication().wish(member) {
            partitions.suspect(member);
        }
        send_wish(member, (partitions, links));
    }
}

fn send_wish(of: MemberId, (partitions, links): (&Partitions, &Links)) {
    let wish = Wish { asked: partitions.clock().local(), reckoning: Reckoning::Granted };
    if let Err(error) = links.send(of, PeerMessage::LeaseWish(wish)) {
        debug!(node = of.node.0, %error, "a wish for a lease is lost");
    }
}

fn others(grid: &Grid, me: MemberId) -> impl Iterator<Item = MemberId> {
    grid.nodes().map(|node| node.member).filter(move |member| *member != me)
}
