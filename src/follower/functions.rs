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
        for (name, function) in after.functions() {
            if stop.is_cancelled() {
                return;
            }
            let is_new = before.function(name.as_str()) != Some(function);
            if is_new || self.problems.lock().contains_key(name) {
                self.follow_function((name, function), version);
                changed = true;
            }
        }
        if changed && let Err(error) = self.loader.remove_unused(|hash| after.uses_module(hash)) {
            warn!(%error, "unused modules could not be removed");
        }
    }

    fn follow_function(&self, (name, function): (&Name, &Function), version: u64) {
        let fetched =
            function.versions.iter().map(|version| version.module).filter(|module| !self.loader.has(module));
        let missing = fetched.filter_map(|module| self.fetch(&module, version).err()).last();
        let loaded = self.catalog.follow(name, function, &self.loader).err();
        let problem = loaded.or(missing).map(|error| error.to_string());
        let mut problems = self.problems.lock();
        match problem {
            Some(problem) => {
                error!(function = %name, %problem, "the function is not complete here: tried again, or upload it again");
                problems.insert(name.clone(), problem);
            }
            None => drop(problems.remove(name)),
        }
    }

    /// Gets a module from whoever has it, and makes it ready.
    fn fetch(&self, module: &ModuleHash, version: u64) -> Result<(), PrepareError> {
        let uploaded = Handle::current().block_on(fetch(&self.routing, module, version));
        let uploaded = uploaded.ok_or(PrepareError::Missing { hash: *module })?;
        self.loader.store(&uploaded)?;
        // Compiled before the name stands for it: then calls need not wait for that.
        self.loader.ready(module)?;
        info!(%module, bytes = uploaded.bytes.len(), "module fetched");
        Ok(())
    }
}
