//! A request with operations on keys, as the strands see it: shared by its parts, decoded where it is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use smallvec::SmallVec;
use wattle_core::ids::{PartitionId, RequestId, Version};
use wattle_core::limits::ANSWER_BYTES;
use wattle_core::partition::{Condition, Operation, Previous, Put, Remove, TtlChange, TtlChoice};
use wattle_frame::pipeline::{self, Operations};

use crate::failure::Failure;
use crate::functions::ActiveFunction;
use crate::in_flight::Held;
use crate::maps::Map;

/// How it is made sure that what was read shows all that was acknowledged before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadMode {
    /// By leases.
    Linearizable,
    /// By a round trip to the other copies.
    Confirm,
}

/// The operations of a request, as they arrived.
#[derive(Debug)]
pub(crate) enum Source {
    /// A packed frame, known to be well-formed.
    Packed(Bytes),
    /// Decoded messages.
    Steps(Vec<Step>),
}

/// One operation that owns its bytes. `map` and `function` are places in the request's names.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) map: u16,
    pub(crate) key: Bytes,
    pub(crate) kind: StepKind,
}

/// What a step does.
#[derive(Debug)]
pub(crate) enum StepKind {
    Get,
    Put { value: Bytes, ttl: TtlChoice, condition: Condition, previous: Previous },
    Remove { if_version: Option<Version>, previous: Previous },
    Increment { delta: i64 },
    Touch { change: TtlChange },
    Invoke { function: u16, argument: Bytes },
}

/// One operation, borrowed from its message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action<'a> {
    Keyed(Operation<'a>),
    Invoke { key: &'a [u8], argument: &'a [u8] },
}

/// An operation and the names it uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) map: u16,
    pub(crate) function: Option<u16>,
    pub(crate) key: &'a [u8],
    pub(crate) action: Action<'a>,
}

/// All operations of a message.
pub(crate) type Views<'a> = SmallVec<[View<'a>; 1]>;

/// An operation by its partition, and its place in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Placed {
    pub(crate) partition: PartitionId,
    pub(crate) place: u32,
}

/// The operations of a message, readable by place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decoded<'a> {
    Packed(Operations<'a>),
    Steps(&'a [Step]),
}

impl Source {
    /// Fails only for a packed frame whose header is wrong.
    pub(crate) fn decode(&self) -> Result<Decoded<'_>, wattle_frame::FrameError> {
        match self {
            Self::Packed(frame) => Operations::parse(frame).map(Decoded::Packed),
            Self::Steps(steps) => Ok(Decoded::Steps(steps)),
        }
    }

    /// Reads all operations, at most `limit` of them.
    pub(crate) fn views(&self, limit: usize) -> Result<Views<'_>, Failure> {
        let decoded = self.decode()?;
        if decoded.len() > limit {
            return Err(Failure::TooMany { what: "operations", size: decoded.len(), limit });
        }
        Ok((0..decoded.len()).map(|place| decoded.view(place)).collect::<Result<_, _>>()?)
    }
}

impl<'a> Decoded<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Packed(operations) => operations.len(),
            Self::Steps(steps) => steps.len(),
        }
    }

    pub(crate) fn view(&self, place: usize) -> Result<View<'a>, wattle_frame::FrameError> {
        match self {
            Self::Packed(operations) => operations.operation(place).map(packed_view),
            Self::Steps(steps) => Ok(steps[place].view()),
        }
    }
}

impl Step {
    fn view(&self) -> View<'_> {
        let key = &self.key[..];
        let mut used = None;
        let action = match &self.kind {
            StepKind::Get => Action::Keyed(Operation::Get { key }),
            StepKind::Put { value, ttl, condition, previous } => Action::Keyed(Operation::Put(Put {
                key,
                value,
                ttl: *ttl,
                condition: *condition,
                previous: *previous,
            })),
            StepKind::Remove { if_version, previous } => {
                Action::Keyed(Operation::Remove(Remove { key, if_version: *if_version, previous: *previous }))
            }
            StepKind::Increment { delta } => Action::Keyed(Operation::Increment { key, delta: *delta }),
            StepKind::Touch { change } => Action::Keyed(Operation::Touch { key, change: *change }),
            StepKind::Invoke { function, argument } => {
                used = Some(*function);
                Action::Invoke { key, argument }
            }
        };
        View { map: self.map, function: used, key, action }
    }
}

