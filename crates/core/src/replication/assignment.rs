//! [`Assignment`]: what the control group has decided about one partition, and which changes of it are allowed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::{Epoch, MemberId};

/// Who holds a partition: by default nobody, as long as nothing has been decided. Changed only by the control group, every change
/// conditional on the version that it was decided on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Assignment {
    /// Rises with every change of this assignment.
    pub version: u64,
    /// Rises with every new primary.
    pub epoch: Epoch,
    /// Who decides about the partition; `None` while nobody does: the partition is lost, or not yet begun.
    pub primary: Option<MemberId>,
    /// Who holds every write that was ever acknowledged.
    pub in_sync: BTreeSet<MemberId>,
    /// Who should hold the partition. Those who do not are brought in sync by the primary.
    pub wanted: BTreeSet<MemberId>,
}

/// What a primary may ask for: one member more in its set, one less, one for another; or a successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Change {
    /// Who has caught up.
    pub add: Option<MemberId>,
    /// Who has fallen behind.
    pub remove: Option<MemberId>,
    /// Who is to be primary, of those in the set.
    pub successor: Option<MemberId>,
}

/// A primary's wish to change its assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Proposal {
    /// The primary.
    pub by: MemberId,
    /// The assignment that it was decided on: void as soon as there is a newer one.
    pub version: u64,
    /// The wish.
    pub change: Change,
}

/// Why a proposal was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProposalError {
    /// The assignment has changed since.
    #[error("it was decided on version {proposed}, and the assignment is at {current}")]
    Outdated {
        /// The version it names.
        proposed: u64,
        /// The version there is.
        current: u64,
    },
    /// Only the primary changes its set, and never removes itself.
    #[error("a primary changes its own assignment, and never removes itself")]
    NotItsOwn,
    /// The change does nothing, or not what it says.
    #[error("who is added must be absent, who is removed or succeeds must be in the set")]
    Meaningless,
    /// The set must not get smaller than this by a proposal.
    #[error("{left} members would be left, and {min_in_sync} must be")]
    TooFew {
        /// Members that would be left.
        left: usize,
        /// Of the replication class.
        min_in_sync: usize,
    },
}

impl Assignment {
    /// Decides about a primary's proposal.
    ///
    /// # Errors
    /// Nothing has changed.
    pub fn change(&mut self, proposal: &Proposal, min_in_sync: usize) -> Result<(), ProposalError> {
        let Proposal { by, version, change } = *proposal;
        if version != self.version {
            return Err(ProposalError::Outdated { proposed: version, current: self.version });
        }
        if self.primary != Some(by) || change.remove == Some(by) {
            return Err(ProposalError::NotItsOwn);
        }
        let adds = change.add.is_none_or(|add| !self.in_sync.contains(&add));
        let removes = change.remove.is_none_or(|remove| self.in_sync.contains(&remove));
        let succeeds =
            change.successor.is_none_or(|to| self.in_sync.contains(&to) && change.remove != Some(to));
        if !adds || !removes || !succeeds || change == Change::default() {
            return Err(ProposalError::Meaningless);
        }
        let left =
            self.in_sync.len() + usize::from(change.add.is_some()) - usize::from(change.remove.is_some());
        let min_in_sync = if cfg!(mutant = "min-in-sync") { 1 } else { min_in_sync };
        // One for another is allowed whatever the size: nobody is worse off.
        if change.remove.is_some() && change.add.is_none() && left < min_in_sync {
            return Err(ProposalError::TooFew { left, min_in_sync });
        }
        if let Some(remove) = change.remove {
            self.in_sync.remove(&remove);
        }
        self.in_sync.extend(change.add);
        if let Some(successor) = change.successor {
            self.primary = Some(successor);
            self.epoch = self.epoch.next();
        }
        self.version += 1;
        Ok(())
    }

    /// Makes another member primary; whether that is possible. The old one stays in the set: only its successor removes it, and
    /// proves by that that it lives itself.
    pub fn fail_over(&mut self, to: MemberId) -> bool {
        if !self.in_sync.contains(&to) {
            if !(cfg!(mutant = "rule-10-loss") && self.is_lost()) {
                return false;
            }
            self.in_sync.insert(to);
        }
        if cfg!(mutant = "rule-4-failover-removes")
            && let Some(old) = self.primary.filter(|old| *old != to)
        {
            self.in_sync.remove(&old);
        }
        self.primary = Some(to);
        self.epoch = self.epoch.next();
        self.version += 1;
        true
    }

    /// A member has lost its memory: it holds nothing any more. Its successor, if it was primary, is named by the next
    /// [`Self::fail_over`]; where nobody is left, the partition is lost.
    pub fn forget(&mut self, member: MemberId) {
        if self.in_sync.remove(&member) | self.wanted.remove(&member) {
            if self.primary == Some(member) {
                self.primary = None;
            }
            self.version += 1;
        }
    }

    /// Who should hold the partition from now on.
    pub fn want(&mut self, wanted: BTreeSet<MemberId>) {
        if self.wanted != wanted {
            self.wanted = wanted;
            self.version += 1;
        }
    }

    /// Nobody holds what was acknowledged.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.in_sync.is_empty()
    }
}
