//! What a node does with a module, in short.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use wattle_frame::guest::{Effect, EntrySlot, RequestHeader, RequestWriter};
use wattle_wasm::compile::{CompileError, CompileLimits, Compiler};
use wattle_wasm::limits::DEFAULT_MEMORY_BYTES;
use wattle_wasm::{Call, LoadError, Module, Runtime, Stop, Warm, WarmLimits};

use crate::guest::Guest;

pub(crate) static RUNTIME: LazyLock<Arc<Runtime>> =
    LazyLock::new(|| Arc::new(Runtime::new(64).expect("the engine starts")));

static COUNTER: LazyLock<Arc<Module>> = LazyLock::new(|| load(&Guest::counter()));

/// An effect and a response, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Keep(Vec<u8>),
    Put(Vec<u8>, Vec<u8>),
    PutWithTtl(Vec<u8>, u64, Vec<u8>),
    Remove(Vec<u8>),
    Fail(u32, String),
}

pub(crate) fn compiler(limits: CompileLimits) -> Compiler {
    let executable = PathBuf::from(env!("CARGO_BIN_EXE_wattle-compile-module"));
    Compiler::new(executable, Vec::new(), 2, limits)
}

pub(crate) fn try_load(module: &[u8]) -> Result<Result<Arc<Module>, LoadError>, CompileError> {
    let artifact = compiler(CompileLimits::default()).compile(module)?;
    Ok(Module::load(&RUNTIME, &artifact, DEFAULT_MEMORY_BYTES))
}

pub(crate) fn load(guest: &Guest) -> Arc<Module> {
    try_load(&guest.module()).expect("the guest compiles").expect("the guest loads")
}

/// A request for the first function, with these values; `None` for keys without an entry.
pub(crate) fn request(values: &[Option<&[u8]>]) -> Vec<u8> {
    request_of(0, values)
}

/// A request for the function at a place.
pub(crate) fn request_of(function: u32, values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut buffer = Vec::new();
    let header = RequestHeader {
        function,
        now_ms: 1_700_000_000_000,
        map: "numbers",
        argument: b"argument",
        capacity: values.len(),
    };
    let mut writer = RequestWriter::new(&mut buffer, &header).unwrap();
    for value in values {
        let version = u64::from(value.is_some());
        let entry = EntrySlot { key: b"key", value: *value, version, ttl_ms: None, argument: None };
        writer.push(&entry).unwrap();
    }
    writer.finish().to_vec()
}

pub(crate) fn run(warm: &mut Warm, module: &Arc<Module>, frame: &[u8]) -> Result<Vec<Outcome>, Stop> {
    run_with(warm, module, frame, &Call::default())
}

pub(crate) fn run_with(
    warm: &mut Warm,
    module: &Arc<Module>,
    frame: &[u8],
    call: &Call,
) -> Result<Vec<Outcome>, Stop> {
    warm.process(module, frame, call, |reply| {
        let mut outcomes = Vec::new();
        for answer in reply.answers() {
            let response = answer.response.to_vec();
            outcomes.push(match answer.effect {
                Effect::Keep => Outcome::Keep(response),
                Effect::Put(value) => Outcome::Put(value.to_vec(), response),
                Effect::PutWithTtl(value, ttl_ms) => Outcome::PutWithTtl(value.to_vec(), ttl_ms, response),
                Effect::Remove => Outcome::Remove(response),
                Effect::Fail { code, message } => {
                    Outcome::Fail(code, String::from_utf8_lossy(message).into_owned())
                }
            });
        }
        outcomes
    })
}

/// Runs a bad guest on one entry, then the counter, and returns what stopped the bad one.
pub(crate) fn stop_of(guest: &Guest) -> Stop {
    stop_of_request(guest, &request(&[Some(b"12345678")]))
}

pub(crate) fn stop_of_request(guest: &Guest, frame: &[u8]) -> Stop {
    let module = load(guest);
    let mut warm = Warm::new(WarmLimits::default());
    still_counts(&mut warm);
    let stop = run(&mut warm, &module, frame).expect_err("the bad guest is stopped");
    assert_eq!(warm.len(), 1, "the bad guest's instance is gone, the counter's is not");
    still_counts(&mut warm);
    stop
}

/// A good guest does its work, on the same thread and the same engine.
pub(crate) fn still_counts(warm: &mut Warm) {
    let forty_one = 41_u64.to_le_bytes();
    let outcomes = run(warm, &COUNTER, &request(&[Some(&forty_one), None]));
    assert_eq!(outcomes, Ok(vec![count(42), count(1)]));
}

/// What the counter answers when it has counted up to a number.
pub(crate) fn count(number: u64) -> Outcome {
    Outcome::Put(number.to_le_bytes().to_vec(), number.to_le_bytes().to_vec())
}
