//! Functions are followed behind everything else: to fetch a module and to compile it takes long, and the table must not wait for that.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use wattle_control::Decided;
use wattle_core::control::{ControlState, Function, GroupState};
use wattle_core::ids::ModuleHash;
use wattle_core::name::Name;

use super::Follower;
use crate::control::Control;
use crate::functions::{PrepareError, fetch};

/// How long to wait before modules that are missing are looked for again.
const PAUSE: Duration = Duration::from_secs(2);

/// What was fetched of a function.
struct Fetched {
    /// These modules, which are stored now.
    modules: Vec<ModuleHash>,
    /// Why not all.
    missing: Option<PrepareError>,
}

impl Follower {
    /// Follows functions of states whose rest was followed, until it is dropped.
    pub(super) async fn run_functions(
        self: Arc<Self>,
        control: Arc<Control>,
        mut decided: watch::Receiver<Decided>,
    ) {
        let mut before = Arc::new(GroupState::default());
        let stop = CancellationToken::new();
        let _stops = stop.clone().drop_guard();
        loop {
            let now = decided.borrow_and_update().clone();
            let (this, after, version) = (Arc::clone(&self), Arc::clone(&now.state), now.version.0);
            let stop = stop.clone();
            let follow = move || this.follow_functions((before.catalog(), after.catalog()), version, &stop);
            if tokio::task::spawn_blocking(follow).await.is_err() {
                error!("functions could not be followed to their end");
            }
            before = now.state;
            control.followed(now.version);
            let patience = if self.problems.lock().is_empty() { Duration::MAX } else { PAUSE };
            if let Ok(Err(_)) = timeout(patience, decided.changed()).await {
                return;
            }
        }
    }

    /// Blocks while modules are fetched and loaded, and ends between two functions when it is stopped. What could not be done before is
    /// tried again.
    fn follow_functions(
        &self,
        (before, after): (&ControlState, &ControlState),
        version: u64,
        stop: &CancellationToken,
    ) {
        let mut changed = false;
        for (name, _) in before.functions().filter(|(name, _)| after.function(name.as_str()).is_none()) {
            self.catalog.remove(name.as_str());
            self.problems.lock().remove(name);
            changed = true;
        }
        let is_new = |name: &Name, function| before.function(name.as_str()) != Some(function);
        let open = after
            .functions()
            .filter(|(name, function)| is_new(name, function) || self.problems.lock().contains_key(*name));
        let open: Vec<(&Name, &Function)> = open.collect();
        // All are stored before any is compiled: by then whoever has them may be gone.
        let fetched: Vec<Fetched> =
            open.iter().map(|(_, function)| self.fetch_missing(function, version)).collect();
        for (function, fetched) in open.into_iter().zip(fetched) {
            if stop.is_cancelled() {
                return;
            }
            self.follow_function(function, fetched);
            changed = true;
        }
        if changed && let Err(error) = self.loader.remove_unused(|hash| after.uses_module(hash)) {
            warn!(%error, "unused modules could not be removed");
        }
    }

    fn follow_function(&self, (name, function): (&Name, &Function), Fetched { modules, missing }: Fetched) {
        let loaded = self.catalog.follow(name, function, &self.loader).err();
        // The others are compiled before the name stands for them: then calls need not wait for that.
        let compiled = modules.iter().filter_map(|module| self.loader.ready(module).err()).last();
        let problem = loaded.or(compiled).or(missing).map(|error| error.to_string());
        let mut problems = self.problems.lock();
        match problem {
            Some(problem) => {
                error!(function = %name, %problem, "the function is not complete here: tried again, or upload it again");
                problems.insert(name.clone(), problem);
            }
            None => drop(problems.remove(name)),
        }
    }

    /// Gets the modules of a function that are not stored here from whoever has them.
    fn fetch_missing(&self, function: &Function, version: u64) -> Fetched {
        let mut fetched = Fetched { modules: Vec::new(), missing: None };
        let modules = function.versions.iter().map(|version| version.module);
        for module in modules.filter(|module| !self.loader.has(module)) {
            match self.fetch(&module, version) {
                Ok(()) => fetched.modules.push(module),
                Err(error) => fetched.missing = Some(error),
            }
        }
        fetched
    }

    fn fetch(&self, module: &ModuleHash, version: u64) -> Result<(), PrepareError> {
        let uploaded = Handle::current().block_on(fetch(&self.routing, module, version));
        let uploaded = uploaded.ok_or(PrepareError::Missing { hash: *module })?;
        self.loader.store(&uploaded)?;
        info!(%module, bytes = uploaded.bytes.len(), "module fetched");
        Ok(())
    }
}
