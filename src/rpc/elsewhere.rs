//! Calls on all partitions, as far as other nodes decide about them: each of those does its part.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{self, Stream, StreamExt};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use wattle_core::ids::{PartitionId, ReplicationClass, RequestId};
use wattle_core::limits::{MESSAGE_BYTES, SCAN_BYTES};
use wattle_proto::v1;
use wattle_proto::v1::compute_service_client::ComputeServiceClient;
use wattle_proto::v1::map_service_client::MapServiceClient;

use super::status::operation_error;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::partition::ReadMode;
use crate::request::Forwarded;
use crate::routing::{Owner, Purpose, forward, not_answered, reading};

/// Parts of an answer about many entries.
pub(super) type Parts = Pin<Box<dyn Stream<Item = Result<v1::InvokePart, Status>> + Send>>;

/// What some partitions have to do, by the node that decides about them.
pub(super) type ByOwner<T> = BTreeMap<u64, (Owner, T)>;

impl Grid {
    /// The partitions that no other node decides about.
    pub(super) fn here(&self) -> impl Iterator<Item = PartitionId> {
        let owners = self.routing.owners();
        let is_here = move |partition: &PartitionId| {
            owners.as_ref().is_none_or(|owners| owners.of(*partition).is_none())
        };
        self.partitions.ids().filter(is_here)
    }

    /// What the refusal of an attempt says of a call as a whole. What other nodes know of it is not asked: it may be something.
    pub(super) async fn refuse(&self, id: Option<RequestId>, failure: Failure) -> Failure {
        let elsewhere = self.routing.owners().is_some();
        let failure = self.partitions.refuse(id, failure, self.here()).await;
        match id {
            Some(RequestId { repeated: true, .. }) if elsewhere => Failure::HalfWay(Box::new(failure)),
            Some(_) | None => failure,
        }
    }

    /// Takes what is to be done elsewhere out of what is to be done.
    pub(super) fn take_elsewhere<T>(
        &self,
        all: &mut Vec<T>,
        forwarded: Forwarded,
        partition: impl Fn(&T) -> PartitionId,
    ) -> ByOwner<Vec<T>> {
        let mut elsewhere = ByOwner::new();
        let Some(owners) = self.routing.owners().filter(|_| forwarded == Forwarded::No) else {
            return elsewhere;
        };
        for one in std::mem::take(all) {
            match owners.of(partition(&one)) {
                Some(owner) => {
                    let there = elsewhere.entry(owner.member.node.0);
                    there.or_insert_with(|| (owner.clone(), Vec::new())).1.push(one);
                }
                None => all.push(one),
            }
        }
        elsewhere
    }

    /// The partitions of a class that a field of a request names; none are all.
    pub(super) fn named_partitions(
        &self,
        class: ReplicationClass,
        (field, named): (&'static str, &[u32]),
    ) -> Result<Vec<PartitionId>, Failure> {
        if named.is_empty() {
            return Ok(self.partitions.of_class(class).collect());
        }
        let count = self.partitions.count(class);
        let index = |&index: &u32| u16::try_from(index).ok().filter(|index| *index < count);
        let problem = "the grid has no partition of such a number; GridService.Status says how many it has";
        let named: Option<BTreeSet<u16>> = named.iter().map(index).collect();
        let named = named.ok_or(Failure::Argument { field, problem })?;
        Ok(named.into_iter().map(|index| PartitionId { class, index }).collect())
    }

    /// Has other nodes do their part of a call, and returns all their answers. Each is told which partitions are meant: who has lost one
    /// meanwhile must refuse it, or nobody would do it.
    pub(super) async fn ask_others<T, R, F>(
        &self,
        elsewhere: ByOwner<Vec<PartitionId>>,
        request: impl Fn(Vec<u32>) -> T,
        call: impl Fn(MapServiceClient<Channel>, Request<T>) -> F,
    ) -> Result<Vec<R>, Failure>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let decided = self.control.table_version();
        let calls = elsewhere.into_values().map(|(owner, partitions)| {
            let request = request(indexes(&partitions));
            let client = map_client(self, &owner, Purpose::Calls)
                .map(|client| call(client, forward(request, decided)));
            async { client?.await.map(Response::into_inner).map_err(|status| not_answered(&status)) }
        });
        join_all(calls).await.into_iter().collect()
    }

    /// A turn of a scan in a partition that another node decides about.
    pub(super) async fn scan_elsewhere(
        &self,
        owner: &Owner,
        (request, reads): (v1::ScanRequest, ReadMode),
    ) -> Result<v1::ScanResponse, Failure> {
        let decided = self.control.table_version();
        // A message is all that is asked for, and it is read at once.
        let mut client = map_client(self, owner, Purpose::Calls)?;
        let answers = client.scan(reading(forward(request, decided), reads)).await;
        let mut answers = answers.map_err(|status| not_answered(&status))?.into_inner();
        let answer = answers.message().await.map_err(|status| not_answered(&status))?;
        answer.ok_or(Failure::Internal { what: "another node has scanned nothing" })
    }

