//! ComputeService.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tonic::{Request as Call, Response, Status};
use wattle_core::ids::{ModuleExport, ModuleHash, PartitionId, RequestId};
use wattle_core::limits::{ARGUMENT_BYTES, BATCH_OPERATIONS, REQUEST_BYTES, SCAN_BYTES};
use wattle_core::partition::{Answer, Outcome};
use wattle_proto::v1;
use wattle_proto::v1::compute_service_server::ComputeService;

use super::convert::request_id;
use super::elsewhere::Parts;
use super::status::operation_error;
use crate::failure::Failure;
use crate::functions::ActiveFunction;
use crate::grid::Grid;
use crate::partition::{Begun, Message, ReadMode, Source, Step, StepKind, Sweep, SweepProgress, SweepTurns};
use crate::request::{Forwarded, Request, group_of};
use crate::routing::read_mode;

/// The places of the names in the requests made here.
const MAP: u16 = 0;
const FUNCTION: u16 = 1;
/// Keys of a list that make one message of answers.
const KEYS_PER_PART: usize = 1024;

/// ComputeService on this node.
#[derive(Debug, Clone)]
pub(crate) struct Compute {
    pub(crate) grid: Arc<Grid>,
}

impl Compute {
    fn id(&self, id: Option<v1::RequestId>) -> Result<Option<RequestId>, Failure> {
        request_id(id, self.grid.partitions.clock().now())
    }

    /// What has begun a call: what its caller says, else, of a repetition, what its partitions know, also those where it does not run
    /// now: no two exports work on one call.
    async fn begun(
        &self,
        said: Option<v1::ModuleExport>,
        id: Option<RequestId>,
        partitions: impl Iterator<Item = PartitionId>,
    ) -> Result<Begun, Failure> {
        let Some(v1::ModuleExport { module, export }) = said else {
            return Ok(self.grid.partitions.begun(id, partitions).await);
        };
        let problem = "its module is named by 64 hexadecimal digits";
        let module = ModuleHash::parse(&module).ok_or(Failure::Argument { field: "export", problem })?;
        Ok(Begun::By(Arc::new(ModuleExport { module, name: export })))
    }

    /// What a call runs: what has begun it, else what its function's name stands for now.
    async fn function(&self, name: &str, begun: &Begun) -> Result<Arc<ActiveFunction>, Failure> {
        self.grid.functions_followed().await?;
        let current = self.grid.catalog.resolve(name)?;
        let export = match begun {
            Begun::By(export) if export != current.export() => export,
            Begun::By(_) | Begun::Somehow | Begun::No => return Ok(current),
        };
        let version = self.grid.control.read(|state| {
            let mut versions = state.function(name)?.versions.iter();
            versions.find(|version| version.runs(export)).cloned()
        });
        let gone = || Failure::AnotherExport { function: name.to_owned() };
        let version = version.ok_or_else(gone)?;
        let grid = Arc::clone(&self.grid);
        let load = move || grid.catalog.former(current.name(), &version, &grid.loader);
        match tokio::task::spawn_blocking(load).await {
            Ok(Ok(function)) => Ok(Arc::new(function)),
            Ok(Err(error)) => {
                tracing::warn!(function = name, module = %export.module, %error, "what has begun a call cannot be loaded");
                Err(gone())
            }
            Err(_panicked) => Err(Failure::Internal { what: "loading a module panicked" }),
        }
    }
}

#[tonic::async_trait]
impl ComputeService for Compute {
    async fn invoke(&self, call: Call<v1::InvokeRequest>) -> Result<Response<v1::InvokeResponse>, Status> {
        let reads = read_mode(call.metadata())?;
        let request = call.into_inner();
        let id = self.id(request.request_id)?;
        let kind = StepKind::Invoke { function: FUNCTION, argument: request.argument };
        let source = Source::Steps(vec![Step { map: MAP, key: request.key, kind }]);
        let names = vec![request.map, request.function];
        let mut answer = Err(Failure::Internal { what: "an invocation had no result" });
        let forwarded = Forwarded::No;
        let request = Request { id, names, function: None, source, forwarded, reads };
        self.grid.perform(request, &mut |_, result| answer = result.and_then(processed)).await?;
        let (response, export) = answer?;
        let (outcome, module) = (v1::Outcome::Applied.into(), export.module.to_string());
        Ok(Response::new(v1::InvokeResponse { response, outcome, module }))
    }

