//! A panic ends in a trap, which says where but not why: so its message and place go to the log first.

use std::cell::Cell;
use std::panic;

/// Installs the hook, once per instance.
pub(super) fn report() {
    thread_local! {
        static INSTALLED: Cell<bool> = const { Cell::new(false) };
    }
    if INSTALLED.replace(true) {
        return;
    }
    panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("with a payload that is not text");
        match panic.location() {
            Some(place) => crate::error!("panicked at {place}: {message}"),
            None => crate::error!("panicked: {message}"),
        }
    }));
}
