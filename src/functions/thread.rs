//! What each thread that runs guests has for it: its warm instances, and the accounts of what it ran.

use std::sync::Arc;
use std::time::Instant;

use wattle_frame::guest::{Reply, Request};
use wattle_wasm::{Stop, Warm, WarmLimits};

use super::breaker::Trip;
use super::catalog::{ActiveFunction, Catalog};
use super::metrics::{RunBy, Start};

/// One thread's instances.
#[derive(Debug)]
pub(crate) struct GuestThread {
    warm: Warm,
    catalog: Arc<Catalog>,
    /// Of the catalog, when the instances were last looked at.
    generation: u64,
    run_by: RunBy,
}

/// A call gave no reply.
#[derive(Debug, thiserror::Error)]
#[error("{stop}")]
pub(crate) struct Stopped {
    pub(crate) stop: Stop,
}

impl Stopped {
    /// Whether it may be the fault of one entry of the batch: then its entries are run one by one.
    pub(crate) fn may_be_one_entry(&self) -> bool {
        let orderly = matches!(self.stop, Stop::OverBudgetInBatch { .. } | Stop::GuestFailure { .. });
        orderly || self.stop.is_fault()
    }
}

impl GuestThread {
    pub(crate) fn new(catalog: Arc<Catalog>, run_by: RunBy) -> Self {
        let generation = catalog.generation();
        Self { warm: Warm::new(WarmLimits::default()), catalog, generation, run_by }
    }

    /// Whether it runs what this catalog knows.
    pub(crate) fn runs_from(&self, catalog: &Arc<Catalog>) -> bool {
        Arc::ptr_eq(&self.catalog, catalog)
    }

    /// Runs a batch and hands the checked reply to `read`, which takes what it needs from it: the reply lies in the
    /// guest's memory. A stop counts against the function when it had one entry only: a larger batch is run again one
    /// by one, and then counts for each entry that is at fault.
    pub(crate) fn run<Read>(
        &mut self,
        function: &ActiveFunction,
        frame: &[u8],
        value_bytes: usize,
        read: impl FnOnce(&Reply<'_>) -> Read,
    ) -> Result<Read, Stopped> {
        self.drop_retired();
        let entries = Request::parse(frame).map_or(0, |request| request.len());
        let entries = u32::try_from(entries).unwrap_or(u32::MAX);
        let cold = self.warm.counters().cold;
        let started = Instant::now();
        let outcome = self.warm.process(function.module(), frame, &function.call(value_bytes), read);
        let now = Instant::now();
        let start = if self.warm.counters().cold == cold { Start::Warm } else { Start::Cold };
        function.meters.called(start, self.run_by, now - started);
        function.pace.took((now - started) / entries.max(1));
        outcome.map_err(|stop| {
            function.pace.stopped();
            function.meters.stopped(&stop);
            let counts = stop.is_fault() && entries <= 1;
            if counts && function.breaker.stopped(now) == Trip::Now {
                self.catalog.trip(function);
            }
            if counts {
                tracing::warn!(function = %function.name(), version = function.version(), kind = stop.kind(), %stop, "function stopped");
            }
            Stopped { stop }
        })
    }

    /// Drops the instances of modules whose names moved on: now, and not when the next ones need room.
    fn drop_retired(&mut self) {
        let generation = self.catalog.generation();
        if generation != self.generation {
            self.generation = generation;
            let active = self.catalog.active();
            self.warm.retain(|module| active.iter().any(|function| Arc::ptr_eq(function.module(), module)));
        }
    }
}
