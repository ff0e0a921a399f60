//! What to do about a map, told from what it should be and what it is.

use std::time::Duration;

use wattle_client::{ContentType, EvictionPolicy, MapChanges, MapOptions, api as wire};

use crate::api::{Content, DurationError, Eviction, GridMapSpec, duration};

#[derive(Debug, Clone)]
pub(super) enum MapPlan {
    Nothing,
    Create(MapOptions),
    Update {
        changes: MapChanges,
        what: String,
    },
    /// It cannot become that while it is in use.
    Refuse {
        why: String,
    },
}

/// A map's options as both sides can be compared: zero is for ever, or no limit.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    content_type: ContentType,
    ttl: Duration,
    max_idle: Duration,
    max_bytes: u64,
    eviction: EvictionPolicy,
    backups: u32,
    min_in_sync: u32,
}

pub(super) fn plan(spec: &GridMapSpec, there: Option<&wire::Map>) -> Result<MapPlan, DurationError> {
    let wanted = Options::of(spec)?;
    let Some(there) = there else { return Ok(MapPlan::Create(wanted.creation())) };
    let found = Options::found(there.options.as_ref());
    let fixed = wanted.fixed_differences(&found);
    if !fixed.is_empty() {
        let why = format!(
            "{} while the map exists: set it back, or make another map and move the entries",
            fixed.join(", and ")
        );
        return Ok(MapPlan::Refuse { why });
    }
    let (changes, what) = wanted.changes(&found);
    if what.is_empty() {
        return Ok(MapPlan::Nothing);
    }
    Ok(MapPlan::Update { changes, what: what.join(", ") })
}

impl Options {
    fn of(spec: &GridMapSpec) -> Result<Self, DurationError> {
        let time =
            |text: &Option<String>| text.as_deref().map(duration).transpose().map(Option::unwrap_or_default);
        let backups = u32::try_from(spec.backups).unwrap_or(1);
        let min_in_sync = spec.min_in_sync.and_then(|n| u32::try_from(n).ok());
        Ok(Self {
            content_type: match spec.content_type {
                Content::Bytes => ContentType::Bytes,
                Content::Text => ContentType::Text,
                Content::Json => ContentType::Json,
                Content::MessagePack => ContentType::MessagePack,
            },
            ttl: time(&spec.ttl)?,
            max_idle: time(&spec.max_idle)?,
            max_bytes: spec.max_bytes.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
            eviction: match spec.eviction {
                None | Some(Eviction::None) => EvictionPolicy::None,
                Some(Eviction::Lru) => EvictionPolicy::Lru,
                Some(Eviction::Lfu) => EvictionPolicy::Lfu,
            },
            backups,
            min_in_sync: min_in_sync.unwrap_or_else(|| most(backups)),
        })
    }

    fn found(options: Option<&wire::MapOptions>) -> Self {
        let options = options.copied().unwrap_or_default();
        let content_type = match options.content_type() {
            ContentType::Unspecified => ContentType::Bytes,
            known => known,
        };
        let eviction = match options.eviction() {
            EvictionPolicy::Unspecified => EvictionPolicy::None,
            known => known,
        };
        let replication = options.replication.unwrap_or(wire::Replication { backups: 1, min_in_sync: 0 });
        let min_in_sync = match replication.min_in_sync {
            0 => most(replication.backups),
            said => said,
        };
        let time = |time: Option<_>| time.and_then(|time| Duration::try_from(time).ok()).unwrap_or_default();
        Self {
            content_type,
            ttl: time(options.ttl),
            max_idle: time(options.max_idle),
            max_bytes: options.max_bytes,
            eviction,
            backups: replication.backups,
            min_in_sync,
        }
    }

    fn creation(&self) -> MapOptions {
        let mut options = MapOptions::new()
            .content_type(self.content_type)
            .eviction(self.eviction)
            .replication(self.backups, self.min_in_sync);
        if !self.ttl.is_zero() {
            options = options.ttl(self.ttl);
        }
        if !self.max_idle.is_zero() {
            options = options.max_idle(self.max_idle);
        }
        if self.max_bytes > 0 { options.max_bytes(self.max_bytes) } else { options }
    }

