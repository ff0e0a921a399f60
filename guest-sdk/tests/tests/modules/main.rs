//! Modules as a grid runs them: built for Wasm, made components of, and called through the exports that the SDK
//! writes by hand.

#![allow(clippy::unwrap_used, reason = "where a helper cannot go on, its test fails")]

mod c;
mod host;
mod sdk;
