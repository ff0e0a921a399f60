//! The part of a request whose partitions other nodes decide about: it goes there as a batch, and its results come back.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use wattle_core::ids::{ModuleExport, ModuleHash, RequestId, Version};
use wattle_core::limits::MESSAGE_BYTES;
use wattle_core::partition::{Answer, Condition, Operation, Previous, Put, Remove, TtlChange, TtlChoice};
use wattle_proto::v1;
use wattle_proto::v1::map_service_client::MapServiceClient;
use wattle_proto::v1::operation::Operation as Wire;
use wattle_proto::v1::operation_result::Result as WireResult;

use crate::failure::Failure;
use crate::grid::Grid;
use crate::partition::{Action, OwnedResult, OwnedResults, Placed, ReadMode, View};
use crate::routing::{Owner, Purpose, forward, not_answered, reading};

/// What goes to one other node.
pub(super) struct Elsewhere {
    owner: Owner,
    places: Vec<u32>,
    operations: Vec<v1::Operation>,
}

impl Grid {
    /// Takes the operations out that other nodes are to do.
    pub(super) fn split(
        &self,
        operations: &mut SmallVec<[Placed; 1]>,
        (views, names): (&[View<'_>], &[String]),
    ) -> Vec<Elsewhere> {
        let mut elsewhere: Vec<Elsewhere> = Vec::new();
        let Some(owners) = self.routing.owners() else { return elsewhere };
        operations.retain(|placed| {
            let Some(owner) = owners.of(placed.partition) else { return true };
            let operation = wire_operation(&views[placed.place as usize], names);
            let known = elsewhere.iter_mut().find(|other| other.owner.member == owner.member);
            match known {
                Some(other) => {
                    other.places.push(placed.place);
                    other.operations.push(operation);
                }
                None => elsewhere.push(Elsewhere {
                    owner: owner.clone(),
                    places: vec![placed.place],
                    operations: vec![operation],
                }),
            }
            false
        });
        elsewhere
    }

    /// Has operations done by the node that decides about their partitions.
    pub(super) async fn perform_elsewhere(
        self: Arc<Self>,
        (id, reads): (Option<RequestId>, ReadMode),
        elsewhere: Elsewhere,
    ) -> OwnedResults {
        let Elsewhere { owner, places, operations } = elsewhere;
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
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX);
        let request = v1::BatchRequest { operations, request_id: id.map(wire_id) };
        let request = forward(request, self.control.position().version);
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
