//! The benchmarks inside one process: every bench target of the workspace, run by cargo.

use super::report::Report;
use crate::command::{cargo, run_watched};
use crate::failure::Failure;

pub(crate) fn run(report: &mut Report) -> Result<(), Failure> {
    report.title("in process");
    let mut lines = Vec::new();
    let mut bench = cargo(&["bench", "--workspace", "--bench", "*", "--locked", "--color", "never"]);
    run_watched(&mut bench, |line| lines.extend(figure(line).map(str::to_owned)))?;
    report.title("in process: figures");
    for line in lines {
        report.line(line);
    }
    Ok(())
}

/// A line with a figure: criterion's `time: [low middle high]` and `thrpt:`, and what a bench says by itself as
/// `figure: …`. The name of a benchmark stands before its time, or alone on the line before.
fn figure(line: &str) -> Option<&str> {
    let has_figure = line.contains("time:   [") || line.contains("thrpt:  [") || line.starts_with("figure: ");
    let is_name = line.starts_with(|letter: char| letter.is_alphanumeric())
        && line.contains('/')
        && !line.contains(' ');
    (has_figure || is_name).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_names_are_kept_and_progress_is_not() {
        for line in ["store/get  time:   [1 ns 2 ns 3 ns]", "store/a_long_name", "figure: 48 bytes over"] {
            assert_eq!(figure(line), Some(line));
        }
        for line in ["Benchmarking store/get: Warming up", "   Compiling a/b", "Found 3 outliers"] {
            assert_eq!(figure(line), None);
        }
    }
}