fn packed_view(operation: pipeline::Operation<'_>) -> View<'_> {
    use pipeline::Operation as P;
    let (map, key) = (operation.map().0, operation.key());
    let function = operation.function().map(|function| function.0);
    let previous = |wanted| if wanted { Previous::Return } else { Previous::Ignore };
    let millis = std::time::Duration::from_millis;
    let action = match operation {
        P::Get { .. } => Action::Keyed(Operation::Get { key }),
        P::Put { value, ttl_ms, condition, return_previous, .. } => Action::Keyed(Operation::Put(Put {
            key,
            value,
            ttl: match ttl_ms {
                None => TtlChoice::OfMap,
                Some(0) => TtlChoice::ForEver,
                Some(ttl) => TtlChoice::Of(millis(ttl)),
            },
            condition: match condition {
                pipeline::Condition::Always => Condition::Always,
                pipeline::Condition::IfAbsent => Condition::IfAbsent,
                pipeline::Condition::IfVersion(version) => Condition::IfVersion(Version(version)),
            },
            previous: previous(return_previous),
        })),
        P::Remove { if_version, return_previous, .. } => Action::Keyed(Operation::Remove(Remove {
            key,
            if_version: if_version.map(Version),
            previous: previous(return_previous),
        })),
        P::Increment { delta, .. } => Action::Keyed(Operation::Increment { key, delta }),
        P::Touch { change, .. } => Action::Keyed(Operation::Touch {
            key,
            change: match change {
                pipeline::TtlChange::Read => TtlChange::Read,
                pipeline::TtlChange::Set(ttl) => TtlChange::Set(millis(ttl)),
                pipeline::TtlChange::Clear => TtlChange::Clear,
            },
        }),
        P::Invoke { argument, .. } => Action::Invoke { key, argument },
    };
    View { map, function, key, action }
}

/// What a name stands for, or why it stands for nothing.
pub(crate) type Resolved<T> = Option<Result<Arc<T>, Arc<Failure>>>;

/// A request whose names are resolved and whose operations are checked.
#[derive(Debug)]
pub(crate) struct Message {
    source: Arc<Source>,
    pub(crate) id: Option<RequestId>,
    reads: ReadMode,
    /// By the places of names; only those that operations use as maps are there.
    pub(crate) maps: SmallVec<[Resolved<Map>; 2]>,
    /// By the places of names; only those that operations use as functions are there.
    pub(crate) functions: SmallVec<[Resolved<ActiveFunction>; 2]>,
    /// Operations that are refused for themselves, whatever their names stand for, by rising places.
    refused: Vec<(u32, Arc<Failure>)>,
    /// The longest value that may be written, in bytes.
    pub(crate) value_bytes: usize,
    /// Values and responses in the answer so far, in bytes.
    answered: AtomicUsize,
    /// All of this, and the answer so far.
    held: Held,
}

/// An answer is counted in steps of so many bytes: most never need to be.
const COUNTED: usize = 16 << 10;

impl Message {
    /// A message whose names are not resolved yet.
    pub(crate) fn new(
        source: Arc<Source>,
        (id, reads): (Option<RequestId>, ReadMode),
        value_bytes: usize,
        held: Held,
    ) -> Self {
        Self {
            source,
            id,
            reads,
            maps: SmallVec::new(),
            functions: SmallVec::new(),
            refused: Vec::new(),
            value_bytes,
            answered: AtomicUsize::new(0),
            held,
        }
    }

    /// How its answer is confirmed where it changes nothing.
    pub(crate) fn reads(&self) -> ReadMode {
        self.reads
    }

    /// Whether another operation may add to the answer: who asks for more than fits a message asks twice.
    pub(crate) fn may_answer(&self) -> Result<(), Failure> {
        let size = self.answered.load(Ordering::Relaxed);
        match size {
            0 => self.held.take(0),
            1..ANSWER_BYTES => Ok(()),
            ANSWER_BYTES.. => Err(Failure::TooLarge { what: "answer", size, limit: ANSWER_BYTES }),
        }
    }

    /// So many bytes went into the answer.
    pub(crate) fn answered(&self, bytes: usize) {
        if bytes > 0 {
            let before = self.answered.fetch_add(bytes, Ordering::Relaxed);
            let steps = (before + bytes) / COUNTED - before / COUNTED;
            if steps > 0 {
                self.held.add(steps * COUNTED);
            }
        }
    }

    /// An operation does not run. Places are refused in their order.
    pub(crate) fn refuse(&mut self, place: u32, failure: Failure) {
        let failure = if let Failure::Shared(failure) = failure { failure } else { Arc::new(failure) };
        self.refused.push((place, failure));
    }

    /// Whether an operation was not refused, and its names stand for something, and still do: asked before each, for turns ago it may
    /// have been different.
    pub(crate) fn may_run(&self, place: u32, view: &View<'_>) -> Result<(), Failure> {
        let refused = |failure: &Arc<Failure>| Failure::Shared(Arc::clone(failure));
        if let Ok(found) = self.refused.binary_search_by_key(&place, |(place, _)| *place) {
            return Err(refused(&self.refused[found].1));
        }
        if let Some(function) = view.function
            && let Some(Err(failure)) = &self.functions[usize::from(function)]
        {
            return Err(refused(failure));
        }
        match &self.maps[usize::from(view.map)] {
            Some(Ok(map)) if map.is_deleted() => {
                Err(Failure::MapNotFound { name: map.descriptor.name.to_string() })
            }
            Some(Ok(_)) => Ok(()),
            Some(Err(failure)) => Err(refused(failure)),
            None => Err(Failure::Internal { what: "a map was not resolved" }),
        }
    }

    /// The map of an operation, if its name stands for one.
    pub(crate) fn found_map(&self, view: &View<'_>) -> Option<&Map> {
        self.maps[usize::from(view.map)].as_ref()?.as_deref().ok()
    }

    /// The map of an operation that may run.
    pub(crate) fn map(&self, view: &View<'_>) -> &Map {
        self.found_map(view).expect("operations without their map are not run")
    }

    /// The function of an invocation, if its name stands for one.
    pub(crate) fn found_function(&self, view: &View<'_>) -> Option<&Arc<ActiveFunction>> {
        self.functions[usize::from(view.function?)].as_ref()?.as_ref().ok()
    }

    /// The function of an invocation that may run.
    pub(crate) fn function(&self, view: &View<'_>) -> &Arc<ActiveFunction> {
        self.found_function(view).expect("invocations without their function are not run")
    }

    /// All operations, which were read before.
    pub(crate) fn views(&self) -> Views<'_> {
        let decoded = self.decoded();
        (0..decoded.len()).map(|place| decoded.view(place).expect("the operation was read before")).collect()
    }

    /// The operations, which were decoded before.
    pub(crate) fn decoded(&self) -> Decoded<'_> {
        self.source.decode().expect("the frame was read before, and its bytes do not change")
    }
}

impl<'a> Decoded<'a> {
    /// An operation that was read before.
    pub(crate) fn checked(&self, place: u32) -> View<'a> {
        self.view(place as usize).expect("the operation was read before, and its bytes do not change")
    }
}
