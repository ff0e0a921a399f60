//! Results of a pipeline message: whatever a node answers.
#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use wattle_frame::pipeline::Results;
use wattle_fuzz::{LengthAt, declared_count, with_good_header};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    read(&with_good_header(bytes.to_vec(), LengthAt::Byte8));
});

fn read(bytes: &[u8]) {
    if let Ok(results) = Results::parse(bytes, declared_count(bytes)) {
        for result in results.results().flatten() {
            black_box(result);
        }
    }
}
