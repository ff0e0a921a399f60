//! The grid as the services see it: maps and functions by name, and control commands.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use wattle_core::control::{Applied, Command};
use wattle_core::ids::MapId;
use wattle_core::map::MapOptions;
use wattle_core::name::Name;

use crate::control::Control;
use crate::failure::Failure;
use crate::functions::{Catalog, Loader, TOO_OFTEN, Tripped};
use crate::in_flight::InFlight;
use crate::maps::{Map, Maps};
use crate::partition::{Partitions, Shard};

/// What the services share.
#[derive(Debug)]
pub(crate) struct Grid {
    pub(crate) maps: Maps,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) loader: Loader,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) control: Control,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) proposals: Semaphore,
    /// The longest value that may be written, in bytes.
    pub(crate) value_bytes: usize,
}

impl Grid {
    /// A map by its name.
    pub(crate) fn map(&self, name: &str) -> Result<Arc<Map>, Failure> {
        self.maps.get(name).ok_or_else(|| Failure::MapNotFound { name: name.to_owned() })
    }

    /// A map by its name; a first write makes it, with the grid's defaults.
    pub(crate) async fn map_or_create(self: &Arc<Self>, name: &str) -> Result<Arc<Map>, Failure> {
        if let Some(map) = self.maps.get(name) {
            return Ok(map);
        }
        let command = Command::CreateMap { name: Name::new(name)?, options: MapOptions::default() };
        match self.propose(command).await {
            // Somebody else may have made it meanwhile: that is the one.
            Ok(_) | Err(Failure::Control(_)) if self.maps.get(name).is_some() => self.map(name),
            Ok(_) => Err(Failure::MapNotFound { name: name.to_owned() }),
            Err(failure) => Err(failure),
        }
    }

    /// Changes the control state, durably if the node has a data directory, and follows the change.
    pub(crate) async fn propose(self: &Arc<Self>, command: Command) -> Result<Applied, Failure> {
        // One is decided after the other: so they need not wait on a thread each.
        let _turn = self.proposals.acquire().await;
        let grid = Arc::clone(self);
        let proposed = tokio::task::spawn_blocking(move || grid.propose_blocking(command)).await;
        proposed.map_err(|_panicked| Failure::Internal { what: "a control command panicked" })?
    }

    /// As [`Self::propose`], where blocking is allowed.
    pub(crate) fn propose_blocking(&self, command: Command) -> Result<Applied, Failure> {
        let mut problem = None;
        let applied = self.control.propose(command, |state, applied| match applied {
            Applied::Map(map) => self.follow_map(&self.maps.publish(map)),
            Applied::MapDeleted(map) => self.drop_map(*map),
            Applied::Function(name, _) => {
                let function = state.function(name.as_str()).expect("the command was about this function");
                problem = self.catalog.follow(name, function, &self.loader).err();
            }
            Applied::FunctionDeleted(name) => self.catalog.remove(name.as_str()),
            Applied::Unchanged => {}
        })?;
        if let Some(error) = problem {
            tracing::error!(%error, "a function's module cannot be loaded");
            return Err(Failure::NotLoaded(error.into()));
        }
        Ok(applied)
    }

    fn follow_map(&self, map: &Arc<Map>) {
        if map.descriptor.revision == 1 {
            return;
        }
        for strand in self.partitions.strands() {
            let map = Arc::clone(map);
            let update = move |shard: &mut Shard| {
                shard.with(|partition, _| partition.update_map(&map.descriptor));
            };
            strand.submit_urgent(update, drop);
        }
    }

    fn drop_map(&self, map: MapId) {
        self.maps.delete(map);
        for strand in self.partitions.strands() {
            let forget = move |shard: &mut Shard| shard.with(|partition, _| partition.drop_map(map));
            strand.submit_urgent(forget, drop);
        }
    }

    /// Suspends the functions that are stopped too often, as long as there may be some.
    pub(crate) async fn suspend_tripped(self: Arc<Self>, mut tripped: mpsc::Receiver<Tripped>) {
        while let Some(Tripped { name, version }) = tripped.recv().await {
            let because = TOO_OFTEN.to_owned();
            match self.propose(Command::Suspend { name: name.clone(), version, because }).await {
                Ok(_) => tracing::warn!(function = %name, version, "function suspended"),
                Err(error) => {
                    tracing::error!(function = %name, version, %error, "function could not be suspended");
                }
            }
        }
    }
}
