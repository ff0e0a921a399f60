//! Why a call of the public API failed: one enum for all services, with the facts that its answer carries.

mod decided;

use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Status};
use wattle_core::control::grid::Waiting;
use wattle_core::ids::{ModuleHash, PartitionId};
use wattle_core::map::ContentType;
use wattle_core::name::InvalidName;
use wattle_core::partition;
use wattle_core::partition::Explanation;
use wattle_core::replication::Unavailable;
use wattle_frame::FrameError;
use wattle_proto::v1;
use wattle_strand::Refused;

use crate::control::{NotDecided, NotRebuilt};
use crate::functions::{NotCallable, UploadError};
use crate::partition::NoReply;
use decided::{control_facts, not_created_facts, not_rebuilt_facts};

/// Codes from here on are the guest SDK's: their numbers mean nothing to people.
const SDK_CODES: u32 = 0xffff_0000;

/// Why a call, or one operation of it, failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("there is no map {name}; a write creates it, or `wattle map create {name}`")]
    MapNotFound { name: String },
    #[error(transparent)]
    Function(#[from] NotCallable),
    #[error("the function failed{}: {message}", own_code(*.code))]
    FunctionFailed { code: u32, message: String },
    #[error("{0}")]
    FunctionStopped(wattle_wasm::Stop),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("{what} has {size} bytes, at most {limit} are allowed")]
    TooLarge { what: &'static str, size: usize, limit: usize },
    #[error("{size} {what} are more than the {limit} allowed")]
    TooMany { what: &'static str, size: usize, limit: usize },
    #[error("the value is not {expected}: {problem}")]
    Value { expected: ContentTypeName, problem: String },
    #[error("{field}: {problem}")]
    Argument { field: &'static str, problem: &'static str },
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Operation(#[from] partition::Refusal),
    #[error(transparent)]
    Part(#[from] partition::PartRefusal),
    #[error(transparent)]
    NoReply(#[from] NoReply),
    #[error(transparent)]
    Control(#[from] NotDecided),
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error("this node is not in a grid yet: it waits for the others")]
    NoMember,
    #[error("the name has moved on, but this node cannot load its module: {problem}")]
    NotLoaded { problem: String },
    /// One failure of several operations.
    #[error("{0}")]
    Shared(Arc<Failure>),
    /// Of a call that goes from partition to partition: it, or an earlier attempt, may have changed something before.
    #[error("some of the call may have taken effect, the rest has not: {0}")]
    HalfWay(Box<Failure>),
    #[error(
        "another version of function {function} began the call and cannot finish it: call anew for what is left"
    )]
    AnotherExport { function: String },
    /// Another node, which decides about the partition, has said so.
    #[error("{}", .0.message)]
    Elsewhere(Box<v1::OperationError>),
    #[error("the node that decides about the partition does not answer: {message}")]
    Unreached { message: String },
    #[error("no other node could take what node {node} holds")]
    NobodyTakes { node: u64 },
    #[error("node {node} answers: stop it first, or it would go on alone")]
    NodeAnswers { node: u64 },
    #[error("this node is in a grid already")]
    InGrid,
    #[error("the node is working on another call to create a grid")]
    CreatesGrid,
    #[error("no grid is created: {0}")]
    NotCreated(Waiting),
    #[error("partition {partition} is not lost")]
    NotLost { partition: PartitionId },
    #[error(
        "node {node} does not have that copy of partition {partition} any more, or does not answer: look again"
    )]
    CopyGone { partition: PartitionId, node: u64 },
    #[error("no node that holds data answers")]
    NoHolder,
    #[error(transparent)]
    NotRebuilt(#[from] NotRebuilt),
    #[error("no other node has stored module {module} in time: the name has not moved on; upload it again")]
    OnlyHere { module: ModuleHash },
    #[error("this node has no module {module}")]
    ModuleNotFound { module: String },
    #[error("the cursor is not one of a scan of this map")]
    Cursor,
    #[error("the token is not one of a watch of this map")]
    Token,
    #[error("this node works on {limit} uploads already")]
    TooManyUploads { limit: usize },
    #[error("this node serves {limit} watches already")]
    TooManyWatches { limit: usize },
    #[error("requests and answers in flight take {held} bytes, this one is refused past {limit}")]
    Overloaded { held: usize, limit: usize },
    #[error("the answer did not come in time")]
    TimedOut,
    #[error("internal error: {what}")]
    Internal { what: &'static str },
    /// By the gRPC framework, not by a service.
    #[error("{message}")]
    NotRead { code: Code, message: String },
}

fn own_code(code: u32) -> String {
    if code < SDK_CODES { format!(" with code {code}") } else { String::new() }
}

impl From<wattle_wasm::Stop> for Failure {
    fn from(stop: wattle_wasm::Stop) -> Self {
        match stop {
            wattle_wasm::Stop::GuestFailure { code, message } => Self::FunctionFailed { code, message },
            stop => Self::FunctionStopped(stop),
        }
    }
}

/// A status that the gRPC framework made.
impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        let message = match status.message() {
            "" => "the node has no such method; reflection lists what it has".to_owned(),
            message => message.to_owned(),
        };
        Self::NotRead { code: status.code(), message }
    }
}

