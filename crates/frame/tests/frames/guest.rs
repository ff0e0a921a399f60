//! Requests and replies: what is written is read back, and what writers refuse.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use wattle_frame::FrameError;
use wattle_frame::guest::{
    Answer, Change, Effect, EntrySlot, EntryView, Reply, ReplyWriter, Request, RequestHeader, RequestWriter,
};

use crate::samples;

#[derive(Clone, Debug)]
struct OwnedEntry {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    version: u64,
    ttl_ms: Option<u64>,
    argument: Option<Vec<u8>>,
}

impl OwnedEntry {
    fn slot(&self) -> EntrySlot<'_> {
        EntrySlot {
            key: &self.key,
            value: self.value.as_deref(),
            version: self.version,
            ttl_ms: self.ttl_ms,
            argument: self.argument.as_deref(),
        }
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn entry() -> impl Strategy<Value = OwnedEntry> {
    // The largest time to live is the one that never ends.
    let ttl = option::of(0..u64::MAX);
    (bytes(), option::of(bytes()), any::<u64>(), ttl, option::of(bytes())).prop_map(
        |(key, value, version, ttl_ms, argument)| OwnedEntry { key, value, version, ttl_ms, argument },
    )
}

#[derive(Clone, Debug)]
struct OwnedAnswer {
    kind: u8,
    value: Vec<u8>,
    response: Vec<u8>,
    message: String,
    ttl_ms: u64,
    code: u32,
}

fn answer() -> impl Strategy<Value = OwnedAnswer> {
    (0..5u8, bytes(), bytes(), ".{0,20}", any::<u64>(), any::<u32>()).prop_map(
        |(kind, value, response, message, ttl_ms, code)| OwnedAnswer {
            kind,
            value,
            response,
            message,
            ttl_ms,
            code,
        },
    )
}

impl OwnedAnswer {
    fn write(&self, writer: &mut ReplyWriter<'_>) -> Result<(), FrameError> {
        match self.kind {
            0 => writer.keep(&self.response),
            1 => writer.put(&self.value, &self.response),
            2 => writer.put_with_ttl(&self.value, self.ttl_ms, &self.response),
            3 => writer.remove(&self.response),
            _ => writer.fail(self.code, &self.message),
        }
    }

    fn write_in_place(&self, writer: &mut ReplyWriter<'_>) -> Result<(), FrameError> {
        writer.begin_response().extend_from_slice(&self.response);
        writer.begin_value().extend_from_slice(&self.value);
        match self.kind {
            0 => writer.end(Change::Keep),
            1 => writer.end(Change::Put),
            2 => writer.end(Change::PutWithTtl(self.ttl_ms)),
            3 => writer.end(Change::Remove),
            _ => writer.fail(self.code, &self.message),
        }
    }

    fn expected(&self) -> Answer<'_> {
        let effect = match self.kind {
            0 => Effect::Keep,
            1 => Effect::Put(&self.value),
            2 => Effect::PutWithTtl(&self.value, self.ttl_ms),
            3 => Effect::Remove,
            _ => {
                let effect = Effect::Fail { code: self.code, message: self.message.as_bytes() };
                return Answer { effect, response: &[] };
            }
        };
        Answer { effect, response: &self.response }
    }
}

