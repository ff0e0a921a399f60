//! Modules that a grid has refused: compiling one again costs it up to a minute, and gives the same answer as a rule.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use wattle_client::Outcome;

use super::plan::WantedVersion;
use super::told::Told;

/// Which answers about a module stay the same as long as it, its settings and the nodes' version do.
const FINAL: [&str; 14] = [
    "EXPORT_NOT_FOUND",
    "EXPORT_REQUIRED",
    "INVALID_OPTIONS",
    "MODULE_BAD_MANIFEST",
    "MODULE_DOES_NOT_COMPILE",
    "MODULE_MALFORMED",
    "MODULE_NOT_WASM",
    "MODULE_OWN_RESOURCES",
    "MODULE_TOO_COMPLEX",
    "MODULE_TYPE_MISMATCH",
    "MODULE_UNKNOWN_IMPORT",
    "MODULE_UNKNOWN_WORLD",
    "MODULE_WITHOUT_COMPONENT_TYPE",
    "TOO_LARGE",
];

/// Which say nothing of the module: it was spoiled on its way, or nodes could not work on it, or not tell each other of it.
const PASSING: [&str; 6] = [
    "COMPILER_UNAVAILABLE",
    "MODULE_DIGEST_MISMATCH",
    "MODULE_MISSING",
    "MODULE_NOT_COPIED",
    "MODULE_NOT_FOUND",
    "MODULE_NOT_LOADED",
];

/// A node that was too busy to compile it in time, or has another limit by then, may take it. So may one whose reasons are not known here.
const HOLDS_FOR: Duration = Duration::from_secs(300);

/// For how long an answer is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belief {
    /// Until the module, its settings or the nodes' version change.
    Final,
    ForAWhile,
    None,
}

impl Belief {
    pub(super) fn of(outcome: Option<Outcome>, reason: Option<&str>) -> Self {
        match reason {
            // The grid may have taken it: that is looked at.
            _ if outcome != Some(Outcome::NotApplied) => Self::None,
            Some(reason) if FINAL.contains(&reason) => Self::Final,
            Some(reason) if PASSING.contains(&reason) => Self::None,
            Some(_) | None => Self::ForAWhile,
        }
    }
}

/// What a grid has said about a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) wanted: WantedVersion,
    /// What the members ran then.
    pub(super) versions: String,
    pub(super) belief: Belief,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) at: Instant,
}

impl Refusal {
    /// In words for who has written the manifest.
    pub(super) fn told(&self) -> Told {
        let again = match self.belief {
            Belief::Final => {
                "; it is not tried again before the module, its settings or the nodes' version change"
            }
            Belief::ForAWhile | Belief::None => "",
        };
        Told::NotUploaded { reason: self.reason, message: format!("{}{again}", self.message) }
    }

    pub(super) fn holds(&self, versions: &str, now: Instant) -> bool {
        match self.belief {
            Belief::Final => self.versions == versions,
            Belief::ForAWhile => self.versions == versions && now - self.at < HOLDS_FOR,
            Belief::None => false,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Refusals {
    // A leaf: the last refusal of each object, by its uid.
    last: Arc<Mutex<HashMap<String, Refusal>>>,
}

impl Refusals {
    pub(super) fn remember(&self, uid: String, refusal: Refusal) {
        self.last.lock().insert(uid, refusal);
    }

    /// What was said last about just this.
    pub(super) fn of(&self, uid: &str, wanted: &WantedVersion) -> Option<Refusal> {
        self.last.lock().get(uid).filter(|refusal| refusal.wanted == *wanted).cloned()
    }

    pub(super) fn forget(&self, uid: &str) {
        self.last.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GridFunctionSpec;
    use crate::function::plan::VersionSettings;

    /// What nodes answer to uploads.
    const ANSWERS: [&str; 2] = [
        include_str!("../../../../src/functions/loader.rs"),
        include_str!("../../../../src/functions/upload.rs"),
    ];
    /// What depends on how busy a node is, and how much memory and time it gives.
    const FOR_A_WHILE: [&str; 4] =
        ["MODULE_COMPILER_CRASHED", "MODULE_COMPILE_MEMORY", "MODULE_COMPILE_TIME", "MODULE_DOES_NOT_START"];
    /// Clients have other errors for these: they are no refusals of a module.
    const OF_THE_NODE: [&str; 2] = ["DATA_DIRECTORY", "OVERLOADED"];

    #[test]
    fn every_answer_of_a_node_is_one_that_is_known_here() {
        let is_reason = |word: &&str| {
            word.len() > 3 && word.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
        };
        let said: Vec<&str> = ANSWERS.iter().flat_map(|text| text.split('"')).filter(is_reason).collect();
        for known in FINAL.iter().chain(&FOR_A_WHILE) {
            assert!(said.contains(known), "no node says {known}");
        }
        for reason in said {
            let expected = if FINAL.contains(&reason) {
                Belief::Final
            } else if FOR_A_WHILE.contains(&reason) {
                Belief::ForAWhile
            } else {
                Belief::None
            };
            let is_known =
                expected != Belief::None || PASSING.contains(&reason) || OF_THE_NODE.contains(&reason);
            assert!(is_known, "{reason} is new: is it final?");
            if !OF_THE_NODE.contains(&reason) {
                assert_eq!(Belief::of(Some(Outcome::NotApplied), Some(reason)), expected, "{reason}");
            }
        }
    }

    #[test]
    fn only_what_says_something_of_the_module_is_believed() {
        let check =
            |outcome, reason, expected| assert_eq!(Belief::of(outcome, reason), expected, "{reason:?}");
        let not_applied = Some(Outcome::NotApplied);
        check(not_applied, Some("MODULE_UNKNOWN_IMPORT"), Belief::Final);
        check(not_applied, Some("EXPORT_NOT_FOUND"), Belief::Final);
        check(not_applied, Some("MODULE_COMPILE_TIME"), Belief::ForAWhile);
        check(not_applied, Some("MODULE_OF_A_LATER_VERSION"), Belief::ForAWhile);
        check(not_applied, Some("COMPILER_UNAVAILABLE"), Belief::None);
        check(not_applied, Some("MODULE_DIGEST_MISMATCH"), Belief::None);
        check(Some(Outcome::InDoubt), Some("MODULE_NOT_COPIED"), Belief::None);
        check(Some(Outcome::Applied), Some("MODULE_NOT_LOADED"), Belief::None);
        check(None, None, Belief::None);
    }

    #[test]
    fn a_final_answer_holds_until_the_nodes_are_others_and_another_one_for_a_while() {
        let settings = VersionSettings::of(&GridFunctionSpec::default()).unwrap();
        let now = Instant::now();
        let refusal = |belief| Refusal {
            wanted: WantedVersion { digest: "ab".into(), settings: settings.clone() },
            versions: "1".into(),
            belief,
            reason: "ModuleRefused",
            message: String::new(),
            at: now,
        };
        let held = |belief, versions, after| refusal(belief).holds(versions, now + after);
        let soon = HOLDS_FOR - Duration::from_secs(1);
        for (belief, expected) in [(Belief::Final, [true, true]), (Belief::ForAWhile, [true, false])] {
            assert_eq!([held(belief, "1", soon), held(belief, "1", HOLDS_FOR)], expected, "{belief:?}");
            assert!(!held(belief, "1, 2", soon), "{belief:?}");
        }
    }
}
