//! The grid as the services see it: maps and functions by name, and control commands.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tonic::metadata::MetadataMap;
use wattle_control::ControlVersion;
use wattle_core::control::grid::{ClassOptions, GridApplied, GridCommand};
use wattle_core::control::{Applied, Command, ControlState, GroupApplied, GroupCommand, Promote};
use wattle_core::ids::{ModuleHash, ReplicationClass};
use wattle_core::map::MapOptions;
use wattle_core::name::Name;

use crate::control::Control;
use crate::failure::Failure;
use crate::follower::Follower;
use crate::functions::{Catalog, Elsewhere, Loader, TOO_OFTEN, Tripped, stored_elsewhere};
use crate::in_flight::InFlight;
use crate::maps::{Map, Maps};
use crate::partition::Partitions;
use crate::request::Forwarded;
use crate::routing::{Routing, forwarded};

/// How long a call waits until this node has followed what it, or the node that sent the call here, knows.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(2);

/// How long an upload waits until another node has stored its module.
const COPY_PATIENCE: Duration = Duration::from_secs(5);
/// How often to look whether one has.
const COPY_PAUSE: Duration = Duration::from_millis(100);

/// What the services share.
#[derive(Debug)]
pub(crate) struct Grid {
    pub(crate) maps: Arc<Maps>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) loader: Arc<Loader>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) control: Arc<Control>,
    pub(crate) follower: Arc<Follower>,
    pub(crate) routing: Arc<Routing>,
    pub(crate) in_flight: Arc<InFlight>,
    /// The longest value that may be written, in bytes.
    pub(crate) value_bytes: usize,
}

impl Grid {
    /// A map by its name.
    pub(crate) fn map(&self, name: &str) -> Result<Arc<Map>, Failure> {
        self.maps.get(name).ok_or_else(|| Failure::MapNotFound { name: name.to_owned() })
    }

