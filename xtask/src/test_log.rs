//! Reads what `cargo test` prints: how many tests passed, and which were skipped and why.
//!
//! A test is skipped by `#[ignore = "reason"]`, or at run time when it writes a line `SKIPPED name: reason` straight
//! to standard error (`writeln!(std::io::stderr(), …)`; what the print macros write is captured when a test passes).

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct TestLog {
    binary: String,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Name → reason.
    pub(crate) skipped: BTreeMap<String, String>,
}

impl TestLog {
    pub(crate) fn read_line(&mut self, line: &str) {
        if let Some(binary) = test_binary(line) {
            self.binary = binary;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += count_before(result, " passed");
            self.failed += count_before(result, " failed");
        } else if let Some((name, reason)) = ignored(line) {
            self.skipped.insert(format!("{}::{name}", self.binary), reason.to_owned());
        } else if let Some((name, reason)) = announced(line) {
            self.skipped.insert(name.to_owned(), reason.to_owned());
        }
    }

    /// What no test of cargo's is.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        println!("SKIPPED {name}: {reason}");
        self.skipped.insert(name.to_owned(), reason.to_owned());
    }

    /// The closing line of a run, for people and for CI.
    pub(crate) fn closing_line(&self) -> String {
        format!("tests: {} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())
    }
}

/// `     Running unittests src/lib.rs (target/debug/deps/wattle_core-0123456789abcdef)` or `   Doc-tests wattle_core`.
fn test_binary(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(name.trim().to_owned());
    }
    let path = line.strip_prefix("Running ")?.rsplit_once('(')?.1.strip_suffix(')')?;
    let file = path.rsplit('/').next()?;
    Some(file.rsplit_once('-')?.0.to_owned())
}

/// `test store::tests::name ... ignored, reason`.
fn ignored(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    Some((name, rest.strip_prefix(',').unwrap_or(rest).trim()))
}

/// The announcement may stand behind the name of a test that is still running.
fn announced(line: &str) -> Option<(&str, &str)> {
    let (_, announcement) = line.split_once("SKIPPED ")?;
    let (name, reason) = announcement.split_once(": ")?;
    if name.contains(' ') { None } else { Some((name, reason.trim())) }
}

fn count_before(text: &str, word: &str) -> usize {
    let before = text.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> TestLog {
        let mut log = TestLog::default();
        for line in lines {
            log.read_line(line);
        }
        log
    }

    #[test]
    fn results_of_all_binaries_add_up() {
        let log = read(&[
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ]);
        assert_eq!((log.passed, log.failed), (15, 2));
        assert_eq!(log.closing_line(), "tests: 15 passed, 2 failed, 0 skipped");
    }

    #[test]
    fn ignored_tests_carry_their_binary_and_reason() {
        let log = read(&[
            "     Running unittests src/lib.rs (target/debug/deps/wattle_core-0123456789abcdef)",
            "test store::tests::fits ... ok",
            "test store::tests::slow ... ignored, takes an hour",
            "   Doc-tests wattle_client",
            "test crates/client/src/lib.rs - (line 3) ... ignored",
        ]);
        let expected = BTreeMap::from([
            ("wattle_core::store::tests::slow".to_owned(), "takes an hour".to_owned()),
            ("wattle_client::crates/client/src/lib.rs - (line 3)".to_owned(), String::new()),
        ]);
        assert_eq!(log.skipped, expected);
    }

    #[test]
    fn announced_skips_are_found_behind_other_output() {
        let log = read(&["test wasm::c_guest ... SKIPPED wasm::c_guest: clang is not installed"]);
        assert_eq!(log.skipped.get("wasm::c_guest").map(String::as_str), Some("clang is not installed"));
    }

    #[test]
    fn prose_about_skipping_is_no_announcement() {
        assert!(read(&["SKIPPED the line with three: words before it"]).skipped.is_empty());
    }
}