/// A content type as people read it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContentTypeName(pub(crate) ContentType);

impl std::fmt::Display for ContentTypeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            ContentType::Bytes => "bytes",
            ContentType::Text => "text (UTF-8)",
            ContentType::Json => "JSON",
            ContentType::MessagePack => "MessagePack",
        })
    }
}

/// What the answer says beside the message.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) code: Code,
    /// Stable, for programs.
    pub(crate) reason: &'a str,
    pub(crate) outcome: v1::Outcome,
    pub(crate) metadata: Vec<(&'a str, String)>,
    pub(crate) retry_after: Option<Duration>,
    /// The request's field that is wrong.
    pub(crate) field: Option<&'a str>,
}

impl<'a> Facts<'a> {
    fn new(code: Code, reason: &'a str) -> Self {
        let outcome = v1::Outcome::NotApplied;
        Self { code, reason, outcome, metadata: Vec::new(), retry_after: None, field: None }
    }

    fn with(mut self, key: &'a str, value: &(impl ToString + ?Sized)) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    fn field(mut self, field: &'a str) -> Self {
        self.field = Some(field);
        self
    }

    /// Whether it says that the request changes nothing, and not only this attempt of it. Clients see it likewise.
    fn is_final(&self) -> bool {
        let of_this_attempt =
            self.retry_after.is_some() || matches!(self.code, Code::Unavailable | Code::DeadlineExceeded);
        self.outcome == v1::Outcome::NotApplied && !of_this_attempt
    }
}

impl Failure {
    /// Bytes of a function's own words: an answer has them twice, for people and for programs.
    pub(crate) fn payload(&self) -> usize {
        if let Self::Operation(refusal) = self {
            return refusal.payload();
        }
        if let Self::FunctionFailed { message, .. } = self { 2 * message.len() } else { 0 }
    }

    /// What a partition keeps of it for the other attempts of a request that is repeated, if it is said of them, too.
    pub(crate) fn kept(&self) -> Option<partition::Refusal> {
        if let Self::Operation(refusal) = self {
            return Some(refusal.clone());
        }
        let facts = self.facts();
        facts.is_final().then(|| {
            let named = |(name, value): &(&str, String)| ((*name).to_owned(), value.clone());
            partition::Refusal::Explained(Box::new(Explanation {
                code: facts.code.into(),
                reason: facts.reason.to_owned(),
                message: self.to_string(),
                facts: facts.metadata.iter().map(named).collect(),
                field: facts.field.map(str::to_owned),
            }))
        })
    }

