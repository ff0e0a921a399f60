//! Operations and results: what is written is read back, and what writers refuse.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use wattle_frame::FrameError;
use wattle_frame::pipeline::{
    Condition, Facts, Failure, MAX_NAMES, NameIndex, Operation, OperationResult, Operations,
    OperationsWriter, Outcome, Results, ResultsWriter, TtlChange,
};

use crate::samples;

#[derive(Clone, Debug)]
struct Raw {
    kind: u8,
    variant: u8,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    ttl_ms: Option<u64>,
    number: u64,
    flag: bool,
    text: String,
}

fn raw() -> impl Strategy<Value = Raw> {
    let bytes = || vec(any::<u8>(), 0..40);
    let numbers = (option::of(any::<u64>()), any::<u64>(), any::<bool>());
    (0..7u8, 0..4u8, bytes(), option::of(bytes()), numbers, ".{0,20}").prop_map(
        |(kind, variant, key, value, (ttl_ms, number, flag), text)| Raw {
            kind,
            variant,
            key,
            value,
            ttl_ms,
            number,
            flag,
            text,
        },
    )
}

impl Raw {
    fn operation(&self) -> Operation<'_> {
        let (map, key) = (NameIndex(u16::from(self.variant)), &self.key[..]);
        let value = self.value.as_deref().unwrap_or_default();
        match self.kind {
            0 => Operation::Get { map, key },
            1 => {
                let condition = match self.variant {
                    0 => Condition::IfAbsent,
                    1 => Condition::IfVersion(self.number),
                    _ => Condition::Always,
                };
                Operation::Put { map, key, value, ttl_ms: self.ttl_ms, condition, return_previous: self.flag }
            }
            2 => Operation::Remove { map, key, if_version: self.ttl_ms, return_previous: self.flag },
            3 => Operation::Increment { map, key, delta: self.number.cast_signed() },
            4 => {
                let change = match self.variant {
                    0 => TtlChange::Read,
                    1 => TtlChange::Clear,
                    _ => TtlChange::Set(self.number),
                };
                Operation::Touch { map, key, change }
            }
            _ => Operation::Invoke { map, function: NameIndex(u16::from(self.kind)), key, argument: value },
        }
    }

    fn result<'a>(&'a self, facts: &'a mut Vec<u8>) -> OperationResult<'a> {
        let value = self.value.as_deref();
        let version = self.number;
        match self.kind {
            0 => OperationResult::Get { value, version },
            1 => OperationResult::Put { version, previous: value },
            2 => OperationResult::Remove { removed: self.flag, previous: value },
            3 => OperationResult::Increment { value: self.number.cast_signed(), version },
            4 => OperationResult::Touch { found: self.flag, ttl_ms: self.ttl_ms, version },
            5 => OperationResult::Invoke { response: &self.key },
            _ => OperationResult::Failed(Failure {
                code: u32::from(self.kind),
                reason: "STABLE_REASON",
                message: &self.text,
                outcome: match self.variant {
                    0 => Outcome::Unspecified,
                    1 => Outcome::Applied,
                    2 => Outcome::NotApplied,
                    _ => Outcome::InDoubt,
                },
                facts: Facts::pack(facts, self.facts()).unwrap(),
            }),
        }
    }
}

impl Raw {
    fn facts(&self) -> Vec<(&str, &str)> {
        vec![(self.text.as_str(), "value"); usize::from(self.variant)]
    }
}

const NAMES: [&str; 7] = ["m0", "m1", "m2", "m3", "", "f5", "f6"];

proptest! {
    #[test]
    fn operations_read_back_as_they_were_written(raws in vec(raw(), 0..20), spare in 0..3usize) {
        let mut buffer = vec![0xAA; 7];
        let mut writer = OperationsWriter::new(&mut buffer, &NAMES, raws.len() + spare).unwrap();
        for raw in &raws {
            writer.push(&raw.operation()).unwrap();
        }
        prop_assert_eq!(writer.len(), raws.len());
        let operations = Operations::parse(writer.finish()).unwrap();
        let names: Vec<_> = operations.names().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(names, NAMES);
        let read: Vec<_> = operations.operations().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(read, raws.iter().map(Raw::operation).collect::<Vec<_>>());
    }

    #[test]
    fn results_read_back_in_order_however_they_were_written(raws in vec(raw(), 0..20), backwards: bool) {
        let mut buffer = vec![0xAA; 7];
        let mut writer = ResultsWriter::new(&mut buffer, raws.len()).unwrap();
        let mut order: Vec<_> = (0..raws.len()).collect();
        if backwards {
            order.reverse();
        }
        for index in order {
            writer.set(index, &raws[index].result(&mut Vec::new())).unwrap();
        }
        let size = writer.size_bytes();
        let frame = writer.finish().unwrap();
        prop_assert_eq!(size, frame.len());
        let results = Results::parse(frame, raws.len()).unwrap();
        let read: Vec<_> = results.results().collect::<Result<_, _>>().unwrap();
        for (raw, read) in raws.iter().zip(read) {
            let mut facts = Vec::new();
            prop_assert_eq!(read, raw.result(&mut facts));
            if let OperationResult::Failed(failure) = read {
                prop_assert_eq!(failure.facts.iter().collect::<Vec<_>>(), raw.facts());
            }
        }
    }
}

