use wattle_guest::{Entry, entry_processor};

#[entry_processor(format = "raw")]
fn number(_entry: &mut Entry<u64>) {}

#[entry_processor]
fn changes_what_it_only_reads(entry: &Entry<u64>) {
    entry.set(1);
}

fn not_a_processor(_entry: &Entry<u64>) {}

wattle_guest::export!(not_a_processor);

fn main() {}
