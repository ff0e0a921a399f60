//! Logs, on the standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// What libraries say that nobody needs who runs a node, unless it is asked for: a voter that is away is told of eight times a second.
const QUIET: &str = "openraft=off";

/// Starts logging. Says so if the filter is no filter.
///
/// # Errors
/// The filter cannot be read.
pub fn start_logs(format: LogFormat, filter: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(format!("{QUIET},{filter}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