fn check_reply(
    answers: &[OwnedAnswer],
    write: fn(&OwnedAnswer, &mut ReplyWriter<'_>) -> Result<(), FrameError>,
) {
    let mut buffer = vec![0xAA; 7];
    let mut writer = ReplyWriter::new(&mut buffer, answers.len()).unwrap();
    for answer in answers {
        write(answer, &mut writer).unwrap();
    }
    let frame = writer.finish().unwrap();
    let reply = Reply::parse(frame, answers.len()).unwrap();
    let read: Vec<_> = reply.answers().collect();
    assert_eq!(read, answers.iter().map(OwnedAnswer::expected).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn a_request_reads_back_as_it_was_written(
        entries in vec(entry(), 0..20),
        spare in 0..3usize,
        map in "[a-z]{0,12}",
        argument in bytes(),
        function: u32,
        now_ms: u64,
    ) {
        let header =
            RequestHeader { function, now_ms, map: &map, argument: &argument, capacity: entries.len() + spare };
        let mut buffer = vec![0xAA; 7];
        let mut writer = RequestWriter::new(&mut buffer, &header).unwrap();
        for entry in &entries {
            writer.push(&entry.slot()).unwrap();
        }
        prop_assert_eq!(writer.len(), entries.len());
        let size = writer.size_bytes();
        let frame = writer.finish();
        prop_assert_eq!(size, frame.len());

        let request = Request::parse(frame).unwrap();
        prop_assert_eq!(request.function(), function);
        prop_assert_eq!(request.now_ms(), now_ms);
        prop_assert_eq!(request.map(), &map);
        prop_assert_eq!(request.argument(), &argument);
        prop_assert_eq!(request.len(), entries.len());
        for (read, entry) in request.entries().zip(&entries) {
            let written = entry.slot();
            prop_assert_eq!(read.unwrap(), EntryView {
                key: written.key,
                value: written.value,
                version: written.version,
                ttl_ms: written.ttl_ms,
                argument: written.argument.unwrap_or(&argument),
            });
        }
    }

    #[test]
    fn a_reply_reads_back_as_it_was_written(answers in vec(answer(), 0..20)) {
        check_reply(&answers, OwnedAnswer::write);
    }

    #[test]
    fn a_reply_written_in_place_reads_back(answers in vec(answer(), 0..20)) {
        check_reply(&answers, OwnedAnswer::write_in_place);
    }
}

#[test]
fn a_buffer_is_used_again_without_traces() {
    let first = samples::request();
    let mut buffer = vec![0xFF; 4096];
    let entries = samples::entries();
    let mut writer = RequestWriter::new(&mut buffer, &samples::header(entries.len())).unwrap();
    for entry in &entries {
        writer.push(entry).unwrap();
    }
    assert_eq!(writer.finish(), first);
}

#[test]
fn a_request_refuses_more_entries_than_it_has_slots_for() {
    let mut buffer = Vec::new();
    let [entry, another, _] = samples::entries();
    let mut writer = RequestWriter::new(&mut buffer, &samples::header(1)).unwrap();
    writer.push(&entry).unwrap();
    let size = writer.size_bytes();
    assert_eq!(writer.push(&another), Err(FrameError::Full { capacity: 1 }));
    assert_eq!(writer.size_bytes(), size);
    assert_eq!(Request::parse(writer.finish()).unwrap().len(), 1);
}

#[test]
fn a_frame_past_four_gibibytes_is_refused_before_memory_is_taken() {
    let mut buffer = Vec::new();
    let slots = (u32::MAX as usize - 48) / 40 + 1;
    let error = RequestWriter::new(&mut buffer, &samples::header(slots)).unwrap_err();
    assert_eq!(error, FrameError::TooLong { length: 48 + 40 * slots as u64 });
    let error = ReplyWriter::new(&mut buffer, usize::MAX).unwrap_err();
    assert_eq!(error, FrameError::TooLong { length: u64::MAX });
    assert_eq!(buffer.capacity(), 0);
}

#[test]
fn a_reply_is_not_finished_while_an_entry_has_no_answer() {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, 2).unwrap();
    writer.keep(b"").unwrap();
    assert_eq!(writer.finish(), Err(FrameError::CountMismatch { expected: 2, found: 1 }));
}

#[test]
fn a_reply_refuses_more_answers_than_entries_and_stays_whole() {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, 1).unwrap();
    writer.put(b"value", b"response").unwrap();
    assert_eq!(writer.put(b"more", b""), Err(FrameError::Full { capacity: 1 }));
    let frame = writer.finish().unwrap();
    assert_eq!(frame.len(), 16 + 32 + 5 + 8);
    assert_eq!(Reply::parse(frame, 1).unwrap().answer(0).effect, Effect::Put(b"value"));
}

#[test]
fn an_answer_that_was_begun_and_dropped_leaves_no_bytes() {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, 2).unwrap();
    writer.begin_value().extend_from_slice(b"half a val");
    writer.fail(1, "cannot encode").unwrap();
    writer.begin_response().extend_from_slice(b"half a resp");
    writer.keep(b"r").unwrap();
    let frame = writer.finish().unwrap();
    assert_eq!(frame.len(), 16 + 2 * 32 + 13 + 1);
    let reply = Reply::parse(frame, 2).unwrap();
    assert_eq!(reply.answer(0).effect, Effect::Fail { code: 1, message: b"cannot encode" });
    assert_eq!(reply.answer(1), Answer { effect: Effect::Keep, response: b"r" });
}

#[test]
fn a_value_begun_twice_is_the_second_one() {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, 1).unwrap();
    writer.begin_value().extend_from_slice(b"first");
    writer.begin_value().extend_from_slice(b"second");
    writer.end(Change::Put).unwrap();
    let reply = Reply::parse(writer.finish().unwrap(), 1).unwrap();
    assert_eq!(reply.answer(0), Answer { effect: Effect::Put(b"second"), response: b"" });
}

#[test]
fn a_sink_that_was_cut_is_an_error_and_not_a_panic() {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, 2).unwrap();
    writer.put(b"value", b"").unwrap();
    writer.begin_value().clear();
    let settled = 16 + 2 * 32 + 5;
    assert_eq!(writer.end(Change::Put), Err(FrameError::SinkShrunk { expected: settled, found: 0 }));
    assert_eq!(writer.keep(b""), Err(FrameError::SinkShrunk { expected: settled, found: 0 }));
    assert_eq!(writer.finish(), Err(FrameError::SinkShrunk { expected: settled, found: 0 }));
}

#[test]
fn a_part_that_was_cut_costs_its_answer_only() {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, 1).unwrap();
    writer.begin_value().extend_from_slice(b"value");
    writer.begin_response().truncate(16 + 32);
    let cut = FrameError::SinkShrunk { expected: 16 + 32 + 5, found: 16 + 32 };
    assert_eq!(writer.end(Change::Put), Err(cut));
    writer.keep(b"").unwrap();
    let reply = Reply::parse(writer.finish().unwrap(), 1).unwrap();
    assert_eq!(reply.answer(0).effect, Effect::Keep);
}

#[test]
fn entries_past_the_last_are_refused() {
    let frame = samples::request();
    let request = Request::parse(&frame).unwrap();
    assert_eq!(request.entry(3), Err(FrameError::NoSuchSlot { index: 3, count: 3 }));
}
