//! The grid as the services see it: maps and functions by name, and control commands.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use wattle_core::control::{Applied, Command, ControlState, Promote};
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
    pub(crate) proposals: Arc<Semaphore>,
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
        let turn = Arc::clone(&self.proposals).acquire_owned().await;
        let grid = Arc::clone(self);
        let propose = move || {
            // The thread's: a caller that goes leaves it to its work.
            let _turn = turn;
            grid.propose_blocking(command)
        };
        let proposed = tokio::task::spawn_blocking(propose).await;
        proposed.map_err(|_panicked| Failure::Internal { what: "a control command panicked" })?
    }

    /// As [`Self::propose`], where blocking is allowed.
    pub(crate) fn propose_blocking(&self, command: Command) -> Result<Applied, Failure> {
        let mut problem = None;
        let told = command.clone();
        let applied = self.control.propose(command, |state, applied| {
            log_change(&told, state, applied);
            match applied {
                Applied::Map(map) => self.follow_map(&self.maps.publish(map)),
                Applied::MapDeleted(map) => self.drop_map(*map),
                Applied::Function(name, _) => {
                    let function =
                        state.function(name.as_str()).expect("the command was about this function");
                    problem = self.catalog.follow(name, function, &self.loader).err();
                }
                Applied::FunctionDeleted(name) => self.catalog.remove(name.as_str()),
                Applied::Unchanged => {}
            }
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
                shard.maintain(|partition| partition.update_map(&map.descriptor));
            };
            strand.submit_urgent(update, drop);
        }
    }

    fn drop_map(&self, map: MapId) {
        self.maps.delete(map);
        for strand in self.partitions.strands() {
            let forget = move |shard: &mut Shard| shard.maintain(|partition| partition.drop_map(map));
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

/// A line for each change that somebody asked for.
fn log_change(command: &Command, state: &ControlState, applied: &Applied) {
    let (what, name) = match command {
        Command::CreateMap { name, .. } => ("map created", name),
        Command::UpdateMap { name, .. } => ("map updated", name),
        Command::DeleteMap { name } => ("map deleted", name),
        Command::AddVersion { name, promote: Promote::AtOnce, .. } => {
            ("function uploaded and promoted", name)
        }
        Command::AddVersion { name, promote: Promote::Later, .. } => ("function uploaded", name),
        Command::Promote { name, .. } => ("function promoted", name),
        Command::Rollback { name } => ("function rolled back", name),
        Command::DeleteFunction { name } => ("function deleted", name),
        // Who suspends it tells of it.
        Command::Suspend { .. } => return,
    };
    match applied {
        Applied::Map(_) | Applied::MapDeleted(_) => tracing::info!(map = %name, "{what}"),
        Applied::Function(_, version) => {
            let version = state.function(name.as_str()).and_then(|function| function.version(*version));
            if let Some(version) = version {
                tracing::info!(function = %name, version = version.number, module = %version.module, "{what}");
            }
        }
        Applied::FunctionDeleted(_) => tracing::info!(function = %name, "{what}"),
        Applied::Unchanged => {}
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::mpsc as threads;

    use futures_util::FutureExt;
    use parking_lot::Mutex;
    use prometheus_client::registry::Registry;
    use wattle_core::control::{FunctionKind, FunctionOptions, FunctionVersion};
    use wattle_core::ids::ModuleHash;
    use wattle_core::limits::PROPOSALS;
    use wattle_core::map::OptionsChange;
    use wattle_wasm::Runtime;
    use wattle_wasm::compile::{CompileLimits, Compiler};

    use super::*;
    use crate::functions::FunctionMetrics;
    use crate::partition::Memory;

    /// Of one partition, without a data directory.
    pub(crate) fn grid() -> Arc<Grid> {
        let runtime = Arc::new(Runtime::new(1).unwrap());
        let compiler = Compiler::new(PathBuf::from("/nonexistent"), Vec::new(), 1, CompileLimits::default());
        let (catalog, _tripped) = Catalog::new(FunctionMetrics::register(&mut Registry::default()));
        let memory = Arc::new(Memory::new(1 << 30));
        let partitions = Partitions::alone(1, &catalog, memory, 7).unwrap();
        Arc::new(Grid {
            maps: Maps::new(ControlState::default().maps()),
            catalog,
            loader: Loader::new(runtime, compiler, None),
            partitions: Arc::new(partitions),
            control: Control::in_memory(),
            in_flight: Arc::new(InFlight::new(1 << 30)),
            proposals: Arc::new(Semaphore::new(PROPOSALS)),
            value_bytes: 1 << 20,
        })
    }

    fn create(name: &str) -> Command {
        Command::CreateMap { name: Name::new(name).unwrap(), options: MapOptions::default() }
    }

    #[tokio::test]
    async fn a_proposal_keeps_its_turn_until_its_thread_is_done_although_its_caller_has_gone() {
        let grid = grid();
        let (entered, has_entered) = threads::channel();
        let (leave, may_leave) = threads::channel::<()>();
        // Nothing else is decided as long as this one is published.
        let publish = move |_: &ControlState, _: &Applied| {
            entered.send(()).unwrap();
            may_leave.recv().unwrap();
        };
        let of_slow = Arc::clone(&grid);
        let slow =
            std::thread::spawn(move || drop(of_slow.control.propose(create("slow"), publish).unwrap()));
        has_entered.recv().unwrap();
        for gone in 1..=PROPOSALS {
            let mut caller = Box::pin(grid.propose(create(&format!("m{gone}"))));
            assert!(caller.as_mut().now_or_never().is_none());
            drop(caller);
            assert_eq!(grid.proposals.available_permits(), PROPOSALS - gone);
        }
        let mut waiting = Box::pin(grid.propose(create("last")));
        assert!(waiting.as_mut().now_or_never().is_none());
        leave.send(()).unwrap();
        slow.join().unwrap();
        assert!(matches!(waiting.await, Ok(Applied::Map(_))));
        let all = u32::try_from(PROPOSALS).unwrap();
        let _all = grid.proposals.acquire_many(all).await.unwrap();
        assert_eq!(grid.control.read(|state| state.maps().len()), PROPOSALS + 2, "those that went, too");
    }

    fn add_version(name: &Name, module: u8, promote: Promote) -> Command {
        let version = Box::new(FunctionVersion {
            number: 0,
            module: ModuleHash([module; 32]),
            size_bytes: 1,
            export: "f".to_owned(),
            export_index: 0,
            kind: FunctionKind::EntryProcessor,
            read_only: false,
            deterministic: false,
            uploaded_ms: 0,
            options: FunctionOptions::default(),
        });
        Command::AddVersion { name: name.clone(), version, promote }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_change_of_maps_and_functions_is_a_line_of_the_log() {
        let name = Name::new("f").unwrap();
        let commands = [
            create("m"),
            Command::UpdateMap { name: Name::new("m").unwrap(), change: OptionsChange::default() },
            Command::DeleteMap { name: Name::new("m").unwrap() },
            add_version(&name, 1, Promote::AtOnce),
            add_version(&name, 2, Promote::Later),
            Command::Promote { name: name.clone(), version: None },
            Command::Rollback { name: name.clone() },
            Command::DeleteFunction { name },
        ];
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false);
        let log = log.with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || {
            let mut state = ControlState::default();
            for command in &commands {
                let applied = state.apply(command).unwrap();
                log_change(command, &state, &applied);
            }
        });
        let (one, two) = (ModuleHash([1; 32]), ModuleHash([2; 32]));
        let expected = [
            " INFO map created map=m".to_owned(),
            " INFO map updated map=m".to_owned(),
            " INFO map deleted map=m".to_owned(),
            format!(" INFO function uploaded and promoted function=f version=1 module={one}"),
            format!(" INFO function uploaded function=f version=2 module={two}"),
            format!(" INFO function promoted function=f version=2 module={two}"),
            format!(" INFO function rolled back function=f version=1 module={one}"),
            " INFO function deleted function=f".to_owned(),
        ];
        let lines = String::from_utf8(lines.0.lock().clone()).unwrap();
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    }
}