    fn fixed_differences(&self, found: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.content_type != found.content_type {
            let names = [self, found].map(|options| name(options.content_type));
            differences.push(format!("contentType cannot change from {} to {}", names[1], names[0]));
        }
        if self.backups != found.backups {
            differences.push(format!("backups cannot change from {} to {}", found.backups, self.backups));
        }
        if self.min_in_sync != found.min_in_sync {
            let (from, to) = (found.min_in_sync, self.min_in_sync);
            differences.push(format!("minInSync cannot change from {from} to {to}"));
        }
        differences
    }

    fn changes(&self, found: &Self) -> (MapChanges, Vec<&'static str>) {
        let (mut changes, mut what) = (MapChanges::new(), Vec::new());
        if self.ttl != found.ttl {
            changes = changes.ttl(self.ttl);
            what.push("ttl");
        }
        if self.max_idle != found.max_idle {
            changes = changes.max_idle(self.max_idle);
            what.push("maxIdle");
        }
        if self.max_bytes != found.max_bytes {
            changes = changes.max_bytes(self.max_bytes);
            what.push("maxBytes");
        }
        if self.eviction != found.eviction {
            changes = changes.eviction(self.eviction);
            what.push("eviction");
        }
        (changes, what)
    }
}

/// One more than half the backups, as the grid takes it.
fn most(backups: u32) -> u32 {
    backups / 2 + 1
}

fn name(content_type: ContentType) -> &'static str {
    match content_type {
        ContentType::Unspecified | ContentType::Bytes => "Bytes",
        ContentType::Text => "Text",
        ContentType::Json => "Json",
        ContentType::MessagePack => "MessagePack",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: impl FnOnce(&mut GridMapSpec)) -> GridMapSpec {
        let mut spec = GridMapSpec { grid: "g".into(), backups: 1, ..GridMapSpec::default() };
        change(&mut spec);
        spec
    }

    fn there(options: wire::MapOptions) -> wire::Map {
        wire::Map { options: Some(options), ..wire::Map::default() }
    }

    #[track_caller]
    fn check(spec: &GridMapSpec, there: Option<&wire::Map>, expected: &str) {
        let told = match plan(spec, there).unwrap() {
            MapPlan::Nothing => "nothing".to_owned(),
            MapPlan::Create(_) => "create".to_owned(),
            MapPlan::Update { what, .. } => format!("update {what}"),
            MapPlan::Refuse { why } => why,
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn a_map_is_made_left_alone_or_changed() {
        let plain = spec(|_| {});
        check(&plain, None, "create");
        check(&plain, Some(&there(wire::MapOptions::default())), "nothing");
        let lively = spec(|spec| {
            spec.ttl = Some("1m".into());
            spec.max_bytes = Some(1 << 20);
            spec.eviction = Some(Eviction::Lru);
        });
        check(&lively, Some(&there(wire::MapOptions::default())), "update ttl, maxBytes, eviction");
        let same = wire::MapOptions {
            ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            max_bytes: 1 << 20,
            eviction: EvictionPolicy::Lru.into(),
            ..Default::default()
        };
        check(&lively, Some(&there(same)), "nothing");
        check(&plain, Some(&there(same)), "update ttl, maxBytes, eviction");
    }

    #[test]
    fn what_is_fixed_is_refused_with_all_reasons() {
        let other = spec(|spec| {
            spec.content_type = Content::Json;
            spec.backups = 2;
            spec.ttl = Some("1m".into());
        });
        check(
            &other,
            Some(&there(wire::MapOptions::default())),
            "contentType cannot change from Bytes to Json, and backups cannot change from 1 to 2, and minInSync cannot \
             change from 1 to 2 while the map exists: set it back, or make another map and move the entries",
        );
    }

    #[test]
    fn the_grid_s_own_default_is_the_same_as_none() {
        let replication = Some(wire::Replication { backups: 2, min_in_sync: 2 });
        let found = there(wire::MapOptions { replication, ..Default::default() });
        check(&spec(|spec| spec.backups = 2), Some(&found), "nothing");
        check(&spec(|spec| (spec.backups, spec.min_in_sync) = (2, Some(2))), Some(&found), "nothing");
    }
}
