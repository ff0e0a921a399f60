//! What the tests of wattle-guest run as Wasm: functions that log, panic and fail. No example: it does nothing useful.

use wattle_guest::{Entry, Failure, entry_processor};

#[entry_processor]
fn panics(entry: &mut Entry<u64>, number: u32) {
    entry.set(1);
    panic!("the number is {number}");
}

#[entry_processor]
fn logs(_entry: &Entry<u64>, name: &str) {
    wattle_guest::error!("an error");
    wattle_guest::warn!("a warning for {name}");
    wattle_guest::info!("three of {}", 5);
    wattle_guest::debug!("{name:?}");
    wattle_guest::trace!("deep");
}

/// Fails odd values after it has changed them, and doubles the others.
#[entry_processor(name = "double-even", deterministic)]
fn double_even(entry: &mut Entry<u64>) -> Result<u64, Failure> {
    let value = entry.get_or_default();
    *value *= 2;
    if *value % 4 == 2 {
        return Err(Failure::new(7, format!("{} is odd", *value / 2)));
    }
    Ok(*value)
}

/// Answers with as many bytes as it is asked for.
#[entry_processor(format = "raw")]
fn fill(entry: &mut Entry<Vec<u8>>, length: &str) -> Result<Vec<u8>, Failure> {
    let length: usize = length.parse().map_err(|_| Failure::new(1, "no length"))?;
    entry.set(vec![b'v'; length]);
    Ok(vec![b'r'; length])
}

wattle_guest::export!(panics, logs, double_even, fill);
