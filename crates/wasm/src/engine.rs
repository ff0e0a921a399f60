//! The engine: one for the whole node, with a pool of instances, and the settings that its code was
//! compiled with. What it must not know: maps, partitions, requests.

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::io;

use sha2::{Digest, Sha256};
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

use crate::guest_state::GuestState;
use crate::limits::{CORE_INSTANCES, GUEST_STACK_BYTES, MAX_MEMORY_BYTES, MEMORIES, TABLE_ELEMENTS, TABLES};
use crate::ticker::{Running, Ticker};
use crate::wasi;

/// Everything that running guests needs, once per node.
pub struct Runtime {
    engine: Engine,
    linker: Linker<GuestState>,
    ticker: Ticker,
    key: String,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine refuses its settings, or the address space for its pool.
    #[error("the WebAssembly engine does not start with {instances} instances: {message}")]
    Engine {
        /// Instances that were asked for.
        instances: u32,
        /// In the engine's words.
        message: String,
    },
    /// Its thread does not start.
    #[error("the engine's ticker does not start: {0}")]
    Ticker(#[from] io::Error),
}

impl Runtime {
    /// An engine that holds at most `instances` instances at a time. Each takes more than 4 GiB of address
    /// space, and memory only for what it uses.
    pub fn new(instances: u32) -> Result<Self, RuntimeError> {
        let broken =
            |error: wasmtime::Error| RuntimeError::Engine { instances, message: format!("{error:#}") };
        let mut config = tunables();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances)));
        let engine = Engine::new(&config).map_err(broken)?;
        let mut linker = Linker::new(&engine);
        wasi::link(&mut linker).map_err(broken)?;
        let ticker = Ticker::start(engine.clone())?;
        let key = key_of(&engine);
        Ok(Self { engine, linker, ticker, key })
    }

    /// What compiled artifacts are keyed by, beside the module's hash: they fit an engine of this version,
    /// settings, and processor, and no other.
    pub fn engine_key(&self) -> &str {
        &self.key
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn linker(&self) -> &Linker<GuestState> {
        &self.linker
    }

    /// To be held while guest code runs.
    pub(crate) fn running(&self) -> Running<'_> {
        self.ticker.running()
    }
}

/// An engine that only compiles, with the same settings: it reserves no pool, so that it fits under a limit
/// on address space.
pub(crate) fn compiling_engine() -> wasmtime::Result<Engine> {
    Engine::new(&tunables())
}

/// The settings that compiled code depends on: the same for compiling and for running.
fn tunables() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        // Left on, it costs every call 300 ns.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        // The whole 32-bit address space and a guard behind it are reserved, so that code needs no bounds checks.
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_may_move(false)
        .memory_init_cow(true)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false);
    config
}

fn pool(instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(2))
        .total_stacks(1)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(MAX_MEMORY_BYTES);
    pool
}

fn key_of(engine: &Engine) -> String {
    struct Collect(Sha256);
    impl Hasher for Collect {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut collect = Collect(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut collect);
    let mut key = String::new();
    for byte in &collect.0.finalize()[..8] {
        // Writing to a string cannot fail.
        write!(key, "{byte:02x}").expect("a string takes what is written to it");
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_engine_compiles_the_other_runs() {
        let runtime = Runtime::new(4).unwrap();
        assert_eq!(runtime.engine_key(), key_of(&compiling_engine().unwrap()));
        assert_eq!(runtime.engine_key().len(), 16);
    }
}
