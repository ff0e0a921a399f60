//! Says of each flight how late it departed: version 1 of the demo's processor.
//!
//! A value is a JSON object with the columns of `examples/data/flights-2013-01.csv.gz`; `null` is a missing cell. The
//! rule: a flight without a departure time (`dep_time` is null) is `cancelled`; one that departed more than 15
//! minutes late (`dep_delay` > 15) is `late`; any other is `on-time`. The class is written into the field `delay`; all
//! other fields stay. The answer is `{"delay": class, "minutes": m}`, where `m` is `dep_delay`, but 0 for a flight that
//! departed early or not at all. A key without an entry gets no answer, and an entry that has its class is not
//! written again.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wattle_guest::{Entry, entry_processor};

/// A departure that is this late is still on time.
const GRACE_MINUTES: i64 = 15;

/// What the rule needs; the rest is carried along. An optional field with a deserializer of its own must be there,
/// though it may be null: what has no such columns is no flight.
#[derive(Debug, Serialize, Deserialize)]
struct Flight {
    #[serde(deserialize_with = "Option::deserialize")]
    dep_time: Option<i64>,
    #[serde(deserialize_with = "Option::deserialize")]
    dep_delay: Option<i64>,
    delay: Option<Delay>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Delay {
    Cancelled,
    Late,
    OnTime,
    /// A class that another version of this function gave.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    delay: Delay,
    minutes: i64,
}

#[entry_processor(deterministic)]
fn flight_delay(entry: &mut Entry<Flight>) -> Option<Answer> {
    let flight = entry.get()?;
    let answer = judge(flight);
    if flight.delay != Some(answer.delay) {
        entry.get_mut()?.delay = Some(answer.delay);
    }
    Some(answer)
}

fn judge(flight: &Flight) -> Answer {
    let minutes = flight.dep_delay.unwrap_or(0).max(0);
    match flight.dep_time {
        None => Answer { delay: Delay::Cancelled, minutes: 0 },
        Some(_) if minutes > GRACE_MINUTES => Answer { delay: Delay::Late, minutes },
        Some(_) => Answer { delay: Delay::OnTime, minutes },
    }
}

wattle_guest::export!(flight_delay);

#[cfg(test)]
mod tests {
    use super::*;
    use wattle_guest::Failure;
    use wattle_guest::format::Json;
    use wattle_guest::testing::TestMap;

    fn check(flight: &str, delay: Delay, minutes: i64, written: &str) {
        let mut flights = TestMap::new(Json);
        flights.put_bytes("f", flight);
        for _ in 0..2 {
            let answer = flights.invoke::<flight_delay, Option<Answer>>("f", &()).unwrap();
            assert_eq!(answer, Some(Answer { delay, minutes }));
            assert_eq!(flights.get::<Value>("f"), serde_json::from_str(written).unwrap());
            assert_eq!(flights.version("f"), 2, "the second run writes nothing");
        }
    }

    #[test]
    fn departure_more_than_a_quarter_of_an_hour_late_is_late() {
        check(
            r#"{"dep_time":533,"dep_delay":16,"carrier":"UA"}"#,
            Delay::Late,
            16,
            r#"{"dep_time":533,"dep_delay":16,"delay":"late","carrier":"UA"}"#,
        );
        check(
            r#"{"dep_time":533,"dep_delay":15}"#,
            Delay::OnTime,
            15,
            r#"{"dep_time":533,"dep_delay":15,"delay":"on-time"}"#,
        );
    }

    #[test]
    fn early_departure_is_no_minutes_late() {
        check(
            r#"{"dep_time":533,"dep_delay":-4,"arr_delay":40}"#,
            Delay::OnTime,
            0,
            r#"{"dep_time":533,"dep_delay":-4,"arr_delay":40,"delay":"on-time"}"#,
        );
    }

    #[test]
    fn flight_that_never_departed_is_cancelled() {
        check(
            r#"{"dep_time":null,"dep_delay":null,"tailnum":null}"#,
            Delay::Cancelled,
            0,
            r#"{"dep_time":null,"dep_delay":null,"tailnum":null,"delay":"cancelled"}"#,
        );
    }

    #[test]
    fn class_of_another_version_is_replaced() {
        check(
            r#"{"dep_time":533,"dep_delay":90,"delay":"very-late"}"#,
            Delay::Late,
            90,
            r#"{"dep_time":533,"dep_delay":90,"delay":"late"}"#,
        );
    }

    #[test]
    fn what_is_no_flight_fails() {
        let mut flights = TestMap::new(Json);
        flights.put_bytes("f", *br#"{"dep_time":533}"#);
        let failure = flights.invoke::<flight_delay, Option<Answer>>("f", &()).unwrap_err();
        assert_eq!(failure.code(), Failure::UNREADABLE_VALUE);
        assert!(failure.message().contains("missing field `dep_delay`"), "{failure}");
        assert_eq!(flights.invoke::<flight_delay, Option<Answer>>("none", &()), Ok(None));
    }
}
