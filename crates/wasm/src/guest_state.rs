//! What the host keeps beside each instance: its memory limit, its meter, its log, its WASI stubs.

use std::sync::Arc;

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

use crate::budget::{Budget, Meter};
use crate::engine::Runtime;
use crate::limits::{CORE_INSTANCES, MEMORIES, REPLY_BYTES, RESOURCES, TABLE_ELEMENTS, TABLES};
use crate::log::{GuestLog, InstanceLog};
use crate::wasi;

/// The data of an instance's store.
pub(crate) struct GuestState {
    pub(crate) memory: MemoryUse,
    pub(crate) meter: Meter,
    pub(crate) log: Arc<InstanceLog>,
    wasi: WasiCtx,
    resources: ResourceTable,
}

impl std::fmt::Debug for GuestState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestState").field("memory", &self.memory).finish_non_exhaustive()
    }
}

/// The linear memory of an instance, all its memories together.
#[derive(Debug)]
pub(crate) struct MemoryUse {
    pub(crate) limit: usize,
    pub(crate) bytes: usize,
    /// What the guest wanted when it was refused, in the current call.
    pub(crate) refused: Option<usize>,
}

impl GuestState {
    /// A store for one instance, with the clock running.
    pub(crate) fn store(
        runtime: &Runtime,
        log: &Arc<GuestLog>,
        memory_limit: usize,
        budget: Budget,
    ) -> Store<Self> {
        let log = InstanceLog::new(log);
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(RESOURCES);
        let state = Self {
            memory: MemoryUse { limit: memory_limit, bytes: 0, refused: None },
            meter: Meter::new(budget),
            wasi: wasi::nothing_granted(&log),
            log,
            resources,
        };
        let mut store = Store::new(runtime.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(REPLY_BYTES);
        store.epoch_deadline_callback(|mut context| {
            context.data_mut().meter.tick()?;
            Ok(UpdateDeadline::Continue(1))
        });
        store.set_epoch_deadline(1);
        store
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

impl ResourceLimiter for MemoryUse {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.bytes.saturating_add(desired.saturating_sub(current));
        if total > self.limit {
            self.refused = Some(total);
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_counts_over_all_memories_and_a_refusal_is_remembered() {
        let mut memory = MemoryUse { limit: 100, bytes: 0, refused: None };
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(memory.memory_growing(0, 40, None).unwrap());
        assert_eq!(memory.refused, None);
        assert!(!memory.memory_growing(60, 61, None).unwrap());
        assert_eq!((memory.bytes, memory.refused), (100, Some(101)));
    }

    #[test]
    fn growth_past_the_guests_own_maximum_is_not_ours_to_blame() {
        let mut memory = MemoryUse { limit: 100, bytes: 0, refused: None };
        assert!(!memory.memory_growing(0, 60, Some(50)).unwrap());
        assert_eq!((memory.bytes, memory.refused), (0, None));
    }
}
