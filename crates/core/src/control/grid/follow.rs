//! What the copies of one member have to do when its table changes.
//!
//! A table is late, and so is what it says about a copy: newer ones may say otherwise, and others may act on them already. To void and
//! to assign is safe all the same, for both are bound to reigns and versions; to let a copy go is not, and says how it is done.

use std::sync::Arc;

use super::row::Row;
use super::state::Grid;
use crate::ids::{Epoch, MemberId, PartitionId, ReplicationClass};

/// What a member's copy of a partition has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyDuty<'a> {
    /// The partition began empty in this reign: a copy that has seen only earlier ones is worth nothing, and goes.
    Void(Epoch),
    /// To learn this row. A copy is made if the row counts on the member and there is none.
    Assign(&'a Row),
    /// As many others as there should be hold everything: if there is a copy, it may go.
    ///
    /// Not at once: by a newer table it may be wanted again, its primary may know that table already, and the copy may be in sync by
    /// now. It goes when a table that was asked for *later*, and answered by the control group's leader, still says that it
    /// [may go](Grid::may_go), and no primary has sent the copy anything since before it was asked for.
    Release,
}

impl Grid {
    /// What a member's copies have to do that have followed `before` and are to follow this: in this order for each partition.
    /// `None` is no table at all: then everything is new. Rows that both share are not looked at.
    #[must_use]
    pub fn duties_of(&self, member: MemberId, before: Option<&Self>) -> Vec<(PartitionId, CopyDuty<'_>)> {
        let mut duties = Vec::new();
        // Nobody follows a table back.
        if before.is_some_and(|before| (before.generation, before.version) >= (self.generation, self.version))
        {
            return duties;
        }
        for (number, class) in (0..).map(ReplicationClass).zip(&self.classes) {
            let old = before.and_then(|before| before.classes.get(usize::from(number.0)));
            if old.is_some_and(|old| Arc::ptr_eq(&old.rows, &class.rows)) {
                continue;
            }
            for (index, row) in (0_u16..).zip(class.rows.iter()) {
                let old = old.and_then(|old| old.rows.get(usize::from(index)));
                if old.is_none_or(|old| !Arc::ptr_eq(old, row) && old != row) {
                    let partition = PartitionId { class: number, index };
                    let mut add = |duty| duties.push((partition, duty));
                    row_duties((row, old.map(Arc::as_ref)), member, class.options.copies(), &mut add);
                }
            }
        }
        duties
    }

    /// Whether a member's copy of a partition is one more than there should be.
    #[must_use]
    pub fn may_go(&self, member: MemberId, partition: PartitionId) -> bool {
        let (class, row) = (self.class(partition.class), self.row(partition));
        row.zip(class).is_some_and(|(row, class)| row.can_spare(member, class.copies()))
    }
}

fn row_duties<'a>(
    (row, before): (&'a Row, Option<&Row>),
    member: MemberId,
    copies: usize,
    add: &mut impl FnMut(CopyDuty<'a>),
) {
    let began_before = before.and_then(|before| before.began);
    if let Some(began) = row.began.filter(|began| began_before != Some(*began))
        && !cfg!(mutant = "control-void")
    {
        add(CopyDuty::Void(began));
    }
    // Also who is counted on no more: it may reign still.
    if row.counts_on(member) || before.is_some_and(|before| before.counts_on(member)) {
        add(CopyDuty::Assign(row));
    }
    if row.can_spare(member, copies) {
        add(CopyDuty::Release);
    }
}

impl Row {
    /// Whether the member holds the partition, or should.
    #[must_use]
    pub fn counts_on(&self, member: MemberId) -> bool {
        self.assignment.in_sync.contains(&member) || self.assignment.wanted.contains(&member)
    }

    /// Whether a copy of this member is one more than there should be. While others are missing it may be the last that people can
    /// go back to.
    fn can_spare(&self, member: MemberId, copies: usize) -> bool {
        let enough = self.is_complete() && self.assignment.in_sync.len() >= copies;
        !self.counts_on(member) && (enough || cfg!(mutant = "control-spare"))
    }
}
