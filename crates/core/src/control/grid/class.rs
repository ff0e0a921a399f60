//! Replication classes: how many copies a partition has, and how many must be in sync for a write.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{BACKUPS_MAX, PARTITIONS_MAX};

/// What the partitions of a class have in common. Fixed when the class is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassOptions {
    /// Copies beside the primary's.
    pub backups: u8,
    /// Copies that must be in sync for a write, the primary's too.
    pub min_in_sync: u8,
    /// How many there are.
    pub partitions: u16,
}

/// Why a class cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum InvalidClass {
    /// Too many backups.
    #[error("a class has at most {BACKUPS_MAX} backups, not {backups}")]
    Backups {
        /// Asked for.
        backups: u8,
    },
    /// None, or more than there are copies.
    #[error("with {backups} backups 1 to {} copies can be demanded in sync, not {min_in_sync}", backups + 1)]
    MinInSync {
        /// Asked for.
        backups: u8,
        /// Asked for.
        min_in_sync: u8,
    },
    /// None, or too many.
    #[error("a class has 1 to {PARTITIONS_MAX} partitions, not {partitions}")]
    Partitions {
        /// Asked for.
        partitions: u16,
    },
}

impl ClassOptions {
    /// One backup, and writes go on while one copy is there. Every grid has this class.
    #[must_use]
    pub fn standard(partitions: u16) -> Self {
        Self { backups: 1, min_in_sync: 1, partitions }
    }

    /// Two backups, and writes demand two copies: no single failure loses an acknowledged write.
    #[must_use]
    pub fn durable(partitions: u16) -> Self {
        Self { backups: 2, min_in_sync: 2, partitions }
    }

    /// The class of a name that people use.
    #[must_use]
    pub fn named(name: &str, partitions: u16) -> Option<Self> {
        [Self::standard(partitions), Self::durable(partitions)]
            .into_iter()
            .find(|class| class.name() == Some(name))
    }

    /// What people call it, if anything.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        match (self.backups, self.min_in_sync) {
            (1, 1) => Some("standard"),
            (2, 2) => Some("durable"),
            _ => None,
        }
    }

    /// Copies of a partition, if there are as many nodes.
    #[must_use]
    pub fn copies(&self) -> usize {
        usize::from(self.backups) + 1
    }

    /// Whether maps cannot tell one from the other.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.backups, self.min_in_sync) == (other.backups, other.min_in_sync)
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`InvalidClass`] says what is wrong.
    pub fn validate(&self) -> Result<(), InvalidClass> {
        let Self { backups, min_in_sync, partitions } = *self;
        if backups > BACKUPS_MAX {
            return Err(InvalidClass::Backups { backups });
        }
        if min_in_sync == 0 || min_in_sync > backups + 1 {
            return Err(InvalidClass::MinInSync { backups, min_in_sync });
        }
        if partitions == 0 || partitions > PARTITIONS_MAX {
            return Err(InvalidClass::Partitions { partitions });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_checked_at_their_limits() {
        let check = |backups, min_in_sync, partitions, expected| {
            assert_eq!(ClassOptions { backups, min_in_sync, partitions }.validate(), expected);
        };
        check(0, 1, 1, Ok(()));
        check(BACKUPS_MAX, BACKUPS_MAX + 1, PARTITIONS_MAX, Ok(()));
        check(BACKUPS_MAX + 1, 1, 1, Err(InvalidClass::Backups { backups: BACKUPS_MAX + 1 }));
        check(1, 0, 1, Err(InvalidClass::MinInSync { backups: 1, min_in_sync: 0 }));
        check(1, 3, 1, Err(InvalidClass::MinInSync { backups: 1, min_in_sync: 3 }));
        check(1, 1, 0, Err(InvalidClass::Partitions { partitions: 0 }));
        let over = PARTITIONS_MAX + 1;
        check(1, 1, over, Err(InvalidClass::Partitions { partitions: over }));
    }

    #[test]
    fn two_classes_have_names() {
        assert_eq!(ClassOptions::named("standard", 7), Some(ClassOptions::standard(7)));
        assert_eq!(ClassOptions::named("durable", 7), Some(ClassOptions::durable(7)));
        assert_eq!(ClassOptions::named("other", 7), None);
        assert_eq!(ClassOptions { backups: 3, min_in_sync: 2, partitions: 7 }.name(), None);
    }
}
