//! A counter: the smallest module, with no serialization at all.
//!
//! The value is decimal text, which is what the grid's own `increment` keeps too, so both can be used on the same
//! entry. `add` adds its argument (1 without one) and answers the new count; past the ends of 64 bits it fails and
//! changes nothing. `read` answers the count, 0 when there is none.

use wattle_guest::{Entry, Failure, entry_processor};

/// The count would not fit into 64 bits.
const OVERFLOW: u32 = 1;
/// The value or the argument is no whole number of 64 bits.
const NOT_A_NUMBER: u32 = 2;

#[entry_processor(format = "raw", deterministic)]
fn add(counter: &mut Entry<String>, amount: &str) -> Result<String, Failure> {
    let count = count(counter.get().map(String::as_str))?;
    let amount = if amount.is_empty() { 1 } else { whole(amount)? };
    let Some(count) = count.checked_add(amount) else {
        return Err(Failure::new(OVERFLOW, "the count would not fit into 64 bits"));
    };
    counter.set(count.to_string());
    Ok(count.to_string())
}

#[entry_processor(format = "raw", deterministic)]
fn read(counter: &Entry<&str>) -> Result<String, Failure> {
    count(counter.get().copied()).map(|count| count.to_string())
}

fn count(value: Option<&str>) -> Result<i64, Failure> {
    value.map_or(Ok(0), whole)
}

fn whole(text: &str) -> Result<i64, Failure> {
    text.parse().map_err(|_| Failure::new(NOT_A_NUMBER, "this is no whole number of 64 bits"))
}

wattle_guest::export!(add, read);

#[cfg(test)]
mod tests {
    use super::*;
    use wattle_guest::format::Raw;
    use wattle_guest::testing::TestMap;

    fn add_to(counters: &mut TestMap<Raw>, amount: &str) -> Result<String, Failure> {
        counters.invoke::<add, String>("visits", &amount)
    }

    #[test]
    fn counting_begins_at_zero_and_goes_by_one() {
        let mut counters = TestMap::new(Raw);
        assert_eq!(counters.invoke::<read, String>("visits", &()).unwrap(), "0");
        assert_eq!(add_to(&mut counters, "").unwrap(), "1");
        assert_eq!(add_to(&mut counters, "-5").unwrap(), "-4");
        assert_eq!(counters.invoke::<read, String>("visits", &()).unwrap(), "-4");
        assert_eq!(counters.get_bytes("visits"), Some(&b"-4"[..]));
    }

    #[test]
    fn overflow_fails_and_changes_nothing() {
        let mut counters = TestMap::new(Raw);
        counters.put("visits", &i64::MAX.to_string());
        assert_eq!(add_to(&mut counters, "1").unwrap_err().code(), OVERFLOW);
        assert_eq!(counters.get::<String>("visits"), Some(i64::MAX.to_string()));
        assert_eq!(counters.version("visits"), 1);
    }

    #[test]
    fn what_is_no_number_fails_and_changes_nothing() {
        let mut counters = TestMap::new(Raw);
        assert_eq!(add_to(&mut counters, "much").unwrap_err().code(), NOT_A_NUMBER);
        assert!(counters.is_empty());
        counters.put("visits", "many");
        assert_eq!(add_to(&mut counters, "1").unwrap_err().code(), NOT_A_NUMBER);
        counters.put_bytes("visits", [0xff]);
        assert_eq!(add_to(&mut counters, "1").unwrap_err().code(), Failure::UNREADABLE_VALUE);
    }
}
