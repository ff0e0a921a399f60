//! Results as packed frames.

use wattle_core::partition::{Answer, Outcome};
use wattle_frame::FrameError;
use wattle_frame::pipeline::{self, Facts, OperationResult, ResultsWriter};
use wattle_proto::v1;

use super::status::metadata;
use crate::failure::Failure;

/// Writes one result into a reply frame.
pub(super) fn write(
    writer: &mut ResultsWriter<'_>,
    place: usize,
    result: &Result<Outcome<'_>, Failure>,
) -> Result<(), FrameError> {
    match result {
        Err(failure) => {
            let (facts, message) = (failure.facts(), failure.to_string());
            let outcome = match facts.outcome {
                v1::Outcome::Unspecified => pipeline::Outcome::Unspecified,
                v1::Outcome::Applied => pipeline::Outcome::Applied,
                v1::Outcome::NotApplied => pipeline::Outcome::NotApplied,
                v1::Outcome::InDoubt => pipeline::Outcome::InDoubt,
            };
            let code = i32::from(facts.code).unsigned_abs();
            let metadata: Vec<_> = metadata(&facts).collect();
            let mut packed = Vec::new();
            let packed =
                Facts::pack(&mut packed, metadata.iter().map(|(name, value)| (*name, value.as_str())))?;
            let (reason, message) = (facts.reason, message.as_str());
            let failure = pipeline::Failure { code, reason, message, outcome, facts: packed };
            writer.set(place, &OperationResult::Failed(failure))
        }
        Ok(Outcome::Entry(entry)) => {
            let value = entry.map(|entry| entry.value);
            let version = entry.map_or(0, |entry| entry.version.0);
            writer.set(place, &OperationResult::Get { value, version })
        }
        Ok(Outcome::Answer(answer)) => writer.set(place, &packed(answer)),
    }
}

fn packed(answer: &Answer) -> OperationResult<'_> {
    match answer {
        Answer::Put { version, previous } => {
            OperationResult::Put { version: version.0, previous: previous.as_deref() }
        }
        Answer::Removed { removed, previous } => {
            OperationResult::Remove { removed: *removed, previous: previous.as_deref() }
        }
        Answer::Incremented { value, version } => {
            OperationResult::Increment { value: *value, version: version.0 }
        }
        Answer::Touched { found, ttl, version } => OperationResult::Touch {
            found: *found,
            ttl_ms: ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            version: version.0,
        },
        Answer::Processed { response, .. } => OperationResult::Invoke { response },
        // A clear is not an operation of a batch.
        Answer::Cleared { removed } => OperationResult::Remove { removed: *removed > 0, previous: None },
    }
}
