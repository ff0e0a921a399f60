//! Good guests, of both worlds.

use wattle_wasm::{Stop, Warm, WarmLimits, World};

use crate::guest::Guest;
use crate::harness::{Outcome, count, load, request, run, still_counts};

/// What every call of a simple guest begins with: the arena is free again, and the answer is an answer.
const SIMPLE: &str = r#"
  (global.set $arena (i32.const 1048576))
  (i32.store8 (i32.const 2048) (i32.const 0))
"#;

fn simple(body: &str) -> Guest {
    Guest::simple(&format!("{SIMPLE} {body} (i32.const 2048)"))
}

#[test]
fn a_packed_guest_answers_for_each_entry_in_order() {
    let module = load(&Guest::counter());
    assert_eq!(module.world(), World::EntryProcessor);
    assert_eq!(module.functions()[0].name, "counter");
    let mut warm = Warm::new(WarmLimits::default());
    let values: Vec<[u8; 8]> = (0..256_u64).map(u64::to_le_bytes).collect();
    let values: Vec<Option<&[u8]>> = values.iter().map(|value| Some(&value[..])).collect();
    let expected: Vec<Outcome> = (1..=256).map(count).collect();
    assert_eq!(run(&mut warm, &module, &request(&values)), Ok(expected));
}

#[test]
fn an_empty_batch_has_an_empty_reply() {
    let mut warm = Warm::new(WarmLimits::default());
    assert_eq!(run(&mut warm, &load(&Guest::counter()), &request(&[])), Ok(vec![]));
}

#[test]
fn a_guest_that_frees_its_replies_is_read_by_copy() {
    // Its post-return overwrites the reply, as an allocator might.
    let freeing = Guest::counter().with(
        r#"(func (export "cabi_post_process") (param i32)
             (memory.fill (i32.const 131072) (i32.const 255) (i32.const 4096)))"#,
    );
    let module = load(&freeing);
    let mut warm = Warm::new(WarmLimits::default());
    let one = 1_u64.to_le_bytes();
    assert_eq!(run(&mut warm, &module, &request(&[Some(&one), None])), Ok(vec![count(2), count(1)]));
}

#[test]
fn a_simple_guest_sees_typed_entries_and_puts_a_value() {
    // Puts its key's bytes, and responds with the argument's: the offsets are those of the canonical ABI.
    let guest = simple(
        r#"(i32.store8 offset=8 (i32.const 2048) (i32.const 1))
           (i32.store offset=16 (i32.const 2048) (local.get $key))
           (i32.store offset=20 (i32.const 2048) (local.get $key-length))
           (i32.store offset=32 (i32.const 2048) (local.get $argument))
           (i32.store offset=36 (i32.const 2048) (local.get $argument-length))"#,
    );
    let module = load(&guest);
    assert_eq!(module.world(), World::SimpleEntryProcessor);
    let mut warm = Warm::new(WarmLimits::default());
    let answer = Outcome::Put(b"key".to_vec(), b"argument".to_vec());
    assert_eq!(run(&mut warm, &module, &request(&[Some(b"old"), None])), Ok(vec![answer.clone(), answer]));
    still_counts(&mut warm);
}

#[test]
fn a_simple_guests_failure_is_that_entrys_alone() {
    // Fails for the entry without a value, with code 7 and the map's name as message; removes the other.
    let guest = simple(
        r#"(if (i32.eqz (local.get $has-value))
             (then
               (i32.store8 (i32.const 2048) (i32.const 1))
               (i32.store offset=8 (i32.const 2048) (i32.const 7))
               (i32.store offset=12 (i32.const 2048) (local.get $map))
               (i32.store offset=16 (i32.const 2048) (local.get $map-length)))
             (else
               (i32.store8 offset=8 (i32.const 2048) (i32.const 3))
               (i32.store offset=32 (i32.const 2048) (i32.const 0))
               (i32.store offset=36 (i32.const 2048) (i32.const 0))))"#,
    );
    let mut warm = Warm::new(WarmLimits::default());
    assert_eq!(
        run(&mut warm, &load(&guest), &request(&[None, Some(b"x")])),
        Ok(vec![Outcome::Fail(7, "numbers".to_owned()), Outcome::Remove(Vec::new())])
    );
}

#[test]
fn an_effect_that_the_grid_does_not_know_stops_a_simple_guest() {
    let guest = simple(
        r#"(i32.store8 offset=8 (i32.const 2048) (i32.const 4))
           (i32.store offset=16 (i32.const 2048) (i32.const 99))"#,
    );
    let mut warm = Warm::new(WarmLimits::default());
    assert_eq!(run(&mut warm, &load(&guest), &request(&[None])), Err(Stop::UnknownEffect { code: 99 }));
    still_counts(&mut warm);
}

#[test]
fn a_packed_guest_may_refuse_a_batch_and_goes_on_living() {
    let guest = Guest::doing(
        r#"(global.set $arena (i32.const 1048576))
           (i32.store8 (i32.const 2048) (i32.const 1))
           (i32.store offset=4 (i32.const 2048) (i32.const 5))
           (i32.store offset=8 (i32.const 2048) (i32.const 1024))
           (i32.store offset=12 (i32.const 2048) (i32.const 7))
           (i32.const 2048)"#,
    );
    let module = load(&guest);
    let mut warm = Warm::new(WarmLimits::default());
    let refusal = Err(Stop::GuestFailure { code: 5, message: "counter".to_owned() });
    assert_eq!(run(&mut warm, &module, &request(&[None])), refusal);
    assert_eq!(run(&mut warm, &module, &request(&[None])), refusal);
    assert_eq!((warm.counters().cold, warm.counters().warm), (1, 1));
}
