//! The grid as the services see it: maps and functions by name, control commands, and requests split over partitions.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use wattle_core::control::{Applied, Command};
use wattle_core::ids::{MapId, RequestId};
use wattle_core::limits::{
    ARGUMENT_BYTES, BATCH_BYTES, BATCH_OPERATIONS, KEY_BYTES, SHORT_BYTES, SHORT_KEYS, TTL_MAX,
};
use wattle_core::map::MapOptions;
use wattle_core::name::Name;
use wattle_core::partition::{Operation, Outcome, TtlChange, TtlChoice};
use wattle_strand::{Cost, Group};

use crate::content;
use crate::control::Control;
use crate::failure::Failure;
use crate::functions::{ActiveFunction, Catalog, Loader};
use crate::maps::{Map, Maps};
use crate::partition::{
    Action, Decoded, Message, NotRun, OwnedResult, Partitions, SlowPart, SlowReply, Source, View, run_short,
};

/// Scans and long lists of keys: not a function's, but slow.
pub(crate) const SCANS: Group = Group(0);

/// What the services share.
#[derive(Debug)]
pub(crate) struct Grid {
    pub(crate) maps: Maps,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) loader: Loader,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) control: Control,
    /// The longest value that may be written, in bytes.
    pub(crate) value_bytes: usize,
}

/// A request: operations, and the names that they use by place.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: Option<RequestId>,
    pub(crate) names: Vec<String>,
    pub(crate) source: Source,
}

/// The work of a request in one partition.
struct Part {
    partition: u16,
    places: Vec<u32>,
    /// Its slow work belongs to this group; short work to none.
    slow: Option<Group>,
    bytes: usize,
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
    /// A map by its name.
    pub(crate) fn map(&self, name: &str) -> Result<Arc<Map>, Failure> {
        self.maps.get(name).ok_or_else(|| Failure::MapNotFound { name: name.to_owned() })
    }

    /// A map by its name; a first write makes it, with the grid's defaults.
    async fn map_or_create(self: &Arc<Self>, name: &str) -> Result<Arc<Map>, Failure> {
        if let Some(map) = self.maps.get(name) {
            return Ok(map);
        }
        let command = Command::CreateMap { name: Name::new(name)?, options: MapOptions::default() };
        match self.propose(command).await {
            // Somebody else may have made it meanwhile: that is the one.
            Ok(_) | Err(Failure::Control(_)) if self.maps.get(name).is_some() => self.map(name),
            Ok(_) => Err(Failure::MapNotFound { name: name.to_owned() }),
            Err(failure) => Err(failure),
        }
    }

    /// Changes the control state, durably if the node has a data directory, and follows the change.
    pub(crate) async fn propose(self: &Arc<Self>, command: Command) -> Result<Applied, Failure> {
        let grid = Arc::clone(self);
        let proposed = tokio::task::spawn_blocking(move || grid.propose_blocking(command)).await;
        proposed.map_err(|_panicked| Failure::Internal { what: "a control command panicked" })?
    }

    /// As [`Self::propose`], where blocking is allowed.
    pub(crate) fn propose_blocking(&self, command: Command) -> Result<Applied, Failure> {
        let mut problem = None;
        let applied = self.control.propose(command, |state, applied| match applied {
            Applied::Map(map) => self.follow_map(&self.maps.publish(map)),
            Applied::MapDeleted(map) => self.drop_map(*map),
            Applied::Function(name, _) => {
                let function = state.function(name.as_str()).expect("the command was about this function");
                problem = self.catalog.follow(name, function, &self.loader).err();
            }
            Applied::FunctionDeleted(name) => self.catalog.remove(name.as_str()),
            Applied::Unchanged => {}
        })?;
        if let Some(error) = problem {
            tracing::error!(%error, "a function's module cannot be loaded");
            return Err(Failure::NotLoaded(error.into()));
        }
        Ok(applied)
    }

    fn follow_map(&self, map: &Arc<Map>) {
        if map.descriptor.revision == 1 {
            return;
        }
        for strand in self.partitions.strands() {
            let map = Arc::clone(map);
            let update = move |shard: &mut crate::partition::Shard| {
                shard.with(|partition, moment| partition.update_map(&map.descriptor, moment.now));
            };
            strand.submit_urgent(update, drop);
        }
    }

    fn drop_map(&self, map: MapId) {
        self.maps.delete(map);
        for strand in self.partitions.strands() {
            let forget =
                move |shard: &mut crate::partition::Shard| shard.with(|partition, _| partition.drop_map(map));
            strand.submit_urgent(forget, drop);
        }
    }

