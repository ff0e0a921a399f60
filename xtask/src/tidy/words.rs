//! Rules about single lines: words and forms that the house style rules out.
//!
//! The words stand here in pieces (`concat!`), so that this file passes its own rules.

use super::Violation;
use super::source::Source;

const STRING_ERRORS: [&str; 3] =
    [concat!("Other", "(String)"), concat!("Other", "(Box<dyn"), concat!("Result<(), ", "&'static str>")];
const OPEN_TASKS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];
const FOREIGN_PATHS: [&str; 4] =
    [concat!("../", "shared"), concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/fa", "rm/")];
const SLEEPS: [&str; 3] =
    [concat!("thread::", "sleep"), concat!("time::", "sleep"), concat!(" slee", "p(Duration")];
const VAGUE_ENDINGS: [&str; 5] = ["Manager", "Helper", "Helpers", "Util", "Utils"];
const LINES_PER_SHARED_MUTEX: usize = 1000;

/// Errors are enums with facts.
pub(crate) fn no_string_errors(source: &Source) -> Vec<Violation> {
    if !source.is_own_rust() {
        return Vec::new();
    }
    let is_bad =
        |line: &str| STRING_ERRORS.iter().any(|form| line.contains(form)) || returns_string_error(line);
    matching(source, is_bad, "an error is an enum with facts, not a string")
}

/// `Result<…, String>`, whatever the first parameter is.
fn returns_string_error(line: &str) -> bool {
    line.match_indices("Result<").any(|(start, _)| {
        let mut depth = 0;
        let end = line[start..].find(|letter: char| {
            depth += i32::from(letter == '<') - i32::from(letter == '>');
            letter == '>' && depth == 0
        });
        end.is_some_and(|end| line[start..start + end].ends_with(", String"))
    })
}

/// Nouns hold state, verbs act.
pub(crate) fn no_vague_types(source: &Source) -> Vec<Violation> {
    if !source.is_own_rust() {
        return Vec::new();
    }
    let is_vague = |line: &str| {
        let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let declares = words.any(|word| matches!(word, "struct" | "enum" | "trait"));
        declares && words.next().is_some_and(|name| VAGUE_ENDINGS.iter().any(|ending| name.ends_with(ending)))
    };
    matching(source, is_vague, "name the type after what it is")
}

/// What is left to do belongs into an issue.
pub(crate) fn no_open_tasks(source: &Source) -> Vec<Violation> {
    let is_open = |line: &str| {
        line.split(|letter: char| !letter.is_alphanumeric()).any(|word| OPEN_TASKS.contains(&word))
    };
    all_lines(source, is_open, "an open task: do it, or leave it to the tracker")
}

/// A user of the project has nothing but the repository.
pub(crate) fn no_foreign_paths(source: &Source) -> Vec<Violation> {
    let starts_path = |line: &str, at: usize| {
        !line[..at].ends_with(|letter: char| {
            letter.is_alphanumeric() || matches!(letter, '.' | '_' | '-' | '/' | '}')
        })
    };
    let is_foreign = |line: &str| {
        FOREIGN_PATHS.iter().any(|path| line.match_indices(path).any(|(at, _)| starts_path(line, at)))
    };
    all_lines(source, is_foreign, "a path outside the repository")
}

/// Tests pause time or wait for a condition with a deadline; the one place that polls is the harness.
pub(crate) fn no_sleep_in_tests(source: &Source) -> Vec<Violation> {
    let Some(first) = source.first_test_line().filter(|_| source.is_own_rust()) else { return Vec::new() };
    let time_is_paused = source.text.contains("start_paused = true");
    if source.path.contains("/harness/") || time_is_paused {
        return Vec::new();
    }
    let sleeps = |line: &str| SLEEPS.iter().any(|sleep| line.contains(sleep));
    matching(source, sleeps, "a test waits for a condition, it does not sleep")
        .into_iter()
        .filter(|violation| violation.line >= first)
        .collect()
}

pub(crate) fn ignored_tests_have_a_reason(source: &Source) -> Vec<Violation> {
    let is_bare = |line: &str| line.trim() == concat!("#[ig", "nore]");
    matching(source, is_bare, "give the reason: #[ignore = \"…\"], and list it in tests/skips.txt")
}

pub(crate) fn no_empty_assertions(source: &Source) -> Vec<Violation> {
    let is_empty = |line: &str| line.contains(concat!("assert!", "(true"));
    matching(source, is_empty, "this assertion cannot fail")
}

/// A mutex behind a shared pointer is a last resort: counted over the whole project.
pub(crate) fn shared_mutexes_are_rare(sources: &[Source]) -> Vec<Violation> {
    let form = concat!("Arc<", "Mutex<");
    let lines: usize =
        sources.iter().filter(|source| source.is_rust()).map(|source| source.text.lines().count()).sum();
    let found: Vec<Violation> = sources
        .iter()
        .filter(|source| source.is_own_rust())
        .flat_map(|source| matching(source, |line| line.contains(form), "a mutex shared by pointer"))
        .collect();
    // A young project gets one for free.
    if found.len() <= 1 + lines / LINES_PER_SHARED_MUTEX { Vec::new() } else { found }
}

/// The lines of code in Rust files that break a rule.
fn matching(source: &Source, is_bad: impl Fn(&str) -> bool, rule: &str) -> Vec<Violation> {
    if !source.is_rust() {
        return Vec::new();
    }
    let bad = source.code_lines().filter(|(_, line)| is_bad(line));
    bad.map(|(number, _)| source.violation(number, rule)).collect()
}

/// The same for every line of every text file.
fn all_lines(source: &Source, is_bad: impl Fn(&str) -> bool, rule: &str) -> Vec<Violation> {
    let bad = source.lines().filter(|(_, line)| is_bad(line));
    bad.map(|(number, _)| source.violation(number, rule)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::source::lines_found;
    use super::*;

    fn check(rule: fn(&Source) -> Vec<Violation>, bad: &[&str], good: &[&str]) {
        for line in bad {
            assert_eq!(lines_found(rule, "src/a.rs", &format!("{line}\n")), [1], "{line}");
        }
        for line in good {
            assert!(lines_found(rule, "src/a.rs", &format!("{line}\n")).is_empty(), "{line}");
        }
    }

    #[test]
    fn errors_as_strings_are_found() {
        check(
            no_string_errors,
            &[
                concat!("fn a() -> Result<u8, ", "String> {"),
                concat!("fn a() -> Result<Vec<u8>, ", "String> {"),
                concat!("    Other", "(String),"),
            ],
            &[
                "fn a() -> Result<String, Error> {",
                "fn a() -> Result<Map<u8, String>, Error> {",
                "// an Other",
            ],
        );
    }

    #[test]
    fn vague_types_are_found() {
        check(
            no_vague_types,
            &[
                concat!("pub(crate) struct Map", "Manager {"),
                concat!("enum ", "Helper {"),
                concat!("trait Ut", "ils {"),
            ],
            &["struct Map {", "let manager = 1;", "struct Utility;", "// a struct Manager"],
        );
    }

    #[test]
    fn open_tasks_are_found_in_comments_too() {
        check(
            no_open_tasks,
            &[concat!("// TO", "DO: later"), concat!("FIX", "ME")],
            &["// mastodon", "TODONT"],
        );
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        check(
            no_foreign_paths,
            &[concat!("cd /wo", "rk/main"), concat!("`../", "shared/a`"), concat!("x=\"/ro", "ot/a\"")],
            &["see tests/work/a.rs", "https://example.org/root/a", "the root / of it"],
        );
    }

    #[test]
    fn sleeping_tests_are_found_but_sleeping_code_is_not() {
        let sleep = concat!("thread::", "sleep(a);");
        let text = format!("{sleep}\n#[cfg(test)]\nmod tests {{\n    {sleep}\n}}\n");
        assert_eq!(lines_found(no_sleep_in_tests, "src/a.rs", &text), [4]);
        assert_eq!(lines_found(no_sleep_in_tests, "tests/grid/a.rs", sleep), [1]);
        assert!(lines_found(no_sleep_in_tests, "tests/harness/a.rs", sleep).is_empty());
        let paused = format!("#[tokio::test(start_paused = true)]\n{text}");
        assert!(lines_found(no_sleep_in_tests, "src/a.rs", &paused).is_empty());
    }

    #[test]
    fn a_bare_ignore_is_found() {
        check(ignored_tests_have_a_reason, &[concat!("    #[ig", "nore]")], &["#[ignore = \"slow\"]"]);
    }

    #[test]
    fn an_assertion_of_nothing_is_found() {
        check(no_empty_assertions, &[concat!("assert!", "(true);")], &["assert!(truth);"]);
    }

    #[test]
    fn shared_mutexes_are_counted_over_the_project() {
        let line = concat!("a: Arc<", "Mutex<u8>>,\n");
        let project = |count: usize, lines: usize| {
            [Source::new("a.rs", line.repeat(count)), Source::new("b.rs", "\n".repeat(lines))]
        };
        assert!(shared_mutexes_are_rare(&project(1, 0)).is_empty());
        assert_eq!(shared_mutexes_are_rare(&project(3, 0)).len(), 3);
        assert!(shared_mutexes_are_rare(&project(3, 2000)).is_empty());
    }
}
