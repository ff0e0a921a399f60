//! A text file of the repository, with what several rules ask about it.

use super::Violation;

#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: String) -> Self {
        Self { path: path.to_owned(), text }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Rust that stands for itself: not what a test shows to the compiler, nor what the CLI writes for users.
    pub(crate) fn is_own_rust(&self) -> bool {
        self.is_rust() && !self.path.contains("/refused/") && !self.path.contains("/template/")
    }

    /// The folder and the file's name.
    pub(crate) fn split_path(&self) -> (&str, &str) {
        self.path.rsplit_once('/').unwrap_or(("", &self.path))
    }

    /// Lines with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The lines of code: without what is behind `//`, and without empty lines. A string with `//` in it is cut too.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines()
            .map(|(number, line)| (number, line.split("//").next().unwrap_or(line).trim_end()))
            .filter(|(_, line)| !line.is_empty())
    }

    /// The first line of tests: the whole file in a folder of tests, otherwise what follows `#[cfg(test)]`.
    pub(crate) fn first_test_line(&self) -> Option<usize> {
        if self.path.starts_with("tests/") || self.path.contains("/tests/") {
            return Some(1);
        }
        if self.split_path().1 == "tests.rs" {
            return Some(1);
        }
        self.lines().find(|(_, line)| line.trim_start().starts_with("#[cfg(test)]")).map(|(number, _)| number)
    }

    pub(crate) fn violation(&self, line: usize, rule: impl Into<String>) -> Violation {
        Violation { place: self.path.clone(), line, rule: rule.into() }
    }
}

/// Runs a rule on one file: what the tests of all rules share.
#[cfg(test)]
pub(crate) fn lines_found(rule: fn(&Source) -> Vec<Violation>, path: &str, text: &str) -> Vec<usize> {
    rule(&Source::new(path, text.to_owned())).iter().map(|violation| violation.line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_begin_at_the_attribute_or_fill_their_folder() {
        let first = |path: &str, text: &str| Source::new(path, text.to_owned()).first_test_line();
        assert_eq!(first("src/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {}\n"), Some(2));
        assert_eq!(first("src/a.rs", "fn a() {}\n"), None);
        assert_eq!(first("tests/grid/main.rs", "fn a() {}\n"), Some(1));
        assert_eq!(first("crates/frame/tests/a.rs", "fn a() {}\n"), Some(1));
    }

    #[test]
    fn code_lines_leave_comments_out() {
        let source = Source::new("a.rs", "// why\nlet a = 1; // why\n\n".to_owned());
        assert_eq!(source.code_lines().collect::<Vec<_>>(), [(2, "let a = 1;")]);
    }
}
