//! A request: operations on keys, read once, sorted by partition, and run there — at once where a partition is idle, else
//! in turn.

mod elsewhere;
mod part;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use smallvec::SmallVec;
use wattle_core::ids::{GridTime, ReplicationClass, RequestId};
use wattle_core::limits::{
    ARGUMENT_BYTES, BATCH_BYTES, BATCH_OPERATIONS, CALL_TIMEOUT, CLIENT_ID_AHEAD, CLIENT_ID_LIFE, KEY_BYTES,
    OPERATION_BYTES, REQUEST_BYTES, TTL_MAX,
};
use wattle_core::partition::{Operation, Outcome, PartRefusal, TtlChange, TtlChoice};
use wattle_strand::{Cost, Group};

use crate::content;
use crate::failure::Failure;
use crate::functions::ActiveFunction;
use crate::grid::Grid;
use crate::maps::{Map, Tally};
use crate::partition::{
    Action, Message, NoReply, OwnedResults, Placed, ReadMode, Resolved, Shard, SlowPart, Source, View,
};
use part::{
    AtOnce, Gated, Kind, Part, Waiting, count_together, failed, give, refuse, run_owned, run_together,
};

/// Scans and long lists of keys: not a function's, but slow.
pub(crate) const SCANS: Group = Group(0);

/// A request: operations, and the names that they use by place.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: Option<RequestId>,
    pub(crate) names: Vec<String>,
    /// What the names of functions stand for, if it is known already.
    pub(crate) function: Resolved<ActiveFunction>,
    pub(crate) source: Source,
    pub(crate) forwarded: Forwarded,
    pub(crate) reads: ReadMode,
}

/// Whether another node has sent a request here for its client: it goes on once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// It is a client's own.
    No,
    /// It is.
    Yes,
}

/// A function's share of the compute pool is counted by this.
pub(crate) fn group_of(function: &ActiveFunction) -> Group {
    let name = function.name().as_str().as_bytes();
    // Two functions of the same group merely share its half of the pool.
    Group(hash_of(name) | 1)
}

