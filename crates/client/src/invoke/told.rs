//! What the reader of a call's parts has been told, so that parts that come again say only what is new.

use std::collections::HashMap;

use wattle_proto::v1;

/// What a repeated call answers for the entries that it has been through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repetition {
    /// The same single answers again, in the same order.
    Answers,
    /// Counts.
    Counts,
}

/// About one partition.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    processed: u64,
    failed: u64,
    entries: usize,
    complete: bool,
}

#[derive(Debug, Default)]
pub(super) struct Told {
    /// To the reader.
    reader: HashMap<u32, Counts>,
    /// By the stream that is open, which counts from the beginning.
    stream: HashMap<u32, Counts>,
    partitions: u32,
    complete: u32,
}

impl Told {
    /// The call is repeated.
    pub(super) fn repeat(&mut self) {
        self.stream.clear();
    }

    pub(super) fn has_begun(&self) -> bool {
        self.partitions > 0
    }

    pub(super) fn is_complete(&self) -> bool {
        self.has_begun() && self.complete == self.partitions
    }

    /// What of a part is new, if anything is.
    pub(super) fn news(
        &mut self,
        mut part: v1::InvokePart,
        repetition: Repetition,
    ) -> Option<v1::InvokePart> {
        self.partitions = part.partitions;
        let reader = self.reader.entry(part.partition).or_default();
        if reader.complete {
            return None;
        }
        let stream = self.stream.entry(part.partition).or_default();
        if repetition == Repetition::Answers {
            let known = reader.entries.saturating_sub(stream.entries).min(part.entries.len());
            stream.entries += part.entries.len();
            part.entries.drain(..known);
        }
        stream.processed += part.processed;
        stream.failed += part.failed;
        part.processed = stream.processed.saturating_sub(reader.processed);
        part.failed = stream.failed.saturating_sub(reader.failed);
        reader.processed += part.processed;
        reader.failed += part.failed;
        reader.entries = reader.entries.max(stream.entries);
        reader.complete = part.complete;
        self.complete += u32::from(part.complete);
        let is_new = part.complete || part.processed > 0 || !part.entries.is_empty() || part.error.is_some();
        is_new.then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn part(partition: u32, processed: u64, keys: &[&'static str]) -> v1::InvokePart {
        let entry = |key: &&'static str| v1::EntryResult {
            key: Bytes::from_static(key.as_bytes()),
            ..Default::default()
        };
        let entries = keys.iter().map(entry).collect();
        v1::InvokePart {
            partition,
            processed,
            failed: processed / 2,
            entries,
            partitions: 2,
            ..Default::default()
        }
    }

    fn complete(part: v1::InvokePart) -> v1::InvokePart {
        v1::InvokePart { complete: true, ..part }
    }

    #[test]
    fn a_stream_that_does_not_break_is_told_as_it_is() {
        let mut told = Told::default();
        for part in [part(0, 4, &["a"]), complete(part(1, 2, &[])), complete(part(0, 0, &["b"]))] {
            assert!(!told.is_complete());
            assert_eq!(told.news(part.clone(), Repetition::Counts), Some(part));
        }
        assert!(told.is_complete());
    }

    #[test]
    fn of_counts_that_come_again_only_the_rest_is_told() {
        let mut told = Told::default();
        told.news(part(0, 4, &["a"]), Repetition::Counts).unwrap();
        told.news(complete(part(1, 2, &[])), Repetition::Counts).unwrap();
        told.repeat();
        assert_eq!(told.news(complete(part(1, 2, &[])), Repetition::Counts), None);
        // What had been done when the call came again, some of which nobody was told, and the next entries.
        assert_eq!(told.news(part(0, 10, &["d"]), Repetition::Counts), Some(part(0, 6, &["d"])));
        told.repeat();
        assert_eq!(told.news(part(0, 8, &[]), Repetition::Counts), None);
        let rest = told.news(complete(part(0, 4, &[])), Repetition::Counts).unwrap();
        assert_eq!((rest.processed, rest.failed, told.is_complete()), (2, 1, true));
    }

    #[test]
    fn of_answers_that_come_again_only_the_rest_is_told() {
        let mut told = Told::default();
        told.news(part(0, 2, &["a", "b"]), Repetition::Answers).unwrap();
        told.repeat();
        assert_eq!(told.news(part(0, 2, &["a", "b"]), Repetition::Answers), None);
        assert_eq!(told.news(part(0, 2, &["c", "d"]), Repetition::Answers), Some(part(0, 2, &["c", "d"])));
        told.repeat();
        let rest = told.news(complete(part(0, 6, &["a", "b", "c", "d", "e", "f"])), Repetition::Answers);
        assert_eq!(rest, Some(complete(part(0, 2, &["e", "f"]))));
    }
}
