//! The part of a request whose partitions other nodes decide about: it goes there in batches, and its results come back.

use std::sync::Arc;

use bytes::Bytes;
use prost::encoding::message::encoded_len_repeated;
use smallvec::SmallVec;
use wattle_core::ids::{ModuleExport, ModuleHash, RequestId, Version};
use wattle_core::limits::{MESSAGE_BYTES, PEER_MESSAGE_BYTES};
use wattle_core::partition::{Answer, Condition, Operation, Previous, Put, Remove, TtlChange, TtlChoice};
use wattle_proto::v1;
use wattle_proto::v1::map_service_client::MapServiceClient;
use wattle_proto::v1::operation::Operation as Wire;
use wattle_proto::v1::operation_result::Result as WireResult;

use crate::failure::Failure;
use crate::grid::Grid;
use crate::partition::{Action, OwnedResult, OwnedResults, Placed, ReadMode, View};
use crate::routing::{Owner, Purpose, forward, not_answered, reading};

/// Operations that are sent on together, in bytes: more than the request id, and its framing, go into what is left of a message.
const TOGETHER_BYTES: usize = MESSAGE_BYTES - 1024;

/// What goes to one other node, in one message.
pub(super) struct Elsewhere {
    owner: Owner,
    places: Vec<u32>,
    operations: Vec<v1::Operation>,
    bytes: usize,
}

impl Elsewhere {
    fn new(owner: &Owner, operations: impl Iterator<Item = (u32, v1::Operation)>) -> Self {
        let (places, operations): (Vec<_>, Vec<_>) = operations.unzip();
        let bytes = encoded_len_repeated(1, &operations);
        Self { owner: owner.clone(), places, operations, bytes }
    }

    fn has_room_for(&self, other: &Self) -> bool {
        self.owner.member == other.owner.member && self.bytes + other.bytes <= TOGETHER_BYTES
    }

    fn add(&mut self, other: Self) {
        self.places.extend(other.places);
        self.operations.extend(other.operations);
        self.bytes += other.bytes;
    }
}

