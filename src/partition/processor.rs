//! Runs an entry processor on a batch of entries of one partition and applies the effects that it asks for.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use wattle_core::ids::{Slot, Version};
use wattle_core::limits::{SCAN_BYTES, TTL_MAX};
use wattle_core::partition::{Access, Effect, Partition, TtlChoice};
use wattle_core::store::EntryRef;
use wattle_frame::guest::{self, EntrySlot, Reply, Request, RequestHeader, RequestWriter};
use wattle_wasm::limits::MESSAGE_BYTES;

use super::memory::Moment;
use super::partitions::Worker;
use super::shard::Shard;
use crate::content;
use crate::failure::Failure;
use crate::functions::{ActiveFunction, Stopped};
use crate::maps::Map;

/// What a thread keeps of its frame from one batch to the next, in bytes: enough for all but single large values.
const FRAME_KEPT: usize = 2 * SCAN_BYTES;

/// What a batch has in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) function: &'a ActiveFunction,
    pub(super) map: &'a Map,
    pub(super) argument: &'a [u8],
    /// The longest value that may be written, in bytes.
    pub(super) value_bytes: usize,
    /// What is kept of it for a retry, in bytes; 0 if nothing is.
    pub(super) record: u64,
}

/// An entry of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// By its key, whether or not there is an entry; with an argument of its own.
    Key { key: &'a [u8], argument: &'a [u8] },
    /// By its slot, where there is one; with the call's argument.
    Slot(Slot),
}

/// Why a batch changed nothing.
#[derive(Debug)]
pub(super) enum BatchError {
    Stopped(Stopped),
    /// Running it failed in the host.
    Host,
}

/// What became of an entry of a batch.
#[derive(Debug)]
pub(super) struct Processed<'a> {
    pub(super) place: usize,
    pub(super) key: &'a [u8],
    /// Its response, or why it was left as it was.
    pub(super) result: Result<&'a [u8], Failure>,
}

/// Runs the function on the targets, no entry twice, and hands on what became of each. A batch that is stopped has changed
/// nothing.
pub(super) fn run_batch(
    worker: &mut Worker,
    shard: &mut Shard,
    call: &Call<'_>,
    targets: &[Target<'_>],
    mut each: impl FnMut(Processed<'_>),
) -> Result<(), BatchError> {
    let ran = shard.with(|partition, moment| {
        let frame = request(&mut worker.frame, partition, moment, (call, targets)).ok_or(BatchError::Host)?;
        let entries = Request::parse(frame).map_err(|_| BatchError::Host)?;
        let mut applying = false;
        let mut failed = 0;
        let run = || {
            worker.guests.run(call.function, frame, call.value_bytes, |reply: &Reply<'_>| {
                applying = true;
                for (place, (entry, answer)) in entries.entries().zip(reply.answers()).enumerate() {
                    let key = entry.expect("the host wrote this frame itself").key;
                    let applied = apply(partition, moment, call, (targets[place], key), &answer);
                    failed += u64::from(applied.is_err());
                    each(Processed { place, key, result: applied.map(|()| answer.response) });
                }
            })
        };
        let outcome = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(outcome) => outcome,
            // Half of the effects may be applied: nobody may see this partition again.
            Err(panic) if applying => resume_unwind(panic),
            Err(_panic) => return Err(BatchError::Host),
        };
        if outcome.is_ok() {
            call.function.meters().applied.inc_by(targets.len() as u64 - failed);
            call.function.meters().not_applied.inc_by(failed);
        }
        outcome.map_err(BatchError::Stopped)
    });
    worker.frame.clear();
    worker.frame.shrink_to(FRAME_KEPT);
    ran
}

fn request<'b>(
    buffer: &'b mut Vec<u8>,
    partition: &mut Partition,
    moment: &Moment,
    (call, targets): (&Call<'_>, &[Target<'_>]),
) -> Option<&'b [u8]> {
    let header = RequestHeader {
        function: call.function.export_index(),
        now_ms: moment.now.0,
        map: call.map.descriptor.name.as_str(),
        argument: call.argument,
        capacity: targets.len(),
    };
    let at = moment.access(&call.map.descriptor);
    let ttl = |entry: &EntryRef<'_>| {
        entry.ttl(moment.now).map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
    };
    // The frame's only limit is 4 GiB, and a batch ends far below it.
    let mut writer = RequestWriter::new(buffer, &header).ok()?;
    for target in targets {
        let (entry, key, argument) = match target {
            Target::Key { key, argument } => (partition.get(&at, key), *key, Some(*argument)),
            Target::Slot(slot) => {
                let entry = partition.entry_at(&at, *slot)?;
                (Some(entry), entry.key, None)
            }
        };
        let slot = EntrySlot {
            key,
            value: entry.map(|entry| entry.value),
            version: entry.map_or(Version::NONE, |entry| entry.version).0,
            ttl_ms: entry.as_ref().and_then(ttl),
            argument,
        };
        writer.push(&slot).ok()?;
    }
    Some(writer.finish())
}

fn apply(
    partition: &mut Partition,
    moment: &Moment,
    call: &Call<'_>,
    (target, key): (Target<'_>, &[u8]),
    answer: &guest::Answer<'_>,
) -> Result<(), Failure> {
    let effect = match answer.effect {
        guest::Effect::Keep => Effect::Keep,
        guest::Effect::Put(value) => Effect::Put { value, ttl: TtlChoice::OfMap },
        guest::Effect::PutWithTtl(value, 0) => Effect::Put { value, ttl: TtlChoice::ForEver },
        guest::Effect::PutWithTtl(value, ttl) => {
            let ttl = std::time::Duration::from_millis(ttl).min(TTL_MAX);
            Effect::Put { value, ttl: TtlChoice::Of(ttl) }
        }
        guest::Effect::Remove => Effect::Remove,
        guest::Effect::Fail { code, message } => {
            return Err(Failure::FunctionFailed { code, message: cut(message) });
        }
    };
    if let Effect::Put { value, .. } = effect {
        content::check(call.map.descriptor.options.content_type, value)?;
    }
    let at = Access { record: call.record, ..moment.access(&call.map.descriptor) };
    match target {
        Target::Key { .. } => partition.apply(&at, key, effect)?,
        Target::Slot(slot) => partition.apply_at(&at, (slot, key), effect).map(|()| Version::NONE)?,
    };
    Ok(())
}

/// The first bytes of a function's message, to where a character ends.
fn cut(message: &[u8]) -> String {
    // As far as a character may reach that begins within the limit.
    let begun = &message[..message.len().min(MESSAGE_BYTES + 3)];
    let mut text = String::from_utf8_lossy(begun).into_owned();
    text.truncate(text.floor_char_boundary(MESSAGE_BYTES));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_where_a_character_ends() {
        assert_eq!(cut(b"short"), "short");
        assert_eq!(cut(&[b'x'; MESSAGE_BYTES + 1]), "x".repeat(MESSAGE_BYTES));
        let long = format!("x{}", "é".repeat(MESSAGE_BYTES));
        assert_eq!(cut(long.as_bytes()), long[..MESSAGE_BYTES - 1]);
        assert_eq!(cut(&[0xff; MESSAGE_BYTES]), "\u{fffd}".repeat(MESSAGE_BYTES / 3));
    }
}
