//! The warm instances of one compute thread. Starting an instance and making its first call costs some 20 µs, a
//! warm call a fraction of one; so a thread keeps the instances that it uses, and retires them when they stopped,
//! grew large, served long, or their module's name moved on.

use std::sync::Arc;

use wattle_frame::guest::Reply;

use crate::instance::{Call, Instance, Isolation};
use crate::module::Module;
use crate::stop::Stop;

/// How many instances a thread keeps, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmLimits {
    /// Instances kept, one at least. The one unused for longest makes room.
    pub instances: usize,
    /// Calls that an instance serves.
    pub calls: u64,
    /// Linear memory past which an instance is not kept, in bytes.
    pub memory_bytes: usize,
}

impl Default for WarmLimits {
    fn default() -> Self {
        Self { instances: 16, calls: 1_000_000, memory_bytes: 8 << 20 }
    }
}

/// What happened on this thread so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Calls that started an instance.
    pub cold: u64,
    /// Calls that found one.
    pub warm: u64,
    /// Calls that were stopped.
    pub stops: u64,
    /// Instances that served or grew enough.
    pub worn_out: u64,
    /// Instances that made room for others.
    pub evicted: u64,
}

/// The instances of one thread.
#[derive(Debug)]
pub struct Warm {
    limits: WarmLimits,
    /// The one used last is at the end.
    instances: Vec<Instance>,
    counters: Counters,
}

impl Warm {
    /// No instances yet.
    pub fn new(limits: WarmLimits) -> Self {
        Self { limits, instances: Vec::new(), counters: Counters::default() }
    }

    /// Runs a request on an instance of the module, and hands the checked reply to `read`. An instance that was
    /// stopped is gone when this returns.
    pub fn process<Read>(
        &mut self,
        module: &Arc<Module>,
        frame: &[u8],
        call: &Call,
        read: impl FnOnce(&Reply<'_>) -> Read,
    ) -> Result<Read, Stop> {
        let kept = match call.isolation {
            Isolation::Warm => self.take(module, call.memory_bytes),
            Isolation::Fresh => None,
        };
        let mut instance = match kept {
            Some(instance) => {
                self.counters.warm += 1;
                instance
            }
            None => {
                self.counters.cold += 1;
                self.start(module, call.memory_bytes).inspect_err(|_| self.counters.stops += 1)?
            }
        };
        let outcome = instance.process(frame, call, read);
        let sound = match &outcome {
            Ok(_) => true,
            Err(stop) => {
                self.counters.stops += 1;
                stop.leaves_instance_sound()
            }
        };
        if sound && call.isolation == Isolation::Warm {
            self.keep(instance);
        }
        outcome
    }

    /// Drops the instances of modules whose names moved on.
    pub fn retain(&mut self, is_used: impl Fn(&Arc<Module>) -> bool) {
        self.instances.retain(|instance| is_used(instance.module()));
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Instances kept.
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// Linear memory of the instances kept, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.instances.iter().map(Instance::memory_bytes).sum()
    }

    fn take(&mut self, module: &Arc<Module>, memory_limit: usize) -> Option<Instance> {
        let fits = |instance: &Instance| {
            Arc::ptr_eq(instance.module(), module) && instance.memory_limit() == memory_limit
        };
        // The last one used is the likeliest, and the list is short.
        let place = self.instances.iter().rposition(fits)?;
        Some(self.instances.remove(place))
    }

    fn start(&mut self, module: &Arc<Module>, memory_limit: usize) -> Result<Instance, Stop> {
        self.make_room();
        let mut started = Instance::new(module, memory_limit);
        // Other threads may hold all the rest of the engine's pool.
        while matches!(started, Err(Stop::NoInstance)) && !self.instances.is_empty() {
            self.evict();
            started = Instance::new(module, memory_limit);
        }
        started
    }

    fn keep(&mut self, instance: Instance) {
        if instance.calls() >= self.limits.calls || instance.memory_bytes() > self.limits.memory_bytes {
            self.counters.worn_out += 1;
            return;
        }
        self.make_room();
        self.instances.push(instance);
    }

    /// Room for one more, in the list and in the engine's pool.
    fn make_room(&mut self) {
        while !self.instances.is_empty() && self.instances.len() >= self.limits.instances {
            self.evict();
        }
    }

    fn evict(&mut self) {
        self.instances.remove(0);
        self.counters.evicted += 1;
    }
}
