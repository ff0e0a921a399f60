//! [`Row`]: all that is decided about one partition.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::command::{DecisionError, Order};
use crate::ids::{Epoch, MemberId};
use crate::membership::Presence;
use crate::replication::Assignment;

/// What is decided about one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Who holds it, and who should.
    pub assignment: Assignment,
    /// The reign in which it last began empty: a copy that has only seen earlier ones is void. `None` is to begin yet.
    pub began: Option<Epoch>,
    /// Who should be primary, as soon as that can be without harm. Not part of the assignment: another wish does not make void
    /// what a primary has proposed.
    pub preferred: Option<MemberId>,
    /// The grid's version at the last change.
    pub(super) changed: u64,
}

/// What a serving primary owes to the plan, beside bringing in sync who is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Nothing.
    None,
    /// To make this member primary ([`Replica::hand_over`](crate::replication::Replica::hand_over)).
    HandOver(MemberId),
    /// To remove this member, which is not wanted any more ([`Replica::suspect`](crate::replication::Replica::suspect)).
    Retire(MemberId),
}

impl Row {
    pub(super) fn new(generation: u32) -> Self {
        Self {
            assignment: Assignment {
                version: 0,
                epoch: Epoch { generation, number: 0 },
                primary: None,
                in_sync: BTreeSet::new(),
                wanted: BTreeSet::new(),
            },
            began: None,
            preferred: None,
            changed: 0,
        }
    }

    /// It had begun, and nobody holds any more what was acknowledged.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.began.is_some() && self.assignment.is_lost()
    }

    /// Nobody is missing who is wanted.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.assignment.wanted.is_subset(&self.assignment.in_sync)
    }

    /// Whether this member cannot leave without harm: it decides, is wanted, or what it holds is not yet held by all who are
    /// wanted, of whom one lives: others may be leaving, too. What is lost waits for people, who may take long, and nobody for it.
    #[must_use]
    pub fn needs(&self, member: MemberId, presence: &BTreeMap<MemberId, Presence>) -> bool {
        let Assignment { primary, in_sync, wanted, .. } = &self.assignment;
        let lives = |other: &MemberId| *other != member && presence.get(other) == Some(&Presence::Alive);
        let is_spare = self.is_complete() && wanted.iter().any(lives);
        if self.is_lost() {
            return false;
        }
        *primary == Some(member) || wanted.contains(&member) || in_sync.contains(&member) && !is_spare
    }

    /// What the primary owes. Who is wanted comes first: a new primary would begin anew with bringing them in sync.
    #[must_use]
    pub fn duty(&self, min_in_sync: usize) -> Duty {
        let Assignment { primary, in_sync, wanted, .. } = &self.assignment;
        let complete = self.is_complete() || cfg!(mutant = "control-retire-early");
        let Some(primary) = primary.filter(|_| complete) else { return Duty::None };
        if let Some(to) = self.preferred.filter(|to| *to != primary && in_sync.contains(to)) {
            return Duty::HandOver(to);
        }
        let extra = in_sync.difference(wanted).find(|member| **member != primary);
        match extra {
            Some(extra) if in_sync.len() > min_in_sync => Duty::Retire(*extra),
            Some(_) | None => Duty::None,
        }
    }

    /// Carries a decision out; returns whether it has changed anything.
    pub(super) fn follow(&mut self, order: &Order) -> Result<bool, DecisionError> {
        match order {
            Order::Begin { wanted, primary } => {
                if self.began.is_some() {
                    return Err(DecisionError::HasBegun);
                }
                self.restart(*primary);
                self.assignment.wanted.clone_from(wanted);
            }
            Order::BeginElsewhere { on } => {
                if self.began.is_none() {
                    return Err(DecisionError::HasNotBegun);
                }
                self.restart(*on);
            }
            Order::FailOver { to } => {
                if self.assignment.primary == Some(*to) {
                    return Err(DecisionError::IsPrimary { member: *to });
                }
                if !self.assignment.fail_over(*to) {
                    return Err(DecisionError::NotInSync { member: *to });
                }
                // Else it would hand over at once to the one who is dead.
                self.preferred = Some(*to);
            }
            Order::Want { wanted, primary } => {
                if self.assignment.wanted == *wanted && self.preferred == Some(*primary) {
                    return Ok(false);
                }
                self.assignment.want(wanted.clone());
                self.preferred = Some(*primary);
            }
        }
        Ok(true)
    }

    /// It begins empty, under a reign that no copy has seen.
    pub(super) fn restart(&mut self, on: MemberId) {
        self.take_up(on);
        self.assignment.wanted = BTreeSet::from([on]);
        self.began = Some(self.assignment.epoch);
    }

    /// Whether a copy whose last record is of this reign is one of the partition, and not of what it was before it began empty.
    #[must_use]
    pub fn is_copy_of(&self, epoch: Epoch) -> bool {
        self.began.is_some_and(|began| (began..=self.assignment.epoch).contains(&epoch))
    }

    /// It goes on with what this member has.
    pub(super) fn take_up(&mut self, member: MemberId) {
        self.assignment.in_sync = BTreeSet::from([member]);
        self.assignment.primary = Some(member);
        self.assignment.epoch = self.assignment.epoch.next();
        self.assignment.version += 1;
        self.preferred = Some(member);
    }

    /// Whether the row is about this member.
    #[must_use]
    pub fn names(&self, member: MemberId) -> bool {
        let Assignment { in_sync, wanted, .. } = &self.assignment;
        in_sync.contains(&member) || wanted.contains(&member) || self.preferred == Some(member)
    }

    /// A member is gone with all its memory.
    pub(super) fn forget(&mut self, member: MemberId) {
        self.assignment.forget(member);
        self.preferred.take_if(|preferred| *preferred == member);
    }

    /// Panics if the parts do not fit together.
    pub(super) fn check_invariants(&self) {
        let Assignment { epoch, primary, in_sync, .. } = &self.assignment;
        assert!(primary.is_none_or(|primary| in_sync.contains(&primary)), "who decides holds everything");
        assert!(self.began.is_some() || in_sync.is_empty(), "what has not begun has no copies");
        assert!(self.began.is_none_or(|began| began <= *epoch));
    }
}
