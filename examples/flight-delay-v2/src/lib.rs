//! Says of each flight how late it arrived: version 2 of the demo's processor, to be swapped in while the grid runs.
//!
//! Values and answers are as in version 1 (`examples/flight-delay`); the rule is another one: a flight without a
//! departure time (`dep_time` is null) is `cancelled`; one that departed but has no arrival delay (`arr_delay` is null)
//! is `diverted`; one that arrived more than 60 minutes late (`arr_delay` > 60) is `very-late`, more than 15 minutes
//! `late`; any other is `on-time`. The minutes are `arr_delay`, but 0 for a flight that arrived early, elsewhere or
//! not at all.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wattle_guest::{Entry, entry_processor};

/// An arrival that is this late is still on time.
const GRACE_MINUTES: i64 = 15;
/// An arrival that is later than this is very late.
const PATIENCE_MINUTES: i64 = 60;

/// What the rule needs; the rest is carried along. An optional field with a deserializer of its own must be there,
/// though it may be null: what has no such columns is no flight.
#[derive(Debug, Serialize, Deserialize)]
struct Flight {
    #[serde(deserialize_with = "Option::deserialize")]
    dep_time: Option<i64>,
    #[serde(deserialize_with = "Option::deserialize")]
    arr_delay: Option<i64>,
    delay: Option<Delay>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Delay {
    Cancelled,
    Diverted,
    VeryLate,
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
    let (delay, minutes) = match (flight.dep_time, flight.arr_delay) {
        (None, _) => (Delay::Cancelled, 0),
        (Some(_), None) => (Delay::Diverted, 0),
        (Some(_), Some(minutes)) if minutes > PATIENCE_MINUTES => (Delay::VeryLate, minutes),
        (Some(_), Some(minutes)) if minutes > GRACE_MINUTES => (Delay::Late, minutes),
        (Some(_), Some(minutes)) => (Delay::OnTime, minutes.max(0)),
    };
    Answer { delay, minutes }
}

wattle_guest::export!(flight_delay);

#[cfg(test)]
mod tests {
    use super::*;
    use wattle_guest::format::Json;
    use wattle_guest::testing::TestMap;

    fn check(dep_time: Option<i64>, arr_delay: Option<i64>, delay: Delay, minutes: i64) {
        let mut flights = TestMap::new(Json);
        flights
            .put("f", &serde_json::json!({ "dep_time": dep_time, "arr_delay": arr_delay, "origin": "JFK" }));
        let answer = flights.invoke::<flight_delay, Option<Answer>>("f", &()).unwrap();
        assert_eq!(answer, Some(Answer { delay, minutes }));
        let expected = serde_json::json!({
            "dep_time": dep_time, "arr_delay": arr_delay, "origin": "JFK", "delay": delay,
        });
        assert_eq!(flights.get::<Value>("f"), Some(expected));
    }

    #[test]
    fn lateness_is_that_of_the_arrival() {
        check(Some(517), Some(-20), Delay::OnTime, 0);
        check(Some(517), Some(15), Delay::OnTime, 15);
        check(Some(517), Some(16), Delay::Late, 16);
        check(Some(517), Some(60), Delay::Late, 60);
        check(Some(517), Some(61), Delay::VeryLate, 61);
    }

    #[test]
    fn flight_without_an_arrival_is_diverted_and_without_a_departure_cancelled() {
        check(Some(517), None, Delay::Diverted, 0);
        check(None, None, Delay::Cancelled, 0);
    }

    #[test]
    fn class_of_version_1_is_replaced() {
        let mut flights = TestMap::new(Json);
        flights.put_bytes("f", *br#"{"dep_time":1,"arr_delay":70,"delay":"late"}"#);
        let answer = flights.invoke::<flight_delay, Option<Answer>>("f", &()).unwrap();
        assert_eq!(answer, Some(Answer { delay: Delay::VeryLate, minutes: 70 }));
    }
}
