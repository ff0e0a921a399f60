//! What a node said about a call that failed: a gRPC status with `google.rpc` details, or an operation's error.

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::StatusExt;
use wattle_frame::FrameError;
use wattle_frame::pipeline::Facts;
use wattle_proto::v1;

/// A fact of an operation's error, which has no details of its own: when the node asked to be tried again.
const RETRY_AFTER: &str = "retry_after_ms";

/// What became of a mutation or an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect, once.
    Applied,
    /// It changed nothing and never will.
    NotApplied,
    /// Nobody can say.
    InDoubt,
}

impl Outcome {
    pub(crate) fn from_wire(outcome: i32) -> Option<Self> {
        match v1::Outcome::try_from(outcome) {
            Ok(v1::Outcome::Applied) => Some(Self::Applied),
            Ok(v1::Outcome::NotApplied) => Some(Self::NotApplied),
            Ok(v1::Outcome::InDoubt) => Some(Self::InDoubt),
            Ok(v1::Outcome::Unspecified) | Err(_) => None,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("OUTCOME_").unwrap_or(name);
        match name {
            "APPLIED" => Some(Self::Applied),
            "NOT_APPLIED" => Some(Self::NotApplied),
            "IN_DOUBT" => Some(Self::InDoubt),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Applied => "APPLIED",
            Self::NotApplied => "NOT_APPLIED",
            Self::InDoubt => "IN_DOUBT",
        })
    }
}

/// The facts of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: Code,
    reason: Option<String>,
    outcome: Option<Outcome>,
    message: String,
    facts: HashMap<String, String>,
    retry_after: Option<Duration>,
}

impl Failure {
    /// The gRPC status code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Stable and for programs, such as `MAP_NOT_FOUND`. `None` when the failure is the connection's.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// What became of the change, where that is known.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// For people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// A fact beside the message, such as `version` for a `VERSION_MISMATCH`.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }

    /// When the node asked to be tried again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(crate) fn number(&self, fact: &str) -> Option<u64> {
        self.fact(fact)?.parse().ok()
    }

    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::DeadlineExceeded)
    }

    /// Whether another attempt may have another answer. A full node or map says `RESOURCE_EXHAUSTED` too, and is
    /// tried again only when it asks for that.
    pub(crate) fn is_transient(&self) -> bool {
        match self.code {
            // A disk that takes no writes is for people to mend.
            Code::Unavailable => self.reason() != Some("DATA_DIRECTORY"),
            Code::ResourceExhausted => self.retry_after.is_some() || self.reason() == Some("OVERLOADED"),
            // What became of it, or of the copies that were to confirm it, a repetition learns from whoever decides by then.
            Code::Aborted => self.reason() == Some("INTERRUPTED"),
            Code::DeadlineExceeded => matches!(self.reason(), Some("NOT_COMMITTED" | "NOT_CONFIRMED")),
            // Without a reason the status is not the node's but the broken connection's.
            Code::Unknown | Code::Internal | Code::Cancelled => {
                self.reason.is_none() && self.outcome.is_none()
            }
            _ => false,
        }
    }

    /// Whether it says nothing about an earlier attempt: the grid has not judged the request.
    pub(crate) fn is_indefinite(&self) -> bool {
        self.is_transient() || self.is_unavailable() || self.outcome.is_none()
    }

    /// Whether the call ended before it reached a node.
    pub(crate) fn never_connected(&self) -> bool {
        self.code == Code::Unavailable && self.reason.is_none() && self.outcome == Some(Outcome::NotApplied)
    }

    /// Whether the connection failed, and no node has said anything.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        self.reason.is_none() && self.code != Code::DeadlineExceeded && self.is_transient()
    }

    /// Whether another node may do better: this one is gone, or does not decide, or not yet.
    pub(crate) fn is_of_the_place(&self) -> bool {
        self.code != Code::ResourceExhausted && self.is_transient()
    }

    pub(crate) fn in_doubt(self) -> Self {
        Self { outcome: Some(Outcome::InDoubt), ..self }
    }

    /// Of a call that changes nothing: there is nothing to be in doubt about.
    pub(crate) fn of_a_read(self) -> Self {
        Self { outcome: None, ..self }
    }

    /// Of a member to which there is no connection: it has heard nothing.
    pub(crate) fn not_connected() -> Self {
        Self {
            code: Code::Unavailable,
            reason: None,
            outcome: Some(Outcome::NotApplied),
            message: "the member is not connected".to_owned(),
            facts: HashMap::new(),
            retry_after: None,
        }
    }

    /// As the result of an operation. `facts` holds what it says beside the reason.
    pub(crate) fn pack<'a>(
        &'a self,
        facts: &'a mut Vec<u8>,
    ) -> Result<wattle_frame::pipeline::Failure<'a>, FrameError> {
        use wattle_frame::pipeline::Outcome as Packed;
        let delay = self.retry_after.filter(|_| !self.facts.contains_key(RETRY_AFTER));
        let delay = delay.map(|delay| delay.as_millis().to_string());
        let own = self.facts.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let delay = delay.as_deref().map(|delay| (RETRY_AFTER, delay));
        Ok(wattle_frame::pipeline::Failure {
            code: i32::from(self.code).unsigned_abs(),
            reason: self.reason.as_deref().unwrap_or_default(),
            message: &self.message,
            outcome: match self.outcome {
                None => Packed::Unspecified,
                Some(Outcome::Applied) => Packed::Applied,
                Some(Outcome::NotApplied) => Packed::NotApplied,
                Some(Outcome::InDoubt) => Packed::InDoubt,
            },
            facts: Facts::pack(facts, own.chain(delay))?,
        })
    }

    /// No answer within the call's timeout.
    pub(crate) fn timed_out(timeout: Duration) -> Self {
        Self {
            code: Code::DeadlineExceeded,
            reason: None,
            outcome: None,
            message: format!("no answer within {timeout:?}"),
            facts: HashMap::new(),
            retry_after: None,
        }
    }
}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        let (reason, facts) = match details.error_info() {
            Some(info) => (Some(info.reason.clone()), info.metadata.clone()),
            None => (None, HashMap::new()),
        };
        let outcome = match facts.get("outcome") {
            Some(name) => Outcome::from_name(name),
            None => outcome_without_details(status),
        };
        let message = message_with_cause(status);
        // What tonic says when a call's time is over, here or at the node.
        let is_late = status.code() == Code::Cancelled && status.message() == TimeoutExpired(()).to_string();
        let code = if is_late { Code::DeadlineExceeded } else { status.code() };
        Self { code, reason, outcome, message, facts, retry_after }
    }
}

