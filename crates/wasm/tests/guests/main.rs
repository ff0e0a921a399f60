//! Whole modules, from uploaded bytes to replies: good ones, and every kind of bad one. Each bad one ends with a
//! good one that is served as if nothing had happened.

#![allow(clippy::unwrap_used, reason = "where a helper cannot go on, its test fails")]

mod compiling;
mod good;
mod guest;
mod harness;
mod logging;
mod refused;
mod stopped;
mod warm;
mod wasi;
