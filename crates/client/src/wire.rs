//! Durations on the wire.

use std::time::Duration;

/// Longer than any grid lives; what does not fit into a protobuf duration is as good as this.
const LONGEST: prost_types::Duration = prost_types::Duration { seconds: 315_576_000_000, nanos: 0 };

pub(crate) fn to_wire(duration: Duration) -> prost_types::Duration {
    match prost_types::Duration::try_from(duration) {
        Ok(wire) if wire.seconds <= LONGEST.seconds => wire,
        Ok(_) | Err(_) => LONGEST,
    }
}

/// A negative duration on the wire is a duration that has passed.
pub(crate) fn from_wire(duration: prost_types::Duration) -> Duration {
    Duration::try_from(duration).unwrap_or(Duration::ZERO)
}

/// Milliseconds for a packed frame.
pub(crate) fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}
