//! The last committed changes of a map in one partition, kept while somebody watches it, within a bound.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{GridTime, Version};
use crate::limits::{WATCH_LINGER, WATCH_TAIL_BYTES};

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// It was written: the change carries the new value.
    Put,
    /// It was removed.
    Removed,
    /// Its time had come.
    Expired,
    /// It made room for others.
    Evicted,
    /// All entries of the partition went; the change has no key.
    Cleared,
}

/// One committed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// To which key.
    pub key: Bytes,
    /// The new value of a put.
    pub value: Bytes,
    /// The partition's log position of the change.
    pub version: Version,
}

/// What a watcher gets of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailRead {
    /// The changes after the position that was asked for, oldest first.
    pub changes: Vec<Change>,
    /// Changes after that position are gone: what follows is incomplete.
    pub missed: bool,
    /// The position to read from next.
    pub position: Version,
    /// There is more to read already.
    pub more: bool,
}

#[derive(Debug)]
pub(super) struct Tail {
    changes: VecDeque<Change>,
    bytes: usize,
    /// Every change after this position is here.
    complete_after: Version,
    last_read: GridTime,
}

fn size(change: &Change) -> usize {
    change.key.len() + change.value.len() + size_of::<Change>()
}

impl Tail {
    pub(super) fn new(position: Version, now: GridTime) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, complete_after: position, last_read: now }
    }

    pub(super) fn push(&mut self, change: Change) {
        self.bytes += size(&change);
        self.changes.push_back(change);
        while self.bytes > WATCH_TAIL_BYTES {
            let Some(gone) = self.changes.pop_front() else { break };
            self.bytes -= size(&gone);
            self.complete_after = gone.version;
        }
    }

    /// Up to `limit` bytes of changes after `from`, and at least one if there is any that is not behind `committed`.
    pub(super) fn read(
        &mut self,
        from: Version,
        committed: Version,
        limit: usize,
        now: GridTime,
    ) -> TailRead {
        self.last_read = self.last_read.max(now);
        let first = self.changes.partition_point(|change| change.version <= from);
        let end = self.changes.partition_point(|change| change.version <= committed).max(first);
        let mut taken = 0;
        let mut bytes = 0;
        for change in self.changes.range(first..end) {
            bytes += size(change);
            if taken > 0 && bytes > limit {
                break;
            }
            taken += 1;
        }
        let changes: Vec<Change> = self.changes.range(first..first + taken).cloned().collect();
        let more = first + taken < end;
        let reached = if more { changes.last().map(|change| change.version) } else { Some(committed) };
        let reached = reached.unwrap_or(from).max(from);
        TailRead { missed: from < self.complete_after, position: reached, changes, more }
    }

    /// Forgets the changes after a position.
    pub(super) fn take_back(&mut self, after: Version) {
        while let Some(gone) = self.changes.pop_back_if(|change| change.version > after) {
            self.bytes -= size(&gone);
        }
        self.complete_after = self.complete_after.min(after);
    }

    pub(super) fn is_abandoned(&self, now: GridTime) -> bool {
        now.since(self.last_read) > WATCH_LINGER
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(version: u64, value: usize) -> Change {
        let value = Bytes::from(vec![0; value]);
        Change { kind: ChangeKind::Put, key: Bytes::from_static(b"k"), value, version: Version(version) }
    }

    fn versions(read: &TailRead) -> Vec<u64> {
        read.changes.iter().map(|change| change.version.0).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_stood() {
        let mut tail = Tail::new(Version(3), GridTime(0));
        (4..=8).for_each(|version| tail.push(put(version, 10)));
        let first = tail.read(Version(3), Version(9), 2 * size(&put(0, 10)), GridTime(0));
        assert_eq!(
            (versions(&first), first.missed, first.position, first.more),
            (vec![4, 5], false, Version(5), true)
        );
        let rest = tail.read(first.position, Version(9), usize::MAX, GridTime(0));
        assert_eq!(
            (versions(&rest), rest.missed, rest.position, rest.more),
            (vec![6, 7, 8], false, Version(9), false)
        );
    }

    #[test]
    fn a_reader_before_the_tail_is_told_that_it_missed_changes() {
        let mut tail = Tail::new(Version(3), GridTime(0));
        assert!(tail.read(Version(2), Version(3), usize::MAX, GridTime(0)).missed);
        (4..=6).for_each(|version| tail.push(put(version, WATCH_TAIL_BYTES / 2)));
        let read = tail.read(Version(3), Version(6), usize::MAX, GridTime(0));
        assert_eq!((versions(&read), read.missed), (vec![6], true));
        assert!(tail.bytes() <= WATCH_TAIL_BYTES);
        assert!(!tail.read(Version(5), Version(6), usize::MAX, GridTime(0)).missed);
    }
}
