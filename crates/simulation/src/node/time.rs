//! What a node makes of what it is told about time: grid time, and whether it is in touch with who leads.

use std::time::Duration;

use wattle_core::ids::GridTime;
use wattle_core::limits::FENCE_TIME;
use wattle_core::replication::{Contact, LocalTime, Now};
use wattle_core::slew::Slew;

use super::Node;

/// What a node knows of the time.
#[derive(Debug)]
pub(crate) struct TimeKeeper {
    pub(crate) slew: Slew,
    /// What the machine's wall shows at the moment.
    pub(crate) wall: GridTime,
    /// When it said what a leader has heard last.
    proven: Option<LocalTime>,
}

impl TimeKeeper {
    pub(super) fn new(local: LocalTime, wall: GridTime) -> Self {
        Self { slew: Slew::by_wall(local, wall), wall, proven: None }
    }

    /// Grid time, if it was told.
    pub(super) fn known(&self, now: Now) -> Option<GridTime> {
        self.slew.is_set().then(|| self.slew.read(now.local))
    }

    /// As the production node has it.
    pub(crate) fn contact(&self, now: LocalTime) -> Contact {
        match self.proven {
            Some(proven) if proven + FENCE_TIME <= now => Contact::Lost,
            Some(_) | None => Contact::Kept,
        }
    }
}

impl Node {
    /// A member has said what grid time it is: a leader whose process has only begun goes on with that.
    pub(super) fn begin_with(&mut self, now: Now, time: Option<GridTime>) {
        if let Some(time) = time.filter(|_| !self.time.slew.is_set()) {
            self.time.slew.follow(now.local, time);
        }
    }

    /// The leader has heard what this node said at a time, and has said what grid time it was then.
    pub(super) fn is_heard(&mut self, now: Now, (said, time): (LocalTime, Option<GridTime>)) {
        if let Some(time) = time {
            let travelled = Duration::from_millis(now.local.0.saturating_sub(said.0) / 2);
            self.time.slew.follow(now.local, time.after(travelled));
            self.time.proven = self.time.proven.max(Some(said));
        }
    }

    /// Who leads says what time it is, by the clock on its wall; but not before it may.
    pub(super) fn keep_time(&mut self, now: Now) {
        let Some(leading) = &self.leading else { return };
        if self.time.slew.is_set() || leading.has_settled() {
            self.time.slew.follow(now.local, self.time.wall);
            self.time.proven = Some(now.local);
        }
    }
}