    type InvokeKeysStream = Parts;

    async fn invoke_keys(&self, call: Call<v1::InvokeKeysRequest>) -> Result<Response<Parts>, Status> {
        let forwarded = self.grid.taken_over(call.metadata()).await?;
        let reads = read_mode(call.metadata())?;
        let mut request = call.into_inner();
        let id = self.id(request.request_id.clone())?;
        let count = request.keys.len();
        if count > BATCH_OPERATIONS {
            return Err(Failure::TooMany { what: "keys", size: count, limit: BATCH_OPERATIONS }.into());
        }
        let class = self.grid.class_of(&request.map);
        let answered = match &request.answered_partitions[..] {
            [] => Vec::new(),
            answered => self.grid.named_partitions(class, ("answered_partitions", answered))?,
        };
        let of = |key: &Bytes| self.grid.partitions.of(class, key);
        let involved: BTreeSet<_> = request.keys.iter().map(of).collect();
        request.keys.retain(|key| !answered.contains(&of(key)));
        let left: BTreeSet<_> = request.keys.iter().map(of).collect();
        let elsewhere = self.grid.take_elsewhere(&mut request.keys, forwarded, of);
        let is_here = |partition: &PartitionId| {
            forwarded == Forwarded::Yes || self.grid.routing.owner(*partition).is_none()
        };
        let begun = self.begun(request.export.take(), id, involved.into_iter().filter(is_here)).await?;
        let function = self.function(&request.function, &begun).await.map_err(Arc::new);
        if let Ok(function) = &function {
            request.export = Some(wire_export(function.export()));
        }
        let there = self.grid.invoke_keys_elsewhere((&request, reads), (class, elsewhere));
        if request.keys.is_empty() && !there.is_empty() {
            return Ok(Response::new(involving(left.len(), stream::select_all(there)).boxed()));
        }
        let (parts, counted) = invoke_keys(&self.grid, (id, function.clone()), (request, reads)).await?;
        if let Err(failure) = function
            && begun == Begun::No
            && there.is_empty()
            && parts.iter().all(|part| is_refused_for(&failure, part))
        {
            // Not even an earlier attempt has found the function.
            return Err(Failure::Shared(failure).into());
        }
        let here = keeping(counted, stream::iter(parts.into_iter().map(Ok))).boxed();
        let all = stream::select_all(there.into_iter().chain([here]));
        Ok(Response::new(involving(left.len(), all).boxed()))
    }

    type InvokeAllStream = Parts;

    async fn invoke_all(&self, call: Call<v1::InvokeAllRequest>) -> Result<Response<Parts>, Status> {
        let forwarded = self.grid.taken_over(call.metadata()).await?;
        let reads = read_mode(call.metadata())?;
        let mut request = call.into_inner();
        let id = self.id(request.request_id.clone())?;
        if request.argument.len() > ARGUMENT_BYTES {
            let size = request.argument.len();
            return Err(Failure::TooLarge { what: "argument", size, limit: ARGUMENT_BYTES }.into());
        }
        let held = self.grid.in_flight.take(REQUEST_BYTES + request.argument.len())?;
        // Where that may be several classes, or nobody knows, a repetition is in doubt anyway.
        let class = self.grid.class_of_attempts(&request.map);
        let involved = self.grid.here().filter(|partition| Some(partition.class) == class);
        let begun = self.begun(request.export.take(), id, involved).await?;
        let found = match self.function(&request.function, &begun).await {
            Ok(function) => self.grid.map(&request.map).map(|map| (function, map)),
            Err(failure) => Err(failure),
        };
        let (function, map) = match found {
            Ok(found) => found,
            Err(failure) if begun != Begun::No => return Err(Failure::HalfWay(Box::new(failure)).into()),
            Err(failure) => return Err(self.grid.refuse(id, failure).await.into()),
        };
        self.grid.check_attempts(id, &map)?;
        let mut partitions = self.grid.named_partitions(map.class(), ("partitions", &request.partitions))?;
        let involved = partitions.len();
        let elsewhere = self.grid.take_elsewhere(&mut partitions, forwarded, |partition| *partition);
        request.export = Some(wire_export(function.export()));
        let there = self.grid.invoke_all_elsewhere((&request, reads), elsewhere);
        let sweep = Arc::new(Sweep {
            function,
            map,
            argument: request.argument,
            id,
            reads,
            value_bytes: self.grid.value_bytes,
            responses: !request.discard_responses,
        });
        let here = keeping(held, sweep_all(Arc::clone(&self.grid), sweep, partitions)).boxed();
        let all = stream::select_all(there.into_iter().chain([here]));
        Ok(Response::new(involving(involved, all).boxed()))
    }
}

