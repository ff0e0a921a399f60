//! One frame of each kind, with every kind of slot, and readers that touch every byte of a frame.

use wattle_frame::FrameError;
use wattle_frame::guest::{Effect, EntrySlot, Reply, ReplyWriter, Request, RequestHeader, RequestWriter};
use wattle_frame::pipeline::{
    Condition, Facts, Failure, NameIndex, Operation, OperationResult, Operations, OperationsWriter, Outcome,
    Results, ResultsWriter, TtlChange,
};

pub(crate) const MAP: NameIndex = NameIndex(0);
pub(crate) const FUNCTION: NameIndex = NameIndex(1);

pub(crate) fn header(capacity: usize) -> RequestHeader<'static> {
    RequestHeader { function: 2, now_ms: 1_700_000_000_123, map: "flights", argument: b"arg", capacity }
}

pub(crate) fn entries() -> [EntrySlot<'static>; 3] {
    [
        EntrySlot { key: b"k1", value: Some(b"value"), version: 9, ttl_ms: Some(5000), argument: None },
        EntrySlot { key: b"k2", value: None, version: 0, ttl_ms: None, argument: Some(b"own") },
        EntrySlot { key: b"", value: Some(b""), version: u64::MAX, ttl_ms: Some(0), argument: Some(b"") },
    ]
}

pub(crate) fn request() -> Vec<u8> {
    let mut buffer = Vec::new();
    let entries = entries();
    let mut writer = RequestWriter::new(&mut buffer, &header(entries.len())).unwrap();
    for entry in &entries {
        writer.push(entry).unwrap();
    }
    writer.finish().to_vec()
}

pub(crate) const REPLIES: usize = 5;

pub(crate) fn reply() -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, REPLIES).unwrap();
    writer.keep(b"seen").unwrap();
    writer.put(b"new", b"").unwrap();
    writer.put_with_ttl(b"short", 250, b"ok").unwrap();
    writer.remove(b"gone").unwrap();
    writer.fail(7, "no funds").unwrap();
    writer.finish().unwrap().to_vec()
}

pub(crate) fn operation_list() -> [Operation<'static>; 9] {
    let put = |condition, ttl_ms, return_previous| Operation::Put {
        map: MAP,
        key: b"k",
        value: b"val",
        ttl_ms,
        condition,
        return_previous,
    };
    [
        Operation::Get { map: MAP, key: b"key" },
        put(Condition::Always, None, false),
        put(Condition::IfAbsent, Some(0), false),
        put(Condition::IfVersion(77), Some(60_000), true),
        Operation::Remove { map: MAP, key: b"r", if_version: Some(3), return_previous: true },
        Operation::Increment { map: MAP, key: b"i", delta: -2 },
        Operation::Touch { map: MAP, key: b"t", change: TtlChange::Set(1000) },
        Operation::Touch { map: MAP, key: b"t", change: TtlChange::Clear },
        Operation::Invoke { map: MAP, function: FUNCTION, key: b"f", argument: b"a" },
    ]
}

pub(crate) fn operations() -> Vec<u8> {
    let mut buffer = Vec::new();
    let list = operation_list();
    let mut writer = OperationsWriter::new(&mut buffer, &["accounts", "debit"], list.len()).unwrap();
    for operation in &list {
        writer.push(operation).unwrap();
    }
    writer.finish().to_vec()
}

pub(crate) fn result_list(facts: Facts<'_>) -> [OperationResult<'_>; 8] {
    [
        OperationResult::Get { value: Some(b"100"), version: 4 },
        OperationResult::Get { value: None, version: 0 },
        OperationResult::Put { version: 5, previous: Some(b"old") },
        OperationResult::Remove { removed: true, previous: None },
        OperationResult::Increment { value: -2, version: 6 },
        OperationResult::Touch { found: true, ttl_ms: Some(900), version: 7 },
        OperationResult::Invoke { response: b"70" },
        OperationResult::Failed(Failure {
            code: 9,
            reason: "VERSION_MISMATCH",
            message: "expected 3, found 4",
            outcome: Outcome::NotApplied,
            facts,
        }),
    ]
}

pub(crate) fn results() -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut facts = Vec::new();
    let list = result_list(Facts::pack(&mut facts, [("version", "4"), ("", "no name")]).unwrap());
    let mut writer = ResultsWriter::new(&mut buffer, list.len()).unwrap();
    for (index, result) in list.iter().enumerate() {
        writer.set(index, result).unwrap();
    }
    writer.finish().unwrap().to_vec()
}

/// The number at a place of a frame.
pub(crate) fn u32_at(frame: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(frame[at..at + 4].try_into().unwrap())
}

/// A reader: how many bytes of keys, values and so on a frame has, or why it isn't one.
pub(crate) type Read = fn(&[u8]) -> Result<usize, FrameError>;

pub(crate) fn read_request(frame: &[u8]) -> Result<usize, FrameError> {
    let request = Request::parse(frame)?;
    let mut sum = request.map().len() + request.argument().len();
    for entry in request.entries() {
        let entry = entry?;
        sum += entry.key.len() + entry.value.map_or(0, <[u8]>::len) + entry.argument.len();
    }
    Ok(sum)
}

/// Reads a reply to as many entries as it says, so that only its own faults are found.
pub(crate) fn read_reply(frame: &[u8]) -> Result<usize, FrameError> {
    let expected = if frame.len() < 8 { 0 } else { u32_at(frame, 4) as usize };
    let reply = Reply::parse(frame, expected)?;
    let mut sum = 0;
    for answer in reply.answers() {
        sum += answer.response.len();
        sum += match answer.effect {
            Effect::Keep | Effect::Remove => 0,
            Effect::Put(value) | Effect::PutWithTtl(value, _) => value.len(),
            Effect::Fail { message, .. } => message.len(),
        };
    }
    Ok(sum)
}

pub(crate) fn read_operations(frame: &[u8]) -> Result<usize, FrameError> {
    let operations = Operations::parse(frame)?;
    let mut sum = 0;
    for name in operations.names() {
        sum += name?.len();
    }
    for operation in operations.operations() {
        sum += operation?.key().len();
    }
    Ok(sum)
}

pub(crate) fn read_results(frame: &[u8]) -> Result<usize, FrameError> {
    let expected = if frame.len() < 8 { 0 } else { u32_at(frame, 4) as usize };
    let results = Results::parse(frame, expected)?;
    let mut sum = 0;
    for result in results.results() {
        sum += match result? {
            OperationResult::Get { value, .. } => value.map_or(0, <[u8]>::len),
            OperationResult::Put { previous, .. } | OperationResult::Remove { previous, .. } => {
                previous.map_or(0, <[u8]>::len)
            }
            OperationResult::Increment { .. } | OperationResult::Touch { .. } => 0,
            OperationResult::Invoke { response } => response.len(),
            OperationResult::Failed(failure) => {
                let facts = failure.facts.iter().map(|(name, value)| name.len() + value.len());
                failure.message.len() + failure.reason.len() + facts.sum::<usize>()
            }
        };
    }
    Ok(sum)
}

/// A frame with its reader.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) frame: Vec<u8>,
    pub(crate) read: Read,
    /// In how many ranges a byte can be. Those of a request may share bytes, and this one has 11.
    pub(crate) shares: usize,
}

/// A frame of each kind.
pub(crate) fn all() -> [Sample; 4] {
    [
        Sample { frame: request(), read: read_request, shares: 11 },
        Sample { frame: reply(), read: read_reply, shares: 1 },
        Sample { frame: operations(), read: read_operations, shares: 1 },
        Sample { frame: results(), read: read_results, shares: 1 },
    ]
}
