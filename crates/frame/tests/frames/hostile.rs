//! Bytes that are not a frame, or not quite: always an error that says what is wrong, never a panic.

use proptest::collection::vec;
use proptest::prelude::*;
use wattle_frame::guest::{Reply, Request};
use wattle_frame::pipeline::{Operations, Results};
use wattle_frame::{Field, FrameError};

use crate::samples::{self, REPLIES, Read, Sample, read_operations, read_reply, read_request, read_results};

/// The frame with other bytes at a place.
fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

fn with_u32(frame: Vec<u8>, at: usize, number: u32) -> Vec<u8> {
    with(frame, at, &number.to_le_bytes())
}

/// Whatever the bytes are: what is read has a bound.
fn check_bounded(bytes: &[u8], read: Read, shares: usize) {
    if let Ok(sum) = read(bytes) {
        assert!(sum <= bytes.len() * shares, "{sum} bytes out of {}", bytes.len());
    }
}

fn request_error(frame: &[u8]) -> FrameError {
    read_request(frame).unwrap_err()
}

fn reply_error(frame: &[u8]) -> FrameError {
    read_reply(frame).unwrap_err()
}

fn operations_error(frame: &[u8]) -> FrameError {
    read_operations(frame).unwrap_err()
}

fn results_error(frame: &[u8]) -> FrameError {
    read_results(frame).unwrap_err()
}

