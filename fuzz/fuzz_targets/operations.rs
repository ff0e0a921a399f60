//! Operations of a pipeline message: whatever a client sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wattle_frame::pipeline::{Operation, Operations};
use wattle_fuzz::{LengthAt, with_good_header};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    read(&with_good_header(bytes.to_vec(), LengthAt::Byte12));
});

/// Names, keys, values and arguments together are no longer than the frame.
fn read(bytes: &[u8]) {
    let Ok(operations) = Operations::parse(bytes) else {
        return;
    };
    let mut sum: usize = operations.names().flatten().map(str::len).sum();
    for operation in operations.operations().flatten() {
        sum += operation.key().len();
        sum += match operation {
            Operation::Put { value, .. } => value.len(),
            Operation::Invoke { argument, .. } => argument.len(),
            Operation::Get { .. }
            | Operation::Remove { .. }
            | Operation::Increment { .. }
            | Operation::Touch { .. } => 0,
        };
    }
    assert!(sum <= bytes.len(), "{sum} bytes out of {}", bytes.len());
}
