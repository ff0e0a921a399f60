//! Guests that compile and load, and then misbehave. Each is stopped, and the counter beside it counts on.

use wattle_frame::FrameError;
use wattle_frame::guest::ReplyWriter;
use wattle_wasm::limits::{DEFAULT_CPU_BUDGET, DEFAULT_MEMORY_BYTES, REPLY_BYTES};
use wattle_wasm::{Budget, Call, Stop, TrapKind, Warm, WarmLimits};

use crate::guest::Guest;
use crate::harness::{Outcome, load, request, run, run_with, still_counts, stop_of, stop_of_request};

const SPIN: &str = "(loop $for-ever (br $for-ever)) (unreachable)";

fn kind_and_frames(stop: &Stop) -> (TrapKind, &[String]) {
    match stop {
        Stop::Trap { kind, frames } => (*kind, frames),
        other => panic!("not a trap: {other:?}"),
    }
}

#[test]
fn a_guest_that_spins_is_stopped_by_its_cpu_budget() {
    match stop_of(&Guest::doing(SPIN)) {
        // On a busy machine the guest may get less of the processor than the wall cap leaves it.
        Stop::CpuBudget { spent, budget } => {
            assert_eq!(budget, DEFAULT_CPU_BUDGET);
            assert!(spent > budget, "{spent:?}");
        }
        Stop::WallCap { spent, cap } => assert!(spent > cap, "{spent:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_over_its_budget_is_to_be_run_one_by_one() {
    let stop = stop_of_request(&Guest::doing(SPIN), &request(&[None, None, None]));
    assert_eq!(stop, Stop::OverBudgetInBatch { entries: 3 });
    assert!(!stop.is_fault());
}

#[test]
fn a_larger_budget_lets_a_slow_guest_finish() {
    // Some 200 million rounds: tens of milliseconds at least, and a second at most.
    let slow = Guest::doing(
        r#"(local $left i32) (local.set $left (i32.const 200000000))
           (loop $on (local.set $left (i32.sub (local.get $left) (i32.const 1))) (br_if $on (local.get $left)))
           (i32.store (i32.const 131072) (i32.const 1)) (i32.store offset=4 (i32.const 131072) (i32.const 0))
           (i32.store offset=8 (i32.const 131072) (i32.const 16))
           (call $return (i32.const 131072) (i32.const 16))"#,
    );
    let module = load(&slow);
    let mut warm = Warm::new(WarmLimits::default());
    let patient = Call { budget: Budget::of_cpu(std::time::Duration::from_secs(20)), ..Call::default() };
    assert_eq!(run_with(&mut warm, &module, &request(&[]), &patient), Ok(vec![]));
    let stop = run(&mut warm, &module, &request(&[])).unwrap_err();
    assert!(matches!(stop, Stop::CpuBudget { .. } | Stop::WallCap { .. }), "{stop:?}");
}

#[test]
fn a_guest_that_recurses_exhausts_its_own_stack_only() {
    let guest = Guest::doing("(call $deeper (i32.const 1))")
        .with("(func $deeper (param i32) (result i32) (i32.add (call $deeper (local.get 0)) (i32.const 1)))");
    let stop = stop_of(&guest);
    let (kind, frames) = kind_and_frames(&stop);
    assert_eq!(kind, TrapKind::StackOverflow);
    assert_eq!(frames[1], "deeper");
}

#[test]
fn a_guest_that_grows_without_end_is_stopped_for_its_memory() {
    let guest = Guest::doing(
        r#"(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)"#,
    );
    let wanted = DEFAULT_MEMORY_BYTES + (16 << 16);
    assert_eq!(stop_of(&guest), Stop::Memory { wanted, limit: DEFAULT_MEMORY_BYTES });
}

#[test]
fn a_reply_that_points_outside_of_itself_is_a_bad_frame() {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, 1).unwrap();
    writer.put(b"value", b"").unwrap();
    writer.finish().unwrap();
    buffer[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    let stop = stop_of(&Guest::replying(&buffer));
    assert!(matches!(stop, Stop::BadFrame(FrameError::OutOfBounds { offset: u32::MAX, .. })), "{stop:?}");
}

#[test]
fn a_list_outside_of_the_guests_memory_breaks_the_interface() {
    let stop = stop_of(&Guest::doing("(call $return (i32.const -16) (i32.const 64))"));
    assert!(matches!(&stop, Stop::Interface { message } if message.contains("out of bounds")), "{stop:?}");
}

#[test]
fn a_result_outside_of_the_guests_memory_breaks_the_interface() {
    let stop = stop_of(&Guest::doing("(i32.const -8)"));
    assert_eq!(stop.kind(), "interface", "{stop:?}");
}

#[test]
fn a_giant_reply_is_refused_whether_it_is_lent_or_copied() {
    let giant = Guest::doing(&format!(
        "(drop (memory.grow (i32.const 160))) (call $return (i32.const 131072) (i32.const {}))",
        REPLY_BYTES + 1
    ));
    assert_eq!(stop_of(&giant), Stop::ReplyTooLarge { limit: REPLY_BYTES });
    let freeing = giant.with(r#"(func (export "cabi_post_process") (param i32))"#);
    assert_eq!(stop_of(&freeing), Stop::ReplyTooLarge { limit: REPLY_BYTES });
}

#[test]
fn more_answers_than_entries_is_a_bad_frame() {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, 2).unwrap();
    writer.keep(b"").unwrap();
    writer.put(b"for a key that it was not given", b"").unwrap();
    let frame = writer.finish().unwrap();
    let stop = stop_of(&Guest::replying(frame));
    assert_eq!(stop, Stop::BadFrame(FrameError::CountMismatch { expected: 1, found: 2 }));
}

#[test]
fn a_trap_names_the_guests_own_functions() {
    // As a panic in Rust looks.
    let guest = Guest::doing("(call $_ZN5debit4take17h0123456789abcdefE)")
        .with("(func $_ZN5debit4take17h0123456789abcdefE (result i32) (call $_ZN4core9panicking5panic17h0123456789abcdefE))")
        .with("(func $_ZN4core9panicking5panic17h0123456789abcdefE (result i32) (unreachable))");
    let stop = stop_of(&guest);
    let (kind, frames) = kind_and_frames(&stop);
    assert_eq!(kind, TrapKind::Unreachable);
    assert_eq!(frames, ["debit::take", "process"]);
    assert_eq!(stop.to_string(), "the function trapped: it gave up (unreachable), in debit::take ← process");
}

#[test]
fn out_of_bounds_and_bad_arithmetic_are_told_apart() {
    let stray = stop_of(&Guest::doing("(i32.load (i32.const -4))"));
    assert_eq!(kind_and_frames(&stray).0, TrapKind::OutOfBounds);
    let division = stop_of(&Guest::doing("(i32.div_u (i32.const 1) (i32.const 0))"));
    assert_eq!(kind_and_frames(&division).0, TrapKind::Arithmetic);
}

#[test]
fn a_trap_while_the_host_allocates_is_a_trap_like_any_other() {
    let stop = stop_of(&Guest::counter().before_allocation("(unreachable)"));
    let (kind, frames) = kind_and_frames(&stop);
    assert_eq!((kind, frames[0].as_str()), (TrapKind::Unreachable, "cabi_realloc"));
}

#[test]
fn an_allocation_outside_of_memory_breaks_the_interface() {
    let stop = stop_of(&Guest::counter().before_allocation("(return (i32.const -8))"));
    assert_eq!(stop.kind(), "interface", "{stop:?}");
}

#[test]
fn spinning_while_the_host_allocates_is_stopped_too() {
    let stop = stop_of(&Guest::counter().before_allocation(SPIN));
    assert!(matches!(stop, Stop::CpuBudget { .. } | Stop::WallCap { .. }), "{stop:?}");
}

#[test]
fn a_read_only_guest_that_changes_an_entry_is_stopped() {
    assert_eq!(stop_of(&Guest::counter().read_only()), Stop::ReadOnlyChange { entry: 0 });
}

#[test]
fn a_read_only_guest_that_only_answers_is_fine() {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, 1).unwrap();
    writer.keep(b"seen").unwrap();
    let module = load(&Guest::replying(writer.finish().unwrap()).read_only());
    let mut warm = Warm::new(WarmLimits::default());
    let seen = Ok(vec![Outcome::Keep(b"seen".to_vec())]);
    assert_eq!(run(&mut warm, &module, &request(&[None])), seen);
}

#[test]
fn values_and_responses_have_a_limit_each() {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, 1).unwrap();
    writer.put_with_ttl(b"12345678", 9, b"123").unwrap();
    let module = load(&Guest::replying(writer.finish().unwrap()));
    let mut warm = Warm::new(WarmLimits::default());
    let mut with = |value_bytes, response_bytes| {
        let call = Call { value_bytes, response_bytes, ..Call::default() };
        run_with(&mut warm, &module, &request(&[None]), &call)
    };
    let answer = Outcome::PutWithTtl(b"12345678".to_vec(), 9, b"123".to_vec());
    assert_eq!(with(8, 3), Ok(vec![answer]));
    assert_eq!(with(7, 3), Err(Stop::ValueTooLarge { entry: 0, bytes: 8, limit: 7 }));
    assert_eq!(with(8, 2), Err(Stop::ResponseTooLarge { entry: 0, bytes: 3, limit: 2 }));
}

#[test]
fn a_log_flood_is_cut_off_and_the_call_goes_on() {
    let flood = Guest::doing(
        r#"(local $left i32) (local.set $left (i32.const 5000))
           (loop $on
             (call $log (i32.const 2) (i32.const 1024) (i32.const 7))
             (local.set $left (i32.sub (local.get $left) (i32.const 1))) (br_if $on (local.get $left)))
           (i32.store (i32.const 131072) (i32.const 1)) (i32.store offset=4 (i32.const 131072) (i32.const 0))
           (i32.store offset=8 (i32.const 131072) (i32.const 16))
           (call $return (i32.const 131072) (i32.const 16))"#,
    )
    .with(r#"(import "wattle:grid/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#);
    let module = load(&flood);
    let mut warm = Warm::new(WarmLimits::default());
    let patient = Call { budget: Budget::of_cpu(std::time::Duration::from_secs(20)), ..Call::default() };
    assert_eq!(run_with(&mut warm, &module, &request(&[]), &patient), Ok(vec![]));
    assert!(module.dropped_log_lines() >= 4000, "{} dropped", module.dropped_log_lines());
    still_counts(&mut warm);
}
