//! What a call tells a function besides its entry.

use std::ops::Add;
use std::time::Duration;

/// Grid time: wall time in milliseconds that never goes back, the same for all entries of a call.
///
/// It can be a field of a stored value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct GridTime(u64);

impl GridTime {
    /// From milliseconds since 1970-01-01T00:00:00Z.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; nothing when it is still to come.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The end of time is kept, not passed.
impl Add<Duration> for GridTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

/// What a call tells a function besides its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    pub(crate) map: &'a str,
    pub(crate) now: GridTime,
}

impl<'a> Context<'a> {
    /// The name of the map that the entry belongs to.
    pub fn map(&self) -> &'a str {
        self.map
    }

    /// The grid's time when the call began.
    pub fn now(&self) -> GridTime {
        self.now
    }
}

/// Whole milliseconds, as many as fit.
pub(crate) const fn millis(duration: Duration) -> u64 {
    let millis = duration.as_millis();
    if millis > u64::MAX as u128 { u64::MAX } else { millis as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_time_saturates_at_both_ends() {
        let (early, late) = (GridTime::from_millis(10), GridTime::from_millis(25));
        assert_eq!(late.since(early), Duration::from_millis(15));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late + Duration::MAX, GridTime::from_millis(u64::MAX));
    }
}
