//! Batches as packed frames.

use bytes::Bytes;
use wattle_frame::FrameError;
use wattle_frame::pipeline::{
    Condition as PackedCondition, NameIndex, Operation as Packed, OperationResult, OperationsWriter, Results,
    ResultsWriter, TtlChange as PackedChange,
};

use crate::error::Error;
use crate::failure::{Failure, Outcome};
use crate::operation::{
    Answer, Condition, Incremented, Lifetime, Operation, PutOptions, Removed, TtlChange, Versioned, Written,
};
use crate::wire::to_millis;

/// Operations for a [`Pipeline`](crate::Pipeline). Not atomic: each has an answer of its own.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(super) frame: Bytes,
    pub(super) count: usize,
}

const MAP: NameIndex = NameIndex(0);

impl Batch {
    /// Operations on one map.
    ///
    /// # Errors
    /// [`Error::Frame`] when they are too many or too long for a frame.
    pub fn new(map: &str, operations: &[Operation]) -> Result<Self, Error> {
        let mut names = vec![map];
        let mut packed = Vec::with_capacity(operations.len());
        for operation in operations {
            packed.push(pack(operation, &mut names));
        }
        Self::packed(&names, operations.len(), |writer| packed.iter().try_for_each(|one| writer.push(one)))
    }

