use wattle_guest::{Entry, entry_processor};

#[entry_processor]
fn nothing() {}

#[entry_processor]
fn by_value(_entry: Entry<u64>) {}

#[entry_processor]
fn too_much(_entry: &mut Entry<u64>, _one: u64, _two: u64) {}

#[entry_processor]
async fn waits(_entry: &mut Entry<u64>) {}

#[entry_processor]
fn generic<V>(_entry: &mut Entry<V>) {}

fn main() {}
