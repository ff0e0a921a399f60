//! `cargo xtask tidy`: the house style as far as a machine can check it, each rule a small function.
//!
//! What clippy can check (long functions, unwrap, silenced lints without a reason) is left to clippy.

mod commits;
mod dependencies;
mod documents;
mod layers;
mod shape;
mod source;
mod words;

use crate::command::{output, program, root};
use crate::failure::Failure;
use source::Source;
use std::fmt;

/// One place that breaks one rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// A file, a crate or a commit.
    pub(crate) place: String,
    /// 0 where a line says nothing.
    pub(crate) line: usize,
    pub(crate) rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.place, self.rule),
            line => write!(out, "{}:{line}: {}", self.place, self.rule),
        }
    }
}

/// The rules of one file.
const RULES: [fn(&Source) -> Vec<Violation>; 11] = [
    shape::file_is_short,
    shape::header_is_present_and_short,
    shape::comments_are_short,
    shape::file_name_says_what_it_is,
    words::no_string_errors,
    words::no_vague_types,
    words::no_open_tasks,
    words::no_foreign_paths,
    words::no_sleep_in_tests,
    words::ignored_tests_have_a_reason,
    words::no_empty_assertions,
];

pub(crate) fn run() -> Result<(), Failure> {
    let sources = tracked_files()?;
    let mut violations: Vec<Violation> =
        sources.iter().flat_map(|source| RULES.iter().flat_map(|rule| rule(source))).collect();
    violations.extend(words::shared_mutexes_are_rare(&sources));
    violations.extend(dependencies::all_are_used(&sources));
    violations.extend(documents::named_paths_exist(&sources));
    violations.extend(layers::check()?);
    violations.extend(commits::check()?);
    for violation in &violations {
        println!("{violation}");
    }
    println!("{} files checked", sources.len());
    match violations.len() {
        0 => Ok(()),
        count => Err(Failure::Violations { count }),
    }
}

/// Every text file that git knows or would add.
fn tracked_files() -> Result<Vec<Source>, Failure> {
    let list = output(&mut program("git", &["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let mut sources = Vec::new();
    for path in list.lines() {
        let full = root().join(path);
        // A file that was deleted and not yet committed is still listed.
        if !full.is_file() {
            continue;
        }
        let bytes = std::fs::read(&full).map_err(Failure::file(&full))?;
        sources.extend(String::from_utf8(bytes).ok().map(|text| Source::new(path, text)));
    }
    Ok(sources)
}
