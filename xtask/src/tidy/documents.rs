//! What documents point to is there: paths between backticks, and the targets of links.

use super::Violation;
use super::source::Source;

/// A path is recognised by its first part.
const FOLDERS: [&str; 12] = [
    "benches",
    "crates",
    "deploy",
    "docs",
    "examples",
    "fuzz",
    "guest-sdk",
    "proto",
    "src",
    "tests",
    "wit",
    "xtask",
];

pub(crate) fn named_paths_exist(sources: &[Source]) -> Vec<Violation> {
    let exists = |path: &str| {
        let path = path.trim_end_matches('/');
        let as_folder = format!("{path}/");
        sources.iter().any(|source| source.path == path || source.path.starts_with(&as_folder))
    };
    sources
        .iter()
        .filter(|source| source.path.ends_with(".md"))
        .flat_map(|source| missing(source, exists))
        .collect()
}

fn missing(document: &Source, exists: impl Fn(&str) -> bool) -> Vec<Violation> {
    let (folder, _) = document.split_path();
    let mut found = Vec::new();
    for (number, line) in document.lines() {
        let quoted = line.split('`').skip(1).step_by(2).filter(|text| is_path(text));
        let quoted = quoted.map(|path| (path, path.to_owned()));
        let linked = line.split("](").skip(1).filter_map(|rest| link_target(rest));
        let linked = linked.map(|target| (target, relative_to(folder, target)));
        for (written, path) in quoted.chain(linked) {
            if !exists(&path) {
                found.push(document.violation(number, format!("{written} is not there")));
            }
        }
    }
    found
}

/// A path below one of the repository's folders; `examples/*` and `crates/…` are not.
fn is_path(text: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '/' | '.' | '-' | '_');
    text.split_once('/').is_some_and(|(first, _)| FOLDERS.contains(&first)) && text.chars().all(is_plain)
}

/// The file that a link leads to, if it leads to one of the repository.
fn link_target(rest: &str) -> Option<&str> {
    let target = rest.split_once(')')?.0.split('#').next()?;
    (!target.is_empty() && !target.contains(':')).then_some(target)
}

fn relative_to(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[usize]) {
        let sources = [
            Source::new(path, text.to_owned()),
            Source::new("crates/core/src/lib.rs", String::new()),
            Source::new("LICENSE", String::new()),
        ];
        let lines: Vec<usize> = named_paths_exist(&sources).iter().map(|violation| violation.line).collect();
        assert_eq!(lines, expected, "{text}");
    }

    #[test]
    fn paths_that_are_there_are_fine() {
        check("README.md", "`crates/core/` and `crates/core/src/lib.rs`, not `cargo test`\n", &[]);
        check("README.md", "[licence](LICENSE), [web](https://a.example/b), [part](#part)\n", &[]);
        check("docs/a.md", "[licence](../LICENSE)\n", &[]);
        check("README.md", "`crates/*` and `src/…`\n", &[]);
    }

    #[test]
    fn paths_that_are_gone_are_found() {
        check("README.md", "\n`crates/gone`\n", &[2]);
        check("docs/a.md", "[licence](LICENSE)\n", &[1]);
    }
}
