//! A module that is ready to run: its machine code, linked to what it imports, and what it says it offers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use wasmtime::component::{
    Component, ComponentNamedList, ComponentType, InstancePre, Lift, Lower, TypedFunc, types::ComponentItem,
};

use crate::budget::Budget;
use crate::compile::Artifact;
use crate::engine::Runtime;
use crate::guest_state::GuestState;
use crate::inspect::World;
use crate::limits::{LOAD_BUDGET, MANIFEST_BYTES, MANIFEST_FUNCTIONS, NAME_BYTES};
use crate::log::GuestLog;
use crate::packed;
use crate::simple;
use crate::stop::{Stop, cut};

/// What a module offers under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionFacts {
    /// Of `[A-Za-z0-9._-]`, at most 128 bytes.
    pub name: String,
    /// Its effects are refused: it only answers.
    pub read_only: bool,
    /// The same entry, argument and time give the same effect.
    pub deterministic: bool,
}

/// A module that is ready to run, shared by all that run it.
pub struct Module {
    runtime: Arc<Runtime>,
    pre: InstancePre<GuestState>,
    world: World,
    frees_replies: bool,
    functions: Vec<FunctionFacts>,
    log: Arc<GuestLog>,
    live: Live,
}

/// The instances of a module that exist now, on all threads.
#[derive(Debug, Default)]
pub(crate) struct Live {
    instances: AtomicU64,
    memory_bytes: AtomicU64,
}

impl Live {
    pub(crate) fn started(&self) {
        self.instances.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn grew(&self, bytes: usize) {
        self.memory_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, bytes: usize) {
        self.instances.fetch_sub(1, Ordering::Relaxed);
        self.memory_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("world", &self.world)
            .field("functions", &self.functions)
            .finish_non_exhaustive()
    }
}

/// Why a compiled module cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The artifact is for another engine, or damaged.
    #[error("the artifact does not fit this engine: {message}")]
    Artifact {
        /// In the engine's words.
        message: String,
    },
    /// An import is not what the grid provides under that name.
    #[error("the module's imports cannot be satisfied: {message}")]
    Imports {
        /// In the engine's words; it names the import.
        message: String,
    },
    /// An export has another type than its world says.
    #[error("the export {export} has another type than wattle:grid gives it: {message}")]
    ExportType {
        /// The export's name.
        export: &'static str,
        /// In the engine's words.
        message: String,
    },
    /// It does not start, or does not say what it offers.
    #[error("the module does not give its manifest: {0}")]
    Start(Stop),
    /// It offers nothing, or too much.
    #[error("the manifest has {found} functions, 1 to {limit} are allowed")]
    FunctionCount {
        /// How many it lists.
        found: usize,
        /// How many it may.
        limit: usize,
    },
    /// A function's name is not a name.
    #[error("the manifest's name {name:?} is not 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-'")]
    FunctionName {
        /// The name.
        name: String,
    },
    /// Two functions have the same name.
    #[error("the manifest lists {name:?} twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
struct FunctionRecord {
    name: String,
    #[component(name = "read-only")]
    read_only: bool,
    deterministic: bool,
}

type Manifest = TypedFunc<(), (Vec<FunctionRecord>,)>;

impl Module {
    /// Loads an artifact, and asks the module for its manifest in an instance of at most `memory_limit` bytes.
    pub fn load(
        runtime: &Arc<Runtime>,
        artifact: &Artifact,
        memory_limit: usize,
    ) -> Result<Arc<Self>, LoadError> {
        // SAFETY: an artifact comes from our own compiler, or from bytes that someone vouched for in
        // `Artifact::from_bytes`; that it was made for this engine is checked.
        let component = unsafe { Component::deserialize(runtime.engine(), &artifact.machine_code) };
        let component = component.map_err(|error| LoadError::Artifact { message: words(&error) })?;
        let pre = runtime.linker().instantiate_pre(&component);
        let pre = pre.map_err(|error| LoadError::Imports { message: words(&error) })?;
        check_exports(&component, artifact.world)?;
        let mut module = Self {
            runtime: Arc::clone(runtime),
            pre,
            world: artifact.world,
            frees_replies: artifact.frees_replies,
            functions: Vec::new(),
            log: Arc::new(GuestLog::new(Instant::now())),
            live: Live::default(),
        };
        module.functions = module.read_manifest(memory_limit)?;
        module.log.name_functions(module.functions.iter().map(|facts| facts.name.clone()).collect());
        Ok(Arc::new(module))
    }

    /// The world that it implements.
    pub fn world(&self) -> World {
        self.world
    }

    /// What it offers; requests name a function by its place here.
    pub fn functions(&self) -> &[FunctionFacts] {
        &self.functions
    }

