//! One instance of a module: a call at a time, each within its budget, its reply checked before anyone sees it.

use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::Func;
use wattle_frame::guest::{Effect, Reply, Request};

use crate::budget::Budget;
use crate::guest_state::GuestState;
use crate::inspect::World;
use crate::limits::{DEFAULT_MEMORY_BYTES, LOAD_BUDGET, REPLY_BYTES, RESPONSE_BYTES, VALUE_BYTES};
use crate::module::Module;
use crate::packed;
use crate::simple::{self, SimpleError};
use crate::stop::{RequestError, Stop};

/// Whether a call may use an instance that another call has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// It may.
    #[default]
    Warm,
    /// Each call has an instance of its own.
    Fresh,
}

/// What a call may take, and what its reply may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// For all entries together: what one entry may take, for a batch that is over it is run again one by one.
    pub budget: Budget,
    /// Linear memory of the instance.
    pub memory_bytes: usize,
    /// Whether the instance may be one that other calls have used.
    pub isolation: Isolation,
    /// Bytes of a value that it puts.
    pub value_bytes: usize,
    /// Bytes of a response to one entry.
    pub response_bytes: usize,
}

impl Default for Call {
    fn default() -> Self {
        Self {
            budget: Budget::default(),
            memory_bytes: DEFAULT_MEMORY_BYTES,
            isolation: Isolation::default(),
            value_bytes: VALUE_BYTES,
            response_bytes: RESPONSE_BYTES,
        }
    }
}

/// One instance of a module.
#[derive(Debug)]
pub struct Instance {
    module: Arc<Module>,
    store: Store<GuestState>,
    function: Func,
    calls: u64,
    /// Linear memory that the module counts for this instance.
    counted_bytes: usize,
    /// A reply that had to be copied or put together.
    copied: Vec<u8>,
}

/// Where the bytes of a reply are.
enum Bytes<'a> {
    Here(&'a [u8]),
    InGuest(wasmtime::component::WasmList<u8>),
}

impl Instance {
    /// An instance with at most `memory_limit` bytes of linear memory. Starting it runs guest code, too, which has
    /// a budget of its own.
    pub fn new(module: &Arc<Module>, memory_limit: usize) -> Result<Self, Stop> {
        let budget = Budget::of_cpu(LOAD_BUDGET);
        let mut store = GuestState::store(module.runtime(), module.log(), memory_limit, budget);
        let export = match module.world() {
            World::EntryProcessor => packed::EXPORT,
            World::SimpleEntryProcessor => simple::EXPORT,
        };
        let running = module.runtime().running();
        let started = module.pre().instantiate(&mut store);
        drop(running);
        let function = started.map(|instance| instance.get_func(&mut store, export));
        match function {
            Ok(Some(function)) => {
                let module = Arc::clone(module);
                module.live().started();
                let mut instance =
                    Self { module, store, function, calls: 0, counted_bytes: 0, copied: Vec::new() };
                instance.count_memory();
                Ok(instance)
            }
            Ok(None) => Err(Stop::Interface { message: format!("the export {export} is gone") }),
            Err(error) => Err(stop_of(&store, &error)),
        }
    }