/// Whether all entries of a part are refused for this. Where it was another reason, the node being busy, say, an earlier attempt may
/// have found the function.
fn is_refused_for(failure: &Failure, part: &v1::InvokePart) -> bool {
    let refusal = Some(operation_error(failure));
    part.entries.iter().all(|entry| entry.error == refusal)
}

/// The response of an invocation, and what ran.
fn processed(outcome: Outcome<'_>) -> Result<(Bytes, Arc<ModuleExport>), Failure> {
    match outcome {
        Outcome::Answer(Answer::Processed { response, export }) => Ok((response.into(), export)),
        Outcome::Answer(_) | Outcome::Entry(_) => {
            Err(Failure::Internal { what: "an invocation had the result of another operation" })
        }
    }
}

async fn invoke_keys(
    grid: &Arc<Grid>,
    (id, function): (Option<RequestId>, Result<Arc<ActiveFunction>, Arc<Failure>>),
    (request, reads): (v1::InvokeKeysRequest, ReadMode),
) -> Result<(Vec<v1::InvokePart>, Arc<Message>), Failure> {
    let step = |key: &Bytes| Step {
        map: MAP,
        key: key.clone(),
        kind: StepKind::Invoke { function: FUNCTION, argument: request.argument.clone() },
    };
    let source = Source::Steps(request.keys.iter().map(step).collect());
    let mut results: Vec<v1::EntryResult> =
        request.keys.iter().map(|key| v1::EntryResult { key: key.clone(), ..Default::default() }).collect();
    let class = grid.class_of(&request.map);
    let names = vec![request.map, request.function];
    // Where the function is gone, what is recorded says what has run.
    let mut export = function.as_ref().ok().map(|function| Arc::clone(function.export()));
    // What has moved away meanwhile is told to be there: the call goes on there with what has begun it.
    let forwarded = Forwarded::Yes;
    let request = Request { id, names, function: Some(function), source, forwarded, reads };
    let set = &mut |place: usize, result: Result<Outcome<'_>, Failure>| match result.and_then(processed) {
        Ok((response, ran)) => {
            export.get_or_insert(ran);
            results[place].response = response;
        }
        Err(failure) => results[place].error = Some(operation_error(&failure)),
    };
    let message = grid.perform(request, set).await?;
    let of = |result: &v1::EntryResult| grid.partitions.of(class, &result.key);
    results.sort_by_cached_key(of);
    let mut parts = Vec::new();
    for group in results.chunk_by(|a, b| of(a) == of(b)) {
        let partition = u32::from(of(&group[0]).index);
        for entries in group.chunks(KEYS_PER_PART) {
            let failed = entries.iter().filter(|entry| entry.error.is_some()).count() as u64;
            let (processed, entries) = (entries.len() as u64, entries.to_vec());
            parts.push(v1::InvokePart { partition, entries, processed, failed, ..Default::default() });
        }
        if let Some(last) = parts.last_mut() {
            last.complete = true;
        }
    }
    for part in &mut parts {
        part.export = export.as_deref().map(wire_export);
    }
    Ok((parts, message))
}

pub(super) fn wire_export(export: &ModuleExport) -> v1::ModuleExport {
    v1::ModuleExport { module: export.module.to_string(), export: export.name.clone() }
}

/// Says in each part how many partitions the whole call has.
fn involving(
    partitions: usize,
    parts: impl Stream<Item = Result<v1::InvokePart, Status>>,
) -> impl Stream<Item = Result<v1::InvokePart, Status>> {
    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
    parts.map(move |part| part.map(|part| v1::InvokePart { partitions, ..part }))
}