    /// Log lines of its instances that were dropped because there were too many.
    pub fn dropped_log_lines(&self) -> u64 {
        self.log.dropped()
    }

    /// Instances that exist now, on all threads.
    pub fn live_instances(&self) -> u64 {
        self.live.instances.load(Ordering::Relaxed)
    }

    /// Linear memory of the instances that exist now, in bytes.
    pub fn live_memory_bytes(&self) -> u64 {
        self.live.memory_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn pre(&self) -> &InstancePre<GuestState> {
        &self.pre
    }

    pub(crate) fn frees_replies(&self) -> bool {
        self.frees_replies
    }

    pub(crate) fn log(&self) -> &Arc<GuestLog> {
        &self.log
    }

    fn read_manifest(&self, memory_limit: usize) -> Result<Vec<FunctionFacts>, LoadError> {
        let budget = Budget::of_cpu(LOAD_BUDGET);
        let mut store = GuestState::store(&self.runtime, &self.log, memory_limit, budget);
        store.set_hostcall_fuel(MANIFEST_BYTES);
        let running = self.runtime.running();
        let records = self.pre.instantiate(&mut store).and_then(|instance| {
            let manifest: Manifest = instance.get_typed_func(&mut store, "manifest")?;
            manifest.call(&mut store, ())
        });
        drop(running);
        let (records,) = records.map_err(|error| {
            let memory = &store.data().memory;
            LoadError::Start(match memory.refused {
                Some(wanted) => Stop::Memory { wanted, limit: memory.limit },
                None => Stop::from_engine(&error, MANIFEST_BYTES),
            })
        })?;
        check_manifest(records)
    }
}

/// Checks the exports' types once, so that calls need not.
fn check_exports(component: &Component, world: World) -> Result<(), LoadError> {
    check_export::<(), (Vec<FunctionRecord>,)>(component, "manifest")?;
    match world {
        World::EntryProcessor => {
            check_export::<packed::Parameters<'_>, packed::CopiedResult>(component, packed::EXPORT)
        }
        World::SimpleEntryProcessor => {
            check_export::<simple::Parameters<'_>, simple::ResultOfEntry>(component, simple::EXPORT)
        }
    }
}

fn check_export<Parameters, Results>(component: &Component, export: &'static str) -> Result<(), LoadError>
where
    Parameters: ComponentNamedList + Lower,
    Results: ComponentNamedList + Lift,
{
    let wrong = |message| LoadError::ExportType { export, message };
    let Some((ComponentItem::ComponentFunc(function), _)) = component.get_export(None, export) else {
        return Err(wrong("it is not a function".to_owned()));
    };
    let component_type = component.component_type();
    function
        .typecheck::<Parameters, Results>(&component_type.instance_type())
        .map_err(|error| wrong(words(&error)))
}

fn check_manifest(records: Vec<FunctionRecord>) -> Result<Vec<FunctionFacts>, LoadError> {
    if records.is_empty() || records.len() > MANIFEST_FUNCTIONS {
        return Err(LoadError::FunctionCount { found: records.len(), limit: MANIFEST_FUNCTIONS });
    }
    let mut functions: Vec<FunctionFacts> = Vec::with_capacity(records.len());
    for FunctionRecord { name, read_only, deterministic } in records {
        if !is_name(&name) {
            return Err(LoadError::FunctionName { name: cut(&name, NAME_BYTES) });
        }
        if functions.iter().any(|other| other.name == name) {
            return Err(LoadError::DuplicateName { name });
        }
        functions.push(FunctionFacts { name, read_only, deterministic });
    }
    Ok(functions)
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn words(error: &wasmtime::Error) -> String {
    cut(&format!("{error:#}"), 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], expected: Result<usize, &str>) {
        let record =
            |name: &&str| FunctionRecord { name: (*name).to_owned(), read_only: false, deterministic: true };
        let checked = check_manifest(names.iter().map(record).collect());
        let found = checked.map(|functions| functions.len()).map_err(|error| error.to_string());
        assert_eq!(found.as_ref().map_err(String::as_str).copied(), expected);
    }

    #[test]
    fn a_manifest_lists_distinct_names_and_not_too_many() {
        check(&["a", "B-2_.x"], Ok(2));
        check(&[&"n".repeat(128)], Ok(1));
        check(&[], Err("the manifest has 0 functions, 1 to 64 are allowed"));
        check(&["a", "a"], Err(r#"the manifest lists "a" twice"#));
        let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many[..64], Ok(64));
        check(&many, Err("the manifest has 65 functions, 1 to 64 are allowed"));
    }

    #[test]
    fn a_functions_name_is_of_the_usual_characters() {
        for name in ["", "a b", "ä", "a/b", &"n".repeat(129)] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
