//! [`Log`]: the records of a partition that some replica may still miss.

use std::collections::VecDeque;

use crate::ids::{Epoch, Version};

/// Names a record: no two records of a partition have the same position and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mark {
    /// Under which it was first appended.
    pub epoch: Epoch,
    /// Of its last change.
    pub position: Version,
}

/// What one step of a primary has changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record<P> {
    /// Which it is.
    pub mark: Mark,
    /// The changes.
    pub payload: P,
}

/// Records in order, behind those that all have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Log<P> {
    /// The last record that is not kept any more.
    base: Mark,
    records: VecDeque<Record<P>>,
}

impl<P> Log<P> {
    pub(super) fn new(base: Mark) -> Self {
        Self { base, records: VecDeque::new() }
    }

    pub(super) fn base(&self) -> Mark {
        self.base
    }

    pub(super) fn last(&self) -> Mark {
        self.records.back().map_or(self.base, |record| record.mark)
    }

    pub(super) fn push(&mut self, record: Record<P>) {
        debug_assert!(record.mark.position > self.last().position, "positions rise");
        debug_assert!(record.mark.epoch >= self.last().epoch, "epochs never go back");
        self.records.push_back(record);
    }

    /// There is nobody who misses the records up to here.
    pub(super) fn skip_to(&mut self, last: Mark) {
        debug_assert!(self.records.is_empty() && last.position >= self.base.position);
        self.base = last;
    }

    /// The records behind a position.
    pub(super) fn after(&self, position: Version) -> impl Iterator<Item = &Record<P>> {
        self.records.range(self.index_after(position)..)
    }

    /// The record that ends at a position, if it is known.
    pub(super) fn mark_at(&self, position: Version) -> Option<Mark> {
        if position == self.base.position {
            return Some(self.base);
        }
        let index = self.index_after(position).checked_sub(1)?;
        let mark = self.records[index].mark;
        (mark.position == position).then_some(mark)
    }

    /// Drops the records behind a position: they were never committed.
    pub(super) fn truncate_after(&mut self, position: Version) {
        self.records.truncate(self.index_after(position));
    }

    /// Drops the records up to a position: nobody misses them any more.
    pub(super) fn drop_through(&mut self, position: Version) {
        while let Some(record) = self.records.pop_front_if(|record| record.mark.position <= position) {
            self.base = record.mark;
        }
    }

    fn index_after(&self, position: Version) -> usize {
        self.records.partition_point(|record| record.mark.position <= position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch: u64, position: u64) -> Mark {
        Mark { epoch: Epoch { generation: 0, number: epoch }, position: Version(position) }
    }

    fn positions(log: &Log<()>, after: u64) -> Vec<u64> {
        log.after(Version(after)).map(|record| record.mark.position.0).collect()
    }

    #[test]
    fn records_are_found_by_position_whatever_is_dropped() {
        let mut log = Log::new(mark(1, 3));
        for mark in [mark(1, 5), mark(1, 6), mark(2, 9), mark(2, 12)] {
            log.push(Record { mark, payload: () });
        }
        assert_eq!(positions(&log, 0), [5, 6, 9, 12]);
        assert_eq!(positions(&log, 6), [9, 12]);
        assert_eq!(
            [3, 5, 7, 9].map(|at| log.mark_at(Version(at))),
            [Some(mark(1, 3)), Some(mark(1, 5)), None, Some(mark(2, 9))]
        );
        log.drop_through(Version(7));
        assert_eq!((log.base(), positions(&log, 0)), (mark(1, 6), vec![9, 12]));
        assert_eq!((log.mark_at(Version(5)), log.mark_at(Version(6))), (None, Some(mark(1, 6))));
        log.truncate_after(Version(9));
        assert_eq!((log.last(), positions(&log, 6)), (mark(2, 9), vec![9]));
        log.truncate_after(Version(0));
        assert_eq!(log.last(), mark(1, 6));
    }
}