    /// In whose partitions a map's entries are, or those of one that a first write would make.
    pub(crate) fn class_of(&self, name: &str) -> ReplicationClass {
        self.maps.get(name).map(|map| map.class()).unwrap_or_default()
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

    /// The replication class that is like one, of as many partitions as the first class; a first wish for it makes it.
    pub(crate) async fn class_like(
        &self,
        asked: impl FnOnce(u16) -> Result<ClassOptions, Failure>,
    ) -> Result<ReplicationClass, Failure> {
        let state = self.control.decided();
        let table = state.grid().ok_or(Failure::NoMember)?;
        let first = table.class(ReplicationClass::default()).ok_or(Failure::NoMember)?;
        let options = asked(first.partitions)?;
        if let Some((class, _)) = table.classes().find(|(_, class)| class.is_same(&options)) {
            return Ok(class);
        }
        match self.control.propose(GroupCommand::Grid(GridCommand::CreateClass { options })).await? {
            GroupApplied::Grid(GridApplied::Class(class)) => {
                let (backups, min_in_sync) = (options.backups, options.min_in_sync);
                tracing::info!(class = class.0, backups, min_in_sync, "replication class created");
                Ok(class)
            }
            GroupApplied::Grid(_) | GroupApplied::Created(_) | GroupApplied::Catalog(_) => {
                Err(Failure::Internal { what: "a replication class was answered for by something else" })
            }
        }
    }

    /// Changes maps or functions, durably if the node has a data directory. Returns when this node has followed.
    pub(crate) async fn propose(&self, command: Command) -> Result<Applied, Failure> {
        let told = command.clone();
        let applied = match self.control.propose(GroupCommand::Catalog(command)).await? {
            GroupApplied::Catalog(applied) => applied,
            GroupApplied::Created(_) | GroupApplied::Grid(_) => {
                return Err(Failure::Internal { what: "maps and functions were answered for by the grid" });
            }
        };
        self.control.read(|state| log_change(&told, state, &applied));
        if let Applied::Function(name, _) = &applied
            && let Some(problem) = self.follower.problem(name)
        {
            return Err(Failure::NotLoaded { problem });
        }
        Ok(applied)
    }

    /// Whether another node has sent a call here for its client. Then this node first learns what that one knew; a call of a function
    /// waits besides until this node has followed that ([`Self::functions_followed`]).
    pub(crate) async fn taken_over(&self, metadata: &MetadataMap) -> Result<Forwarded, Failure> {
        let Some(decided) = forwarded(metadata) else { return Ok(Forwarded::No) };
        let followed = self.control.has_followed_table(ControlVersion(decided));
        timeout(FOLLOW_PATIENCE, followed).await.map_err(|_elapsed| Failure::NoMember)?;
        Ok(Forwarded::Yes)
    }

    /// Waits until names of functions stand for what this node knows that they do: while a module is still fetched and compiled here,
    /// the one that it replaces must not run.
    pub(crate) async fn functions_followed(&self) -> Result<(), Failure> {
        let followed = self.control.has_followed(self.follower.functions_decided());
        timeout(FOLLOW_PATIENCE, followed).await.map_err(|_elapsed| Failure::NoMember)
    }

    /// Waits until another node has stored a module: with this one alone it would be gone for good. Where nobody else serves it cannot be.
    pub(crate) async fn is_copied(&self, module: ModuleHash) -> Result<(), Failure> {
        let deadline = Instant::now() + COPY_PATIENCE;
        loop {
            match stored_elsewhere(&self.routing, &module, self.control.table_version()).await {
                Elsewhere::Stored | Elsewhere::Nobody => return Ok(()),
                Elsewhere::NotStored if Instant::now() >= deadline => {
                    return Err(Failure::OnlyHere { module });
                }
                Elsewhere::NotStored => sleep(COPY_PAUSE).await,
            }
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
        Command::DeleteMap { name, .. } => ("map deleted", name),
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

    use bytes::Bytes;
    use parking_lot::Mutex;
    use prometheus_client::registry::Registry;
    use wattle_core::control::{FunctionKind, FunctionOptions, FunctionVersion};
    use wattle_core::ids::GridTime;
    use wattle_core::map::OptionsChange;
    use wattle_wasm::Runtime;
    use wattle_wasm::compile::{CompileLimits, Compiler};

    use super::*;
    use crate::control::tests::founded;
    use crate::functions::FunctionMetrics;
    use crate::partition::{ReadMode, Source, Step, StepKind};
    use crate::request::Request;

    /// Of one partition, without a data directory.
    pub(crate) async fn grid() -> Arc<Grid> {
        let runtime = Arc::new(Runtime::new(1).unwrap());
        let compiler = Compiler::new(PathBuf::from("/nonexistent"), Vec::new(), 1, CompileLimits::default());
        let (catalog, _tripped) = Catalog::new(FunctionMetrics::register(&mut Registry::default()));
        let partitions = Arc::new(Partitions::alone(1, &catalog));
        let (control, me, links) = founded(1).await;
        let (maps, loader) = (Arc::default(), Arc::new(Loader::new(runtime, compiler, None)));
        let functions = (Arc::clone(&catalog), Arc::clone(&loader));
        let routing = Arc::new(Routing::new(me));
        let outwards = (Arc::clone(&partitions), links, Arc::clone(&routing));
        let follower = Follower::new(Arc::clone(&maps), functions, outwards);
        let follower = Arc::new(follower);
        let run = Arc::clone(&follower).run(Arc::clone(&control), Default::default());
        tokio::spawn(run);
        let in_flight = Arc::new(InFlight::new(1 << 30));
        Arc::new(Grid {
            routing,
            maps,
            catalog,
            loader,
            partitions,
            control,
            follower,
            in_flight,
            value_bytes: 1 << 20,
        })
    }

    fn create(name: &str) -> Command {
        Command::CreateMap { name: Name::new(name).unwrap(), options: MapOptions::default() }
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

    #[tokio::test(start_paused = true)]
    async fn a_function_that_was_replaced_runs_no_more_while_this_node_prepares_what_replaces_it() {
        let grid = grid().await;
        let known = |grid: &Grid| grid.follower.functions_decided();
        let added = add_version(&Name::new("f").unwrap(), 1, Promote::AtOnce);
        let created = grid.control.propose(GroupCommand::Catalog(create("m"))).await;
        assert!(matches!(created, Ok(GroupApplied::Catalog(Applied::Map(_)))));
        let before = known(&grid);
        let added = grid.control.propose(GroupCommand::Catalog(added)).await;
        assert!(matches!(added, Ok(GroupApplied::Catalog(Applied::Function(..)))));
        assert!(known(&grid) > before, "what changes functions is waited for");
        let invoke = || {
            let kind = StepKind::Invoke { function: 1, argument: Bytes::new() };
            let source = Source::Steps(vec![Step { map: 0, key: Bytes::from_static(b"k"), kind }]);
            let names = vec!["m".to_owned(), "g".to_owned()];
            let (forwarded, reads) = (Forwarded::No, ReadMode::Linearizable);
            Request { id: None, names, function: None, source, forwarded, reads }
        };
        let next = ControlVersion(known(&grid).0 + 1);
        grid.follower.set_functions_decided(next);
        let behind = grid.perform(invoke(), &mut |_, _| panic!("nothing is done")).await;
        assert!(matches!(behind, Err(Failure::NoMember)));
        grid.control.followed(next);
        let mut refused = None;
        grid.perform(invoke(), &mut |_, result| refused = result.map(|_| ()).err()).await.unwrap();
        assert!(matches!(refused, Some(Failure::Shared(_))), "{refused:?}");
    }

    #[test]
    fn every_change_of_maps_and_functions_is_a_line_of_the_log() {
        let name = Name::new("f").unwrap();
        let commands = [
            create("m"),
            Command::UpdateMap { name: Name::new("m").unwrap(), change: OptionsChange::default() },
            Command::DeleteMap { name: Name::new("m").unwrap(), at: GridTime::default() },
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
