//! What the reader of a call's parts has been told, so that a repetition goes on with what ran and leaves out what is complete, and
//! parts that come again say only what is new. A partition that is refused for a moment is not complete.

use std::collections::{HashMap, HashSet};

use wattle_proto::v1;

use crate::failure::Failure;

/// About one partition.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    processed: u64,
    failed: u64,
    complete: bool,
}

#[derive(Debug, Default)]
pub(super) struct Told {
    /// To the reader.
    reader: HashMap<u32, Counts>,
    /// By the stream that is open, which counts from the beginning.
    stream: HashMap<u32, Counts>,
    /// Parts of partitions that are told as a whole, until they are complete.
    held: HashMap<u32, v1::InvokePart>,
    /// The last parts of open partitions that the stream has refused, which another attempt may cure.
    refused: Vec<v1::InvokePart>,
    /// Partitions of which the reader was told something when the call was repeated.
    resumed: HashSet<u32>,
    /// Of the whole call, as the first stream says: a repetition runs in fewer.
    partitions: u32,
    complete: u32,
    /// What ran for the first that the reader was told.
    export: Option<v1::ModuleExport>,
}

impl Told {
    /// The call is repeated, also where it was refused.
    pub(super) fn repeat(&mut self) -> Vec<v1::InvokePart> {
        let begun = self.reader.iter().filter(|(_, counts)| counts.processed > 0);
        self.resumed.extend(begun.map(|(partition, _)| *partition));
        self.stream.clear();
        self.held.clear();
        std::mem::take(&mut self.refused)
    }

    /// Whether a repetition went on in a partition, or began there anew.
    pub(super) fn is_resumed(&self, partition: u32) -> bool {
        self.resumed.contains(&partition)
    }

    /// Why partitions are open, if that can be said of each.
    pub(super) fn refusals(&self) -> Vec<Failure> {
        let open = self.partitions - self.complete;
        let is_known = self.refused.len() == open as usize;
        if is_known { self.refused.iter().flat_map(refusals).collect() } else { Vec::new() }
    }

    /// There is no time for another attempt: what was refused is so in the end.
    pub(super) fn give_up(&mut self, refused: Vec<v1::InvokePart>) -> Vec<v1::InvokePart> {
        refused.into_iter().filter_map(|part| self.add(part)).collect()
    }

    pub(super) fn has_begun(&self) -> bool {
        self.partitions > 0
    }

    pub(super) fn is_complete(&self) -> bool {
        self.has_begun() && self.complete == self.partitions
    }

    /// What ran, if the reader was told anything, and the node says it.
    pub(super) fn export(&self) -> Option<&v1::ModuleExport> {
        self.export.as_ref()
    }

    /// Partitions that were told to their end.
    pub(super) fn complete_ones(&self) -> impl Iterator<Item = u32> {
        self.reader.iter().filter(|(_, counts)| counts.complete).map(|(partition, _)| *partition)
    }

    /// Partitions of a call on all entries that were not.
    pub(super) fn open_ones(&self) -> impl Iterator<Item = u32> {
        let counts = |partition| self.reader.get(&partition).copied().unwrap_or_default();
        (0..self.partitions).filter(move |partition| !counts(*partition).complete)
    }

    fn begin(&mut self, partitions: u32) {
        if !self.has_begun() {
            self.partitions = partitions;
        }
    }

    /// A partition as a whole when this is its last part: before, a repetition may do what was refused.
    pub(super) fn whole(&mut self, part: v1::InvokePart) -> Option<v1::InvokePart> {
        self.begin(part.partitions);
        let whole = match self.held.remove(&part.partition) {
            Some(before) => joined(before, part),
            None => part,
        };
        if !whole.complete {
            self.held.insert(whole.partition, whole);
            return None;
        }
        if refusals(&whole).next().is_none() {
            return self.add(whole);
        }
        self.refuse(whole);
        None
    }

