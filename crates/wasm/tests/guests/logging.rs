//! What guests say, and where it goes.

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;
use wattle_wasm::{Warm, WarmLimits};

use crate::guest::Guest;
use crate::harness::{load, request_of, run};

/// A reply to no entries.
const NOTHING: &str = r#"
    (i32.store (i32.const 131072) (i32.const 1)) (i32.store offset=4 (i32.const 131072) (i32.const 0))
    (i32.store offset=8 (i32.const 131072) (i32.const 16))
    (call $return (i32.const 131072) (i32.const 16))"#;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What is logged while the guest processes no entries.
fn logged(guest: &Guest) -> Vec<String> {
    logged_by(guest, &[0])
}

/// What is logged while functions of the guest, one after the other, process no entries.
fn logged_by(guest: &Guest, functions: &[u32]) -> Vec<String> {
    let module = load(guest);
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .without_time()
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut warm = Warm::new(WarmLimits::default());
        for &function in functions {
            assert_eq!(run(&mut warm, &module, &request_of(function, &[])), Ok(vec![]));
        }
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let mut found = Vec::new();
    for line in text.lines() {
        // Between the level and the target stand the spans of the host, which are not the guest's.
        if let (Some((level, _)), Some((_, said))) = (line.trim().split_once(' '), line.split_once("guest: "))
        {
            found.push(format!("{level} {said}"));
        }
    }
    found
}

#[test]
fn a_line_has_its_level_and_the_name_of_its_function() {
    let guest = Guest::doing(&format!(
        r#"(call $log (i32.const 1) (i32.const 512) (i32.const 5))
           (call $log (i32.const 3) (i32.const 512) (i32.const 2)) {NOTHING}"#
    ))
    .named("debit")
    .with(r#"(data (i32.const 512) "hello")"#)
    .with(r#"(import "wattle:grid/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#);
    let expected = [r#"WARN hello function="debit""#, r#"DEBUG he function="debit""#];
    assert_eq!(logged(&guest), expected);
}

#[test]
fn a_long_line_is_cut() {
    let guest = Guest::doing(&format!(
        r#"(memory.fill (i32.const 8192) (i32.const 120) (i32.const 5000))
           (call $log (i32.const 0) (i32.const 8192) (i32.const 5000)) {NOTHING}"#
    ))
    .with(r#"(import "wattle:grid/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#);
    assert_eq!(logged(&guest), [format!(r#"ERROR {} function="counter""#, "x".repeat(4096))]);
}

#[test]
fn standard_output_is_logged_by_the_line_however_often_it_is_opened() {
    // Opens the stream for each of "hel", "lo\nwo" and "rld\n", as programs do.
    let write = |at: u32, length: u32| {
        format!("(call $write (call $stdout) (i32.const {at}) (i32.const {length}) (i32.const 600))")
    };
    let guest = printing(&format!("{} {} {} {NOTHING}", write(512, 3), write(515, 5), write(520, 4)));
    assert_eq!(logged(&guest), [r#"INFO hello function="counter""#, r#"INFO world function="counter""#]);
}

#[test]
fn a_line_of_standard_output_belongs_to_the_function_that_began_it() {
    // The first function ends the line that the second has begun.
    let guest = printing(&format!(
        "(if (i32.load offset=4 (local.get $frame))
           (then (call $write (call $stdout) (i32.const 512) (i32.const 8) (i32.const 600)))
           (else (call $write (call $stdout) (i32.const 520) (i32.const 4) (i32.const 600))))
         {NOTHING}"
    ))
    .and("second");
    let expected = [r#"INFO hello function="second""#, r#"INFO world function="second""#];
    assert_eq!(logged_by(&guest, &[1, 0]), expected);
    assert_eq!(logged_by(&guest, &[0]), [r#"INFO rld function="counter""#]);
}

/// A guest with "hello\nworld\n" at 512, and WASI's standard output.
fn printing(body: &str) -> Guest {
    Guest::doing(body)
        .with("(data (i32.const 512) \"hello\\nworld\\n\")")
        .with(r#"(import "wasi:cli/stdout@0.2.6" "get-stdout" (func $stdout (result i32)))"#)
        .with(r#"(import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush"
                   (func $write (param i32 i32 i32 i32)))"#)
        .of_world(
            "package wasi:io@0.2.6 {
               interface error { resource error; }
               interface streams {
                 use error.{error};
                 variant stream-error { last-operation-failed(error), closed }
                 resource output-stream { blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>; }
               }
             }
             package wasi:cli@0.2.6 {
               interface stdout { use wasi:io/streams@0.2.6.{output-stream}; get-stdout: func() -> output-stream; }
             }
             world w {
               import wasi:io/streams@0.2.6;
               import wasi:cli/stdout@0.2.6;
               include wattle:grid/entry-processor@0.1.0;
             }",
        )
}
