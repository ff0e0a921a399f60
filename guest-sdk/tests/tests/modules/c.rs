//! The module in C (`examples/upper-c`): what it passes and returns is what the WIT says.

use std::io::Write;
use std::process::Command;

use wasmtime::component::{ComponentType, Lift, Lower};

use crate::host::{Failure, FunctionInfo, Guest, NOW_MS, module_path, root};

#[derive(ComponentType, Lower)]
#[component(record)]
struct Context {
    function: u32,
    #[component(name = "map-name")]
    map_name: String,
    #[component(name = "now-ms")]
    now_ms: u64,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Entry {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    version: u64,
    #[component(name = "ttl-ms")]
    ttl_ms: Option<u64>,
}

#[derive(Debug, PartialEq, ComponentType, Lift)]
#[component(record)]
struct TimedValue {
    value: Vec<u8>,
    #[component(name = "ttl-ms")]
    ttl_ms: u64,
}

#[derive(Debug, PartialEq, ComponentType, Lift)]
#[component(variant)]
enum Effect {
    #[component(name = "keep")]
    Keep,
    #[component(name = "put")]
    Put(Vec<u8>),
    #[component(name = "put-with-ttl")]
    PutWithTtl(TimedValue),
    #[component(name = "remove")]
    Remove,
    #[component(name = "other")]
    Other(u32),
}

#[derive(Debug, PartialEq, ComponentType, Lift)]
#[component(record)]
struct Answer {
    effect: Effect,
    response: Vec<u8>,
}

fn build() -> Option<Guest> {
    let clang = Command::new("clang").arg("--version").output();
    let linker = Command::new("wasm-ld").arg("--version").output();
    if clang.is_err() || linker.is_err() {
        let line = "SKIPPED modules::c::c_module_answers_what_the_wit_says: clang and lld are not installed";
        // Not by a macro that prints: what those write is captured when a test passes.
        let mut stderr = std::io::stderr().lock();
        writeln!(stderr, "{line}").unwrap();
        return None;
    }
    let built = module_path("example-upper-c-test");
    let status = Command::new(root().join("examples/upper-c/build.sh")).arg(&built).status().unwrap();
    assert!(status.success(), "build.sh succeeds");
    Some(Guest::start(&std::fs::read(built).unwrap()))
}

fn upper(guest: &mut Guest, value: Option<&[u8]>) -> Result<Answer, Failure> {
    type Parameters = (Context, Entry, Vec<u8>);
    type Results = (Result<Answer, Failure>,);
    let process =
        guest.instance.get_typed_func::<Parameters, Results>(&mut guest.store, "process-entry").unwrap();
    let context = Context { function: 0, map_name: "texts".to_owned(), now_ms: NOW_MS };
    let entry = Entry { key: b"key".to_vec(), value: value.map(<[u8]>::to_vec), version: 1, ttl_ms: None };
    process.call(&mut guest.store, (context, entry, b"argument".to_vec())).unwrap().0
}

fn check(guest: &mut Guest, value: &[u8], effect: Effect, response: &str) {
    let expected = Answer { effect, response: response.into() };
    assert_eq!(upper(guest, Some(value)), Ok(expected));
}

#[test]
fn c_module_answers_what_the_wit_says() {
    let Some(mut guest) = build() else { return };
    let info = FunctionInfo { name: "upper".to_owned(), read_only: false, deterministic: true };
    assert_eq!(guest.manifest(), [info]);
    check(&mut guest, b"grid", Effect::Put(b"GRID".to_vec()), "4");
    check(&mut guest, "Größe 1".as_bytes(), Effect::Put("GRößE 1".into()), "2");
    check(&mut guest, b"GRID", Effect::Keep, "0");
    check(&mut guest, b"", Effect::Keep, "0");
    let failure = Failure { code: 1, message: "there is nothing under this key".to_owned() };
    assert_eq!(upper(&mut guest, None), Err(failure));
    for _ in 0..3 {
        check(&mut guest, &[b'a'; 1_000_000], Effect::Put(vec![b'A'; 1_000_000]), "1000000");
    }
}
