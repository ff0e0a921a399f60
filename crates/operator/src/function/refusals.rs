//! Modules that a grid has refused: compiling one again costs it up to a minute, and gives the same answer as a rule.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::plan::WantedVersion;

/// A machine that was too busy to compile it may not be so by then.
const HOLDS_FOR: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Default)]
pub(super) struct Refusals {
    // A leaf: the last refusal of each object, by its uid.
    last: Arc<Mutex<HashMap<String, Refusal>>>,
}

#[derive(Debug)]
struct Refusal {
    wanted: WantedVersion,
    message: String,
    at: Instant,
}

impl Refusals {
    pub(super) fn remember(&self, uid: String, wanted: WantedVersion, message: String) {
        self.last.lock().insert(uid, Refusal { wanted, message, at: Instant::now() });
    }

    /// What was said about just this not long ago.
    pub(super) fn still(&self, uid: &str, wanted: &WantedVersion) -> Option<String> {
        let last = self.last.lock();
        let refusal = last.get(uid).filter(|refusal| refusal.wanted == *wanted)?;
        (refusal.at.elapsed() < HOLDS_FOR).then(|| refusal.message.clone())
    }

    pub(super) fn forget(&self, uid: &str) {
        self.last.lock().remove(uid);
    }
}