impl Grid {
    /// Takes the operations out that other nodes are to do. A packed frame has each name once, and what is sent on has it with each
    /// operation: it may be too long for one message. The operations of a partition stay together, as it keeps their results.
    pub(super) fn split(
        &self,
        operations: &mut SmallVec<[Placed; 1]>,
        (views, names): (&[View<'_>], &[String]),
    ) -> Vec<Elsewhere> {
        let mut elsewhere: Vec<Elsewhere> = Vec::new();
        let Some(owners) = self.routing.owners() else { return elsewhere };
        let wire = |placed: &Placed| (placed.place, wire_operation(&views[placed.place as usize], names));
        for part in operations.chunk_by(|a, b| a.partition == b.partition) {
            let Some(owner) = owners.of(part[0].partition) else { continue };
            let part = Elsewhere::new(owner, part.iter().map(wire));
            match elsewhere.iter_mut().find(|other| other.has_room_for(&part)) {
                Some(other) => other.add(part),
                None => elsewhere.push(part),
            }
        }
        operations.retain(|placed| owners.of(placed.partition).is_none());
        elsewhere
    }

    /// Has operations done by the node that decides about their partitions.
    pub(super) async fn perform_elsewhere(
        self: Arc<Self>,
        (id, reads): (Option<RequestId>, ReadMode),
        elsewhere: Elsewhere,
    ) -> OwnedResults {
        let Elsewhere { owner, places, operations, .. } = elsewhere;
        let answered = self.ask_owner(&owner, (id, reads), operations).await;
        match answered {
            Ok(results) if results.len() == places.len() => {
                places.into_iter().zip(results.into_iter().map(owned)).collect()
            }
            Ok(_) => all_failed(
                places,
                &Arc::new(Failure::Internal { what: "another node has answered something else" }),
            ),
            Err(failure) => all_failed(places, &Arc::new(failure)),
        }
    }

    async fn ask_owner(
        &self,
        owner: &Owner,
        (id, reads): (Option<RequestId>, ReadMode),
        operations: Vec<v1::Operation>,
    ) -> Result<Vec<v1::OperationResult>, Failure> {
        let mut client = MapServiceClient::new(self.routing.channel(owner, Purpose::Calls)?)
            // What it refuses, and what ran, take more for each operation than the operation.
            .max_decoding_message_size(PEER_MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX);
        let request = v1::BatchRequest { operations, request_id: id.map(wire_id) };
        let request = forward(request, self.control.table_version());
        let answered = client.batch(reading(request, reads)).await;
        Ok(answered.map_err(|status| not_answered(&status))?.into_inner().results)
    }
}

fn all_failed(places: Vec<u32>, failure: &Arc<Failure>) -> OwnedResults {
    places
        .into_iter()
        .map(|place| (place, OwnedResult::Failed(Failure::Shared(Arc::clone(failure)))))
        .collect()
}

fn wire_id(id: RequestId) -> v1::RequestId {
    v1::RequestId {
        client_id: id.client.to_bytes().to_vec().into(),
        sequence: id.sequence,
        oldest_pending: id.oldest_pending,
        repeated: id.repeated,
    }
}

fn wire_operation(view: &View<'_>, names: &[String]) -> v1::Operation {
    let (map, key) = (names[usize::from(view.map)].clone(), Bytes::copy_from_slice(view.key));
    let operation = match view.action {
        Action::Keyed(Operation::Get { .. }) => Wire::Get(v1::GetRequest { map, key }),
        Action::Keyed(Operation::Put(put)) => Wire::Put(wire_put(map, key, &put)),
        Action::Keyed(Operation::Remove(Remove { if_version, previous, .. })) => {
            Wire::Remove(v1::RemoveRequest {
                map,
                key,
                if_version: if_version.map(|version| version.0),
                return_previous: previous == Previous::Return,
                ..Default::default()
            })
        }
        Action::Keyed(Operation::Increment { delta, .. }) => {
            Wire::Increment(v1::IncrementRequest { map, key, delta, ..Default::default() })
        }
        Action::Keyed(Operation::Touch { change, .. }) => {
            use v1::touch_request::Change;
            let change = match change {
                TtlChange::Read => None,
                TtlChange::Set(ttl) => Some(Change::SetTtl(wire_duration(ttl))),
                TtlChange::Clear => Some(Change::ClearTtl(true)),
            };
            Wire::Touch(v1::TouchRequest { map, key, change, ..Default::default() })
        }
        Action::Invoke { argument, .. } => {
            let function = view.function.map(|function| names[usize::from(function)].clone());
            let (function, argument) = (function.unwrap_or_default(), Bytes::copy_from_slice(argument));
            Wire::Invoke(v1::OperationInvoke { map, key, function, argument })
        }
    };
    v1::Operation { operation: Some(operation) }
}

fn wire_put(map: String, key: Bytes, put: &Put<'_>) -> v1::PutRequest {
    use v1::put_request::Condition as Wire;
    v1::PutRequest {
        map,
        key,
        value: Bytes::copy_from_slice(put.value),
        ttl: match put.ttl {
            TtlChoice::OfMap => None,
            TtlChoice::ForEver => Some(prost_types::Duration::default()),
            TtlChoice::Of(ttl) => Some(wire_duration(ttl)),
        },
        condition: match put.condition {
            Condition::Always => None,
            Condition::IfAbsent => Some(Wire::IfAbsent(true)),
            Condition::IfVersion(version) => Some(Wire::IfVersion(version.0)),
        },
        return_previous: put.previous == Previous::Return,
        ..Default::default()
    }
}

fn wire_duration(duration: std::time::Duration) -> prost_types::Duration {
    // At most a hundred years.
    duration.try_into().unwrap_or_default()
}

fn owned(result: v1::OperationResult) -> OwnedResult {
    let boxed = |value: Option<Bytes>| value.map(|value| value.to_vec().into_boxed_slice());
    let answer = match result.result {
        None => return OwnedResult::Failed(Failure::Internal { what: "another node has no result" }),
        Some(WireResult::Error(error)) => return OwnedResult::Failed(Failure::Elsewhere(Box::new(error))),
        Some(WireResult::Get(v1::GetResponse { value, version })) => {
            return OwnedResult::Entry(value.map(|value| (value, Version(version))));
        }
        Some(WireResult::Put(put)) => {
            Answer::Put { version: Version(put.version), previous: boxed(put.previous) }
        }
        Some(WireResult::Remove(remove)) => {
            Answer::Removed { removed: remove.removed, previous: boxed(remove.previous) }
        }
        Some(WireResult::Increment(v1::IncrementResponse { value, version })) => {
            Answer::Incremented { value, version: Version(version) }
        }
        Some(WireResult::Touch(touch)) => Answer::Touched {
            found: touch.found,
            ttl: touch.ttl.and_then(|ttl| ttl.try_into().ok()),
            version: Version(touch.version),
        },
        Some(WireResult::Invoke(v1::OperationInvokeResult { response, export })) => {
            let export = export.unwrap_or_default();
            let Some(module) = ModuleHash::parse(&export.module) else {
                return OwnedResult::Failed(Failure::Internal { what: "another node does not say what ran" });
            };
            let export = Arc::new(ModuleExport { module, name: export.export });
            Answer::Processed { response: response.to_vec().into_boxed_slice(), export }
        }
    };
    OwnedResult::Answer(answer)
}
