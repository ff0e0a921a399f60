//! What runs under a name: read on every call, written when the control state has changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use tokio::sync::mpsc;
use wattle_core::control::{Function, FunctionOptions, FunctionState, FunctionVersion};
use wattle_core::ids::ModuleExport;
use wattle_core::limits::{CPU_BUDGET, FUNCTIONS};
use wattle_core::name::Name;
use wattle_wasm::{Budget, Call, Isolation, Module};

use super::breaker::{Breaker, TOO_OFTEN};
use super::loader::{Loader, PrepareError};
use super::metrics::{FunctionMetrics, Meters, Statistics};
use super::pace::Pace;

/// A version of a function, as calls run it. A call holds on to the one that it resolved, with all its parts and
/// retries, whatever becomes of the name.
#[derive(Debug)]
pub(crate) struct ActiveFunction {
    name: Name,
    version: u32,
    export: Arc<ModuleExport>,
    module: Arc<Module>,
    /// The function's place in the module's manifest: what request frames name it by.
    export_index: u32,
    read_only: bool,
    options: FunctionOptions,
    /// The name has moved on: nothing is kept for the calls that are left.
    retired: AtomicBool,
    pub(super) breaker: Breaker,
    pub(super) pace: Pace,
    pub(super) meters: Meters,
}

/// Why a name cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotCallable {
    #[error("there is no function {name}")]
    NotFound { name: String },
    #[error("function {name} has no active version: promote one")]
    Staged { name: String },
    #[error(
        "function {name} is suspended: {because}; `wattle function promote {name}` lifts this, as does another module"
    )]
    Suspended { name: String, because: String },
    #[error("this node cannot load what function {name} stands for yet: {problem}")]
    NotLoaded { name: String, problem: String },
}

/// A version of a function that was stopped too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tripped {
    pub(crate) name: Name,
    pub(crate) version: u32,
}

/// All functions by their names.
#[derive(Debug)]
pub(crate) struct Catalog {
    names: DashMap<Name, Binding>,
    /// To whoever suspends functions: not by way of a caller, who may have gone.
    tripped: mpsc::Sender<Tripped>,
    /// Rises whenever a name moves on, so that threads look at what they keep.
    generation: AtomicU64,
    metrics: FunctionMetrics,
}

#[derive(Debug, Clone)]
enum Binding {
    Staged,
    Active(Arc<ActiveFunction>),
    Suspended {
        because: String,
    },
    /// This node tries to load it again.
    NotLoaded {
        problem: String,
    },
}

impl Catalog {
    /// No functions yet; and those that will be stopped too often.
    pub(crate) fn new(metrics: FunctionMetrics) -> (Arc<Self>, mpsc::Receiver<Tripped>) {
        // Each says so once, until it is promoted again.
        let (tripped, receiver) = mpsc::channel(FUNCTIONS);
        let names = DashMap::new();
        (Arc::new(Self { names, tripped, generation: AtomicU64::new(0), metrics }), receiver)
    }

    /// What runs under a name now.
    pub(crate) fn resolve(&self, name: &str) -> Result<Arc<ActiveFunction>, NotCallable> {
        let owned = || name.to_owned();
        match self.names.get(name).as_deref() {
            Some(Binding::Active(function)) => match function.refusal() {
                Some(refusal) => Err(refusal),
                None => Ok(Arc::clone(function)),
            },
            Some(Binding::Staged) => Err(NotCallable::Staged { name: owned() }),
            Some(Binding::Suspended { because }) => {
                Err(NotCallable::Suspended { name: owned(), because: because.clone() })
            }
            Some(Binding::NotLoaded { problem }) => {
                Err(NotCallable::NotLoaded { name: owned(), problem: problem.clone() })
            }
            None => Err(NotCallable::NotFound { name: owned() }),
        }
    }

    /// Follows the control state: this is what the function is now. Blocks when its module must be loaded. If it cannot be, nothing runs
    /// under the name: what it stood for before was replaced.
    pub(crate) fn follow(
        &self,
        name: &Name,
        function: &Function,
        loader: &Loader,
    ) -> Result<(), PrepareError> {
        let binding = match &function.state {
            FunctionState::Staged => Binding::Staged,
            FunctionState::Suspended { because, .. } => Binding::Suspended { because: because.clone() },
            FunctionState::Active(version) => match self.current(name) {
                // A breaker that is open stays with what tripped it; a version promoted again gets a new one.
                Some(current) if current.is(function, *version) && !current.breaker.is_open() => {
                    return Ok(());
                }
                Some(_) | None => match self.activate(name, function, *version, loader) {
                    Ok(binding) => binding,
                    Err(error) => {
                        self.bind(name, Binding::NotLoaded { problem: error.to_string() });
                        return Err(error);
                    }
                },
            },
        };
        self.bind(name, binding);
        Ok(())
    }

