//! What a compute thread keeps.

use std::sync::Arc;

use wattle_wasm::compile::compile_here;
use wattle_wasm::limits::DEFAULT_MEMORY_BYTES;
use wattle_wasm::{Call, Isolation, Module, Runtime, Stop, Warm, WarmLimits};

use crate::guest::Guest;
use crate::harness::{load, request, run};

/// Counts its calls in its own memory, and responds with the count: what an instance remembers.
fn remembering() -> Guest {
    Guest::doing(
        r#"(i64.store (i32.const 4096) (i64.add (i64.load (i32.const 4096)) (i64.const 1)))
           (i32.store (i32.const 131072) (i32.const 1)) (i32.store offset=4 (i32.const 131072) (i32.const 1))
           (i32.store offset=8 (i32.const 131072) (i32.const 56)) (i64.store offset=16 (i32.const 131072) (i64.const 0))
           (i64.store offset=24 (i32.const 131072) (i64.const 0))
           (i32.store offset=32 (i32.const 131072) (i32.const 48)) (i32.store offset=36 (i32.const 131072) (i32.const 8))
           (i64.store offset=40 (i32.const 131072) (i64.const 0))
           (i64.store offset=48 (i32.const 131072) (i64.load (i32.const 4096)))
           (call $return (i32.const 131072) (i32.const 56))"#,
    )
}

fn remembered(warm: &mut Warm, module: &Arc<Module>, isolation: Isolation) -> u64 {
    let frame = request(&[None]);
    let read = |reply: &wattle_frame::guest::Reply<'_>| {
        u64::from_le_bytes(reply.answer(0).response.try_into().unwrap())
    };
    let call = Call { isolation, ..Call::default() };
    warm.process(module, &frame, &call, read).unwrap()
}

#[test]
fn a_warm_instance_is_used_again_and_a_fresh_one_never() {
    let module = load(&remembering());
    let mut warm = Warm::new(WarmLimits::default());
    assert_eq!(remembered(&mut warm, &module, Isolation::Warm), 1);
    assert_eq!(remembered(&mut warm, &module, Isolation::Fresh), 1);
    assert_eq!(remembered(&mut warm, &module, Isolation::Warm), 2);
    assert_eq!((warm.counters().cold, warm.counters().warm, warm.len()), (2, 1, 1));
    assert_eq!((warm.memory_bytes(), module.live_memory_bytes()), (32 << 16, 32 << 16));
    assert_eq!(module.live_instances(), 1);
    drop(warm);
    assert_eq!((module.live_instances(), module.live_memory_bytes()), (0, 0));
}

#[test]
fn a_retired_modules_instances_are_dropped() {
    let (module, other) = (load(&remembering()), load(&remembering()));
    let mut warm = Warm::new(WarmLimits::default());
    remembered(&mut warm, &module, Isolation::Warm);
    remembered(&mut warm, &other, Isolation::Warm);
    warm.retain(|used| !Arc::ptr_eq(used, &module));
    assert_eq!(remembered(&mut warm, &module, Isolation::Warm), 1);
    assert_eq!(remembered(&mut warm, &other, Isolation::Warm), 2);
}

#[test]
fn an_instance_wears_out() {
    let module = load(&remembering());
    let mut warm = Warm::new(WarmLimits { calls: 2, ..WarmLimits::default() });
    let seen = [(); 5].map(|()| remembered(&mut warm, &module, Isolation::Warm));
    assert_eq!(seen, [1, 2, 1, 2, 1]);
    let mut small = Warm::new(WarmLimits { memory_bytes: 1 << 20, ..WarmLimits::default() });
    let seen = [(); 2].map(|()| remembered(&mut small, &module, Isolation::Warm));
    assert_eq!(seen, [1, 1]);
    assert_eq!((warm.counters().worn_out, small.counters().worn_out), (2, 2));
}

#[test]
fn the_instance_unused_for_longest_makes_room() {
    let modules = [(); 3].map(|()| load(&remembering()));
    let mut warm = Warm::new(WarmLimits { instances: 2, ..WarmLimits::default() });
    for module in [0, 1, 0, 2] {
        remembered(&mut warm, &modules[module], Isolation::Warm);
    }
    assert_eq!((warm.len(), warm.counters().evicted), (2, 1));
    assert_eq!(remembered(&mut warm, &modules[0], Isolation::Warm), 3);
    assert_eq!(remembered(&mut warm, &modules[1], Isolation::Warm), 1);
}

#[test]
fn a_request_for_a_function_that_is_not_there_harms_nobody() {
    let module = load(&remembering());
    let mut warm = Warm::new(WarmLimits::default());
    let mut frame = request(&[None]);
    frame[4..8].copy_from_slice(&7_u32.to_le_bytes());
    let stop = run(&mut warm, &module, &frame).unwrap_err();
    assert_eq!(stop.to_string(), "the request is not for this module: there is no function 7");
    assert!(matches!(stop, Stop::BadRequest(_)) && warm.len() == 1);
}

#[test]
fn a_thread_makes_room_in_the_engines_pool_by_itself() {
    let runtime = Arc::new(Runtime::new(1).unwrap());
    let artifact = compile_here(&remembering().module()).unwrap();
    let modules = [(); 2].map(|()| Module::load(&runtime, &artifact, DEFAULT_MEMORY_BYTES).unwrap());
    let mut warm = Warm::new(WarmLimits::default());
    let seen = [0, 0, 1, 0].map(|module: usize| remembered(&mut warm, &modules[module], Isolation::Warm));
    assert_eq!((seen, warm.counters().evicted), ([1, 2, 1, 1], 2));
    let mut other = Warm::new(WarmLimits::default());
    let stop = run(&mut other, &modules[1], &request(&[None])).unwrap_err();
    assert_eq!(stop, Stop::NoInstance, "this thread has nothing to give back");
    assert!(!stop.is_fault());
}
