//! Modules that are harmless to run and harmful to compile, and what the compiler hands back.

use std::fmt::Write;
use std::time::Duration;

use wattle_wasm::compile::{Artifact, CompileError, CompileLimits};
use wattle_wasm::{LoadError, Module, Warm, WarmLimits};

use crate::guest::Guest;
use crate::harness::{RUNTIME, compiler, still_counts};

/// Straight-line functions whose values all live until the end: slow to allocate registers for.
fn bomb(functions: usize, values: usize) -> Vec<u8> {
    let mut body = String::new();
    for value in 0..values {
        write!(body, "(i64.mul (local.get 0) (i64.const {value})) (local.get 0) i64.rotl ").unwrap();
    }
    body.push_str(&"i64.add ".repeat(values - 1));
    let function = format!("(func (param i64) (result i64) {body})");
    Guest::counter().with(&function.repeat(functions)).module()
}

#[test]
fn a_module_that_takes_too_long_to_compile_is_killed() {
    let limits = CompileLimits { wall: Duration::from_millis(300), ..CompileLimits::default() };
    let error = compiler(limits).compile(&bomb(60, 10_000)).unwrap_err();
    assert!(matches!(error, CompileError::Time { limits: found } if found == limits), "{error:?}");
    still_counts(&mut Warm::new(WarmLimits::default()));
}

#[test]
fn a_module_that_takes_too_much_processor_is_killed() {
    let limits = CompileLimits { cpu_seconds: 1, ..CompileLimits::default() };
    let error = compiler(limits).compile(&bomb(120, 10_000)).unwrap_err();
    assert!(matches!(error, CompileError::Time { .. }), "{error:?}");
    still_counts(&mut Warm::new(WarmLimits::default()));
}

#[test]
fn a_module_that_takes_too_much_memory_to_compile_ends_its_child_only() {
    let limits = CompileLimits { memory_bytes: 96 << 20, ..CompileLimits::default() };
    let error = compiler(limits).compile(&bomb(8, 30_000)).unwrap_err();
    assert!(matches!(error, CompileError::Memory { .. }), "{error:?}");
    still_counts(&mut Warm::new(WarmLimits::default()));
}

#[test]
fn an_artifact_stored_and_read_again_runs() {
    let artifact = compiler(CompileLimits::default()).compile(&Guest::counter().module()).unwrap();
    // SAFETY: the bytes come straight from the compiler.
    let again = unsafe { Artifact::from_bytes(&artifact.to_bytes()) }.unwrap();
    assert_eq!(again, artifact);
    let module = Module::load(&RUNTIME, &again, 16 << 20).unwrap();
    assert_eq!(module.functions()[0].name, "counter");
}

#[test]
fn a_module_larger_than_its_memory_limit_does_not_load() {
    let artifact = compiler(CompileLimits::default()).compile(&Guest::counter().module()).unwrap();
    let error = Module::load(&RUNTIME, &artifact, 1 << 20).unwrap_err();
    let LoadError::Start(stop) = error else { panic!("{error:?}") };
    assert_eq!(stop.to_string(), "the function needs 2097152 bytes of memory, 1048576 are allowed");
}
