//! Functions in each format, through the same frames as in a grid.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattle_guest::format::{Json, MessagePack, Postcard, Raw};
use wattle_guest::testing::TestMap;
use wattle_guest::{Entry, Failure, GridTime, Processor, entry_processor};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    celsius: f64,
    at: Option<GridTime>,
}

fn reading(celsius: f64) -> Reading {
    Reading { sensor: "roof".to_owned(), celsius, at: None }
}

fn warm(entry: &mut Entry<Reading>, by: f64) -> Option<Reading> {
    let now = entry.now();
    let reading = entry.get_mut()?;
    reading.celsius += by;
    reading.at = Some(now);
    Some(reading.clone())
}

#[entry_processor]
fn warm_json(entry: &mut Entry<Reading>, by: f64) -> Option<Reading> {
    warm(entry, by)
}

#[entry_processor(format = "messagepack")]
fn warm_messagepack(entry: &mut Entry<Reading>, by: f64) -> Option<Reading> {
    warm(entry, by)
}

#[entry_processor(format = "postcard")]
fn warm_postcard(entry: &mut Entry<Reading>, by: f64) -> Option<Reading> {
    warm(entry, by)
}

macro_rules! check_format {
    ($format:expr, $processor:ty, $bad:expr) => {{
        let mut map = TestMap::new($format);
        map.put("roof", &reading(20.0));
        let expected = Reading { at: Some(map.now()), ..reading(21.5) };
        assert_eq!(map.invoke::<$processor, _>("roof", &1.5), Ok(Some(expected.clone())));
        assert_eq!(map.get::<Reading>("roof"), Some(expected));
        assert_eq!(map.invoke::<$processor, Option<Reading>>("cellar", &1.5), Ok(None));

        let stored = map.get_bytes("roof").unwrap().to_vec();
        let failure = map.invoke::<$processor, Option<Reading>>("roof", &()).unwrap_err();
        assert_eq!(failure.code(), Failure::UNREADABLE_ARGUMENT);
        for bad in [stored[..stored.len() - 1].to_vec(), [&stored[..], &$bad[..]].concat(), vec![]] {
            map.put_bytes("roof", bad.clone());
            let failure = map.invoke::<$processor, Option<Reading>>("roof", &1.5).unwrap_err();
            assert_eq!(failure.code(), Failure::UNREADABLE_VALUE, "{bad:?}");
            assert_eq!(map.get_bytes("roof"), Some(&bad[..]), "nothing has changed");
        }
    }};
}

#[test]
fn json_goes_through_and_damage_is_a_failure() {
    check_format!(Json, warm_json, b"1");
}

#[test]
fn messagepack_goes_through_and_damage_is_a_failure() {
    check_format!(MessagePack, warm_messagepack, b"\x01");
}

#[test]
fn postcard_goes_through_and_damage_is_a_failure() {
    check_format!(Postcard, warm_postcard, b"\x01");
}

#[test]
fn messagepack_structs_are_maps_with_the_names_of_their_fields() {
    let mut map = TestMap::new(MessagePack);
    map.put("roof", &reading(20.0));
    let stored = map.get_bytes("roof").unwrap();
    assert_eq!(stored[..8], *b"\x83\xa6sensor");
}

/// It borrows its text from the frame, argument and value alike.
#[derive(Serialize, Deserialize)]
struct Note<'a> {
    text: &'a str,
    #[serde(borrow)]
    tag: Option<&'a str>,
}

#[entry_processor]
fn tag<'a>(entry: &mut Entry<'a, Note<'a>>, tag: &'a str) -> Result<&'a str, Failure> {
    let note = entry.get_mut().ok_or_else(|| Failure::new(404, "no note"))?;
    note.tag = Some(tag);
    Ok(note.text)
}

