//! Between the messages of the API and the types of the node.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use wattle_core::control::grid::ClassOptions;
use wattle_core::ids::{ClientId, GridTime, ReplicationClass, RequestId, Version};
use wattle_core::limits::{CLIENT_ID_AHEAD, NAMES, TTL_MAX};
use wattle_core::map::{ContentType, EvictionPolicy, MapDescriptor, MapOptions};
use wattle_core::partition::{Answer, Condition, Outcome, Previous, TtlChange, TtlChoice};
use wattle_proto::v1;
use wattle_proto::v1::operation::Operation as Wire;
use wattle_proto::v1::operation_result::Result as WireResult;

use super::status::operation_error;
use crate::failure::Failure;
use crate::partition::{Step, StepKind};

/// A request id that could have been issued by this grid.
pub(super) fn request_id(id: Option<v1::RequestId>, now: GridTime) -> Result<Option<RequestId>, Failure> {
    let Some(id) = id else { return Ok(None) };
    let refuse = |problem| Failure::Argument { field: "request_id", problem };
    let client: [u8; 16] = id.client_id[..].try_into().map_err(|_| refuse("a client id has 16 bytes"))?;
    let client = ClientId::from_bytes(client);
    if client.issued > now.after(CLIENT_ID_AHEAD) {
        return Err(refuse("the client id was not issued by this grid: it is dated in the future"));
    }
    if id.oldest_pending > id.sequence {
        return Err(refuse("oldest_pending is past the request's own sequence"));
    }
    let v1::RequestId { client_id: _, sequence, oldest_pending, repeated } = id;
    Ok(Some(RequestId { client, sequence, oldest_pending, repeated }))
}

/// A duration that is not negative and not beyond the limits.
pub(super) fn duration(field: &'static str, duration: prost_types::Duration) -> Result<Duration, Failure> {
    let duration = Duration::try_from(duration);
    let problem = "it must not be negative, and at most 100 years";
    duration.ok().filter(|duration| *duration <= TTL_MAX).ok_or(Failure::Argument { field, problem })
}

pub(super) fn wire_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

fn ttl_choice(ttl: Option<prost_types::Duration>) -> Result<TtlChoice, Failure> {
    let Some(ttl) = ttl else { return Ok(TtlChoice::OfMap) };
    let ttl = duration("ttl", ttl)?;
    Ok(if ttl.is_zero() { TtlChoice::ForEver } else { TtlChoice::Of(ttl) })
}

fn previous(wanted: bool) -> Previous {
    if wanted { Previous::Return } else { Previous::Ignore }
}

pub(super) fn put_step(put: v1::PutRequest) -> Result<StepKind, Failure> {
    let condition = match put.condition {
        None | Some(v1::put_request::Condition::IfAbsent(false)) => Condition::Always,
        Some(v1::put_request::Condition::IfAbsent(true)) => Condition::IfAbsent,
        Some(v1::put_request::Condition::IfVersion(version)) => Condition::IfVersion(Version(version)),
    };
    let ttl = ttl_choice(put.ttl)?;
    Ok(StepKind::Put { value: put.value, ttl, condition, previous: previous(put.return_previous) })
}

pub(super) fn remove_step(remove: &v1::RemoveRequest) -> StepKind {
    StepKind::Remove {
        if_version: remove.if_version.map(Version),
        previous: previous(remove.return_previous),
    }
}

pub(super) fn touch_step(touch: &v1::TouchRequest) -> Result<StepKind, Failure> {
    use v1::touch_request::Change;
    let change = match touch.change {
        None | Some(Change::ClearTtl(false)) => TtlChange::Read,
        Some(Change::ClearTtl(true)) => TtlChange::Clear,
        Some(Change::SetTtl(ttl)) => TtlChange::Set(duration("ttl", ttl)?),
    };
    Ok(StepKind::Touch { change })
}

/// Names, each kept once.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: Vec<String>,
    /// Where each is, once they are more than a handful.
    places: HashMap<String, usize>,
}

