//! Progress on the standard error: a bar on a terminal, now and then a line otherwise, nothing for programs.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is printed where no bar can be drawn.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    of: &'static str,
    length: Option<u64>,
    started: Instant,
    line_due: Instant,
}

impl Progress {
    /// Progress towards `length` units; without a length it only counts. `of` names what is counted besides.
    pub(super) fn begin(length: Option<u64>, of: &'static str) -> Self {
        Self::with(io::stderr().is_terminal().then(|| draw(length)), length, of)
    }

    /// Of a command that prints lines meanwhile. A bar would stand among them, unless they go to a file: a pipe's
    /// reader may print to the same terminal.
    pub(super) fn begin_among_lines(length: Option<u64>, of: &'static str) -> Self {
        if stdout_is_file() { Self::begin(length, of) } else { Self::with(None, length, of) }
    }

    fn with(bar: Option<ProgressBar>, length: Option<u64>, of: &'static str) -> Self {
        let now = Instant::now();
        Self { bar, of, length, started: now, line_due: now + LINE_INTERVAL }
    }

    /// `position` units are done, and `count` things with them.
    pub(super) fn advance(&mut self, position: u64, count: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(position);
                bar.set_message(self.text(count));
            }
            None if Instant::now() >= self.line_due => {
                self.line_due = Instant::now() + LINE_INTERVAL;
                eprintln!("{}{}", self.percent(position), self.text(count));
            }
            None => {}
        }
    }

    /// Removes the bar, so that what is printed next stands alone.
    pub(super) fn end(self) {
        drop(self);
    }

    /// A line above the bar.
    pub(super) fn note(&self, text: &str) {
        self.above(|| eprintln!("{text}"));
    }

    /// What is printed stands above the bar.
    pub(super) fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn text(&self, count: u64) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        format!("{count} {}, {:.0}/s", self.of, count as f64 / seconds)
    }

    fn percent(&self, position: u64) -> String {
        match self.length {
            Some(length) if length > 0 => format!("{:3.0} %  ", 100.0 * position as f64 / length as f64),
            Some(_) | None => String::new(),
        }
    }
}

/// However a command ends, its bar goes.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn stdout_is_file() -> bool {
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    stdout.and_then(|stdout| File::from(stdout).metadata()).is_ok_and(|metadata| metadata.is_file())
}

fn draw(length: Option<u64>) -> ProgressBar {
    let bar = match length {
        Some(length) => ProgressBar::new(length).with_style(style("{bar:30} {percent:>3} %  {msg}  {eta}")),
        None => ProgressBar::new_spinner().with_style(style("{spinner} {msg}")),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates above are valid")
}