    /// Whether somebody else may answer it soon.
    pub(crate) fn is_transient(&self) -> bool {
        self.facts().code == Code::Unavailable
    }

    /// The facts of the answer.
    pub(crate) fn facts(&self) -> Facts<'_> {
        match self {
            Self::MapNotFound { name } => Facts::new(Code::NotFound, "MAP_NOT_FOUND").with("map", name),
            Self::Function(problem) => function_facts(problem),
            Self::Shared(failure) => failure.facts(),
            Self::HalfWay(failure) => Facts { outcome: v1::Outcome::InDoubt, ..failure.facts() },
            Self::AnotherExport { function } => {
                Facts::new(Code::FailedPrecondition, "MODULE_GONE").with("function", function)
            }
            Self::FunctionFailed { code, message } => Facts::new(Code::FailedPrecondition, "FUNCTION_FAILED")
                .with("function_code", code)
                .with("function_message", message),
            Self::FunctionStopped(wattle_wasm::Stop::NoInstance) => overloaded(),
            Self::FunctionStopped(stop) => {
                Facts::new(Code::Aborted, "FUNCTION_STOPPED").with("stop", stop.kind())
            }
            Self::Name(_) => Facts::new(Code::InvalidArgument, "INVALID_NAME").field("name"),
            Self::TooLarge { what, limit, .. } | Self::TooMany { what, limit, .. } => {
                Facts::new(Code::InvalidArgument, "TOO_LARGE").with("limit", limit).field(what)
            }
            Self::Value { .. } => Facts::new(Code::InvalidArgument, "INVALID_VALUE").field("value"),
            Self::Argument { field, .. } => {
                Facts::new(Code::InvalidArgument, "INVALID_ARGUMENT").field(field)
            }
            Self::Frame(_) => Facts::new(Code::InvalidArgument, "BAD_FRAME").field("frame"),
            Self::Operation(refusal) => operation_facts(refusal),
            Self::Part(refusal) => part_facts(*refusal),
            Self::NoReply(reason) => no_reply_facts(reason),
            Self::Control(error) => control_facts(error),
            Self::Upload(error) => Facts::new(error.code(), error.reason()),
            Self::NoMember => {
                Facts { retry_after: Some(FAILOVER_PAUSE), ..Facts::new(Code::Unavailable, "NO_MEMBER") }
            }
            Self::NotLoaded { .. } => {
                Facts { outcome: v1::Outcome::Applied, ..Facts::new(Code::Internal, "MODULE_NOT_LOADED") }
            }
            Self::Elsewhere(error) => elsewhere_facts(error),
            // Before it was heard it was not done; else nobody knows.
            Self::Unreached { .. } => Facts {
                outcome: v1::Outcome::InDoubt,
                retry_after: Some(FAILOVER_PAUSE),
                ..Facts::new(Code::Unavailable, "OWNER_UNREACHABLE")
            },
            Self::NobodyTakes { node } => unfit("NOBODY_TAKES").with("node", node),
            Self::NodeAnswers { node } => unfit("NODE_ANSWERS").with("node", node),
            Self::InGrid => unfit("GRID_EXISTS"),
            Self::CreatesGrid => Facts::new(Code::Aborted, "GRID_IS_CREATED"),
            Self::NotCreated(why) => not_created_facts(why),
            Self::NotLost { .. } => unfit("NOT_LOST"),
            Self::CopyGone { .. } => unfit("COPY_GONE"),
            Self::NoHolder => unfit("NO_HOLDER"),
            Self::NotRebuilt(why) => not_rebuilt_facts(why),
            Self::ModuleNotFound { module } => {
                Facts::new(Code::NotFound, "MODULE_NOT_FOUND").with("module", module)
            }
            Self::OnlyHere { module } => only_here_facts(module),
            Self::Cursor => Facts::new(Code::InvalidArgument, "CURSOR_INVALID").field("cursor"),
            Self::Token => Facts::new(Code::InvalidArgument, "TOKEN_INVALID").field("token"),
            Self::Overloaded { limit, .. } => overloaded().with("limit", limit),
            Self::TooManyUploads { limit } => {
                Facts { retry_after: Some(UPLOAD_PAUSE), ..overloaded() }.with("limit", limit)
            }
            Self::TooManyWatches { limit } => overloaded().with("limit", limit),
            Self::TimedOut => Facts {
                outcome: v1::Outcome::InDoubt,
                ..Facts::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
            },
            // Nobody knows how far it came.
            Self::Internal { .. } => {
                Facts { outcome: v1::Outcome::InDoubt, ..Facts::new(Code::Internal, "INTERNAL") }
            }
            Self::NotRead { code, .. } => not_read_facts(*code),
        }
    }
}

