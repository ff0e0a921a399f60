//! Whether what clients were shown can be: the history of every key is linearizable, nothing runs twice, and what was acknowledged is
//! there when everybody looks at the end.

use std::fs;
use std::path::{Path, PathBuf};

use wattle_simulation::linearizability::{self, Finding, Operation};

use crate::record::Records;
use crate::violation::Violation;

/// Judges every key; histories that cannot be are written to files in the folder.
pub(crate) fn histories(records: &mut Records, folder: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, operations) in &mut records.operations {
        operations.sort_by_key(|operation| operation.asked);
        let finding = linearizability::judge(operations);
        if finding == Finding::Linearizable {
            continue;
        }
        let key = key.to_string();
        let history = match write(operations, folder, &key) {
            Ok(history) => history,
            Err(error) => {
                violations.push(Violation::System(error));
                folder.to_owned()
            }
        };
        let answered = operations.iter().filter(|operation| operation.answer.is_some()).count();
        violations.push(match finding {
            Finding::Contradiction { explained } => {
                Violation::NotLinearizable { key, explained, answered, history }
            }
            Finding::Undecided | Finding::Linearizable => Violation::Undecided { key, history },
        });
    }
    violations
}

fn write(operations: &[Operation], folder: &Path, key: &str) -> std::io::Result<PathBuf> {
    let path = folder.join(format!("history-{}.txt", key.replace(':', "-")));
    let lines = operations.iter().map(|operation| format!("{operation}\n"));
    let text: String =
        std::iter::once("microseconds, asked and answered\n".to_owned()).chain(lines).collect();
    fs::write(&path, text)?;
    Ok(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
mod tests {
    use wattle_core::ids::Version;
    use wattle_simulation::linearizability::{Action, Shown, Time};

    use super::*;
    use crate::record::{Key, Told};

    const KEY: Key = Key { round: 3, place: 1 };

    /// Operations one after the other.
    fn judged(name: &str, told: &[(Action, Told)]) -> (Vec<Violation>, String) {
        let folder = std::env::temp_dir().join(format!("wattle-chaos-judge-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut records = Records::default();
        for (at, (action, told)) in (0..).step_by(2).zip(told) {
            records.note(KEY, *action, Time(at), (Time(at + 1), *told));
        }
        let violations = histories(&mut records, &folder);
        let history = fs::read_to_string(folder.join("history-3-1.txt")).unwrap_or_default();
        fs::remove_dir_all(&folder).unwrap();
        (violations, history)
    }

    fn found(value: i64, version: u64) -> (Action, Told) {
        (Action::Get, Told::Shown(Shown::Found(Some((value, Version(version))))))
    }

    fn put(value: i64, version: u64) -> (Action, Told) {
        (Action::Put(value), Told::Shown(Shown::Written(Version(version))))
    }

    #[test]
    fn an_acknowledged_write_that_is_gone_is_a_violation_with_its_history() {
        let gone = (Action::Get, Told::Shown(Shown::Found(None)));
        let (violations, history) = judged("gone", &[put(1000, 5), gone]);
        assert!(
            matches!(
                &violations[..],
                [Violation::NotLinearizable { key, explained: 1, answered: 2, .. }] if key == "3:1"
            ),
            "{violations:?}"
        );
        assert_eq!(
            history,
            "microseconds, asked and answered\n           0 Put(1000) ->            1 Written(Version(5))\n           \
             2 Get ->            3 Found(None)\n"
        );
    }

    #[test]
    fn what_a_function_does_twice_is_a_violation() {
        let add = (Action::Increment(1), Told::Shown(Shown::Counted(1)));
        assert_eq!(judged("once", &[add, found(1, 7)]).0.len(), 0);
        assert_eq!(judged("twice", &[add, found(2, 7)]).0.len(), 1);
        let doubtful = (Action::Increment(1), Told::InDoubt);
        assert_eq!(judged("doubtful", &[add, doubtful, found(2, 7)]).0.len(), 0);
        assert_eq!(judged("doubtful-twice", &[add, doubtful, found(3, 7)]).0.len(), 1);
    }

    #[test]
    fn a_history_ends_where_everything_is_lost() {
        let gone = (Action::Get, Told::Shown(Shown::Found(None)));
        let mut records = Records::default();
        let told = [put(1000, 5), found(1000, 5), put(2000, 7), gone, found(2000, 7)];
        for (at, (action, told)) in (0..).step_by(2).zip(told) {
            records.note(KEY, action, Time(at), (Time(at + 1), told));
        }
        let later = Key { round: KEY.round + 1, ..KEY };
        records.note(later, Action::Get, Time(3), (Time(4), gone.1));
        // While the second value was being written.
        records.lose(KEY.round, Time(5));
        assert!(records.kept().eq([later]), "nothing of the first key has to be there");
        let left = &records.operations[&KEY];
        assert_eq!(
            left.iter().map(|operation| operation.answer.is_some()).collect::<Vec<_>>(),
            [true, true, false]
        );
        assert!(histories(&mut records, Path::new("nowhere")).is_empty());
    }

    #[test]
    fn what_was_refused_has_no_effect() {
        let refused = (Action::Put(9000), Told::Nothing);
        assert_eq!(judged("refused", &[put(1000, 5), refused, found(1000, 5)]).0.len(), 0);
        assert_eq!(judged("done-all-the-same", &[put(1000, 5), refused, found(9000, 6)]).0.len(), 1);
    }
}