#[test]
fn every_truncation_is_refused() {
    for Sample { frame, read, .. } in samples::all() {
        for end in 0..frame.len() {
            let error = read(&frame[..end]).unwrap_err();
            let told = matches!(
                error,
                FrameError::Truncated { found, .. } | FrameError::LengthMismatch { found, .. } if found == end
            );
            assert!(told, "cut at {end}: {error}");
        }
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    for Sample { mut frame, read, .. } in samples::all() {
        let declared = frame.len() as u32;
        frame.push(0);
        let found = frame.len();
        assert_eq!(read(&frame), Err(FrameError::LengthMismatch { declared, found }));
    }
}

#[test]
fn no_changed_byte_makes_a_reader_panic_or_return_more_than_the_frame() {
    for Sample { frame, read, shares } in samples::all() {
        let mut changed = frame.clone();
        for at in 0..frame.len() {
            for byte in 0..=u8::MAX {
                changed[at] = byte;
                check_bounded(&changed, read, shares);
            }
            changed[at] = frame[at];
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in vec(any::<u8>(), 0..300)) {
        for Sample { read, shares, .. } in samples::all() {
            check_bounded(&bytes, read, shares);
        }
    }

    #[test]
    fn no_bytes_after_a_good_header_make_a_reader_panic(
        bytes in vec(any::<u8>(), 0..300),
        which in 0..4usize,
        kept in 4..30usize,
    ) {
        let Sample { mut frame, read, shares } = samples::all()[which].clone();
        for (place, byte) in frame.iter_mut().skip(kept).zip(&bytes) {
            *place = *byte;
        }
        check_bounded(&frame, read, shares);
    }
}

#[test]
fn an_unknown_format_is_refused_by_its_number() {
    for Sample { frame, read, .. } in samples::all() {
        let error = FrameError::Format { expected: 1, found: 2 };
        assert_eq!(read(&with(frame, 0, &[2, 0])), Err(error));
    }
}

#[test]
fn unknown_flags_in_the_header_are_refused() {
    for Sample { frame, read, .. } in samples::all() {
        assert_eq!(read(&with(frame, 2, &[0, 1])), Err(FrameError::HeaderFlags { found: 0x100 }));
    }
}

#[test]
fn a_count_that_does_not_fit_is_refused_before_anything_is_read() {
    let truncated = |fixed: u64, slot: u64, found| FrameError::Truncated {
        needed: fixed + slot * u64::from(u32::MAX),
        found,
    };
    let frame = with_u32(samples::request(), 8, u32::MAX);
    assert_eq!(Request::parse(&frame).unwrap_err(), truncated(48, 40, frame.len()));
    let frame = with_u32(samples::reply(), 4, u32::MAX);
    assert_eq!(Reply::parse(&frame, u32::MAX as usize).unwrap_err(), truncated(16, 32, frame.len()));
    let frame = with_u32(samples::operations(), 4, u32::MAX);
    assert_eq!(Operations::parse(&frame).unwrap_err(), truncated(24 + 2 * 8, 40, frame.len()));
    let frame = with_u32(samples::results(), 4, u32::MAX);
    assert_eq!(Results::parse(&frame, u32::MAX as usize).unwrap_err(), truncated(16, 40, frame.len()));
}

#[test]
fn more_names_than_are_looked_up_are_refused() {
    let frame = with_u32(samples::operations(), 8, u32::MAX);
    assert_eq!(operations_error(&frame), FrameError::TooManyNames { limit: 1024, found: u32::MAX });
}

#[test]
fn an_answer_for_an_entry_that_was_not_given_is_its_own_error() {
    let frame = samples::reply();
    let found = REPLIES as u32;
    let error = Reply::parse(&frame, REPLIES - 1).unwrap_err();
    assert_eq!(error, FrameError::CountMismatch { expected: found - 1, found });
    let error = Reply::parse(&frame, REPLIES + 1).unwrap_err();
    assert_eq!(error, FrameError::CountMismatch { expected: found + 1, found });
    let error = Results::parse(&samples::results(), 7).unwrap_err();
    assert_eq!(error, FrameError::CountMismatch { expected: 7, found: 8 });
}

/// Ranges that are not in the arena: behind it, past the largest number, in the header and in the slots.
fn check_bounds(frame: &[u8], at: usize, read: fn(&[u8]) -> FrameError, field: Field) {
    let total = frame.len() as u32;
    for (offset, length) in [(total, 1), (total - 1, 2), (u32::MAX - 1, 4), (0, 4), (20, 1), (1, u32::MAX)] {
        let frame = with_u32(with_u32(frame.to_vec(), at, offset), at + 4, length);
        let error = read(&frame);
        let told = match error {
            FrameError::OutOfBounds { field: f, slot: Some(0), offset: o, length: l, total: t, .. } => {
                (f, o, l, t) == (field, offset, length, total)
            }
            FrameError::RangesExceedArena { sum, .. } => sum >= u64::from(length),
            _ => false,
        };
        assert!(told, "{field} at {offset} + {length}: {error}");
    }
}

#[test]
fn ranges_outside_the_arena_are_refused() {
    check_bounds(&samples::request(), 48, request_error, Field::Key);
    check_bounds(&samples::request(), 48 + 8, request_error, Field::Value);
    check_bounds(&samples::request(), 48 + 32, request_error, Field::Argument);
    check_bounds(&samples::reply(), 16 + 8, reply_error, Field::Value);
    check_bounds(&samples::reply(), 16 + 16, reply_error, Field::Response);
    check_bounds(&samples::operations(), 24 + 16 + 8, operations_error, Field::Key);
    check_bounds(&samples::operations(), 24 + 16 + 16, operations_error, Field::Value);
    check_bounds(&samples::results(), 16 + 8, results_error, Field::Value);
}

#[test]
fn ranges_of_the_header_and_of_names_are_checked_too() {
    let frame = samples::request();
    let total = frame.len() as u32;
    for (at, field) in [(24, Field::Map), (32, Field::Argument)] {
        let error = request_error(&with_u32(frame.clone(), at, total));
        let length = samples::u32_at(&frame, at + 4);
        let arena = 48 + 3 * 40;
        assert_eq!(error, FrameError::OutOfBounds { field, slot: None, offset: total, length, arena, total });
    }
    let frame = samples::operations();
    let total = frame.len() as u32;
    let (offset, length, arena) = (total, 8, 24 + 2 * 8 + 9 * 40);
    let error = operations_error(&with_u32(frame, 24, total));
    assert_eq!(
        error,
        FrameError::OutOfBounds { field: Field::Name, slot: None, offset, length, arena, total }
    );
}

/// Slot 1 gets slot 0's range: read one by one, the ranges would be longer than what was sent.
fn check_shared(frame: Vec<u8>, from: usize, to: usize, read: fn(&[u8]) -> FrameError) {
    let range = frame[from..from + 8].to_vec();
    let more = samples::u32_at(&frame, from + 4) - samples::u32_at(&frame, to + 4);
    match read(&with(frame, to, &range)) {
        FrameError::RangesExceedArena { sum, arena } => assert_eq!(sum, arena + u64::from(more)),
        other => panic!("{other}"),
    }
}

#[test]
fn ranges_that_share_bytes_are_refused_so_that_a_small_frame_cannot_grow() {
    // The response of the first answer again as that of the second, and so on.
    check_shared(samples::reply(), 16 + 16, 16 + 32 + 16, reply_error);
    check_shared(samples::operations(), 40 + 8, 40 + 40 + 8, operations_error);
    check_shared(samples::results(), 16 + 8, 16 + 40 + 8, results_error);
}

#[test]
fn an_empty_range_may_lie_anywhere() {
    let frame = with_u32(with_u32(samples::reply(), 16 + 8, u32::MAX), 16 + 16, 3);
    let frame = with_u32(frame, 16 + 20, 0);
    let reply = Reply::parse(&frame, REPLIES).unwrap();
    assert_eq!(reply.answer(0).response, b"");
}

#[test]
fn unknown_kinds_are_refused_with_their_slot() {
    let error = reply_error(&with(samples::reply(), 16 + 32, &[5]));
    assert_eq!(error, FrameError::UnknownKind { slot: 1, found: 5 });
    for kind in [0, 7] {
        let error = operations_error(&with(samples::operations(), 40 + 2 * 40, &[kind]));
        assert_eq!(error, FrameError::UnknownKind { slot: 2, found: kind });
    }
    for kind in [0, 8] {
        let error = results_error(&with(samples::results(), 16 + 3 * 40, &[kind]));
        assert_eq!(error, FrameError::UnknownKind { slot: 3, found: kind });
    }
    let error = results_error(&with(samples::results(), 16 + 7 * 40 + 2, &[4]));
    assert_eq!(error, FrameError::UnknownOutcome { slot: 7, found: 4 });
}

#[test]
fn flags_that_a_slot_cannot_have_are_refused() {
    let error = reply_error(&with(samples::reply(), 16 + 1, &[1]));
    assert_eq!(error, FrameError::SlotFlags { slot: 0, found: 1 });
    // A get has none, a put not both conditions, a touch does not both set and clear, and 32 is unknown.
    for (slot, flags) in [(0, 1), (1, 3), (1, 16), (4, 1), (5, 2), (6, 24), (8, 4), (1, 32)] {
        let at = 40 + slot as usize * 40 + 1;
        let error = operations_error(&with(samples::operations(), at, &[flags]));
        assert_eq!(error, FrameError::SlotFlags { slot, found: flags });
    }
    for (slot, flags) in [(0, 2), (2, 4), (3, 4), (4, 1), (5, 1), (6, 1), (7, 2)] {
        let at = 16 + slot as usize * 40 + 1;
        let error = results_error(&with(samples::results(), at, &[flags]));
        assert_eq!(error, FrameError::SlotFlags { slot, found: flags });
    }
}

#[test]
fn operations_on_names_that_are_not_there_are_refused() {
    let error = operations_error(&with(samples::operations(), 40 + 2, &[2, 0]));
    assert_eq!(error, FrameError::NoSuchName { index: 2, names: 2 });
    let error = operations_error(&with(samples::operations(), 40 + 8 * 40 + 4, &[0xFF, 0xFF]));
    assert_eq!(error, FrameError::NoSuchName { index: 0xFFFF, names: 2 });
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let frame = samples::request();
    let at = samples::u32_at(&frame, 24) as usize;
    let error = request_error(&with(frame, at, &[0xFF]));
    assert_eq!(error, FrameError::NotUtf8 { field: Field::Map, slot: None });
    let frame = samples::operations();
    let at = samples::u32_at(&frame, 24) as usize;
    let error = operations_error(&with(frame, at, &[0xFF]));
    assert_eq!(error, FrameError::NotUtf8 { field: Field::Name, slot: None });
    for (field, place) in [(Field::Message, 8), (Field::Reason, 16)] {
        let frame = samples::results();
        let at = samples::u32_at(&frame, 16 + 7 * 40 + place) as usize;
        let error = results_error(&with(frame, at, &[0xFF]));
        assert_eq!(error, FrameError::NotUtf8 { field, slot: Some(7) });
    }
}

#[test]
fn facts_that_are_cut_short_or_no_text_are_refused() {
    let frame = samples::results();
    let slot = 16 + 7 * 40;
    let (offset, length) = (samples::u32_at(&frame, slot + 16), samples::u32_at(&frame, slot + 20));
    let reason = samples::u32_at(&frame, slot + 32);
    let malformed = FrameError::MalformedFacts { slot: 7 };
    // A reason past its range; a range that ends within the facts.
    for longer in [length + 1, u32::MAX] {
        assert_eq!(results_error(&with_u32(frame.clone(), slot + 32, longer)), malformed);
    }
    assert_eq!(results_error(&with(frame.clone(), slot + 39, &[1])), malformed);
    for shorter in (reason + 1..length).filter(|shorter| *shorter != reason + 8 + 8) {
        assert_eq!(results_error(&with_u32(frame.clone(), slot + 20, shorter)), malformed, "{shorter}");
    }
    // A name longer than what is there; a name that is not UTF-8.
    let facts = (offset + reason) as usize;
    assert_eq!(results_error(&with_u32(frame.clone(), facts, u32::MAX)), malformed);
    assert_eq!(results_error(&with(frame, facts + 8, &[0xFF])), malformed);
}

#[test]
fn errors_say_what_is_wrong_where_and_by_how_much() {
    let error = FrameError::OutOfBounds {
        field: Field::Value,
        slot: Some(3),
        offset: 900,
        length: 50,
        arena: 200,
        total: 940,
    };
    assert_eq!(error.to_string(), "value of slot 3 at 900 + 50 is outside 200..940");
    let error = FrameError::CountMismatch { expected: 2, found: 3 };
    assert_eq!(error.to_string(), "3 slots, expected one for each of 2");
}