impl From<wattle_frame::pipeline::Failure<'_>> for Failure {
    fn from(failure: wattle_frame::pipeline::Failure<'_>) -> Self {
        use wattle_frame::pipeline::Outcome as Packed;
        let outcome = match failure.outcome {
            Packed::Unspecified => None,
            Packed::Applied => Some(Outcome::Applied),
            Packed::NotApplied => Some(Outcome::NotApplied),
            Packed::InDoubt => Some(Outcome::InDoubt),
        };
        let facts = failure.facts.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let facts: HashMap<String, String> = facts.collect();
        Self {
            // What is no code at all becomes `Code::Unknown`.
            code: Code::from_i32(i32::try_from(failure.code).unwrap_or(i32::MAX)),
            reason: Some(failure.reason.to_owned()).filter(|reason| !reason.is_empty()),
            outcome,
            message: failure.message.to_owned(),
            retry_after: retry_after(&facts),
            facts,
        }
    }
}

impl From<v1::OperationError> for Failure {
    fn from(error: v1::OperationError) -> Self {
        Self {
            code: Code::from_i32(error.code),
            reason: Some(error.reason).filter(|reason| !reason.is_empty()),
            outcome: Outcome::from_wire(error.outcome),
            message: error.message,
            retry_after: retry_after(&error.metadata),
            facts: error.metadata,
        }
    }
}

/// Of an operation's error, which has no details of its own.
fn retry_after(facts: &HashMap<String, String>) -> Option<Duration> {
    facts.get(RETRY_AFTER).and_then(|delay| delay.parse().ok()).map(Duration::from_millis)
}

/// What the status alone says about the outcome. A connection that could not be made carried nothing to the node; the
/// status of a call that broke on its way says nothing.
fn outcome_without_details(status: &Status) -> Option<Outcome> {
    let answered = !status.metadata().is_empty();
    match status.code() {
        Code::Unavailable if never_connected(status) => Some(Outcome::NotApplied),
        Code::InvalidArgument
        | Code::Unimplemented
        | Code::OutOfRange
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition => Some(Outcome::NotApplied),
        Code::ResourceExhausted if answered => Some(Outcome::NotApplied),
        _ => None,
    }
}

fn never_connected(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<ConnectError>())
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(status.source(), |&cause| cause.source())
}

