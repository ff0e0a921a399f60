//! Modules that become no function.

use tonic::Code;
use wattle::config::RawConfig;
use wattle_client::{Error, UploadOptions, Uploaded};
use wattle_core::limits::MODULE_BYTES;

use super::{KEY, Refusal, Scene, refusal};
use crate::harness::guest::Guest;

/// Uploads under a name that works, and afterwards still does.
async fn check(scene: &Scene, module: Vec<u8>, expected: Refusal) {
    let functions = scene.client.functions();
    functions.upload("count", Guest::counter().module(), &UploadOptions::new()).await.unwrap();
    let answer: Result<Uploaded, Error> = functions.upload("count", module, &UploadOptions::new()).await;
    scene.check_refused(answer, expected).await;
    let (function, _) = functions.describe("count").await.unwrap();
    assert_eq!((function.active, function.versions.len()), (1, 1));
    assert_eq!(scene.map.invoke("count", KEY, "").await.unwrap().response, 43_u64.to_le_bytes()[..]);
}

async fn check_module(module: Vec<u8>, expected: Refusal) {
    check(&Scene::start().await, module, expected).await;
}

const fn invalid(reason: &'static str, says: &'static str) -> Refusal {
    refusal(Code::InvalidArgument, reason, says)
}

#[tokio::test]
async fn bytes_that_are_not_wasm_are_refused() {
    check_module(b"GIF89a, and so on".to_vec(), invalid("MODULE_NOT_WASM", "")).await;
}

#[tokio::test]
async fn no_bytes_at_all_are_refused() {
    check_module(Vec::new(), invalid("MODULE_NOT_WASM", "")).await;
}

#[tokio::test]
async fn a_truncated_module_is_refused() {
    let mut module = Guest::counter().module();
    module.truncate(module.len() / 2);
    check_module(module, invalid("MODULE_MALFORMED", "")).await;
}

#[tokio::test]
async fn a_component_with_an_unknown_import_is_refused_by_the_imports_name() {
    let guest = Guest::counter()
        .of_world(
            "interface files { open: func(); }
             world w { import files; include wattle:grid/entry-processor@0.1.0; }",
        )
        .with(r#"(import "guest:test/files" "open" (func))"#);
    check_module(guest.module(), invalid("MODULE_UNKNOWN_IMPORT", "guest:test/files")).await;
}

#[tokio::test]
async fn a_component_without_a_known_export_is_refused_with_what_it_has() {
    let guest =
        Guest::counter().of_world("world w { export handle: func(); }").with(r#"(func (export "handle"))"#);
    check_module(guest.module(), invalid("MODULE_UNKNOWN_WORLD", "handle")).await;
}

#[tokio::test]
async fn a_core_module_without_a_component_type_is_refused() {
    check_module(Guest::counter().core(), invalid("MODULE_WITHOUT_COMPONENT_TYPE", "")).await;
}

#[tokio::test]
async fn a_module_that_is_not_of_its_component_type_is_refused() {
    let guest =
        Guest::simple("(unreachable)").of_world("world w { include wattle:grid/entry-processor@0.1.0; }");
    check_module(guest.module(), invalid("MODULE_TYPE_MISMATCH", "process")).await;
}

#[tokio::test]
async fn a_function_name_that_is_no_name_is_refused() {
    let guest = Guest::counter().named("count up");
    check_module(guest.module(), invalid("MODULE_BAD_MANIFEST", "count up")).await;
}

#[tokio::test]
async fn a_module_that_traps_when_it_starts_is_refused() {
    let guest = Guest::counter().with("(func $boot (unreachable)) (start $boot)");
    check_module(guest.module(), invalid("MODULE_DOES_NOT_START", "boot")).await;
}

/// The counter, and what does nothing, so that it has this many bytes.
fn counter_of(bytes: usize) -> Vec<u8> {
    let mut module = Guest::counter().module();
    let rest = bytes - module.len();
    // A custom section: its number, its size in five bytes, an empty name, and anything.
    let size = u32::try_from(rest - 6).unwrap();
    module.push(0);
    for shift in [0, 7, 14, 21, 28] {
        let more = if shift < 28 { 0x80 } else { 0 };
        module.push((size >> shift & 0x7f) as u8 | more);
    }
    module.resize(bytes, 0);
    module
}

#[tokio::test]
async fn a_module_has_at_most_16_mib() {
    let scene = Scene::start().await;
    check(&scene, counter_of(MODULE_BYTES + 1), invalid("TOO_LARGE", "16777216 bytes")).await;
    let functions = scene.client.functions();
    let largest = functions.upload("large", counter_of(MODULE_BYTES), &UploadOptions::new()).await.unwrap();
    assert_eq!(largest.function.versions[0].size_bytes, MODULE_BYTES as u64);
    assert_eq!(scene.map.invoke("large", "k", "").await.unwrap().response, 1_u64.to_le_bytes()[..]);
}

/// Straight-line functions whose values all live until the end: slow to allocate registers for.
fn bomb(functions: usize, values: usize) -> Vec<u8> {
    let value = |value| format!("(i64.mul (local.get 0) (i64.const {value})) (local.get 0) i64.rotl ");
    let body: String = (0..values).map(value).collect();
    let sum = "i64.add ".repeat(values - 1);
    let function = format!("(func (param i64) (result i64) {body} {sum})");
    Guest::counter().with(&function.repeat(functions)).module()
}

#[tokio::test]
async fn a_module_that_takes_too_long_to_compile_is_refused() {
    let scene = Scene::with(RawConfig { compile_seconds: Some(1), ..RawConfig::default() }).await;
    check(&scene, bomb(120, 10_000), invalid("MODULE_COMPILE_TIME", "takes longer")).await;
}

/// Nearly the largest module, all of it data: compiling it needs its bytes several times over.
fn heavy() -> Vec<u8> {
    let data = "x".repeat(15 << 20);
    Guest::counter().with(&format!(r#"(data "{data}")"#)).module()
}

#[tokio::test]
async fn a_module_that_takes_too_much_memory_to_compile_is_refused() {
    let raw = RawConfig { compile_memory_bytes: Some(96 << 20), ..RawConfig::default() };
    let scene = Scene::with(raw).await;
    check(&scene, heavy(), invalid("MODULE_COMPILE_MEMORY", "takes more memory")).await;
}