    /// Suspends a function that was stopped too often.
    pub(crate) async fn suspend(self: &Arc<Self>, function: &ActiveFunction) {
        let because = "it was stopped too often".to_owned();
        let command =
            Command::Suspend { name: function.name().clone(), version: function.version(), because };
        match self.propose(command).await {
            Ok(_) => tracing::warn!(function = %function.name(), "function suspended"),
            Err(error) => {
                tracing::error!(function = %function.name(), %error, "function could not be suspended")
            }
        }
    }

    /// Runs a request: each operation's result is handed to `set` with its place, once, in no order.
    ///
    /// # Errors
    /// The request as a whole is wrong; nothing has run.
    pub(crate) async fn perform(
        self: &Arc<Self>,
        request: Request,
        set: &mut (impl FnMut(usize, Result<Outcome<'_>, Failure>) + Send),
    ) -> Result<(), Failure> {
        let count = request.source.decode()?.len();
        if count > BATCH_OPERATIONS {
            return Err(Failure::TooLarge { what: "operations", size: count, limit: BATCH_OPERATIONS });
        }
        let (message, refused) = self.resolve(request).await?;
        let message = Arc::new(message);
        let mut pending = FuturesUnordered::new();
        {
            let decoded = message.decoded();
            let parts = self.split(&message, &decoded, &refused, set)?;
            for part in parts {
                if part.slow.is_none() && self.run_here(&message, &decoded, &part, set) {
                    continue;
                }
                let (grid, message) = (Arc::clone(self), Arc::clone(&message));
                pending.push(async move { grid.run_in_turn(message, part).await });
            }
        }
        while let Some(results) = pending.next().await {
            for (place, result) in results {
                result.give(|result| set(place as usize, result));
            }
        }
        Ok(())
    }

    /// Finds the maps and functions that a request names. What cannot be found is refused where it is used.
    async fn resolve(self: &Arc<Self>, request: Request) -> Result<(Message, Vec<Refused>), Failure> {
        let mut uses: Vec<Use> = request.names.iter().map(|_| Use::default()).collect();
        {
            let decoded = request.source.decode()?;
            for place in 0..decoded.len() {
                let view = decoded.view(place)?;
                uses[usize::from(view.map)].note(&view);
                if let Some(function) = view.function {
                    uses[usize::from(function)].function = true;
                }
            }
        }
        let mut message = Message {
            source: request.source,
            id: request.id,
            maps: Vec::with_capacity(uses.len()),
            functions: Vec::with_capacity(uses.len()),
            value_bytes: self.value_bytes,
        };
        let mut refused = Vec::with_capacity(uses.len());
        for (name, used) in request.names.into_iter().zip(uses) {
            let map = match used {
                Use { written: true, .. } => Some(self.map_or_create(&name).await),
                Use { read: true, .. } => Some(self.map(&name)),
                Use { .. } => None,
            };
            let function = used.function.then(|| self.catalog.resolve(&name));
            let mut refusal = Refused::default();
            message
                .maps
                .push(map.and_then(|map| map.map_err(|failure| refusal.map = Some(Arc::new(failure))).ok()));
            message.functions.push(function.and_then(|found| {
                found.map_err(|failure| refusal.function = Some(Arc::new(failure.into()))).ok()
            }));
            refused.push(refusal);
        }
        Ok((message, refused))
    }

    /// Checks the operations and sorts them by partition; those that are refused get their results.
    fn split(
        &self,
        message: &Message,
        decoded: &Decoded<'_>,
        refused: &[Refused],
        set: &mut impl FnMut(usize, Result<Outcome<'_>, Failure>),
    ) -> Result<Vec<Part>, Failure> {
        let mut order: Vec<(u16, u32)> = Vec::with_capacity(decoded.len());
        let mut total = 0;
        for place in 0..decoded.len() {
            let view = decoded.view(place)?;
            total += bytes_of(&view);
            match self.check(message, refused, &view) {
                Ok(()) => {
                    order.push((self.partitions.of(view.key), u32::try_from(place).expect("bounded above")))
                }
                Err(failure) => set(place, Err(failure)),
            }
        }
        if total > BATCH_BYTES {
            return Err(Failure::TooLarge { what: "batch", size: total, limit: BATCH_BYTES });
        }
        order.sort_unstable();
        let mut parts = Vec::new();
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            let places: Vec<u32> = group.iter().map(|(_, place)| *place).collect();
            parts.push(part_of(message, decoded, group[0].0, places));
        }
        Ok(parts)
    }

    fn check(&self, message: &Message, refused: &[Refused], view: &View<'_>) -> Result<(), Failure> {
        let Some(map) = &message.maps[usize::from(view.map)] else {
            return Err(refused[usize::from(view.map)].of_map());
        };
        if let Some(function) = view.function.map(usize::from)
            && message.functions[function].is_none()
        {
            return Err(refused[function].of_function());
        }
        map.count(&view.action);
        check_size("key", view.key.len(), KEY_BYTES)?;
        match view.action {
            Action::Invoke { argument, .. } => check_size("argument", argument.len(), ARGUMENT_BYTES),
            Action::Keyed(Operation::Put(put)) => {
                check_size("value", put.value.len(), self.value_bytes)?;
                if let TtlChoice::Of(ttl) = put.ttl {
                    check_ttl(ttl)?;
                }
                content::check(map.descriptor.options.content_type, put.value)
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

    /// Runs a short part on this thread, if its partition is idle; whether it did.
    fn run_here(
        &self,
        message: &Message,
        decoded: &Decoded<'_>,
        part: &Part,
        set: &mut impl FnMut(usize, Result<Outcome<'_>, Failure>),
    ) -> bool {
        let strand = self.partitions.strand(part.partition);
        strand
            .try_run(|shard| {
                run_short(shard, (message, decoded), &part.places, &mut |place, result| {
                    set(place as usize, result)
                });
            })
            .is_ok()
    }

    async fn run_in_turn(self: Arc<Self>, message: Arc<Message>, part: Part) -> Vec<(u32, OwnedResult)> {
        let places = part.places.clone();
        let ran = match part.slow {
            None => self.run_queued(message, part).await,
            Some(group) => self.run_slow(message, part, group).await,
        };
        ran.unwrap_or_else(|not_run| {
            let failed = |place| (place, OwnedResult::Failed(Failure::from(not_run.clone())));
            places.into_iter().map(failed).collect()
        })
    }

    async fn run_queued(&self, message: Arc<Message>, part: Part) -> Result<Vec<(u32, OwnedResult)>, NotRun> {
        let cost = Cost { operations: part.places.len(), bytes: part.bytes };
        let run = move |shard: &mut crate::partition::Shard| {
            let mut results = Vec::with_capacity(part.places.len());
            let mut set =
                |place, result: Result<Outcome<'_>, Failure>| results.push((place, OwnedResult::new(result)));
            run_short(shard, (&message, &message.decoded()), &part.places, &mut set);
            results
        };
        self.partitions.queue(part.partition, cost, run).await
    }

    async fn run_slow(
        self: &Arc<Self>,
        message: Arc<Message>,
        part: Part,
        group: Group,
    ) -> Result<Vec<(u32, OwnedResult)>, NotRun> {
        let mut slow = SlowPart::new(message, part.places);
        let turn = move |worker: &mut _, shard: &mut _| slow.turn(worker, shard);
        let reply: SlowReply = self.partitions.run_slow(part.partition, (group, part.bytes), turn).await?;
        if let Some(function) = reply.suspend {
            self.suspend(&function).await;
        }
        Ok(reply.results)
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
    fn note(&mut self, view: &View<'_>) {
        match view.action {
            Action::Keyed(Operation::Put(_) | Operation::Increment { .. }) | Action::Invoke { .. } => {
                self.written = true;
            }
            Action::Keyed(Operation::Get { .. } | Operation::Remove(_) | Operation::Touch { .. }) => {
                self.read = true
            }
        }
    }
}

/// Why a name was not resolved, for every operation that uses it.
#[derive(Debug, Default)]
struct Refused {
    map: Option<Arc<Failure>>,
    function: Option<Arc<Failure>>,
}

impl Refused {
    fn of_map(&self) -> Failure {
        self.map.clone().map_or(Failure::Internal { what: "a map was not resolved" }, Failure::Shared)
    }

    fn of_function(&self) -> Failure {
        self.function
            .clone()
            .map_or(Failure::Internal { what: "a function was not resolved" }, Failure::Shared)
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

fn part_of(message: &Message, decoded: &Decoded<'_>, partition: u16, places: Vec<u32>) -> Part {
    let mut slow = None;
    let mut bytes = 0;
    for place in &places {
        let view = decoded.checked(*place);
        bytes += bytes_of(&view);
        if let (Action::Invoke { .. }, None) = (view.action, slow) {
            slow = Some(group_of(message.function(&view)));
        }
    }
    if places.len() > SHORT_KEYS || bytes > SHORT_BYTES {
        slow = slow.or(Some(SCANS));
    }
    Part { partition, places, slow, bytes }
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