#[test]
fn values_and_arguments_may_borrow_from_the_frame() {
    let mut notes = TestMap::new(Json);
    notes.put("n", &Note { text: "milk", tag: None });
    assert_eq!(notes.invoke::<tag, String>("n", &"shop").as_deref(), Ok("milk"));
    assert_eq!(notes.get_bytes("n"), Some(&br#"{"text":"milk","tag":"shop"}"#[..]));
    assert_eq!(notes.invoke::<tag, String>("m", &"shop"), Err(Failure::new(404, "no note")));
}

#[entry_processor(format = "raw")]
fn append(entry: &mut Entry<Cow<[u8]>>, more: &[u8]) -> [u8; 4] {
    let value = entry.get_or_default();
    if !more.is_empty() {
        value.to_mut().extend_from_slice(more);
    }
    u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes()
}

#[test]
fn raw_bytes_go_through_as_they_are() {
    let mut map = TestMap::new(Raw);
    assert_eq!(map.invoke::<append, [u8; 4]>("k", b"ab\xff"), Ok([3, 0, 0, 0]));
    assert_eq!(map.invoke::<append, [u8; 4]>("k", b"c"), Ok([4, 0, 0, 0]));
    assert_eq!(map.get_bytes("k"), Some(&b"ab\xffc"[..]));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    map: String,
    key: String,
    now: GridTime,
    version: u64,
    ttl_ms: Option<u64>,
}

#[entry_processor(name = "what.it-sees", deterministic)]
fn look(entry: &Entry<u32>) -> Result<Seen, Failure> {
    Ok(Seen {
        map: entry.context().map().to_owned(),
        key: entry.key_str()?.to_owned(),
        now: entry.context().now(),
        version: entry.version(),
        ttl_ms: entry.ttl().map(|ttl| ttl.as_millis() as u64),
    })
}

#[test]
fn function_sees_the_context_of_its_call() {
    let mut map = TestMap::new(Json).named("numbers").with_ttl(Duration::from_millis(500));
    map.put("other", &1);
    map.put("one", &1);
    map.advance(Duration::from_millis(200));
    let now = map.now();
    let seen = |key: &str, version, ttl_ms| Seen {
        map: "numbers".to_owned(),
        key: key.to_owned(),
        now,
        version,
        ttl_ms,
    };
    assert_eq!(map.invoke::<look, _>("one", &()), Ok(seen("one", 2, Some(300))));
    assert_eq!(map.invoke::<look, _>("two", &()), Ok(seen("two", 0, None)));
    assert_eq!(map.invoke::<look, Seen>([0xff], &()).unwrap_err().code(), Failure::KEY_NOT_TEXT);
}

#[test]
fn manifest_says_what_the_macro_was_told() {
    let function = look::FUNCTION;
    assert_eq!(function.name(), "what.it-sees");
    assert!(function.is_read_only() && function.is_deterministic());
    let function = warm_json::FUNCTION;
    assert_eq!(function.name(), "warm_json");
    assert!(!function.is_read_only() && !function.is_deterministic());
}

#[entry_processor]
fn purge(entry: &mut Entry<u32>, below: u32) -> Result<Option<u32>, Failure> {
    match entry.get() {
        Some(13) => Err(Failure::new(13, "unlucky")),
        Some(&value) if value < below => Ok(entry.remove()),
        Some(_) | None => Ok(None),
    }
}

#[test]
fn all_entries_answer_by_key_and_only_those_that_fail_fail() {
    let mut map = TestMap::new(Json);
    for (key, value) in [("a", 1), ("b", 13), ("c", 5), ("d", 90)] {
        map.put(key, &value);
    }
    let answers = map.invoke_all::<purge, Option<u32>>(&10).unwrap();
    let expected = [
        (b"a".to_vec(), Ok(Some(1))),
        (b"b".to_vec(), Err(Failure::new(13, "unlucky"))),
        (b"c".to_vec(), Ok(Some(5))),
        (b"d".to_vec(), Ok(None)),
    ];
    assert_eq!(answers, expected.into_iter().collect());
    assert_eq!((map.len(), map.get::<u32>("b"), map.get::<u32>("d")), (2, Some(13), Some(90)));
}

#[derive(Serialize, Deserialize)]
struct Odd {
    /// JSON has no keys that are lists.
    by_list: std::collections::BTreeMap<Vec<u8>, u8>,
}

#[entry_processor]
fn write_odd(entry: &mut Entry<Odd>, into_value: bool) -> Odd {
    let odd = || Odd { by_list: [(vec![1], 1)].into() };
    if into_value {
        entry.set(odd());
        return Odd { by_list: [].into() };
    }
    odd()
}

#[test]
fn what_the_format_has_no_form_for_is_a_failure() {
    let mut map = TestMap::new(Json);
    for into_value in [true, false] {
        let failure = map.invoke::<write_odd, serde_json::Value>("k", &into_value).unwrap_err();
        assert_eq!(failure.code(), Failure::UNWRITABLE_ANSWER);
        assert!(map.is_empty());
    }
}