    /// What of a part is new, if anything is.
    pub(super) fn news(&mut self, mut part: v1::InvokePart) -> Option<v1::InvokePart> {
        self.begin(part.partitions);
        // Of a call on all entries, single ones are refused for good.
        if part.complete && part.error.as_ref().is_some_and(|error| transient(error).is_some()) {
            let (partition, error) = (part.partition, part.error.take());
            self.refuse(v1::InvokePart { partition, error, complete: true, ..Default::default() });
            part.complete = false;
        }
        self.add(part)
    }

    fn refuse(&mut self, part: v1::InvokePart) {
        let is_told = self.reader.get(&part.partition).is_some_and(|counts| counts.complete);
        if !is_told {
            self.refused.push(part);
        }
    }

    fn add(&mut self, mut part: v1::InvokePart) -> Option<v1::InvokePart> {
        part.partitions = self.partitions;
        let reader = self.reader.entry(part.partition).or_default();
        if reader.complete {
            return None;
        }
        let stream = self.stream.entry(part.partition).or_default();
        stream.processed += part.processed;
        stream.failed += part.failed;
        part.processed = stream.processed.saturating_sub(reader.processed);
        part.failed = stream.failed.saturating_sub(reader.failed);
        reader.processed += part.processed;
        reader.failed += part.failed;
        reader.complete = part.complete;
        self.complete += u32::from(part.complete);
        let is_new = part.complete || part.processed > 0 || !part.entries.is_empty() || part.error.is_some();
        if is_new && self.export.is_none() {
            self.export.clone_from(&part.export);
        }
        is_new.then_some(part)
    }
}

fn transient(error: &v1::OperationError) -> Option<Failure> {
    Some(Failure::from(error.clone())).filter(Failure::is_transient)
}

/// What of a part's refusals another attempt may cure. Where some of its keys were answered, one that is refused is no answer for those.
fn refusals(part: &v1::InvokePart) -> impl Iterator<Item = Failure> {
    let is_partly_done = part.entries.iter().any(|entry| entry.error.is_none());
    let of_keys = part.entries.iter().filter_map(|entry| entry.error.as_ref());
    let all = part.error.iter().chain(of_keys).filter_map(transient);
    all.map(move |failure| if is_partly_done { failure.in_doubt() } else { failure })
}