fn hash_of(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

impl Grid {
    /// Runs a request: each operation's result is handed to `set` with its place, once, in no order. As long as what it returns is
    /// kept, the request is counted with its answer.
    ///
    /// # Errors
    /// The request as a whole is wrong; nothing has run.
    pub(crate) async fn perform(
        self: &Arc<Self>,
        request: Request,
        set: &mut (impl FnMut(usize, Result<Outcome<'_>, Failure>) + Send),
    ) -> Result<Arc<Message>, Failure> {
        let source = Arc::new(request.source);
        let views = source.views(BATCH_OPERATIONS)?;
        let bytes = views.iter().map(bytes_of).sum();
        check_size("batch", bytes, BATCH_BYTES)?;
        let held = self.in_flight.take(REQUEST_BYTES + views.len() * OPERATION_BYTES + bytes)?;
        if views.iter().any(|view| view.function.is_some()) {
            self.functions_followed().await?;
        }
        let mut message =
            Message::new(Arc::clone(&source), (request.id, request.reads), self.value_bytes, held);
        self.resolve(&mut message, (&request.names, request.function), &views).await;
        let mut operations = self.admit(&mut message, (&views, &request.names), set);
        let elsewhere = match request.forwarded {
            Forwarded::No => self.split(&mut operations, (&views, &request.names)),
            Forwarded::Yes => Vec::new(),
        };
        let message = Arc::new(message);
        let AtOnce { waiting, gated } = self.run_at_once(&message, &views, &operations, set);
        if waiting.is_empty() && gated.is_empty() && elsewhere.is_empty() {
            return Ok(message);
        }
        // What was changed waits for the copies alone, and that in any order: it needs no future for each partition.
        let (changed, seen): (Vec<_>, Vec<_>) = gated.into_iter().partition(|gated| gated.gate.is_timeless());
        let changed = Some(changed).filter(|changed| !changed.is_empty());
        if waiting.is_empty() && seen.is_empty() && elsewhere.is_empty() {
            give(Arc::clone(self).pass(changed.unwrap_or_default()).await, set);
            return Ok(message);
        }
        let in_turn = |part| Arc::clone(self).run_in_turn(Arc::clone(&message), part).left_future();
        let pass = |gated| Arc::clone(self).pass(gated).right_future();
        let gated = seen.into_iter().map(|seen| vec![seen]).chain(changed);
        let here = waiting.into_iter().map(in_turn).chain(gated.map(pass));
        let there = |elsewhere| {
            Arc::clone(self).perform_elsewhere((request.id, request.reads), elsewhere).right_future()
        };
        let here = here.map(FutureExt::left_future);
        let mut pending: FuturesUnordered<_> = here.chain(elsewhere.into_iter().map(there)).collect();
        while let Some(results) = pending.next().await {
            give(results, set);
        }
        Ok(message)
    }

    /// Finds the maps and functions that a request names. What cannot be found is refused where it is used.
    async fn resolve(
        self: &Arc<Self>,
        message: &mut Message,
        (names, known): (&[String], Resolved<ActiveFunction>),
        views: &[View<'_>],
    ) {
        let mut uses: SmallVec<[Use; 2]> = names.iter().map(|_| Use::default()).collect();
        for function in views.iter().filter_map(|view| view.function) {
            uses[usize::from(function)].function = true;
        }
        for (name, used) in names.iter().zip(&uses) {
            let resolve = || self.catalog.resolve(name).map_err(|failure| Arc::new(failure.into()));
            message.functions.push(used.function.then(|| known.clone().unwrap_or_else(resolve)));
        }
        // What is refused anyway uses no map: it must not make one.
        let found = |function| matches!(message.functions[usize::from(function)], Some(Ok(_)));
        let allowed = |view: &&View<'_>| view.function.is_none_or(found) && self.check_sizes(view).is_ok();
        for view in views.iter().filter(allowed) {
            let reads = message.found_function(view).is_some_and(|function| function.is_read_only());
            uses[usize::from(view.map)].note(view, reads);
        }
        for (name, used) in names.iter().zip(uses) {
            let map = match used {
                Use { written: true, .. } => Some(self.map_or_create(name).await),
                Use { read: true, .. } => Some(self.map(name)),
                Use { .. } => None,
            };
            message.maps.push(map.map(|map| map.map_err(Arc::new)));
        }
    }

    /// Checks and counts the operations and sorts them by partition; those that are refused get their results.
    fn admit(
        &self,
        message: &mut Message,
        (views, names): (&[View<'_>], &[String]),
        set: &mut impl FnMut(usize, Result<Outcome<'_>, Failure>),
    ) -> SmallVec<[Placed; 1]> {
        let mut tallies: SmallVec<[Tally; 2]> = message.maps.iter().map(|_| Tally::default()).collect();
        let mut admitted = SmallVec::with_capacity(views.len());
        for (place, view) in (0..).zip(views) {
            // No node has ever done that.
            if let Err(failure) = check_size("key", view.key.len(), KEY_BYTES) {
                set(place as usize, Err(failure));
                continue;
            }
            let allowed = self.check_sizes(view).and_then(|()| message.may_run(place, view));
            let allowed = allowed.and_then(|()| check_content(message.map(view), view));
            let class = self.class_of_records(message, view, &names[usize::from(view.map)]);
            let repeated = message.id.is_some_and(|id| id.repeated);
            let (class, refused) = match (allowed, class) {
                (Ok(()), Some(class)) => {
                    tallies[usize::from(view.map)].note(&view.action);
                    (class, None)
                }
                // It may have been done before its map or its function was another, or gone: its partition knows.
                (Err(failure), Some(class)) if message.id.is_some() => (class, Some(failure)),
                (Err(failure), _) if !repeated => {
                    set(place as usize, Err(failure));
                    continue;
                }
                (Ok(()) | Err(_), _) => {
                    set(place as usize, Err(PartRefusal::InDoubt.into()));
                    continue;
                }
            };
            if let Some(failure) = refused {
                message.refuse(place, failure);
            }
            admitted.push(Placed { partition: self.partitions.of(class, view.key), place });
        }
        for (map, tally) in message.maps.iter().zip(tallies) {
            if let Some(Ok(map)) = map {
                map.count(&tally);
            }
        }
        admitted.sort_unstable();
        admitted
    }

    /// In whose partitions an operation lies, and what is recorded of earlier attempts at it; `None` where that may be several classes,
    /// or nobody knows.
    fn class_of_records(&self, message: &Message, view: &View<'_>, name: &str) -> Option<ReplicationClass> {
        match message.found_map(view) {
            // Nothing was asked before.
            Some(map) if message.id.is_none_or(|id| !id.repeated) => Some(map.class()),
            Some(_) | None => self.class_of_attempts(name),
        }
    }

    /// In whose partitions all is recorded that was asked of a name; `None` where that may be several classes, or nobody knows.
    pub(crate) fn class_of_attempts(&self, name: &str) -> Option<ReplicationClass> {
        if self.partitions.count_classes() == 1 {
            return Some(ReplicationClass::default());
        }
        let life = CLIENT_ID_LIFE + CLIENT_ID_AHEAD;
        let after = GridTime(self.partitions.clock().now().0.saturating_sub(life.as_millis() as u64));
        let state = self.control.decided();
        let mut classes = state.catalog().former(name, after).cloned().unwrap_or_default();
        classes.extend(self.maps.get(name).map(|map| map.class()));
        if classes.len() == 1 { classes.pop_first() } else { None }
    }

    /// Whether a map's partitions have all the records of a call that may have been attempted before.
    ///
    /// # Errors
    /// An earlier attempt may have been at another map of that name.
    pub(crate) fn check_attempts(&self, id: Option<RequestId>, map: &Map) -> Result<(), Failure> {
        let name = map.descriptor.name.as_str();
        match id {
            Some(id) if id.repeated && self.class_of_attempts(name) != Some(map.class()) => {
                Err(PartRefusal::InDoubt.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_sizes(&self, view: &View<'_>) -> Result<(), Failure> {
        check_size("key", view.key.len(), KEY_BYTES)?;
        match view.action {
            Action::Invoke { argument, .. } => check_size("argument", argument.len(), ARGUMENT_BYTES),
            Action::Keyed(Operation::Put(put)) => {
                check_size("value", put.value.len(), self.value_bytes)?;
                match put.ttl {
                    TtlChoice::Of(ttl) => check_ttl(ttl),
                    TtlChoice::OfMap | TtlChoice::ForEver => Ok(()),
                }
            }
            Action::Keyed(Operation::Touch { change: TtlChange::Set(ttl), .. }) => check_ttl(ttl),
            Action::Keyed(
                Operation::Get { .. }
                | Operation::Remove(_)
                | Operation::Increment { .. }
                | Operation::Touch { .. },
            ) => Ok(()),
        }
    }

    /// Runs the parts that can run on this thread now, all at one moment, and returns those that must wait.
    fn run_at_once(
        &self,
        message: &Arc<Message>,
        views: &[View<'_>],
        operations: &[Placed],
        set: &mut impl FnMut(usize, Result<Outcome<'_>, Failure>),
    ) -> AtOnce {
        let (mut waiting, mut gated) = (Vec::new(), Vec::new());
        let mut short: SmallVec<[Part<'_>; 1]> = SmallVec::new();
        for operations in operations.chunk_by(|a, b| a.partition == b.partition) {
            let part = Part::new(message, views, operations);
            match part.kind {
                Kind::Short => short.push(part),
                Kind::Light(_) => {
                    let light = SlowPart::new(Arc::clone(message), operations);
                    match self.partitions.run_light(part.partition, light, views) {
                        Some(Ok((results, None))) => give(results, set),
                        Some(Ok((results, Some(gate)))) => {
                            gated.push(Gated { partition: part.partition, results, gate });
                        }
                        Some(Err(no_reply)) => refuse(operations, &no_reply, set),
                        None => waiting.push(part.wait()),
                    }
                }
                Kind::Slow(_) => waiting.push(part.wait()),
            }
        }
        let mut moment = self.partitions.moment();
        let mut run = |shard: &mut Shard, part: &Part<'_>| {
            gated.extend(part.run(shard, &mut moment, (message, views), set));
        };
        let busy = self.run_short_parts(&short, (message, views), &mut run);
        self.partitions.memory().settle(&moment);
        waiting.extend(busy.into_iter().map(Part::wait));
        AtOnce { waiting, gated }
    }

    /// Runs short parts and returns those whose partitions were busy, both times that they were asked.
    fn run_short_parts<'p>(
        &self,
        parts: &'p [Part<'p>],
        (message, views): (&Message, &[View<'_>]),
        run: &mut impl FnMut(&mut Shard, &Part<'_>),
    ) -> SmallVec<[&'p Part<'p>; 1]> {
        let mut again: SmallVec<[&Part<'_>; 1]> = SmallVec::new();
        let mut rest = parts;
        while !rest.is_empty() {
            let (together, others) = rest.split_at(count_together(rest));
            rest = others;
            if let [alone] = together {
                again.push(alone);
                continue;
            }
            let partitions = together.iter().map(|part| part.partition);
            let busy = self
                .partitions
                .try_run_together(partitions, |shards| run_together(together, shards, (message, views), run));
            again.extend(busy);
        }
        again
            .retain(|part| self.partitions.strand(part.partition).try_run(|shard| run(shard, part)).is_err());
        again
    }

    async fn run_in_turn(self: Arc<Self>, message: Arc<Message>, part: Waiting) -> OwnedResults {
        let places: Vec<u32> = part.operations.iter().map(|operation| operation.place).collect();
        let ran = match part.slow {
            None => self.run_queued(message, &part).await,
            Some(group) => self.run_slow(message, &part, group).await,
        };
        ran.unwrap_or_else(|no_reply| failed(places.into_iter(), &no_reply))
    }

    /// Waits until results may leave, those of one partition after those of another.
    async fn pass(self: Arc<Self>, gated: Vec<Gated>) -> OwnedResults {
        let deadline = tokio::time::Instant::now() + CALL_TIMEOUT;
        let mut passed = OwnedResults::new();
        for Gated { partition, results, gate } in gated {
            match self.partitions.pass_until(partition, gate, deadline).await {
                Ok(()) => passed.extend(results),
                Err(no_reply) => {
                    passed.extend(failed(results.into_iter().map(|(place, _)| place), &no_reply));
                }
            }
        }
        passed
    }

    /// Runs short work in its turn.
    async fn run_queued(&self, message: Arc<Message>, part: &Waiting) -> Result<OwnedResults, NoReply> {
        let cost = Cost { operations: part.operations.len(), bytes: part.bytes };
        let operations = part.operations.clone();
        let run = move |shard: &mut Shard| {
            let mut moment = shard.moment();
            let results = run_owned(shard, &mut moment, (&message, &message.views()), &operations);
            shard.settle(&moment);
            results
        };
        self.partitions.queue(part.partition, cost, run).await
    }

    async fn run_slow(
        self: &Arc<Self>,
        message: Arc<Message>,
        part: &Waiting,
        group: Group,
    ) -> Result<OwnedResults, NoReply> {
        let mut slow = SlowPart::new(Arc::clone(&message), &part.operations);
        let turn = move |worker: &mut _, shard: &mut _| {
            let decoded = message.decoded();
            slow.turn((worker, shard), &|place| decoded.checked(place))
        };
        self.partitions.run_slow(part.partition, (group, part.bytes), turn).await
    }
}

/// How the operations of a request use a name.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    read: bool,
    written: bool,
    function: bool,
}

impl Use {
    /// `reads`: the operation's function, if it has one, can change nothing.
    fn note(&mut self, view: &View<'_>, reads: bool) {
        match view.action {
            Action::Invoke { .. } if reads => self.read = true,
            Action::Keyed(Operation::Put(_) | Operation::Increment { .. }) | Action::Invoke { .. } => {
                self.written = true;
            }
            Action::Keyed(Operation::Get { .. } | Operation::Remove(_) | Operation::Touch { .. }) => {
                self.read = true
            }
        }
    }
}

fn check_content(map: &Map, view: &View<'_>) -> Result<(), Failure> {
    match view.action {
        Action::Keyed(Operation::Put(put)) => content::check(map.descriptor.options.content_type, put.value),
        Action::Keyed(_) | Action::Invoke { .. } => Ok(()),
    }
}

fn bytes_of(view: &View<'_>) -> usize {
    let payload = match view.action {
        Action::Keyed(Operation::Put(put)) => put.value.len(),
        Action::Invoke { argument, .. } => argument.len(),
        Action::Keyed(_) => 0,
    };
    view.key.len() + payload
}

fn check_size(what: &'static str, size: usize, limit: usize) -> Result<(), Failure> {
    if size > limit { Err(Failure::TooLarge { what, size, limit }) } else { Ok(()) }
}

fn check_ttl(ttl: std::time::Duration) -> Result<(), Failure> {
    if ttl.as_nanos() > 0 && ttl <= TTL_MAX {
        return Ok(());
    }
    Err(Failure::Argument { field: "ttl", problem: "it must be more than zero and at most 100 years" })
}
