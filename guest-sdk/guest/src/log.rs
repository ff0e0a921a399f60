//! The module's lines in the log of the node that runs it.
//!
//! Use the macros: `wattle_guest::info!("{} left", account.balance)`, and `error!`, `warn!`, `debug!` and `trace!`.
//! The node limits how many lines it takes and how long they may be. In a test, lines go to standard error.

use std::fmt::Arguments;

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is broken.
    Error = 0,
    /// Something is not as it should be.
    Warn = 1,
    /// Good to know.
    Info = 2,
    /// For the author of the module.
    Debug = 3,
    /// For the author of the module, and plenty of it.
    Trace = 4,
}

/// Writes a line. The macros are shorter.
pub fn write(level: Level, line: Arguments<'_>) {
    match line.as_str() {
        Some(text) => write_text(level, text),
        None => write_text(level, &line.to_string()),
    }
}

#[cfg(target_arch = "wasm32")]
fn write_text(level: Level, text: &str) {
    #[link(wasm_import_module = "wattle:grid/log@0.1.0")]
    unsafe extern "C" {
        #[link_name = "write"]
        fn host_write(level: i32, text: *const u8, length: usize);
    }
    // SAFETY: pointer and length are those of a string, which the host only reads, and only during the call.
    unsafe { host_write(level as i32, text.as_ptr(), text.len()) }
}

#[cfg(not(target_arch = "wasm32"))]
fn write_text(level: Level, text: &str) {
    eprintln!("{level:?}: {text}");
}

/// Logs that something is broken, with the arguments of [`format!`].
#[macro_export]
macro_rules! error {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Level::Error, ::core::format_args!($($argument)+)) };
}

/// Logs that something is not as it should be, with the arguments of [`format!`].
#[macro_export]
macro_rules! warn {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Level::Warn, ::core::format_args!($($argument)+)) };
}

/// Logs what is good to know, with the arguments of [`format!`].
#[macro_export]
macro_rules! info {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Level::Info, ::core::format_args!($($argument)+)) };
}

/// Logs for the author of the module, with the arguments of [`format!`].
#[macro_export]
macro_rules! debug {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Level::Debug, ::core::format_args!($($argument)+)) };
}

/// Logs in detail for the author of the module, with the arguments of [`format!`].
#[macro_export]
macro_rules! trace {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Level::Trace, ::core::format_args!($($argument)+)) };
}
