//! The reply of an entry processor: whatever a guest answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wattle_frame::guest::{Effect, Reply};
use wattle_fuzz::{LengthAt, declared_count, with_good_header};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    read(&with_good_header(bytes.to_vec(), LengthAt::Byte8));
});

/// A reply that parses has an answer in every place, and together they are no longer than the frame.
fn read(bytes: &[u8]) {
    let Ok(reply) = Reply::parse(bytes, declared_count(bytes)) else {
        return;
    };
    let mut sum = 0;
    for answer in reply.answers() {
        let effect = match answer.effect {
            Effect::Keep | Effect::Remove => 0,
            Effect::Put(value) | Effect::PutWithTtl(value, _) => value.len(),
            Effect::Fail { message, .. } => message.len(),
        };
        sum += answer.response.len() + effect;
    }
    assert!(sum <= bytes.len(), "{sum} bytes out of {}", bytes.len());
}