/// The version may be there, and what it runs would be gone with this node.
fn only_here_facts(module: &ModuleHash) -> Facts<'_> {
    Facts {
        outcome: v1::Outcome::InDoubt,
        retry_after: Some(UPLOAD_PAUSE),
        ..Facts::new(Code::Unavailable, "MODULE_NOT_COPIED").with("module", module)
    }
}

/// What the framework refuses before it has read a message has changed nothing; of the rest it makes none of its own.
fn not_read_facts(code: Code) -> Facts<'static> {
    let reason = match code {
        Code::Internal => "MALFORMED_MESSAGE",
        Code::OutOfRange => "TOO_LARGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        // Of the health service.
        Code::NotFound => "SERVICE_NOT_FOUND",
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => {
            return Facts { outcome: v1::Outcome::InDoubt, ..Facts::new(code, "TRANSPORT") };
        }
    };
    Facts::new(code, reason)
}

/// Compiling a module takes about as long.
const UPLOAD_PAUSE: Duration = Duration::from_secs(1);

/// The grid is not in a state for it.
fn unfit(reason: &str) -> Facts<'_> {
    Facts::new(Code::FailedPrecondition, reason)
}

fn overloaded() -> Facts<'static> {
    Facts {
        retry_after: Some(Duration::from_millis(50)),
        ..Facts::new(Code::ResourceExhausted, "OVERLOADED")
    }
}

fn operation_facts<'a>(refusal: &'a partition::Refusal) -> Facts<'a> {
    use partition::Refusal as R;
    match refusal {
        R::VersionMismatch { found, .. } => {
            Facts::new(Code::FailedPrecondition, "VERSION_MISMATCH").with("version", &found.0)
        }
        R::AlreadyExists { version } => {
            Facts::new(Code::AlreadyExists, "ALREADY_EXISTS").with("version", &version.0)
        }
        R::NotAnInteger | R::Overflow { .. } => Facts::new(Code::FailedPrecondition, "NOT_AN_INTEGER"),
        R::MapFull { share } => Facts::new(Code::ResourceExhausted, "MAP_FULL").with("share", share),
        R::NodeFull { headroom, .. } => node_full(*headroom),
        R::Explained(explanation) => {
            let known = |(name, value): &'a (String, String)| (name.as_str(), value.clone());
            Facts {
                metadata: explanation.facts.iter().map(known).collect(),
                field: explanation.field.as_deref(),
                ..Facts::new(Code::from_i32(explanation.code), &explanation.reason)
            }
        }
    }
}

fn node_full(headroom: u64) -> Facts<'static> {
    Facts::new(Code::ResourceExhausted, "NODE_FULL").with("headroom", &headroom)
}

fn part_facts(refusal: partition::PartRefusal) -> Facts<'static> {
    use partition::PartRefusal as R;
    match refusal {
        R::InDoubt => Facts { outcome: v1::Outcome::InDoubt, ..Facts::new(Code::Aborted, "IN_DOUBT") },
        R::TooManyPending | R::NoRoomToRepeat { .. } => overloaded(),
        R::NodeFull { headroom, .. } => node_full(headroom),
        R::ReusedId => Facts {
            outcome: v1::Outcome::InDoubt,
            ..Facts::new(Code::InvalidArgument, "REQUEST_ID_REUSED").field("request_id")
        },
    }
}

