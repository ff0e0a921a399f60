//! Why a chore failed, with what the reader needs to go on.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

#[derive(Debug)]
pub(crate) enum Failure {
    Usage {
        word: String,
    },
    CannotStart {
        command: String,
        source: io::Error,
    },
    Exited {
        command: String,
        status: ExitStatus,
    },
    /// It said nothing for so long that it was ended.
    Silent {
        command: String,
        silence: Duration,
    },
    File {
        path: PathBuf,
        source: io::Error,
    },
    /// Something that cannot be installed from here.
    Missing {
        what: &'static str,
        advice: String,
    },
    /// A server that does not answer in time, with what it wrote.
    NodeDidNotStart {
        log: String,
    },
    /// A grid whose copies are not where they should be in time.
    NotSettled {
        state: String,
    },
    /// Who writes while a node dies has ended before.
    LoadPanicked,
    /// A file of the system in a form that is not known.
    Unreadable {
        path: PathBuf,
        text: String,
    },
    /// A program succeeded and printed something else than it should.
    Unexpected {
        command: String,
        printed: String,
    },
    /// A port of this machine that somebody else has.
    Port {
        port: u16,
        source: io::Error,
    },
    /// A command of the guide, with its place.
    Guide {
        place: String,
    },
    /// What should have ended.
    LeftBehind {
        processes: Vec<String>,
    },
    /// Figures of the demo that are not what they should be.
    Figures {
        count: usize,
    },
    Violations {
        count: usize,
    },
    Skips {
        differences: usize,
    },
    /// Rules of replication that no test misses.
    Mutants {
        survivors: Vec<String>,
    },
    /// cargo did not say what it built.
    NoTestProgram,
    Steps {
        failed: Vec<&'static str>,
    },
}

impl Failure {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage { word } => write!(out, "unknown argument {word:?}"),
            Self::CannotStart { command, source } => write!(out, "cannot start `{command}`: {source}"),
            Self::Exited { command, status } => write!(out, "`{command}` failed: {status}"),
            Self::Silent { command, silence } => {
                write!(out, "`{command}` said nothing for {} s and was ended", silence.as_secs())
            }
            Self::File { path, source } => write!(out, "{}: {source}", path.display()),
            Self::Missing { what, advice } => write!(out, "{what} is missing: {advice}"),
            Self::NodeDidNotStart { log } => write!(out, "the server did not start:\n{log}"),
            Self::NotSettled { state } => write!(out, "the grid did not settle: {state}"),
            Self::LoadPanicked => write!(out, "what writes during the failover panicked"),
            Self::Unreadable { path, text } => write!(out, "{}: not understood:\n{text}", path.display()),
            Self::Unexpected { command, printed } => write!(out, "`{command}` printed:\n{printed}"),
            Self::Port { port, source } => {
                write!(out, "the guide forwards port {port} of 127.0.0.1, which cannot be had: {source}")
            }
            Self::Guide { place } => write!(out, "{place}: fails; what it printed is above"),
            Self::LeftBehind { processes } => write!(out, "left running:\n{}", processes.join("\n")),
            Self::Figures { count } => write!(out, "{count} of the figures are wrong, marked above"),
            Self::Violations { count } => write!(out, "{count} violations of the style rules, listed above"),
            Self::Mutants { survivors } => {
                write!(out, "these are not told from the code: {}", survivors.join(", "))
            }
            Self::NoTestProgram => write!(out, "cargo named no test program of wattle-core"),
            Self::Skips { differences } => {
                write!(out, "tests/skips.txt and the run differ in {differences} places, listed above")
            }
            Self::Steps { failed } => write!(out, "failed: {}", failed.join(", ")),
        }
    }
}

impl std::error::Error for Failure {}
