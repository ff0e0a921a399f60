//! The form of commit subjects: short, capitalised, no full stop, no work in progress. Only commits that no remote
//! has are judged: others cannot be changed any more.

use super::Violation;
use crate::command::{output, program};
use crate::failure::Failure;

const MAX_SUBJECT: usize = 72;
const NEWEST: &str = "--max-count=100";

pub(crate) fn check() -> Result<Vec<Violation>, Failure> {
    let log = output(&mut program(
        "git",
        &["log", "--no-merges", NEWEST, "--format=%h %s", "HEAD", "--not", "--remotes"],
    ))?;
    Ok(log
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(id, subject)| judge(id, subject))
        .collect())
}

fn judge(id: &str, subject: &str) -> Option<Violation> {
    let length = subject.chars().count();
    let lower = subject.to_lowercase();
    let rule = if length > MAX_SUBJECT {
        format!("a subject of {length} characters: at most {MAX_SUBJECT}")
    } else if subject.ends_with('.') {
        "a subject has no full stop".to_owned()
    } else if !subject.starts_with(|letter: char| letter.is_uppercase()) {
        "a subject starts with a capital".to_owned()
    } else if ["wip", "fixup!", "squash!"].iter().any(|start| lower.starts_with(start)) {
        "work in progress is not committed".to_owned()
    } else {
        return None;
    };
    Some(Violation { place: format!("commit {id}"), line: 0, rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_imperative_subject_is_fine() {
        assert_eq!(judge("abc", "Add maps"), None);
        assert_eq!(judge("abc", &format!("A{}", "b".repeat(71))), None);
    }

    #[test]
    fn other_forms_are_found() {
        for subject in ["Add maps.", "add maps", "WIP maps", &format!("A{}", "b".repeat(72))] {
            assert!(judge("abc", subject).is_some(), "{subject}");
        }
    }
}
