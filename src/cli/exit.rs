//! From an error to what the reader sees and the shell gets.

use std::io;
use std::process::ExitCode;

use wattle::node::NodeError;
use wattle_client::Error;

use super::output::{self, Unwritten};
use super::remote::At;

/// Ends every command's `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0  done
  1  error
  2  wrong usage
  3  not found: no such map, key or function
  4  a condition did not hold: it exists already, or has another version
  5  no node answers, or it has no room now: try again
  6  the function failed or was stopped: nothing changed
  7  in doubt: it may have taken effect";

/// What a shell branches on; `HELP` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Error = 1,
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    Unavailable = 5,
    Function = 6,
    InDoubt = 7,
}

/// What the guest SDK fails with when it cannot read an entry's value.
const UNREADABLE_VALUE: u32 = 0xffff_0001;
/// What the guest SDK fails with when it cannot read the argument.
const UNREADABLE_ARGUMENT: u32 = 0xffff_0002;

/// The arguments parse, but they make no sense together or with what they name.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// The map has no such entry.
#[derive(Debug, thiserror::Error)]
#[error("the map {map} has no entry {key}")]
pub(super) struct NoEntry {
    pub(super) map: String,
    pub(super) key: String,
}

/// Some entries' functions failed; each said why.
#[derive(Debug, thiserror::Error)]
#[error("the function failed for {failed} of {processed} entries, and changed nothing there")]
pub(super) struct EntriesFailed {
    pub(super) failed: u64,
    pub(super) processed: u64,
}

/// A call on entries went on after its answers could not be printed any more.
#[derive(Debug, thiserror::Error)]
#[error("{}; the call went on to its end: {ended}", with_cause(.error))]
pub(super) struct Unprinted {
    pub(super) error: io::Error,
    pub(super) ended: String,
}

/// Of one whose cause is left out of what it says itself.
fn with_cause(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.source()) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Prints the error, what to do about it, and answers the exit code.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    if was_closed(error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    if let Some(hint) = hint(error) {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(code(error) as u8)
}

/// Whoever read the output has seen enough.
fn was_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(output::was_closed)
}

fn code(error: &anyhow::Error) -> Code {
    if error.is::<Usage>() {
        return Code::Usage;
    }
    if error.is::<NoEntry>() {
        return Code::NotFound;
    }
    if error.is::<EntriesFailed>() {
        return Code::Function;
    }
    error.downcast_ref::<Error>().map_or(Code::Error, client_code)
}

fn client_code(error: &Error) -> Code {
    match error {
        Error::MapNotFound(_) | Error::FunctionNotFound(_) => Code::NotFound,
        Error::MapExists(_) | Error::AlreadyExists(_) | Error::VersionMismatch { .. } => Code::Conflict,
        Error::Unavailable(_) | Error::Overloaded(_) | Error::Full(_) => Code::Unavailable,
        Error::FunctionFailed { .. } | Error::FunctionStopped(_) | Error::FunctionSuspended(_) => {
            Code::Function
        }
        Error::InDoubt(_) => Code::InDoubt,
        Error::InvalidEndpoint { .. } => Code::Usage,
        Error::Refused(failure) => match failure.code() {
            tonic::Code::NotFound => Code::NotFound,
            tonic::Code::AlreadyExists | tonic::Code::FailedPrecondition => Code::Conflict,
            _ => Code::Error,
        },
        _ => Code::Error,
    }
}

fn hint(error: &anyhow::Error) -> Option<String> {
    let unwritten = |error: &io::Error| error.get_ref().is_some_and(|inner| inner.is::<Unwritten>());
    if error.downcast_ref().is_some_and(unwritten) {
        return Some("what the command was to change, it has changed: only its answer is missing".to_owned());
    }
    if let Some(NodeError::Listen { .. }) = error.downcast_ref() {
        return Some(
            "is a node running there already? --listen and --http-listen name other addresses".to_owned(),
        );
    }
    let failed: &Error = error.downcast_ref()?;
    if let Error::Unavailable(failure) = failed
        && failure.reason().is_none()
    {
        let at = error.downcast_ref::<At>().map_or("there", |at| at.endpoint.as_str());
        return Some(format!(
            "is a node running at {at}? `wattle serve` starts one; --endpoint or WATTLE_ENDPOINT names another"
        ));
    }
    client_hint(failed)
}

fn client_hint(error: &Error) -> Option<String> {
    let hint = match error {
        Error::MapNotFound(_) => "`wattle map list` shows the maps there are",
        Error::FunctionNotFound(_) => {
            "`wattle function list` shows the functions there are; `wattle function upload` adds one"
        }
        Error::MapExists(_) => {
            "`wattle map update` changes --ttl, --max-idle, --max-bytes and --eviction; the rest is for life"
        }
        Error::VersionMismatch { current: Some(current), .. } => {
            return Some(format!("the entry has version {current}: read it again, then decide"));
        }
        Error::VersionMismatch { current: None, .. } => {
            "somebody else was faster: read the entry again, then decide"
        }
        Error::AlreadyExists(_) => "leave out --if-absent to overwrite it",
        Error::FunctionFailed { code: Some(UNREADABLE_VALUE), .. } => {
            "the entry is not what this function keeps: is it the right map?"
        }
        Error::FunctionFailed { code: Some(UNREADABLE_ARGUMENT), .. } => {
            "where JSON is expected, text is typed with its quotes, as in '\"alice\"'"
        }
        Error::Full(_) => "remove entries, delete a map, give it an --eviction, or raise the limit",
        Error::Refused(failure) if failure.reason() == Some("FUNCTION_STAGED") => {
            "it was only uploaded: `wattle function promote` activates it"
        }
        Error::Refused(failure)
            if matches!(failure.reason(), Some("EXPORT_REQUIRED" | "EXPORT_NOT_FOUND")) =>
        {
            "--export NAME says which of them the function is to be"
        }
        Error::InDoubt(_) => "it may have taken effect: read before you repeat it",
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_code() {
        let of = |error: anyhow::Error| code(&error) as u8;
        assert_eq!(of(Usage("no".into()).into()), 2);
        assert_eq!(of(NoEntry { map: "m".into(), key: "k".into() }.into()), 3);
        assert_eq!(of(EntriesFailed { failed: 1, processed: 2 }.into()), 6);
        assert_eq!(of(anyhow::anyhow!("no")), 1);
        let endpoint = Error::InvalidEndpoint { endpoint: "x".into() };
        assert_eq!(of(anyhow::Error::new(endpoint).context(At { endpoint: "x".into() })), 2);
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let gone = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(was_closed(&anyhow::Error::from(gone).context("printing")));
        assert!(!was_closed(&anyhow::Error::from(io::Error::from(io::ErrorKind::NotFound))));
    }
}
