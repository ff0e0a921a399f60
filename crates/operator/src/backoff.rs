//! How long to wait before an object is looked at again.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// While something is under way.
const BUSY: Duration = Duration::from_secs(2);
/// While nothing is: grids change without telling the API server.
const IDLE: Duration = Duration::from_secs(30);

/// No object is looked at more often: what is said of it is a change of it, too.
pub(crate) const AT_MOST_EVERY: Duration = Duration::from_millis(200);

/// After so many failures one after the other, the first of which is 1.
pub(crate) fn after_failures(failures: u32) -> Duration {
    let doubled = FIRST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    jittered(doubled.min(LONGEST), chance())
}

pub(crate) fn while_busy() -> Duration {
    jittered(BUSY, chance())
}

/// While something is wrong that may take people to put right.
pub(crate) fn while_not_ready() -> Duration {
    while_busy() * 4
}

pub(crate) fn while_idle() -> Duration {
    jittered(IDLE, chance())
}

/// Three quarters of the time to all of it, so that objects that failed together do not come back together.
fn jittered(time: Duration, chance: u8) -> Duration {
    time.mul_f64(0.75 + f64::from(chance) / 1024.0)
}

fn chance() -> u8 {
    let mut byte = [0_u8];
    // Without random numbers all wait for equally long, which is worse, but not wrong.
    match getrandom::fill(&mut byte) {
        Ok(()) => byte[0],
        Err(_) => u8::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_are_bounded() {
        let range = |failures| {
            let pause = after_failures(failures);
            let expected = FIRST.saturating_mul(1 << (failures - 1).min(20)).min(LONGEST);
            assert!(pause >= expected.mul_f64(0.74) && pause <= expected, "{failures}: {pause:?}");
        };
        (1..10).for_each(range);
        assert!(after_failures(u32::MAX) <= LONGEST);
        assert!(jittered(IDLE, 0) < jittered(IDLE, 200));
    }
}
