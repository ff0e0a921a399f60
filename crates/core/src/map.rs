//! Maps: their options and what a partition needs to know of one.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::{MapId, ReplicationClass};
use crate::limits::TTL_MAX;
use crate::name::Name;

/// What the values of a map are; the grid refuses others and tools print them accordingly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ContentType {
    /// Any bytes.
    #[default]
    Bytes,
    /// UTF-8.
    Text,
    /// One JSON value (RFC 8259).
    Json,
    /// One MessagePack object.
    MessagePack,
}

/// What happens to a write that would take a map past its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum EvictionPolicy {
    /// The write is refused.
    #[default]
    None,
    /// Of a sample of entries, the one unused for longest goes.
    Lru,
    /// Of a sample of entries, the one least often used goes. The counter is Redis's: logarithmic, with decay.
    Lfu,
}

/// The options of a map.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MapOptions {
    /// What its values are. Fixed when the map is created.
    pub content_type: ContentType,
    /// How long an entry lives after its last write.
    pub ttl: Option<Duration>,
    /// How long an entry lives after its last use.
    pub max_idle: Option<Duration>,
    /// A limit over the whole grid, on what entries cost in memory, in bytes.
    pub max_bytes: Option<u64>,
    /// What goes when that limit is reached.
    pub eviction: EvictionPolicy,
    /// In whose partitions its entries are. Fixed when the map is created.
    #[serde(default, skip_serializing_if = "ReplicationClass::is_first")]
    pub class: ReplicationClass,
}

/// A change of options: what is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OptionsChange {
    /// The new time to live.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    pub ttl: Option<Option<Duration>>,
    /// The new longest idle time.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    pub max_idle: Option<Option<Duration>>,
    /// The new limit in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    pub max_bytes: Option<Option<u64>>,
    /// The new policy.
    pub eviction: Option<EvictionPolicy>,
}

/// A field that is there names a change, be it to none: formats with one null would read that as "stays".
fn named<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Why options are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum InvalidOptions {
    /// A time is zero or too long.
    #[error("{field} must be more than zero and at most 100 years")]
    Time {
        /// Which one.
        field: TimeOption,
    },
    /// Eviction without a limit would never happen.
    #[error("an eviction policy needs max_bytes")]
    EvictionWithoutLimit,
}

/// An option that is a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeOption {
    /// [`MapOptions::ttl`].
    Ttl,
    /// [`MapOptions::max_idle`].
    MaxIdle,
}

impl fmt::Display for TimeOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ttl => "ttl",
            Self::MaxIdle => "max_idle",
        })
    }
}

impl MapOptions {
    /// Checks that the options make sense together.
    ///
    /// # Errors
    /// [`InvalidOptions`] names the field.
    pub fn validate(&self) -> Result<(), InvalidOptions> {
        for (field, time) in [(TimeOption::Ttl, self.ttl), (TimeOption::MaxIdle, self.max_idle)] {
            if time.is_some_and(|time| time.as_millis() == 0 || time > TTL_MAX) {
                return Err(InvalidOptions::Time { field });
            }
        }
        if self.eviction != EvictionPolicy::None && self.max_bytes.is_none() {
            return Err(InvalidOptions::EvictionWithoutLimit);
        }
        Ok(())
    }

    /// These options after a change.
    #[must_use]
    pub fn changed(&self, change: &OptionsChange) -> Self {
        Self {
            content_type: self.content_type,
            ttl: change.ttl.unwrap_or(self.ttl),
            max_idle: change.max_idle.unwrap_or(self.max_idle),
            max_bytes: change.max_bytes.unwrap_or(self.max_bytes),
            eviction: change.eviction.unwrap_or(self.eviction),
            class: self.class,
        }
    }
}

/// A map as the grid knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapDescriptor {
    /// Never reused.
    pub id: MapId,
    /// Points to the id as long as the map is there.
    pub name: Name,
    /// Rises with every change of the options.
    pub revision: u64,
    /// The options.
    pub options: MapOptions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_at_their_limits() {
        let ttl = |ttl| MapOptions { ttl: Some(ttl), ..MapOptions::default() };
        assert_eq!(ttl(TTL_MAX).validate(), Ok(()));
        assert_eq!(ttl(Duration::from_millis(1)).validate(), Ok(()));
        assert_eq!(ttl(Duration::ZERO).validate(), Err(InvalidOptions::Time { field: TimeOption::Ttl }));
        let beyond = TTL_MAX + Duration::from_millis(1);
        assert_eq!(ttl(beyond).validate(), Err(InvalidOptions::Time { field: TimeOption::Ttl }));
        let unlimited = MapOptions { eviction: EvictionPolicy::Lru, ..MapOptions::default() };
        assert_eq!(unlimited.validate(), Err(InvalidOptions::EvictionWithoutLimit));
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let options = MapOptions { max_bytes: Some(9), ttl: Some(TTL_MAX), ..MapOptions::default() };
        let change = OptionsChange { ttl: Some(None), ..OptionsChange::default() };
        assert_eq!(options.changed(&change), MapOptions { max_bytes: Some(9), ..MapOptions::default() });
    }
}