#[test]
fn a_writer_refuses_an_operation_on_a_name_that_it_was_not_given() {
    let mut buffer = Vec::new();
    let mut writer = OperationsWriter::new(&mut buffer, &["map"], 2).unwrap();
    let size = writer.size_bytes();
    let get = Operation::Get { map: NameIndex(1), key: b"k" };
    assert_eq!(writer.push(&get), Err(FrameError::NoSuchName { index: 1, names: 1 }));
    let invoke = Operation::Invoke { map: NameIndex(0), function: NameIndex(2), key: b"k", argument: b"" };
    assert_eq!(writer.push(&invoke), Err(FrameError::NoSuchName { index: 2, names: 1 }));
    assert_eq!((writer.len(), writer.size_bytes()), (0, size));
}

#[test]
fn operations_past_the_capacity_are_refused() {
    let mut buffer = Vec::new();
    let mut writer = OperationsWriter::new(&mut buffer, &["map"], 1).unwrap();
    let get = Operation::Get { map: NameIndex(0), key: b"k" };
    writer.push(&get).unwrap();
    assert_eq!(writer.push(&get), Err(FrameError::Full { capacity: 1 }));
    assert_eq!(Operations::parse(writer.finish()).unwrap().len(), 1);
}

#[test]
fn a_frame_has_its_most_names_and_no_more() {
    let mut buffer = Vec::new();
    let names = vec!["n"; MAX_NAMES as usize];
    let frame = OperationsWriter::new(&mut buffer, &names, 0).unwrap().finish();
    let last = NameIndex(MAX_NAMES as u16 - 1);
    assert_eq!(Operations::parse(frame).unwrap().name(last), Ok("n"));
    let mut more = frame.to_vec();
    more[8..12].copy_from_slice(&(MAX_NAMES + 1).to_le_bytes());
    let refused = FrameError::TooManyNames { limit: MAX_NAMES, found: MAX_NAMES + 1 };
    assert_eq!(Operations::parse(&more).unwrap_err(), refused);
    let names = vec!["n"; MAX_NAMES as usize + 1];
    assert_eq!(OperationsWriter::new(&mut buffer, &names, 0).unwrap_err(), refused);
}

#[test]
fn a_result_is_written_once_and_in_its_place() {
    let mut buffer = Vec::new();
    let mut writer = ResultsWriter::new(&mut buffer, 2).unwrap();
    let result = OperationResult::Get { value: Some(b"v"), version: 1 };
    writer.set(1, &result).unwrap();
    assert_eq!(writer.set(1, &result), Err(FrameError::AlreadyWritten { slot: 1 }));
    assert_eq!(writer.set(2, &result), Err(FrameError::NoSuchSlot { index: 2, count: 2 }));
    assert_eq!(writer.finish(), Err(FrameError::CountMismatch { expected: 2, found: 1 }));
}

#[test]
fn places_past_the_last_are_refused() {
    let frame = samples::operations();
    let operations = Operations::parse(&frame).unwrap();
    assert_eq!(operations.operation(9), Err(FrameError::NoSuchSlot { index: 9, count: 9 }));
    assert_eq!(operations.name(NameIndex(2)), Err(FrameError::NoSuchName { index: 2, names: 2 }));
    let frame = samples::results();
    let results = Results::parse(&frame, 8).unwrap();
    assert_eq!(results.result(8), Err(FrameError::NoSuchSlot { index: 8, count: 8 }));
}

#[test]
fn a_frame_past_four_gibibytes_is_refused_before_memory_is_taken() {
    let mut buffer = Vec::new();
    let error = OperationsWriter::new(&mut buffer, &["m"], usize::MAX).unwrap_err();
    assert_eq!(error, FrameError::TooLong { length: u64::MAX });
    let error = ResultsWriter::new(&mut buffer, usize::MAX).unwrap_err();
    assert_eq!(error, FrameError::TooLong { length: u64::MAX });
    assert_eq!(buffer.capacity(), 0);
}
