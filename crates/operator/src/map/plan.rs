//! What to do about a map, told from what it should be and what it is.

use std::time::Duration;

use wattle_client::{ContentType, EvictionPolicy, MapChanges, MapOptions, api as wire};

use crate::api::{Content, DurationError, Eviction, GridMapSpec, GridSpec, Replication, duration};

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
    replication: Replication,
}

/// Why it cannot be told how many copies a map's entries are to have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Grid {grid} has no class {class}; it has {known}")]
pub(super) struct NoClass {
    grid: String,
    class: String,
    known: String,
}

pub(super) fn plan(
    spec: &GridMapSpec,
    replication: Replication,
    there: Option<&wire::Map>,
) -> Result<MapPlan, DurationError> {
    let wanted = Options::of(spec, replication)?;
    let Some(there) = there else { return Ok(MapPlan::Create(wanted.creation())) };
    let found = Options::found(there.options.as_ref());
    let fixed = wanted.fixed_differences(&found, spec.class.as_deref());
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

/// How many copies an entry is to have: as the map says, or its class.
pub(super) fn replication(spec: &GridMapSpec, grid: &GridSpec) -> Result<Replication, NoClass> {
    let Some(wanted) = &spec.class else {
        return Ok(Replication::specified(spec.backups.unwrap_or(1), spec.min_in_sync));
    };
    let found = grid.all_classes().find(|(name, _)| name == wanted).map(|(_, class)| class);
    found.ok_or_else(|| NoClass {
        grid: spec.grid.clone(),
        class: wanted.clone(),
        known: grid.all_classes().map(|(name, _)| name).collect::<Vec<_>>().join(", "),
    })
}

/// A grid has too few nodes for the copies of a map.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shortage {
    /// With fewer copies than it asks for.
    pub(super) is_served: bool,
    pub(super) what: String,
}

pub(super) fn shortage(replication: Replication, nodes: u32) -> Option<Shortage> {
    let copies = replication.copies();
    if copies <= nodes {
        return None;
    }
    let demanded = replication.min_in_sync;
    let is_served = demanded <= nodes;
    let mut what = format!("of its {copies} copies the grid's size of {nodes} allows {nodes}");
    if !is_served {
        what += &format!(", and no entry is read or written while fewer than {demanded} copies are in sync");
    }
    Some(Shortage { is_served, what })
}

impl Options {
    fn of(spec: &GridMapSpec, replication: Replication) -> Result<Self, DurationError> {
        let time =
            |text: &Option<String>| text.as_deref().map(duration).transpose().map(Option::unwrap_or_default);
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
            replication,
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
        let time = |time: Option<_>| time.and_then(|time| Duration::try_from(time).ok()).unwrap_or_default();
        Self {
            content_type,
            ttl: time(options.ttl),
            max_idle: time(options.max_idle),
            max_bytes: options.max_bytes,
            eviction,
            replication: Replication::new(replication.backups, replication.min_in_sync),
        }
    }

    fn creation(&self) -> MapOptions {
        let mut options = MapOptions::new()
            .content_type(self.content_type)
            .eviction(self.eviction)
            .replication(self.replication.backups, self.replication.min_in_sync);
        if !self.ttl.is_zero() {
            options = options.ttl(self.ttl);
        }
        if !self.max_idle.is_zero() {
            options = options.max_idle(self.max_idle);
        }
        if self.max_bytes > 0 { options.max_bytes(self.max_bytes) } else { options }
    }

    fn fixed_differences(&self, found: &Self, class: Option<&str>) -> Vec<String> {
        let mut differences = Vec::new();
        if self.content_type != found.content_type {
            let names = [self, found].map(|options| name(options.content_type));
            differences.push(format!("contentType cannot change from {} to {}", names[1], names[0]));
        }
        let said_by = class.map(|class| format!(" (class {class})")).unwrap_or_default();
        let mut number = |name, from: u32, to: u32| {
            if from != to {
                differences.push(format!("{name} cannot change from {from} to {to}{said_by}"));
            }
        };
        let (from, to) = (found.replication, self.replication);
        number("backups", from.backups, to.backups);
        number("minInSync", from.min_in_sync, to.min_in_sync);
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
    use crate::api::ReplicationClass;

    fn spec(change: impl FnOnce(&mut GridMapSpec)) -> GridMapSpec {
        let mut spec = GridMapSpec { grid: "g".into(), ..GridMapSpec::default() };
        change(&mut spec);
        spec
    }

    fn grid() -> GridSpec {
        let gold = ReplicationClass { name: "gold".into(), backups: 3, min_in_sync: Some(2) };
        GridSpec { size: 3, classes: vec![gold], ..GridSpec::default() }
    }

    fn there(options: wire::MapOptions) -> wire::Map {
        wire::Map { options: Some(options), ..wire::Map::default() }
    }

    #[track_caller]
    fn check(spec: &GridMapSpec, there: Option<&wire::Map>, expected: &str) {
        let told = match plan(spec, replication(spec, &grid()).unwrap(), there).unwrap() {
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
            spec.backups = Some(2);
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
    fn too_few_nodes_are_said() {
        let check = |backups, min_in_sync, nodes, expected: Option<(bool, &str)>| {
            let told = shortage(Replication::new(backups, min_in_sync), nodes);
            assert_eq!(told, expected.map(|(is_served, what)| Shortage { is_served, what: what.to_owned() }));
        };
        check(2, 2, 3, None);
        check(2, 2, 2, Some((true, "of its 3 copies the grid's size of 2 allows 2")));
        let stopped = "of its 3 copies the grid's size of 1 allows 1, and no entry is read or written while fewer than 2 \
                       copies are in sync";
        check(2, 2, 1, Some((false, stopped)));
    }

    #[test]
    fn the_grid_s_own_default_is_the_same_as_none() {
        let replication = Some(wire::Replication { backups: 2, min_in_sync: 2 });
        let found = there(wire::MapOptions { replication, ..Default::default() });
        check(&spec(|spec| spec.backups = Some(2)), Some(&found), "nothing");
        check(&spec(|spec| (spec.backups, spec.min_in_sync) = (Some(2), Some(2))), Some(&found), "nothing");
    }

    #[test]
    fn a_class_stands_for_its_numbers() {
        let of_class = |class: &str| spec(|spec| spec.class = Some(class.to_owned()));
        let with = |backups, min_in_sync| {
            let replication = Some(wire::Replication { backups, min_in_sync });
            there(wire::MapOptions { replication, ..Default::default() })
        };
        check(&of_class("standard"), Some(&there(wire::MapOptions::default())), "nothing");
        check(&of_class("durable"), Some(&with(2, 0)), "nothing");
        check(&of_class("gold"), Some(&with(3, 2)), "nothing");
        check(
            &of_class("gold"),
            Some(&with(1, 1)),
            "backups cannot change from 1 to 3 (class gold), and minInSync cannot change from 1 to 2 (class gold) while the \
             map exists: set it back, or make another map and move the entries",
        );
        let unknown = replication(&of_class("silver"), &grid()).unwrap_err();
        assert_eq!(unknown.to_string(), "Grid g has no class silver; it has standard, durable, gold");
    }
}