fn joined(before: v1::InvokePart, mut after: v1::InvokePart) -> v1::InvokePart {
    let mut entries = before.entries;
    entries.append(&mut after.entries);
    v1::InvokePart {
        entries,
        processed: before.processed + after.processed,
        failed: before.failed + after.failed,
        error: before.error.or(after.error),
        ..after
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
            assert_eq!(told.news(part.clone()), Some(part));
        }
        assert!(told.is_complete());
    }

    #[test]
    fn of_counts_that_come_again_only_the_rest_is_told() {
        let mut told = Told::default();
        told.news(part(0, 4, &["a"])).unwrap();
        told.news(complete(part(1, 2, &[]))).unwrap();
        told.repeat();
        assert_eq!(told.complete_ones().collect::<Vec<_>>(), [1]);
        assert_eq!(told.open_ones().collect::<Vec<_>>(), [0]);
        // By a node that does not know how to leave it out.
        assert_eq!(told.news(complete(part(1, 2, &[]))), None);
        // What had been done when the call came again, some of which nobody was told, and the next entries.
        assert_eq!(told.news(part(0, 10, &["d"])), Some(part(0, 6, &["d"])));
        told.repeat();
        assert_eq!(told.news(part(0, 8, &[])), None);
        let rest = told.news(complete(part(0, 4, &[]))).unwrap();
        assert_eq!((rest.processed, rest.failed, told.is_complete()), (2, 1, true));
    }

    #[test]
    fn a_repetition_in_fewer_partitions_is_a_part_of_the_whole() {
        let mut told = Told::default();
        told.news(complete(part(1, 2, &[]))).unwrap();
        told.repeat();
        let last = v1::InvokePart { partitions: 1, ..complete(part(0, 4, &[])) };
        assert_eq!(told.news(last), Some(complete(part(0, 4, &[]))));
        assert!(told.is_complete());
    }

    fn refused(part: v1::InvokePart, reason: &str) -> v1::InvokePart {
        let error = v1::OperationError {
            code: tonic::Code::Unavailable as i32,
            reason: reason.to_owned(),
            outcome: v1::Outcome::NotApplied.into(),
            ..Default::default()
        };
        v1::InvokePart { error: Some(error), ..complete(part) }
    }

    #[test]
    fn a_partition_that_is_refused_for_a_moment_stays_open() {
        let mut told = Told::default();
        // What was done before it was refused is told.
        assert_eq!(told.news(refused(part(0, 4, &["a"]), "NOT_OWNER")), Some(part(0, 4, &["a"])));
        assert_eq!(told.refusals(), [], "nobody knows of the other");
        told.news(complete(part(1, 2, &[]))).unwrap();
        assert_eq!(told.refusals().iter().map(Failure::reason).collect::<Vec<_>>(), [Some("NOT_OWNER")]);
        assert!(!told.is_complete() && !told.is_resumed(0));
        assert_eq!((told.repeat().len(), told.is_resumed(0)), (1, true));
        assert_eq!(told.open_ones().collect::<Vec<_>>(), [0]);
        assert_eq!(told.news(complete(part(0, 6, &["b"]))), Some(complete(part(0, 2, &["b"]))));
        assert!(told.is_complete());
    }

    #[test]
    fn what_is_refused_for_good_is_told_at_once() {
        let mut told = Told::default();
        let last = refused(part(0, 4, &["a"]), "DATA_DIRECTORY");
        assert_eq!(told.news(last.clone()), Some(last));
        let last = refused(part(1, 4, &["z"]), "DATA_DIRECTORY");
        assert_eq!(told.whole(last.clone()), Some(last));
        assert!(told.is_complete());
    }

    #[test]
    fn keys_that_are_refused_for_a_moment_keep_their_partition_open() {
        let mut told = Told::default();
        let mut busy = complete(part(0, 2, &["a", "b"]));
        let of_b = refused(part(0, 0, &[]), "OVERLOADED").error;
        busy.entries[1].error.clone_from(&of_b);
        assert_eq!(told.whole(busy.clone()), None);
        told.whole(complete(part(1, 1, &["z"]))).unwrap();
        // A later refusal would not say what became of the key that was answered.
        let outcomes = told.refusals().iter().map(Failure::outcome).collect::<Vec<_>>();
        assert_eq!(outcomes, [Some(crate::Outcome::InDoubt)]);
        let given_up = told.repeat();
        assert_eq!(told.give_up(given_up), [busy]);
        assert!(told.is_complete());
    }

    #[test]
    fn what_ran_is_known_as_soon_as_something_is_told() {
        let export = |name: &str| v1::ModuleExport { module: String::new(), export: name.to_owned() };
        let by = |name: &str, part| v1::InvokePart { export: Some(export(name)), ..part };
        let mut told = Told::default();
        assert_eq!(told.news(by("idle", part(0, 0, &[]))), None);
        assert_eq!(told.whole(by("held", part(1, 2, &["a", "b"]))), None);
        told.repeat();
        assert_eq!(told.export(), None);
        told.whole(by("first", complete(part(0, 1, &["z"])))).unwrap();
        told.whole(by("second", complete(part(1, 1, &["a"])))).unwrap();
        assert_eq!(told.export(), Some(&export("first")));
    }

    #[test]
    fn answers_of_a_partition_are_told_together_and_as_they_are_in_the_end() {
        let mut told = Told::default();
        assert_eq!(told.whole(part(0, 2, &["a", "b"])), None);
        assert_eq!(told.whole(complete(part(1, 2, &["z"]))), Some(complete(part(1, 2, &["z"]))));
        told.repeat();
        assert_eq!(told.whole(part(0, 2, &["a", "b"])), None);
        assert_eq!(told.whole(part(0, 2, &["c"])), None);
        let whole = told.whole(complete(part(0, 4, &["d"])));
        assert_eq!(whole, Some(complete(part(0, 8, &["a", "b", "c", "d"]))));
        assert!(told.is_complete());
    }
}
