//! Modules that are refused before they run: at inspection, when they are linked, when they give their manifest.

use wattle_wasm::compile::CompileError;
use wattle_wasm::{LoadError, ModuleError, Stop, TrapKind, Warm, WarmLimits};

use crate::guest::Guest;
use crate::harness::{still_counts, try_load};

fn refusal(module: &[u8]) -> ModuleError {
    let refusal = match try_load(module) {
        Err(CompileError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    };
    still_counts(&mut Warm::new(WarmLimits::default()));
    refusal
}

fn load_error(guest: &Guest) -> LoadError {
    let error = try_load(&guest.module()).expect("it compiles").expect_err("it does not load");
    still_counts(&mut Warm::new(WarmLimits::default()));
    error
}

#[test]
fn bytes_that_are_not_wasm_are_refused() {
    assert_eq!(refusal(b"GIF89a, and so on"), ModuleError::NotWasm);
}

#[test]
fn a_truncated_module_is_malformed() {
    let module = Guest::counter().module();
    let refusal = refusal(&module[..module.len() / 2]);
    assert!(matches!(refusal, ModuleError::Malformed { offset, .. } if offset > 8), "{refusal:?}");
}

#[test]
fn a_core_module_without_a_component_type_is_refused() {
    assert_eq!(refusal(&Guest::counter().core()), ModuleError::NoComponentType);
}

#[test]
fn a_component_with_an_unknown_import_is_refused_by_the_imports_name() {
    let guest = Guest::counter()
        .of_world(
            "interface files { open: func(); }
             world w { import files; include wattle:grid/entry-processor@0.1.0; }",
        )
        .with(r#"(import "guest:test/files" "open" (func))"#);
    assert_eq!(refusal(&guest.module()), ModuleError::UnknownImport { name: "guest:test/files".to_owned() });
}

#[test]
fn a_core_module_for_another_host_is_refused_by_the_imports_name() {
    let guest = Guest::counter().with(r#"(import "env" "emscripten_memcpy_js" (func))"#);
    assert_eq!(refusal(&guest.module()), ModuleError::UnknownImport { name: "env".to_owned() });
}

#[test]
fn an_import_that_the_grid_has_not_under_its_name_is_refused_when_it_is_linked() {
    let guest = Guest::counter()
        .of_world(
            "world w { import wattle:grid/log@0.1.0; import wasi:cli/quantum@0.2.0;
                       include wattle:grid/entry-processor@0.1.0; }
             package wasi:cli@0.2.0 { interface quantum { leap: func(); } }",
        )
        .with(r#"(import "wasi:cli/quantum@0.2.0" "leap" (func))"#);
    let error = load_error(&guest);
    assert!(
        matches!(&error, LoadError::Imports { message } if message.contains("wasi:cli/quantum@0.2.0")),
        "{error:?}"
    );
}

#[test]
fn a_component_of_another_world_is_refused_with_its_exports() {
    let guest =
        Guest::counter().of_world("world w { export handle: func(); }").with(r#"(func (export "handle"))"#);
    assert_eq!(refusal(&guest.module()), ModuleError::NoKnownWorld { exports: vec!["handle".to_owned()] });
}

#[test]
fn an_export_of_the_right_name_and_another_type_is_refused() {
    let guest = Guest::counter().of_world(
        "world w {
           use wattle:grid/types@0.1.0.{function-info};
           export manifest: func() -> list<function-info>;
           export process: func(frame: list<u8>) -> string;
         }",
    );
    let error = load_error(&guest);
    assert!(matches!(error, LoadError::ExportType { export: "process", .. }), "{error:?}");
}

#[test]
fn a_module_that_does_not_fit_its_component_type_is_refused() {
    let guest =
        Guest::simple("(unreachable)").of_world("world w { include wattle:grid/entry-processor@0.1.0; }");
    let refusal = refusal(&guest.module());
    assert!(
        matches!(&refusal, ModuleError::NotItsType { message } if message.contains("process")),
        "{refusal:?}"
    );
}

#[test]
fn a_function_with_too_many_locals_is_refused() {
    let locals = "(local i64)".repeat(10_001);
    let guest = Guest::counter().with(&format!("(func {locals})"));
    let refusal = refusal(&guest.module());
    assert_eq!(refusal.to_string(), "the module has 10001 locals in one function, 10000 are allowed");
}

#[test]
fn blocks_nested_too_deep_are_refused() {
    let deep = format!("(func {} {})", "block ".repeat(1001), "end ".repeat(1001));
    let refusal = refusal(&Guest::counter().with(&deep).module());
    assert_eq!(refusal.to_string(), "the module has 1001 nested blocks in one function, 1000 are allowed");
}

#[test]
fn a_module_that_traps_when_it_starts_does_not_load() {
    let error = load_error(&Guest::counter().with("(func $boot (unreachable)) (start $boot)"));
    match error {
        LoadError::Start(Stop::Trap { kind, frames }) => {
            assert_eq!((kind, frames[0].as_str()), (TrapKind::Unreachable, "boot"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_module_that_spins_when_it_starts_does_not_load() {
    let error = load_error(&Guest::counter().with("(func $boot (loop (br 0))) (start $boot)"));
    assert!(matches!(error, LoadError::Start(Stop::CpuBudget { .. } | Stop::WallCap { .. })), "{error:?}");
}

#[test]
fn a_manifest_with_a_bad_name_does_not_load() {
    let error = load_error(&Guest::counter().named("count up"));
    assert!(matches!(&error, LoadError::FunctionName { name } if name == "count up"), "{error:?}");
}

#[test]
fn a_module_with_more_memory_than_any_instance_gets_does_not_load() {
    let error = load_error(&Guest::counter().of_pages(1025));
    assert!(matches!(&error, LoadError::Artifact { message } if message.contains("memory")), "{error:?}");
}