    /// Runs a request frame and hands the reply, checked, to `read`, while it still lies in the guest's memory.
    /// After any [`Stop`] but an orderly failure the instance must be dropped.
    pub fn process<Read>(
        &mut self,
        frame: &[u8],
        call: &Call,
        read: impl FnOnce(&Reply<'_>) -> Read,
    ) -> Result<Read, Stop> {
        let request = Request::parse(frame).map_err(|error| Stop::BadRequest(RequestError::Frame(error)))?;
        let function = request.function() as usize;
        let Some(facts) = self.module.functions().get(function) else {
            return Err(Stop::BadRequest(RequestError::NoSuchFunction { function }));
        };
        let read_only = facts.read_only;
        self.calls += 1;
        let state = self.store.data_mut();
        state.meter.start(call.budget);
        state.memory.refused = None;
        state.log.enter(function);
        self.store.set_epoch_deadline(1);
        let bytes = match self.run(frame, &request)? {
            Bytes::InGuest(list) => list.as_le_slice(&self.store),
            Bytes::Here(bytes) => bytes,
        };
        let reply = Reply::parse(bytes, request.len()).map_err(Stop::BadFrame)?;
        check(&reply, call, read_only)?;
        let read = read(&reply);
        self.count_memory();
        Ok(read)
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Bytes of linear memory. It never shrinks.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.bytes
    }

    /// What the linear memory may grow to.
    pub fn memory_limit(&self) -> usize {
        self.store.data().memory.limit
    }

    /// The module that it is an instance of.
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    fn count_memory(&mut self) {
        let bytes = self.memory_bytes();
        if bytes != self.counted_bytes {
            self.module.live().grew(bytes - self.counted_bytes);
            self.counted_bytes = bytes;
        }
    }

    fn run(&mut self, frame: &[u8], request: &Request<'_>) -> Result<Bytes<'_>, Stop> {
        let store = &mut self.store;
        let running = self.module.runtime().running();
        let outcome = match (self.module.world(), self.module.frees_replies()) {
            (World::EntryProcessor, true) => match packed::call_copied(store, self.function, frame) {
                Ok(Ok(bytes)) => {
                    self.copied = bytes;
                    Ok(Bytes::Here(&self.copied))
                }
                Ok(Err(failure)) => return Err(failure.into()),
                Err(error) => Err(error),
            },
            (World::EntryProcessor, false) => match packed::call_lent(store, self.function, frame) {
                Ok(Ok(list)) if list.len() > REPLY_BYTES => {
                    return Err(Stop::ReplyTooLarge { limit: REPLY_BYTES });
                }
                Ok(Ok(list)) => Ok(Bytes::InGuest(list)),
                Ok(Err(failure)) => return Err(failure.into()),
                Err(error) => Err(error),
            },
            (World::SimpleEntryProcessor, _) => {
                match simple::call_each(store, self.function, request, &mut self.copied) {
                    Ok(()) => Ok(Bytes::Here(&self.copied)),
                    Err(SimpleError::Stop(stop)) => return Err(stop),
                    Err(SimpleError::Engine(error)) => Err(error),
                }
            }
        };
        drop(running);
        outcome.map_err(|error| match stop_of(store, &error) {
            Stop::CpuBudget { .. } | Stop::WallCap { .. } if request.len() > 1 => {
                Stop::OverBudgetInBatch { entries: request.len() }
            }
            stop => stop,
        })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.module.live().ended(self.counted_bytes);
    }
}

/// What stopped a guest. One that was refused memory and then gave up has a memory problem, however it puts it.
fn stop_of(store: &Store<GuestState>, error: &wasmtime::Error) -> Stop {
    let memory = &store.data().memory;
    match Stop::from_engine(error, REPLY_BYTES) {
        Stop::Trap { .. } | Stop::Interface { .. } if let Some(wanted) = memory.refused => {
            Stop::Memory { wanted, limit: memory.limit }
        }
        stop => stop,
    }
}

fn check(reply: &Reply<'_>, call: &Call, read_only: bool) -> Result<(), Stop> {
    for (entry, answer) in reply.answers().enumerate() {
        let value = match answer.effect {
            Effect::Put(value) | Effect::PutWithTtl(value, _) => Some(value.len()),
            Effect::Remove => Some(0),
            Effect::Keep | Effect::Fail { .. } => None,
        };
        if let Some(bytes) = value {
            if read_only {
                return Err(Stop::ReadOnlyChange { entry });
            }
            if bytes > call.value_bytes {
                return Err(Stop::ValueTooLarge { entry, bytes, limit: call.value_bytes });
            }
        }
        let response = match answer.effect {
            Effect::Fail { message, .. } => message,
            Effect::Put(_) | Effect::PutWithTtl(..) | Effect::Remove | Effect::Keep => answer.response,
        };
        if response.len() > call.response_bytes {
            let bytes = response.len();
            return Err(Stop::ResponseTooLarge { entry, bytes, limit: call.response_bytes });
        }
    }
    Ok(())
}