    fn bind(&self, name: &Name, binding: Binding) {
        retire(self.names.insert(name.clone(), binding));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A version that the name does not stand for now, for a call that began with it. Blocks when its module must be loaded.
    pub(crate) fn former(
        &self,
        name: &Name,
        version: &FunctionVersion,
        loader: &Loader,
    ) -> Result<ActiveFunction, PrepareError> {
        Ok(ActiveFunction { retired: AtomicBool::new(true), ..self.load(name, version, loader)? })
    }

    /// A function was stopped too often.
    pub(super) fn trip(&self, function: &ActiveFunction) {
        let tripped = Tripped { name: function.name.clone(), version: function.version };
        if let Err(mpsc::error::TrySendError::Full(tripped)) = self.tripped.try_send(tripped) {
            tracing::error!(function = %tripped.name, "too many functions to suspend at a time");
        }
    }

    /// What was counted about a function.
    pub(crate) fn statistics(&self, name: &Name) -> Statistics {
        let instances = self.current(name).map_or(0, |function| function.module.live_instances());
        self.metrics.of(name).statistics(instances)
    }

    /// The function is gone.
    pub(crate) fn remove(&self, name: &str) {
        retire(self.names.remove(name).map(|(_, binding)| binding));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Functions that can be called.
    pub(crate) fn active(&self) -> Vec<Arc<ActiveFunction>> {
        let mut active = Vec::new();
        for binding in &self.names {
            if let Binding::Active(function) = binding.value() {
                active.push(Arc::clone(function));
            }
        }
        active
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn current(&self, name: &Name) -> Option<Arc<ActiveFunction>> {
        match self.names.get(name).as_deref() {
            Some(Binding::Active(function)) => Some(Arc::clone(function)),
            Some(Binding::Staged | Binding::Suspended { .. } | Binding::NotLoaded { .. }) | None => None,
        }
    }

    fn activate(
        &self,
        name: &Name,
        function: &Function,
        number: u32,
        loader: &Loader,
    ) -> Result<Binding, PrepareError> {
        let version = function.version(number).expect("the active version is one of the function's");
        Ok(Binding::Active(Arc::new(self.load(name, version, loader)?)))
    }

    fn load(
        &self,
        name: &Name,
        version: &FunctionVersion,
        loader: &Loader,
    ) -> Result<ActiveFunction, PrepareError> {
        Ok(ActiveFunction {
            name: name.clone(),
            version: version.number,
            export: Arc::new(ModuleExport { module: version.module, name: version.export.clone() }),
            module: loader.ready(&version.module)?,
            export_index: version.export_index,
            read_only: version.read_only,
            options: version.options.clone(),
            retired: AtomicBool::new(false),
            breaker: Breaker::default(),
            pace: Pace::default(),
            meters: self.metrics.of(name),
        })
    }
}

fn retire(replaced: Option<Binding>) {
    if let Some(Binding::Active(function)) = replaced {
        function.retired.store(true, Ordering::Relaxed);
    }
}

impl ActiveFunction {
    /// Whether it is this version of the function. One that was deleted, and made anew under its name, begins to count again.
    fn is(&self, function: &Function, number: u32) -> bool {
        let same = |version: &FunctionVersion| version.runs(&self.export) && version.options == self.options;
        self.version == number && function.version(number).is_some_and(same)
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// What runs: versions that differ only in their options have the same.
    pub(crate) fn export(&self) -> &Arc<ModuleExport> {
        &self.export
    }

    /// Why it must not run any more, if so: calls that resolved it before it was suspended ask again.
    pub(crate) fn refusal(&self) -> Option<NotCallable> {
        self.breaker
            .is_open()
            .then(|| NotCallable::Suspended { name: self.name.to_string(), because: TOO_OFTEN.to_owned() })
    }

    pub(crate) fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// What request frames name the function by.
    pub(crate) fn export_index(&self) -> u32 {
        self.export_index
    }

    /// Whether it may run where its invocations arrive.
    pub(crate) fn is_quick(&self) -> bool {
        self.pace.is_quick() && self.options.cpu_budget <= CPU_BUDGET
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// How it is called, where values have at most this many bytes.
    pub(super) fn call(&self, value_bytes: usize) -> Call {
        let fresh = self.options.fresh_instances || self.retired.load(Ordering::Relaxed);
        Call {
            budget: Budget::of_cpu(self.options.cpu_budget),
            memory_bytes: usize::try_from(self.options.memory_bytes).unwrap_or(usize::MAX),
            isolation: if fresh { Isolation::Fresh } else { Isolation::Warm },
            value_bytes,
            ..Call::default()
        }
    }
}
