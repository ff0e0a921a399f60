//! A token bucket per key: `take` asks for tokens and is told at once whether it gets them.
//!
//! The bucket is full at first and gains `per_second` tokens a second up to `burst`, by the grid's clock, so every
//! client sees the same rate whatever its own clock says. Values, arguments and answers are in postcard: a bucket takes
//! about ten bytes. A bucket that has filled up again says nothing that its absence would not, so it expires then.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattle_guest::{Entry, Failure, GridTime, entry_processor};

/// A thousandth of a token is what a rate of one per second gains in a millisecond.
const MILLI: u64 = 1000;

/// A rate must be at least 1 per second.
const NO_RATE: u32 = 1;
/// More than the bucket can ever hold.
const MORE_THAN_BURST: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Bucket {
    milli_tokens: u64,
    at: GridTime,
}

/// The argument. The limits are the caller's, so that they can change at any time and differ by key.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Request {
    tokens: u32,
    burst: u32,
    per_second: u32,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Decision {
    allowed: bool,
    /// Whole tokens that are left.
    left: u32,
    /// When the tokens will be there, if nobody takes any before; 0 when allowed.
    retry_after_ms: u64,
}

#[entry_processor(format = "postcard", deterministic)]
fn take(entry: &mut Entry<Bucket>, request: Request) -> Result<Decision, Failure> {
    if request.per_second == 0 {
        return Err(Failure::new(NO_RATE, "the rate must be at least 1 per second"));
    }
    if request.tokens > request.burst {
        let message =
            format!("{} tokens are never there, for the burst is {}", request.tokens, request.burst);
        return Err(Failure::new(MORE_THAN_BURST, message));
    }
    let per_second = u64::from(request.per_second);
    let full = u64::from(request.burst) * MILLI;
    let wanted = u64::from(request.tokens) * MILLI;
    let held = entry.get().map_or(full, |bucket| refilled(bucket, entry.now(), per_second).min(full));
    let Some(left) = held.checked_sub(wanted) else {
        let retry_after_ms = (wanted - held).div_ceil(per_second);
        return Ok(Decision { allowed: false, left: whole(held), retry_after_ms });
    };
    let bucket = Bucket { milli_tokens: left, at: entry.now() };
    let until_full = Duration::from_millis((full - left).div_ceil(per_second));
    entry.set_with_ttl(bucket, until_full);
    Ok(Decision { allowed: true, left: whole(left), retry_after_ms: 0 })
}

fn refilled(bucket: &Bucket, now: GridTime, per_second: u64) -> u64 {
    let elapsed_ms = now.as_millis().saturating_sub(bucket.at.as_millis());
    bucket.milli_tokens.saturating_add(elapsed_ms.saturating_mul(per_second))
}

fn whole(milli_tokens: u64) -> u32 {
    u32::try_from(milli_tokens / MILLI).unwrap_or(u32::MAX)
}

wattle_guest::export!(take);

#[cfg(test)]
mod tests {
    use super::*;
    use wattle_guest::format::Postcard;
    use wattle_guest::testing::TestMap;

    const LIMIT: Request = Request { tokens: 1, burst: 3, per_second: 2 };

    fn ask(buckets: &mut TestMap<Postcard>, request: Request) -> Result<Decision, Failure> {
        buckets.invoke::<take, Decision>("alice", &request)
    }

    #[test]
    fn burst_is_allowed_and_then_the_rate() {
        let mut buckets = TestMap::new(Postcard);
        for left in [2, 1, 0] {
            let decision = ask(&mut buckets, LIMIT).unwrap();
            assert_eq!(decision, Decision { allowed: true, left, retry_after_ms: 0 });
        }
        let refusal = Decision { allowed: false, left: 0, retry_after_ms: 500 };
        assert_eq!(ask(&mut buckets, LIMIT), Ok(refusal));
        buckets.advance(Duration::from_millis(499));
        assert_eq!(ask(&mut buckets, LIMIT).unwrap().retry_after_ms, 1);
        buckets.advance(Duration::from_millis(1));
        assert!(ask(&mut buckets, LIMIT).unwrap().allowed);
        assert!(!ask(&mut buckets, LIMIT).unwrap().allowed);
    }

    #[test]
    fn refusal_writes_nothing() {
        let mut buckets = TestMap::new(Postcard);
        assert!(ask(&mut buckets, Request { tokens: 3, ..LIMIT }).unwrap().allowed);
        let version = buckets.version("alice");
        assert!(!ask(&mut buckets, LIMIT).unwrap().allowed);
        assert_eq!(buckets.version("alice"), version);
    }

    #[test]
    fn full_bucket_expires() {
        let mut buckets = TestMap::new(Postcard);
        ask(&mut buckets, Request { tokens: 2, ..LIMIT }).unwrap();
        assert_eq!(buckets.ttl("alice"), Some(Duration::from_secs(1)));
        buckets.advance(Duration::from_secs(1));
        assert!(buckets.is_empty());
        assert_eq!(ask(&mut buckets, LIMIT).unwrap().left, 2);
    }

    #[test]
    fn one_key_does_not_use_up_another() {
        let mut buckets = TestMap::new(Postcard);
        assert!(ask(&mut buckets, Request { tokens: 3, ..LIMIT }).unwrap().allowed);
        let other = buckets.invoke::<take, Decision>("bob", &LIMIT).unwrap();
        assert_eq!(other.left, 2);
    }

    #[test]
    fn limits_that_make_no_sense_fail() {
        let mut buckets = TestMap::new(Postcard);
        assert_eq!(ask(&mut buckets, Request { per_second: 0, ..LIMIT }).unwrap_err().code(), NO_RATE);
        assert_eq!(ask(&mut buckets, Request { tokens: 4, ..LIMIT }).unwrap_err().code(), MORE_THAN_BURST);
        assert!(buckets.is_empty());
    }

    #[test]
    fn the_longest_idle_time_does_not_overflow() {
        let mut buckets = TestMap::new(Postcard);
        let greedy = Request { tokens: u32::MAX, burst: u32::MAX, per_second: u32::MAX };
        assert!(ask(&mut buckets, greedy).unwrap().allowed);
        buckets.advance(Duration::from_millis(999));
        assert!(!ask(&mut buckets, greedy).unwrap().allowed);
        assert!(ask(&mut buckets, Request { per_second: 1, ..greedy }).is_ok());
    }
}