/// Among so many, looking through the list beats hashing.
const HANDFUL: usize = 8;

impl Names {
    /// The place of a name.
    pub(super) fn place(&mut self, name: String) -> Result<u16, Failure> {
        let known = if self.places.is_empty() {
            self.names.iter().rposition(|known| *known == name)
        } else {
            self.places.get(&name).copied()
        };
        let place = known.map_or_else(|| self.add(name), Ok)?;
        Ok(u16::try_from(place).expect("the limit is lower"))
    }

    fn add(&mut self, name: String) -> Result<usize, Failure> {
        let place = self.names.len();
        if place == NAMES {
            return Err(Failure::TooMany { what: "names", size: place + 1, limit: NAMES });
        }
        self.names.push(name);
        if place >= HANDFUL {
            // All of them at first, later the new one.
            for place in self.places.len()..=place {
                self.places.insert(self.names[place].clone(), place);
            }
        }
        Ok(place)
    }

    pub(super) fn into_inner(self) -> Vec<String> {
        self.names
    }
}

const _: () = assert!(NAMES == wattle_frame::pipeline::MAX_NAMES as usize);

/// An operation of a batch.
pub(super) fn step(operation: v1::Operation, names: &mut Names) -> Result<Step, Failure> {
    let problem = "an operation must be one of get, put, remove, increment, touch, invoke";
    let Some(operation) = operation.operation else {
        return Err(Failure::Argument { field: "operation", problem });
    };
    let (map, key, kind) = match operation {
        Wire::Get(get) => (get.map, get.key, StepKind::Get),
        Wire::Put(mut put) => {
            let (map, key) = (std::mem::take(&mut put.map), std::mem::take(&mut put.key));
            (map, key, put_step(put)?)
        }
        Wire::Remove(remove) => {
            let kind = remove_step(&remove);
            (remove.map, remove.key, kind)
        }
        Wire::Increment(increment) => {
            (increment.map, increment.key, StepKind::Increment { delta: increment.delta })
        }
        Wire::Touch(touch) => {
            let kind = touch_step(&touch)?;
            (touch.map, touch.key, kind)
        }
        Wire::Invoke(invoke) => {
            let function = names.place(invoke.function)?;
            (invoke.map, invoke.key, StepKind::Invoke { function, argument: invoke.argument })
        }
    };
    Ok(Step { map: names.place(map)?, key, kind })
}

fn bytes(value: Option<Box<[u8]>>) -> Option<Bytes> {
    value.map(Bytes::from)
}

/// The result of an operation of a batch.
pub(super) fn operation_result(result: Result<Outcome<'_>, Failure>) -> v1::OperationResult {
    let result = match result {
        Err(failure) => WireResult::Error(operation_error(&failure)),
        Ok(Outcome::Entry(None)) => WireResult::Get(v1::GetResponse::default()),
        Ok(Outcome::Entry(Some(entry))) => {
            let value = Some(Bytes::copy_from_slice(entry.value));
            WireResult::Get(v1::GetResponse { value, version: entry.version.0 })
        }
        Ok(Outcome::Answer(answer)) => answer_result(answer),
    };
    v1::OperationResult { result: Some(result) }
}

fn answer_result(answer: Answer) -> WireResult {
    match answer {
        Answer::Put { version, previous } => {
            WireResult::Put(v1::PutResponse { version: version.0, previous: bytes(previous) })
        }
        Answer::Removed { removed, previous } => {
            WireResult::Remove(v1::RemoveResponse { removed, previous: bytes(previous) })
        }
        Answer::Incremented { value, version } => {
            WireResult::Increment(v1::IncrementResponse { value, version: version.0 })
        }
        Answer::Touched { found, ttl, version } => {
            WireResult::Touch(v1::TouchResponse { found, ttl: ttl.map(wire_duration), version: version.0 })
        }
        Answer::Processed { response, .. } => {
            WireResult::Invoke(v1::OperationInvokeResult { response: response.into(), export: None })
        }
        // A clear is not an operation of a batch.
        Answer::Cleared { removed } => {
            WireResult::Remove(v1::RemoveResponse { removed: removed > 0, previous: None })
        }
    }
}