    /// The fastest way: `fill` writes at most `capacity` operations straight into the frame. They refer to maps and
    /// functions by their place in `names`.
    ///
    /// ```
    /// use wattle_client::Batch;
    /// use wattle_client::packed::{NameIndex, Operation};
    ///
    /// let batch = Batch::packed(&["flights"], 2, |frame| {
    ///     frame.push(&Operation::Get { map: NameIndex(0), key: b"a" })?;
    ///     frame.push(&Operation::Get { map: NameIndex(0), key: b"b" })
    /// })?;
    /// assert_eq!(batch.len(), 2);
    /// # Ok::<(), wattle_client::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Frame`], and what `fill` answers.
    pub fn packed(
        names: &[&str],
        capacity: usize,
        fill: impl FnOnce(&mut OperationsWriter<'_>) -> Result<(), FrameError>,
    ) -> Result<Self, Error> {
        let mut buffer = Vec::new();
        let mut writer = OperationsWriter::new(&mut buffer, names, capacity)?;
        fill(&mut writer)?;
        let count = writer.len();
        writer.finish();
        Ok(Self { frame: buffer.into(), count })
    }

    /// How many operations it has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How long its frame is.
    pub fn size_bytes(&self) -> usize {
        self.frame.len()
    }
}

fn pack<'a>(operation: &'a Operation, names: &mut Vec<&'a str>) -> Packed<'a> {
    match operation {
        Operation::Get { key } => Packed::Get { map: MAP, key },
        Operation::Put { key, value, options } => put(key, value, *options, Answers::Version),
        Operation::GetAndPut { key, value, options } => put(key, value, *options, Answers::PreviousToo),
        Operation::Remove { key } => {
            Packed::Remove { map: MAP, key, if_version: None, return_previous: false }
        }
        Operation::RemoveIfVersion { key, version } => {
            Packed::Remove { map: MAP, key, if_version: Some(*version), return_previous: false }
        }
        Operation::GetAndRemove { key } => {
            Packed::Remove { map: MAP, key, if_version: None, return_previous: true }
        }
        Operation::Increment { key, delta } => Packed::Increment { map: MAP, key, delta: *delta },
        Operation::Touch { key, change } => Packed::Touch {
            map: MAP,
            key,
            change: match change {
                TtlChange::Read => PackedChange::Read,
                TtlChange::Set(ttl) => PackedChange::Set(to_millis(*ttl)),
                TtlChange::Clear => PackedChange::Clear,
            },
        },
        Operation::Invoke { key, function, argument } => {
            Packed::Invoke { map: MAP, function: place_of(function, names), key, argument }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Answers {
    Version,
    PreviousToo,
}

fn put<'a>(key: &'a [u8], value: &'a [u8], options: PutOptions, answers: Answers) -> Packed<'a> {
    Packed::Put {
        map: MAP,
        key,
        value,
        ttl_ms: options.ttl.map(to_millis),
        condition: match options.condition {
            Condition::Always => PackedCondition::Always,
            Condition::IfAbsent => PackedCondition::IfAbsent,
            Condition::IfVersion(version) => PackedCondition::IfVersion(version),
        },
        return_previous: answers == Answers::PreviousToo,
    }
}

/// Batches use few functions, so looking through the list beats hashing. The map's own name comes first and is never a
/// function's. A batch of too many names is refused when its frame is begun.
fn place_of<'a>(function: &'a str, names: &mut Vec<&'a str>) -> NameIndex {
    let place = match names.iter().skip(1).position(|name| *name == function) {
        Some(found) => found + 1,
        None => {
            names.push(function);
            names.len() - 1
        }
    };
    NameIndex(u16::try_from(place).unwrap_or(u16::MAX))
}

/// The answers of a batch, in the order of its operations.
#[derive(Debug, Clone)]
pub struct BatchAnswers {
    pub(super) frame: Bytes,
    pub(super) count: usize,
}

impl BatchAnswers {
    /// Reads a frame and every answer in it once, so that reading them again cannot fail.
    pub(crate) fn parse(frame: Bytes, count: usize) -> Result<Self, FrameError> {
        let results = Results::parse(&frame, count)?;
        for result in results.results() {
            result?;
        }
        Ok(Self { frame, count })
    }

    /// Puts the results of several attempts together.
    pub(super) fn collect<'a>(
        count: usize,
        results: impl Iterator<Item = OperationResult<'a>>,
    ) -> Result<Self, FrameError> {
        let mut buffer = Vec::new();
        let mut writer = ResultsWriter::new(&mut buffer, count)?;
        for (place, result) in results.enumerate() {
            writer.set(place, &result)?;
        }
        writer.finish()?;
        Ok(Self { frame: buffer.into(), count })
    }

    /// The first failure that another attempt may cure.
    pub(super) fn transient_failure(&self) -> Option<Failure> {
        self.failures().find(Failure::is_transient)
    }

    /// Whether some operation may still take effect, or have done so.
    pub(super) fn leave_doubt(&self) -> bool {
        self.failures().any(|failure| failure.outcome() != Some(Outcome::NotApplied))
    }

    fn failures(&self) -> impl Iterator<Item = Failure> {
        self.results().filter_map(|result| match result {
            OperationResult::Failed(failure) => Some(Failure::from(failure)),
            OperationResult::Get { .. }
            | OperationResult::Put { .. }
            | OperationResult::Remove { .. }
            | OperationResult::Increment { .. }
            | OperationResult::Touch { .. }
            | OperationResult::Invoke { .. } => None,
        })
    }

    /// How many answers there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The answers as they stand in the frame: the fastest way to read them.
    pub fn results(&self) -> impl Iterator<Item = OperationResult<'_>> {
        // `parse` read all of them.
        let results = Results::parse(&self.frame, self.count).ok();
        results.into_iter().flat_map(|results| results.results()).filter_map(Result::ok)
    }

    /// The answers; values share the frame's memory.
    pub fn answers(&self) -> impl Iterator<Item = Result<Answer, Error>> {
        self.results().map(|result| self.answer(result))
    }

    fn answer(&self, result: OperationResult<'_>) -> Result<Answer, Error> {
        let share = |bytes: &[u8]| self.frame.slice_ref(bytes);
        Ok(match result {
            OperationResult::Get { value, version } => {
                Answer::Value(value.map(|value| Versioned { value: share(value), version }))
            }
            OperationResult::Put { version, previous } => {
                Answer::Written(Written { version, previous: previous.map(share) })
            }
            OperationResult::Remove { removed, previous } => {
                Answer::Removed(Removed { found: removed, previous: previous.map(share) })
            }
            OperationResult::Increment { value, version } => {
                Answer::Incremented(Incremented { value, version })
            }
            OperationResult::Touch { found, ttl_ms, version } => {
                let ttl = ttl_ms.map(std::time::Duration::from_millis);
                Answer::Lifetime(found.then_some(Lifetime { ttl, version }))
            }
            OperationResult::Invoke { response } => Answer::Response(share(response)),
            OperationResult::Failed(failure) => return Err(Failure::from(failure).into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wattle_frame::pipeline::{Facts, Failure as PackedFailure, Operations, Outcome as PackedOutcome};

    use super::*;

    fn key() -> Bytes {
        Bytes::from_static(b"k")
    }

    #[test]
    fn every_operation_is_packed_as_itself() {
        let options = PutOptions::new().ttl(Duration::from_secs(2)).if_version(7);
        let value = Bytes::from_static(b"v");
        let invoke =
            |function: &str| Operation::Invoke { key: key(), function: function.into(), argument: key() };
        let operations = [
            Operation::Get { key: key() },
            Operation::GetAndPut { key: key(), value: value.clone(), options },
            Operation::Put { key: key(), value, options: PutOptions::new().if_absent() },
            Operation::RemoveIfVersion { key: key(), version: 9 },
            Operation::Increment { key: key(), delta: -4 },
            Operation::Touch { key: key(), change: TtlChange::Set(Duration::from_millis(3)) },
            invoke("debit"),
            invoke("credit"),
            invoke("debit"),
        ];
        let batch = Batch::new("accounts", &operations).unwrap();
        let read = Operations::parse(&batch.frame).unwrap();
        let names = read.names().collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(names, ["accounts", "debit", "credit"]);
        let put = |ttl_ms, condition, return_previous| Packed::Put {
            map: MAP,
            key: b"k",
            value: b"v",
            ttl_ms,
            condition,
            return_previous,
        };
        let invoked =
            |place| Packed::Invoke { map: MAP, function: NameIndex(place), key: b"k", argument: b"k" };
        assert_eq!(
            read.operations().collect::<Result<Vec<_>, _>>().unwrap(),
            [
                Packed::Get { map: MAP, key: b"k" },
                put(Some(2000), PackedCondition::IfVersion(7), true),
                put(None, PackedCondition::IfAbsent, false),
                Packed::Remove { map: MAP, key: b"k", if_version: Some(9), return_previous: false },
                Packed::Increment { map: MAP, key: b"k", delta: -4 },
                Packed::Touch { map: MAP, key: b"k", change: PackedChange::Set(3) },
                invoked(1),
                invoked(2),
                invoked(1),
            ]
        );
    }

    #[test]
    fn a_map_and_a_function_may_share_a_name() {
        let invoke = Operation::Invoke { key: key(), function: "debit".into(), argument: Bytes::new() };
        let batch = Batch::new("debit", &[invoke]).unwrap();
        let read = Operations::parse(&batch.frame).unwrap();
        assert_eq!(read.operation(0).unwrap().function(), Some(NameIndex(1)));
    }

    fn answers(results: &[OperationResult<'_>]) -> BatchAnswers {
        let written = BatchAnswers::collect(results.len(), results.iter().copied()).unwrap();
        BatchAnswers::parse(written.frame, results.len()).unwrap()
    }

    fn failed(code: u32, reason: &'static str) -> OperationResult<'static> {
        let (message, outcome, facts) = ("no", PackedOutcome::NotApplied, Facts::default());
        OperationResult::Failed(PackedFailure { code, reason, message, outcome, facts })
    }

    #[test]
    fn every_answer_is_read_as_itself() {
        let answers = answers(&[
            OperationResult::Get { value: Some(b"v"), version: 3 },
            OperationResult::Touch { found: false, ttl_ms: None, version: 0 },
            OperationResult::Invoke { response: b"done" },
            failed(9, "FUNCTION_FAILED"),
        ]);
        let mut read = answers.answers();
        let value = Versioned { value: Bytes::from_static(b"v"), version: 3 };
        assert_eq!(read.next().unwrap().unwrap(), Answer::Value(Some(value)));
        assert_eq!(read.next().unwrap().unwrap(), Answer::Lifetime(None));
        assert_eq!(read.next().unwrap().unwrap(), Answer::Response(Bytes::from_static(b"done")));
        let failure = read.next().unwrap();
        assert!(
            matches!(&failure, Err(Error::FunctionFailed { message, .. }) if message == "no"),
            "{failure:?}"
        );
        assert!(read.next().is_none());
    }

    #[test]
    fn a_failure_says_as_much_as_that_of_a_single_call() {
        let mut buffer = Vec::new();
        let mut check = |reason, facts: &[(&str, &str)]| {
            let facts = Facts::pack(&mut buffer, facts.iter().copied()).unwrap();
            let (message, outcome) = ("told", PackedOutcome::NotApplied);
            let failure = PackedFailure { code: 9, reason, message, outcome, facts };
            answers(&[OperationResult::Failed(failure)]).answers().next().unwrap().unwrap_err()
        };
        let error = check("VERSION_MISMATCH", &[("version", "7")]);
        assert!(matches!(error, Error::VersionMismatch { current: Some(7), .. }), "{error:?}");
        let error = check("FUNCTION_FAILED", &[("function_code", "3"), ("function_message", "overdrawn")]);
        assert!(
            matches!(&error, Error::FunctionFailed { code: Some(3), message, .. } if message == "overdrawn"),
            "{error:?}"
        );
        let error = check("OVERLOADED", &[("retry_after_ms", "40")]);
        assert_eq!(error.failure().unwrap().retry_after(), Some(Duration::from_millis(40)));
    }

    #[test]
    fn only_an_overloaded_operation_is_worth_another_attempt() {
        let steady = [OperationResult::Invoke { response: b"" }, failed(8, "NODE_FULL")];
        assert_eq!(answers(&steady).transient_failure(), None);
        let busy = [steady[0], failed(8, "OVERLOADED")];
        let failure = answers(&busy).transient_failure().unwrap();
        assert_eq!(failure.reason(), Some("OVERLOADED"));
    }
}
