//! [`Follower`]: does on this node what the control group has decided. It compares what was decided with what it has followed: what came
//! in between and is gone again is nothing to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use wattle_core::control::{ControlState, Function, GroupState};
use wattle_core::name::Name;

use crate::control::Control;
use crate::functions::{Catalog, Loader};
use crate::maps::Maps;
use crate::partition::Partitions;

/// What follows, and what could not.
#[derive(Debug)]
pub(crate) struct Follower {
    maps: Arc<Maps>,
    catalog: Arc<Catalog>,
    loader: Arc<Loader>,
    partitions: Arc<Partitions>,
    /// Functions whose modules cannot be loaded here, and why.
    problems: Mutex<BTreeMap<Name, String>>,
}

impl Follower {
    pub(crate) fn new(
        maps: Arc<Maps>,
        (catalog, loader): (Arc<Catalog>, Arc<Loader>),
        partitions: Arc<Partitions>,
    ) -> Self {
        Self { maps, catalog, loader, partitions, problems: Mutex::default() }
    }

    /// Why a function cannot run here.
    pub(crate) fn problem(&self, name: &Name) -> Option<String> {
        self.problems.lock().get(name).cloned()
    }

    /// Follows until it is dropped.
    pub(crate) async fn run(self: Arc<Self>, control: Arc<Control>) {
        let mut decided = control.watch();
        let mut before = Arc::new(GroupState::default());
        loop {
            let now = decided.borrow_and_update().clone();
            let (this, after) = (Arc::clone(&self), Arc::clone(&now.state));
            // It loads modules.
            let follow = move || this.follow((&before, &after));
            if tokio::task::spawn_blocking(follow).await.is_err() {
                tracing::error!("what was decided could not be followed to its end");
            }
            before = now.state;
            control.followed(now.version);
            if decided.changed().await.is_err() {
                return;
            }
        }
    }

    fn follow(&self, (before, after): (&GroupState, &GroupState)) {
        self.follow_maps((before.catalog(), after.catalog()));
        self.follow_functions((before.catalog(), after.catalog()));
        if let Some(grid) = after.grid() {
            self.partitions.follow(before.grid(), grid);
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

    fn follow_functions(&self, (before, after): (&ControlState, &ControlState)) {
        for (name, _) in before.functions().filter(|(name, _)| after.function(name.as_str()).is_none()) {
            self.catalog.remove(name.as_str());
            self.problems.lock().remove(name);
        }
        let changed =
            |(name, function): &(&Name, &Function)| before.function(name.as_str()) != Some(function);
        for (name, function) in after.functions().filter(changed) {
            let problem = self.catalog.follow(name, function, &self.loader).err();
            if let Some(error) = &problem {
                tracing::error!(function = %name, %error, "the function cannot be loaded: upload it again");
            }
            let mut problems = self.problems.lock();
            match problem {
                Some(error) => drop(problems.insert(name.clone(), error.to_string())),
                None => drop(problems.remove(name)),
            }
        }
    }
}
