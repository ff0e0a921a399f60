//! `tests/skips.txt`: every test that a run skips, with its reason, compared with what the run says, both ways.
//!
//! A line is `NAME: REASON`; a line that starts with `?` names a test whose skip depends on the machine: it may be
//! skipped where a tool is missing, and CI, which installs the tools, does not accept it.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    name: String,
    reason: String,
    depends_on_machine: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// A line of the list that is not `NAME: REASON`.
    Malformed {
        line: usize,
    },
    /// Skipped in this run, but not listed.
    NotListed {
        name: String,
        reason: String,
    },
    /// Listed, but this run did not skip it.
    NotSkipped {
        name: String,
    },
    ReasonDiffers {
        name: String,
        listed: String,
        said: String,
    },
    /// Skipped for lack of a tool on a machine that must have it.
    NotAcceptedHere {
        name: String,
    },
}

/// Where the run takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    Developer,
    Ci,
}

impl Machine {
    pub(crate) fn this() -> Self {
        if std::env::var_os("CI").is_some_and(|value| !value.is_empty()) { Self::Ci } else { Self::Developer }
    }
}

/// What the list and the run disagree about.
pub(crate) fn compare(list: &str, skipped: &BTreeMap<String, String>, machine: Machine) -> Vec<Difference> {
    let (listed, mut differences) = parse(list);
    for entry in &listed {
        match skipped.get(&entry.name) {
            None if !entry.depends_on_machine => {
                differences.push(Difference::NotSkipped { name: entry.name.clone() });
            }
            None => {}
            Some(_) if entry.depends_on_machine && machine == Machine::Ci => {
                differences.push(Difference::NotAcceptedHere { name: entry.name.clone() });
            }
            Some(said) if *said != entry.reason => differences.push(Difference::ReasonDiffers {
                name: entry.name.clone(),
                listed: entry.reason.clone(),
                said: said.clone(),
            }),
            Some(_) => {}
        }
    }
    for (name, reason) in skipped {
        if !listed.iter().any(|entry| entry.name == *name) {
            differences.push(Difference::NotListed { name: name.clone(), reason: reason.clone() });
        }
    }
    differences
}

fn parse(list: &str) -> (Vec<Listed>, Vec<Difference>) {
    let mut listed = Vec::new();
    let mut malformed = Vec::new();
    for (index, line) in list.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (depends_on_machine, line) =
            line.strip_prefix('?').map_or((false, line), |rest| (true, rest.trim_start()));
        match line.split_once(": ") {
            Some((name, reason)) if !reason.trim().is_empty() => listed.push(Listed {
                name: name.to_owned(),
                reason: reason.trim().to_owned(),
                depends_on_machine,
            }),
            Some(_) | None => malformed.push(Difference::Malformed { line: index + 1 }),
        }
    }
    (listed, malformed)
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { line } => write!(out, "line {line}: expected `NAME: REASON`"),
            Self::NotListed { name, reason } if reason.is_empty() => {
                write!(out, "{name} is skipped without a reason: write #[ignore = \"reason\"], and list it")
            }
            Self::NotListed { name, reason } => write!(out, "{name} is skipped ({reason}) but not listed"),
            Self::NotSkipped { name } => write!(out, "{name} is listed, but this run did not skip it"),
            Self::ReasonDiffers { name, listed, said } => {
                write!(out, "{name}: the list says {listed:?}, the run says {said:?}")
            }
            Self::NotAcceptedHere { name } => write!(out, "{name} must run in CI: install what it needs"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# why\n\nwattle_core::slow: takes an hour\n? wasm::c_guest: clang is not installed\n";

    fn check(list: &str, skipped: &[(&str, &str)], machine: Machine, expected: &[Difference]) {
        let skipped = skipped.iter().map(|&(name, reason)| (name.to_owned(), reason.to_owned())).collect();
        assert_eq!(compare(list, &skipped, machine), expected);
    }

    #[test]
    fn a_run_that_skips_what_is_listed_agrees() {
        let skipped = [("wattle_core::slow", "takes an hour")];
        check(LIST, &skipped, Machine::Ci, &[]);
    }

    #[test]
    fn a_developer_may_lack_a_tool_that_ci_may_not() {
        let skipped = [("wattle_core::slow", "takes an hour"), ("wasm::c_guest", "clang is not installed")];
        check(LIST, &skipped, Machine::Developer, &[]);
        check(LIST, &skipped, Machine::Ci, &[Difference::NotAcceptedHere { name: "wasm::c_guest".into() }]);
    }

    #[test]
    fn an_unlisted_skip_and_a_stale_line_are_differences() {
        let skipped = [("wattle::new", "flaky")];
        let expected = [
            Difference::NotSkipped { name: "wattle_core::slow".into() },
            Difference::NotListed { name: "wattle::new".into(), reason: "flaky".into() },
        ];
        check(LIST, &skipped, Machine::Developer, &expected);
    }

    #[test]
    fn the_reason_must_be_the_same() {
        let expected =
            [Difference::ReasonDiffers { name: "a".into(), listed: "one".into(), said: "two".into() }];
        check("a: one", &[("a", "two")], Machine::Ci, &expected);
    }

    #[test]
    fn a_line_without_a_reason_is_malformed() {
        let expected = [Difference::Malformed { line: 1 }];
        check("wattle_core::slow", &[], Machine::Ci, &expected);
    }
}