/// Transport errors hide what happened behind "transport error".
fn message_with_cause(status: &Status) -> String {
    let mut message = status.message().to_owned();
    for cause in causes(status) {
        let text = cause.to_string();
        if !message.contains(&text) && text != "transport error" {
            message = format!("{message}: {text}");
        }
    }
    message
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;
    use crate::Error;

    fn refused(code: Code, reason: &str, facts: &[(&str, &str)]) -> Failure {
        let facts = facts.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let details = ErrorDetails::with_error_info(reason, "wattle", facts.collect::<HashMap<_, _>>());
        Failure::from(&Status::with_error_details(code, "told", details))
    }

    #[test]
    fn a_status_with_details_becomes_its_variant() {
        let failure = refused(
            Code::FailedPrecondition,
            "VERSION_MISMATCH",
            &[("outcome", "NOT_APPLIED"), ("version", "7")],
        );
        assert_eq!(failure.outcome(), Some(Outcome::NotApplied));
        let error = Error::from(failure);
        assert!(matches!(error, Error::VersionMismatch { current: Some(7), .. }), "{error:?}");
        assert_eq!((error.reason(), error.to_string().as_str()), (Some("VERSION_MISMATCH"), "told"));
    }

    #[test]
    fn a_functions_own_error_keeps_its_code_and_message() {
        let error = Error::from(refused(
            Code::Aborted,
            "FUNCTION_FAILED",
            &[("function_code", "3"), ("function_message", "overdrawn")],
        ));
        assert!(
            matches!(&error, Error::FunctionFailed { code: Some(3), message, .. } if message == "overdrawn"),
            "{error:?}"
        );
    }

    #[test]
    fn an_outcome_in_doubt_is_never_another_variant() {
        let error = Error::from(refused(Code::Unavailable, "MAP_NOT_FOUND", &[("outcome", "IN_DOUBT")]));
        assert!(matches!(error, Error::InDoubt(_)), "{error:?}");
    }

    #[test]
    fn a_full_node_is_tried_again_only_when_it_asks_for_that() {
        assert!(!refused(Code::ResourceExhausted, "NODE_FULL", &[]).is_transient());
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(40)));
        let failure = Failure::from(&Status::with_error_details(Code::ResourceExhausted, "busy", details));
        assert_eq!((failure.is_transient(), failure.retry_after()), (true, Some(Duration::from_millis(40))));
        assert!(refused(Code::ResourceExhausted, "OVERLOADED", &[]).is_transient());
    }

    #[test]
    fn a_call_whose_time_is_over_says_so_whoever_noticed() {
        let failure = Failure::from(&Status::cancelled(TimeoutExpired(()).to_string()));
        assert_eq!((failure.code(), failure.is_transient()), (Code::DeadlineExceeded, false));
        assert!(matches!(Error::from(failure), Error::Unavailable(_)));
        assert!(Failure::from(&Status::cancelled("the connection was closed")).is_transient());
    }

    #[test]
    fn a_node_that_cannot_write_is_not_tried_again() {
        assert!(!refused(Code::Unavailable, "DATA_DIRECTORY", &[]).is_transient());
        assert!(refused(Code::Unavailable, "SHUTTING_DOWN", &[]).is_transient());
    }

    #[test]
    fn what_a_failover_left_open_is_asked_again() {
        for (code, reason) in [
            (Code::Unavailable, "NOT_OWNER"),
            (Code::Unavailable, "OWNER_UNREACHABLE"),
            (Code::Unavailable, "DEPOSED"),
            (Code::Aborted, "INTERRUPTED"),
            (Code::DeadlineExceeded, "NOT_COMMITTED"),
        ] {
            assert!(refused(code, reason, &[]).is_transient(), "{reason}");
        }
        for (code, reason) in [(Code::Aborted, "IN_DOUBT"), (Code::DeadlineExceeded, "DEADLINE_BEFORE_START")]
        {
            assert!(!refused(code, reason, &[]).is_transient(), "{reason}");
        }
    }

    #[test]
    fn a_failure_of_a_call_is_the_same_as_that_of_an_operation() {
        let facts = &[("outcome", "NOT_APPLIED"), ("version", "7")];
        let told = refused(Code::FailedPrecondition, "VERSION_MISMATCH", facts);
        for failure in [told, Failure::not_connected(), Failure::timed_out(Duration::from_secs(1))] {
            let mut facts = Vec::new();
            assert_eq!(Failure::from(failure.pack(&mut facts).unwrap()), failure);
        }
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(40)));
        let busy = Failure::from(&Status::with_error_details(Code::ResourceExhausted, "busy", details));
        let mut facts = Vec::new();
        let packed = Failure::from(busy.pack(&mut facts).unwrap());
        assert_eq!(packed.retry_after(), Some(Duration::from_millis(40)));
    }

    #[test]
    fn a_refusal_by_the_node_is_final_even_when_it_is_internal() {
        assert!(!refused(Code::Internal, "INTERNAL", &[("outcome", "NOT_APPLIED")]).is_transient());
        assert!(Failure::from(&Status::unknown("transport error")).is_transient());
    }
}
