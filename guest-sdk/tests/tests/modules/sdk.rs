//! Modules made with the SDK.

use wasmtime::{Engine, Module, WasmBacktrace};
use wattle_guest::Failure as Codes;

use crate::host::{Failure, FunctionInfo, Guest, Level, Outcome, module};

/// What the smallest processor may take.
const SMALLEST_BYTES: usize = 30 * 1024;

/// Of `wattle-guest-tests`, by their places.
const PANICS: u32 = 0;
const LOGS: u32 = 1;
const DOUBLE_EVEN: u32 = 2;
const FILL: u32 = 3;

fn counter() -> Guest {
    Guest::start(&module("example-counter"))
}

fn test_module() -> Guest {
    Guest::start(&module("wattle-guest-tests"))
}

fn put(value: &str) -> Outcome {
    Outcome::Put(value.into(), value.into())
}

#[test]
fn smallest_processor_is_below_30_kib() {
    let length = module("example-counter").len();
    assert!(length < SMALLEST_BYTES, "{length} bytes");
}

#[test]
fn exports_are_those_of_the_world_without_post_return() {
    let module = Module::new(&Engine::default(), module("example-counter")).unwrap();
    let functions = module.exports().filter(|export| export.ty().func().is_some());
    let mut names: Vec<&str> = functions.map(|export| export.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cabi_realloc", "manifest", "process"]);
    let imports: Vec<_> = module.imports().map(|import| (import.module(), import.name())).collect();
    assert_eq!(imports, [("wattle:grid/log@0.1.0", "write")]);
}

#[test]
fn manifest_lists_the_functions_with_their_flags() {
    let info = |name: &str, read_only, deterministic| FunctionInfo {
        name: name.to_owned(),
        read_only,
        deterministic,
    };
    assert_eq!(counter().manifest(), [info("add", false, true), info("read", true, true)]);
    let expected = [
        info("panics", false, false),
        info("logs", true, false),
        info("double-even", false, true),
        info("fill", false, false),
    ];
    let mut guest = test_module();
    assert_eq!(guest.manifest(), expected);
    assert_eq!(guest.manifest(), expected, "it is the same every time");
}

#[test]
fn batch_is_answered_entry_by_entry() {
    let mut guest = counter();
    let numbers: Vec<String> = (0..256).map(|number| number.to_string()).collect();
    let values: Vec<Option<&[u8]>> = numbers.iter().map(|number| Some(number.as_bytes())).collect();
    let expected: Vec<Outcome> = (0..256).map(|number| put(&(number + 7).to_string())).collect();
    assert_eq!(guest.process(0, &values, b"7").unwrap(), Ok(expected));
    let read: Vec<Outcome> =
        numbers.iter().map(|number| Outcome::Keep(number.clone().into_bytes())).collect();
    assert_eq!(guest.process(1, &values, b"").unwrap(), Ok(read));
    assert_eq!(guest.process(0, &[], b"7").unwrap(), Ok(vec![]));
}

#[test]
fn one_entry_that_fails_leaves_the_others_of_its_batch_alone() {
    let mut guest = test_module();
    let values: [Option<&[u8]>; 4] = [Some(b"4"), Some(b"3"), Some(b"no number"), None];
    let outcomes = guest.process(DOUBLE_EVEN, &values, b"").unwrap().unwrap();
    assert_eq!(outcomes[0], put("8"));
    assert_eq!(outcomes[1], Outcome::Fail(7, "3 is odd".to_owned()));
    let Outcome::Fail(Codes::UNREADABLE_VALUE, message) = &outcomes[2] else { panic!("{:?}", outcomes[2]) };
    assert!(message.starts_with("the value is not the JSON that the function takes: "), "{message}");
    assert_eq!(outcomes[3], put("0"));
}

#[test]
fn instance_serves_calls_of_any_size_one_after_the_other() {
    let mut guest = test_module();
    for length in [0_usize, 1, 5000, 3, 1_000_000, 70_000, 2, 1_000_000] {
        let value = vec![b'x'; length];
        let argument = length.to_string();
        let outcomes = guest.process(FILL, &[Some(&value), None], argument.as_bytes()).unwrap();
        let expected = Outcome::Put(vec![b'v'; length], vec![b'r'; length]);
        assert_eq!(outcomes, Ok(vec![expected.clone(), expected]));
    }
}

#[test]
fn memory_does_not_grow_with_the_number_of_calls() {
    let mut guest = test_module();
    let value = vec![b'x'; 100_000];
    let run = |guest: &mut Guest| guest.process(FILL, &[Some(&value)], b"100000").unwrap().unwrap();
    run(&mut guest);
    let before = guest.store.data().memory_bytes;
    for _ in 0..200 {
        run(&mut guest);
    }
    assert_eq!(guest.store.data().memory_bytes, before);
}

#[test]
fn log_lines_arrive_with_their_levels() {
    let mut guest = test_module();
    let outcomes = guest.process(LOGS, &[None], br#""alice""#).unwrap();
    assert_eq!(outcomes, Ok(vec![Outcome::Keep(vec![])]));
    let expected = [
        (Level::Error, "an error"),
        (Level::Warn, "a warning for alice"),
        (Level::Info, "three of 5"),
        (Level::Debug, "\"alice\""),
        (Level::Trace, "deep"),
    ];
    assert_eq!(guest.store.data().log, expected.map(|(level, line)| (level, line.to_owned())));
}

#[test]
fn panic_is_logged_with_its_place_and_traps() {
    let mut guest = test_module();
    guest.process(PANICS, &[None], b"13").unwrap_err();
    let log = &guest.store.data().log;
    let [(Level::Error, line)] = log.as_slice() else { panic!("{log:?}") };
    assert!(line.starts_with("panicked at guest-sdk/tests/src/lib.rs:"), "{line}");
    assert!(line.ends_with(": the number is 13"), "{line}");
}

#[test]
fn trap_says_in_which_function_of_the_guest_it_was() {
    let error = test_module().process(PANICS, &[None], b"13").unwrap_err();
    let backtrace = error.downcast_ref::<WasmBacktrace>().expect("a trap has a backtrace");
    let names: Vec<_> = backtrace.frames().iter().map(|frame| frame.func_name().unwrap_or("")).collect();
    assert!(names.iter().any(|name| name.contains("wattle_guest_tests..panics")), "{names:?}");
    assert_eq!(names.last(), Some(&"process"));
}

#[test]
fn damaged_frames_and_unknown_functions_fail_and_do_not_trap() {
    let mut guest = test_module();
    let Failure { code, message } = guest.send(b"no frame").unwrap().unwrap_err();
    assert_eq!((code, message.contains("cannot be read")), (Codes::PROTOCOL, true), "{message}");
    let Failure { code, message } = guest.send(&[9; 48]).unwrap().unwrap_err();
    assert_eq!((code, message.contains("another format")), (Codes::PROTOCOL, true), "{message}");
    let Failure { code, message } = guest.process(4, &[None], b"").unwrap().unwrap_err();
    assert_eq!((code, &*message), (Codes::PROTOCOL, "the module has no function 4"));
    assert_eq!(guest.process(DOUBLE_EVEN, &[Some(b"2")], b"").unwrap(), Ok(vec![put("4")]));
}