fn no_reply_facts(reason: &NoReply) -> Facts<'_> {
    match reason {
        NoReply::Refused(Refused::Full(full)) => {
            Facts { retry_after: Some(full.retry_after()), ..overloaded() }
        }
        NoReply::Refused(Refused::Closed) => Facts::new(Code::Unavailable, "SHUTTING_DOWN"),
        NoReply::NotStarted => Facts::new(Code::DeadlineExceeded, "DEADLINE_BEFORE_START"),
        NoReply::Interrupted => {
            Facts { outcome: v1::Outcome::InDoubt, ..Facts::new(Code::Aborted, "INTERRUPTED") }
        }
        NoReply::Unavailable(unavailable) => unavailable_facts(unavailable),
        NoReply::Fenced => {
            Facts { retry_after: Some(FAILOVER_PAUSE), ..Facts::new(Code::Unavailable, "FENCED") }
        }
        NoReply::NoGridTime => {
            Facts { retry_after: Some(FAILOVER_PAUSE), ..Facts::new(Code::Unavailable, "NO_GRID_TIME") }
        }
        NoReply::Behind { .. } => overloaded(),
        NoReply::Deposed => {
            Facts { outcome: v1::Outcome::InDoubt, ..Facts::new(Code::Unavailable, "DEPOSED") }
        }
        NoReply::NotCommitted => {
            Facts { outcome: v1::Outcome::InDoubt, ..Facts::new(Code::DeadlineExceeded, "NOT_COMMITTED") }
        }
        NoReply::NotConfirmed => Facts::new(Code::DeadlineExceeded, "NOT_CONFIRMED"),
    }
}

/// A failover takes about as long as copies need to agree.
const FAILOVER_PAUSE: Duration = Duration::from_millis(100);

fn unavailable_facts(unavailable: &Unavailable) -> Facts<'static> {
    let reason = match unavailable {
        Unavailable::NotPrimary => "NOT_OWNER",
        Unavailable::TakingOver => "TAKING_OVER",
        Unavailable::HandingOver => "HANDING_OVER",
        Unavailable::TooFewInSync { .. } => "TOO_FEW_IN_SYNC",
    };
    Facts { retry_after: Some(FAILOVER_PAUSE), ..Facts::new(Code::Unavailable, reason) }
}

fn elsewhere_facts(error: &v1::OperationError) -> Facts<'_> {
    let delay = error.metadata.get("retry_after_ms").and_then(|delay| delay.parse().ok());
    let others = error.metadata.iter().filter(|(name, _)| *name != "retry_after_ms");
    Facts {
        outcome: error.outcome(),
        retry_after: delay.map(Duration::from_millis),
        metadata: others.map(|(name, value)| (name.as_str(), value.clone())).collect(),
        ..Facts::new(Code::from(error.code), &error.reason)
    }
}

fn function_facts(problem: &NotCallable) -> Facts<'_> {
    let (code, reason, name) = match problem {
        NotCallable::NotFound { name } => (Code::NotFound, "FUNCTION_NOT_FOUND", name),
        NotCallable::Staged { name } => (Code::FailedPrecondition, "FUNCTION_STAGED", name),
        NotCallable::Suspended { name, .. } => (Code::FailedPrecondition, "FUNCTION_SUSPENDED", name),
        NotCallable::NotLoaded { name, .. } => {
            let not_loaded = Facts::new(Code::Unavailable, "FUNCTION_NOT_LOADED").with("function", name);
            return Facts { retry_after: Some(UPLOAD_PAUSE), ..not_loaded };
        }
    };
    Facts::new(code, reason).with("function", name)
}
