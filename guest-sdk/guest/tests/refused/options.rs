use wattle_guest::{Entry, entry_processor};

#[entry_processor(fromat = "json")]
fn misspelled(_entry: &Entry<u64>) {}

#[entry_processor(format = "yaml")]
fn unknown_format(_entry: &Entry<u64>) {}

#[entry_processor(read_only)]
fn needless(_entry: &Entry<u64>) {}

#[entry_processor(name = "my function")]
fn bad_name(_entry: &Entry<u64>) {}

fn main() {}