    /// The changes in partitions that another node decides about.
    pub(super) async fn watch_elsewhere(
        &self,
        owner: &Owner,
        request: v1::WatchRequest,
    ) -> Result<Streaming<v1::WatchResponse>, Failure> {
        let decided = self.control.table_version();
        let mut client = map_client(self, owner, Purpose::Watches)?;
        let changes = client.watch(forward(request, decided)).await;
        Ok(changes.map_err(|status| not_answered(&status))?.into_inner())
    }

    /// A function on all entries of partitions that others decide about.
    pub(super) fn invoke_all_elsewhere(
        self: &Arc<Self>,
        (request, reads): (&v1::InvokeAllRequest, ReadMode),
        elsewhere: ByOwner<Vec<PartitionId>>,
    ) -> Vec<Parts> {
        let one = |(owner, partitions): (Owner, Vec<PartitionId>)| {
            let request = v1::InvokeAllRequest { partitions: indexes(&partitions), ..request.clone() };
            let grid = Arc::clone(self);
            let answers = async move {
                let decided = grid.control.table_version();
                let mut client = compute_client(&grid, &owner)?;
                let answers = client.invoke_all(reading(forward(request, decided), reads)).await;
                Ok(answers.map_err(|status| not_answered(&status))?.into_inner().boxed())
            };
            parts(answers, partitions)
        };
        elsewhere.into_values().map(one).collect()
    }

    /// A function on keys in partitions that others decide about.
    pub(super) fn invoke_keys_elsewhere(
        self: &Arc<Self>,
        (request, reads): (&v1::InvokeKeysRequest, ReadMode),
        (class, elsewhere): (ReplicationClass, ByOwner<Vec<Bytes>>),
    ) -> Vec<Parts> {
        let one = |(owner, keys): (Owner, Vec<Bytes>)| {
            let partitions: BTreeSet<_> = keys.iter().map(|key| self.partitions.of(class, key)).collect();
            let request = v1::InvokeKeysRequest { keys, ..request.clone() };
            let grid = Arc::clone(self);
            let answers = async move {
                let decided = grid.control.table_version();
                let mut client = compute_client(&grid, &owner)?;
                let answers = client.invoke_keys(reading(forward(request, decided), reads)).await;
                Ok(answers.map_err(|status| not_answered(&status))?.into_inner().boxed())
            };
            parts(answers, partitions)
        };
        elsewhere.into_values().map(one).collect()
    }
}

/// By these a request names partitions: its map says of which class.
pub(super) fn indexes(partitions: &[PartitionId]) -> Vec<u32> {
    partitions.iter().map(|partition| partition.index.into()).collect()
}

fn map_client(grid: &Grid, owner: &Owner, purpose: Purpose) -> Result<MapServiceClient<Channel>, Failure> {
    let client = MapServiceClient::new(grid.routing.channel(owner, purpose)?);
    Ok(client.max_decoding_message_size(MESSAGE_BYTES + SCAN_BYTES))
}

fn compute_client(grid: &Grid, owner: &Owner) -> Result<ComputeServiceClient<Channel>, Failure> {
    let client = ComputeServiceClient::new(grid.routing.channel(owner, Purpose::Streams)?);
    Ok(client.max_decoding_message_size(MESSAGE_BYTES + SCAN_BYTES))
}

/// The parts that another node answers. Those that it does not complete have failed.
fn parts(
    answers: impl Future<Output = Result<Parts, Failure>> + Send + 'static,
    partitions: impl IntoIterator<Item = PartitionId>,
) -> Parts {
    struct Rest {
        answers: Parts,
        open: BTreeSet<u16>,
        failure: Option<Failure>,
    }
    let open: BTreeSet<u16> = partitions.into_iter().map(|partition| partition.index).collect();
    let begin = async move {
        let (answers, failure) = match answers.await {
            Ok(answers) => (answers, None),
            Err(failure) => (stream::empty().boxed(), Some(failure)),
        };
        let rest = Rest { answers, open, failure };
        stream::unfold(rest, |mut rest| async move {
            if rest.failure.is_none() {
                match rest.answers.next().await {
                    Some(Ok(part)) => {
                        rest.open.retain(|index| !part.complete || u32::from(*index) != part.partition);
                        return Some((Ok(part), rest));
                    }
                    Some(Err(status)) => rest.failure = Some(not_answered(&status)),
                    None => {
                        rest.failure = Some(Failure::Unreached { message: "the answer ended".to_owned() })
                    }
                }
            }
            let partition = rest.open.pop_first()?;
            let error = rest.failure.as_ref().map(operation_error);
            let part = v1::InvokePart {
                partition: partition.into(),
                complete: true,
                error,
                ..v1::InvokePart::default()
            };
            Some((Ok(part), rest))
        })
    };
    stream::once(begin).flatten().boxed()
}
