//! The request of an entry processor: what the SDK reads.
#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use wattle_frame::guest::Request;
use wattle_fuzz::{LengthAt, with_good_header};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    read(&with_good_header(bytes.to_vec(), LengthAt::Byte12));
});

fn read(bytes: &[u8]) {
    if let Ok(request) = Request::parse(bytes) {
        for entry in request.entries().flatten() {
            black_box(entry);
        }
    }
}
