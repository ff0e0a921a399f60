//! The stubs of WASI: what compilers link in works as far as it harms nobody.

use wattle_wasm::{Stop, TrapKind, Warm, WarmLimits};

use crate::guest::Guest;
use crate::harness::{load, request, run, still_counts, stop_of};

const PACKAGES: &str = r#"
    package wasi:io@0.2.6 {
      interface poll { resource pollable { block: func(); } }
    }
    package wasi:clocks@0.2.6 {
      interface monotonic-clock {
        use wasi:io/poll@0.2.6.{pollable};
        now: func() -> u64;
        subscribe-duration: func(when: u64) -> pollable;
      }
    }
    package wasi:cli@0.2.6 {
      interface exit { exit: func(status: result); }
    }
    world w {
      import wasi:io/poll@0.2.6;
      import wasi:clocks/monotonic-clock@0.2.6;
      import wasi:cli/exit@0.2.6;
      include wattle:grid/entry-processor@0.1.0;
    }
"#;

const IMPORTS: &str = r#"
    (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
    (import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $now (result i64)))
    (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $sleep (param i64) (result i32)))
    (import "wasi:cli/exit@0.2.6" "exit" (func $exit (param i32)))
"#;

fn guest(body: &str) -> Guest {
    Guest::doing(body).with(IMPORTS).of_world(PACKAGES)
}

#[test]
fn a_guest_may_read_a_clock() {
    let module = load(&guest(
        r#"(if (i64.eqz (call $now)) (then (unreachable)))
           (i32.store (i32.const 131072) (i32.const 1)) (i32.store offset=4 (i32.const 131072) (i32.const 0))
           (i32.store offset=8 (i32.const 131072) (i32.const 16))
           (call $return (i32.const 131072) (i32.const 16))"#,
    ));
    let mut warm = Warm::new(WarmLimits::default());
    assert_eq!(run(&mut warm, &module, &request(&[])), Ok(vec![]));
    still_counts(&mut warm);
}

#[test]
fn a_guest_may_not_sleep() {
    let stop = stop_of(&guest("(call $block (call $sleep (i64.const 60000000000))) (unreachable)"));
    assert!(matches!(stop, Stop::Trap { kind: TrapKind::Wait, .. }), "{stop:?}");
}

#[test]
fn a_guest_that_hoards_resources_is_stopped() {
    let stop = stop_of(&guest("(loop $more (drop (call $sleep (i64.const 1))) (br $more)) (unreachable)"));
    assert!(matches!(stop, Stop::Trap { kind: TrapKind::Resources, .. }), "{stop:?}");
}

#[test]
fn a_guest_that_exits_is_stopped() {
    let stop = stop_of(&guest("(call $exit (i32.const 1)) (unreachable)"));
    assert!(matches!(stop, Stop::Trap { kind: TrapKind::Exit(1), .. }), "{stop:?}");
}