/// The class that a map asks for, of as many partitions as others have.
pub(super) fn class_options(asked: v1::Replication, partitions: u16) -> Result<ClassOptions, Failure> {
    let number = |field, number| {
        let problem = "it is at most 6 backups, and as many copies as there are";
        u8::try_from(number).map_err(|_| Failure::Argument { field, problem })
    };
    let backups = number("replication.backups", asked.backups)?;
    let min_in_sync = match number("replication.min_in_sync", asked.min_in_sync)? {
        0 => 1 + backups / 2,
        copies => copies,
    };
    Ok(ClassOptions { backups, min_in_sync, partitions })
}

pub(super) fn map_options(options: v1::MapOptions, class: ReplicationClass) -> Result<MapOptions, Failure> {
    let lasting = |field, value: Option<prost_types::Duration>| {
        let value = value.map(|value| duration(field, value)).transpose()?;
        Ok::<_, Failure>(value.filter(|value| !value.is_zero()))
    };
    Ok(MapOptions {
        content_type: match options.content_type() {
            v1::ContentType::Unspecified | v1::ContentType::Bytes => ContentType::Bytes,
            v1::ContentType::Text => ContentType::Text,
            v1::ContentType::Json => ContentType::Json,
            v1::ContentType::MessagePack => ContentType::MessagePack,
        },
        eviction: eviction(options.eviction()),
        ttl: lasting("ttl", options.ttl)?,
        max_idle: lasting("max_idle", options.max_idle)?,
        max_bytes: (options.max_bytes > 0).then_some(options.max_bytes),
        class,
    })
}

pub(super) fn eviction(policy: v1::EvictionPolicy) -> EvictionPolicy {
    match policy {
        v1::EvictionPolicy::Unspecified | v1::EvictionPolicy::None => EvictionPolicy::None,
        v1::EvictionPolicy::Lru => EvictionPolicy::Lru,
        v1::EvictionPolicy::Lfu => EvictionPolicy::Lfu,
    }
}

pub(super) fn wire_map(map: &MapDescriptor, class: Option<ClassOptions>) -> v1::Map {
    let options = &map.options;
    let content_type = match options.content_type {
        ContentType::Bytes => v1::ContentType::Bytes,
        ContentType::Text => v1::ContentType::Text,
        ContentType::Json => v1::ContentType::Json,
        ContentType::MessagePack => v1::ContentType::MessagePack,
    };
    let eviction = match options.eviction {
        EvictionPolicy::None => v1::EvictionPolicy::None,
        EvictionPolicy::Lru => v1::EvictionPolicy::Lru,
        EvictionPolicy::Lfu => v1::EvictionPolicy::Lfu,
    };
    v1::Map {
        name: map.name.to_string(),
        id: map.id.0,
        options: Some(v1::MapOptions {
            content_type: content_type.into(),
            ttl: options.ttl.map(wire_duration),
            max_idle: options.max_idle.map(wire_duration),
            max_bytes: options.max_bytes.unwrap_or(0),
            eviction: eviction.into(),
            replication: class.map(|class| v1::Replication {
                backups: class.backups.into(),
                min_in_sync: class.min_in_sync.into(),
            }),
        }),
        revision: map.revision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_place_among_few_and_many() {
        let mut names = Names::default();
        let name = |n: usize| format!("name-{n}");
        for n in 0..NAMES {
            assert_eq!(usize::from(names.place(name(n)).unwrap()), n);
            for known in [0, n / 2, n] {
                assert_eq!(usize::from(names.place(name(known)).unwrap()), known);
            }
        }
        let refused = names.place(name(NAMES));
        assert!(
            matches!(refused, Err(Failure::TooMany { what: "names", size, limit: NAMES }) if size == NAMES + 1)
        );
        assert_eq!(usize::from(names.place(name(7)).unwrap()), 7);
        assert_eq!(names.into_inner().len(), NAMES);
    }
}