/// Keeps what a stream is counted by as long as the stream.
fn keeping<T>(counted: impl Send + 'static, stream: impl Stream<Item = T>) -> impl Stream<Item = T> {
    stream.map(move |item| {
        let _counted = &counted;
        item
    })
}

/// Partitions of a whole-map call that are worked on at the same time: enough to keep the compute pool busy.
const PARTITIONS_AT_ONCE: usize = 16;

fn sweep_all(
    grid: Arc<Grid>,
    sweep: Arc<Sweep>,
    partitions: Vec<PartitionId>,
) -> impl Stream<Item = Result<v1::InvokePart, Status>> {
    let export = wire_export(sweep.function.export());
    let progress = move |partition| sweep_one(Arc::clone(&grid), Arc::clone(&sweep), partition);
    let progress = stream::iter(partitions).map(progress).flatten_unordered(PARTITIONS_AT_ONCE);
    progress.map(move |part| Ok(v1::InvokePart { export: Some(export.clone()), ..part }))
}

/// The answers of one partition. The next turn is taken when the last answer is on its way: a slow reader slows the call.
fn sweep_one(
    grid: Arc<Grid>,
    sweep: Arc<Sweep>,
    partition: PartitionId,
) -> Pin<Box<dyn Stream<Item = v1::InvokePart> + Send>> {
    let turns = Arc::new(parking_lot::Mutex::new(SweepTurns::new(Arc::clone(&sweep))));
    let next = move |complete: bool| {
        let (grid, sweep, turns) = (Arc::clone(&grid), Arc::clone(&sweep), Arc::clone(&turns));
        async move {
            if complete {
                return None;
            }
            let progress = take_turns(&grid, &sweep, partition, turns).await;
            let complete = progress.complete;
            Some((part(partition, progress), complete))
        }
    };
    stream::unfold(false, next).boxed()
}

async fn take_turns(
    grid: &Arc<Grid>,
    sweep: &Arc<Sweep>,
    partition: PartitionId,
    turns: Arc<parking_lot::Mutex<SweepTurns>>,
) -> SweepProgress {
    // Never contended: the turns of a partition follow one another. It is here because they outlive each submission.
    let turn = move |worker: &mut _, shard: &mut _| turns.lock().turn(worker, shard);
    let group = group_of(&sweep.function);
    let answer = if sweep.responses { SCAN_BYTES } else { REQUEST_BYTES };
    let _held = match grid.in_flight.take(answer) {
        Ok(held) => held,
        Err(full) => return SweepProgress::failed(full),
    };
    let progress = grid.partitions.run_slow(partition, (group, sweep.argument.len()), turn).await;
    progress.unwrap_or_else(|no_reply| SweepProgress::failed(no_reply.into()))
}

fn part(partition: PartitionId, progress: SweepProgress) -> v1::InvokePart {
    let entry = |(key, result): (Bytes, Result<Bytes, Failure>)| match result {
        Ok(response) => v1::EntryResult { key, response, error: None },
        Err(failure) => {
            v1::EntryResult { key, response: Bytes::new(), error: Some(operation_error(&failure)) }
        }
    };
    v1::InvokePart {
        partition: partition.index.into(),
        entries: progress.entries.into_iter().map(entry).collect(),
        processed: progress.processed,
        failed: progress.failed,
        complete: progress.complete,
        error: progress.failure.as_ref().map(operation_error),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::NotCallable;

    #[test]
    fn keys_of_a_busy_partition_are_not_refused_for_their_function() {
        let gone = Failure::from(NotCallable::NotFound { name: "f".to_owned() });
        let full = Failure::Overloaded { held: 2, limit: 1 };
        let refused =
            |failure| v1::EntryResult { error: Some(operation_error(failure)), ..Default::default() };
        for (entries, expected) in [
            (vec![refused(&gone), refused(&gone)], true),
            (vec![refused(&gone), refused(&full)], false),
            (vec![refused(&gone), v1::EntryResult::default()], false),
        ] {
            let part = v1::InvokePart { entries, ..Default::default() };
            assert_eq!(is_refused_for(&gone, &part), expected, "{part:?}");
        }
    }
}
