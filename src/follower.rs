//! [`Follower`]: does on this node what the control group has decided. It compares what was decided with what it has followed: what came
//! in between and is gone again is nothing to do.

mod functions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wattle_control::{ControlVersion, Decided};
use wattle_core::control::grid::{Node, NodeState};
use wattle_core::control::{ControlState, GroupState};
use wattle_core::ids::MemberId;
use wattle_core::name::Name;

use crate::control::Control;
use crate::functions::{Catalog, Loader};
use crate::maps::Maps;
use crate::partition::Partitions;
use crate::peering::Links;
use crate::routing::Routing;

/// What follows, and what could not.
#[derive(Debug)]
pub(crate) struct Follower {
    maps: Arc<Maps>,
    catalog: Arc<Catalog>,
    loader: Arc<Loader>,
    partitions: Arc<Partitions>,
    links: Arc<Links>,
    routing: Arc<Routing>,
    /// Functions whose modules are not all here, or cannot be loaded, and why.
    problems: Mutex<BTreeMap<Name, String>>,
    /// The version that has last changed what calls run, as far as this node knows: to follow it may take a while.
    functions_decided: AtomicU64,
}

impl Follower {
    pub(crate) fn new(
        maps: Arc<Maps>,
        (catalog, loader): (Arc<Catalog>, Arc<Loader>),
        (partitions, links, routing): (Arc<Partitions>, Arc<Links>, Arc<Routing>),
    ) -> Self {
        let (problems, functions_decided) = Default::default();
        Self { maps, catalog, loader, partitions, links, routing, problems, functions_decided }
    }

    /// Why a function cannot run here.
    pub(crate) fn problem(&self, name: &Name) -> Option<String> {
        self.problems.lock().get(name).cloned()
    }

    /// Functions that cannot run here, and why.
    pub(crate) fn problems(&self) -> BTreeMap<Name, String> {
        self.problems.lock().clone()
    }

    /// What this node has to have followed to run no function that was replaced, as far as it knows.
    pub(crate) fn functions_decided(&self) -> ControlVersion {
        ControlVersion(self.functions_decided.load(Ordering::Acquire))
    }

    /// What calls run has changed.
    pub(crate) fn set_functions_decided(&self, version: ControlVersion) {
        self.functions_decided.store(version.0, Ordering::Release);
    }

    /// Follows until it is dropped, or the grid does not count on this node any more: then it says so.
    pub(crate) async fn run(
        self: Arc<Self>,
        control: Arc<Control>,
        (replaced, stop): (CancellationToken, CancellationToken),
    ) {
        let mut decided = control.watch();
        let mut before = Arc::new(GroupState::default());
        let quick = watch::Sender::new(Decided::default());
        let mut slow = JoinSet::new();
        let mut begin = Some(quick.subscribe());
        loop {
            let now = decided.borrow_and_update().clone();
            if !before.catalog().runs_the_same(now.state.catalog()) {
                self.set_functions_decided(now.version);
            }
            if !goes_on_from(&before, &now.state) {
                tracing::error!(
                    "the control group was built anew from what others knew, and what this node has done since is no part of it: it stops"
                );
                replaced.cancel();
                stop.cancel();
                return;
            }
            self.follow((&before, &now.state));
            control.table_followed(now.version);
            let me = self.partitions.replication().me();
            if let Some(grid) = now.state.grid()
                && grid.node(me.node).is_none_or(|node| node.member != me)
            {
                if had_to_leave(&before, me) {
                    tracing::info!(node = me.node.0, "this node has left the grid");
                } else {
                    tracing::error!(
                        node = me.node.0,
                        "the grid does not count on this node any more: it stops"
                    );
                    replaced.cancel();
                }
                stop.cancel();
                return;
            }
            before = Arc::clone(&now.state);
            quick.send_replace(now);
            if let Some(states) = begin.take() {
                slow.spawn(Arc::clone(&self).run_functions(Arc::clone(&control), states));
            }
            if decided.changed().await.is_err() {
                return;
            }
        }
    }

    fn follow(&self, (before, after): (&GroupState, &GroupState)) {
        if let Some(grid) = after.grid() {
            self.partitions.add_classes(grid);
        }
        self.follow_maps((before.catalog(), after.catalog()));
        if let Some(grid) = after.grid() {
            let place = |node: &Node| (node.member, node.description.peer_address.clone());
            self.links.set_members(grid.nodes().map(place));
            self.partitions.follow(before.grid(), grid);
            self.routing.follow(grid);
        }
    }

    fn follow_maps(&self, (before, after): (&ControlState, &ControlState)) {
        for map in before.maps().filter(|map| after.map(map.name.as_str()).is_none_or(|now| now.id != map.id))
        {
            self.maps.delete(map.id);
            self.partitions.drop_map(map.id);
        }
        for map in after.maps().filter(|map| before.map(map.name.as_str()) != Some(map)) {
            let map = self.maps.publish(map);
            if map.descriptor.revision > 1 {
                self.partitions.update_map(&map);
            }
        }
    }
}

/// Whether what was decided includes all that a node has followed: else its copies are not what they are taken for.
fn goes_on_from(before: &GroupState, now: &GroupState) -> bool {
    before.grid().zip(now.grid()).is_none_or(|(before, now)| now.descends_from(before))
}

/// Whether a member was to go, so that it is no surprise that it is none.
fn had_to_leave(before: &GroupState, me: MemberId) -> bool {
    let node = before.grid().and_then(|grid| grid.node(me.node)).filter(|node| node.member == me);
    node.is_some_and(|node| node.state == NodeState::Draining)
}
