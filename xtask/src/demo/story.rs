//! How the demo talks: numbered chapters in plain words, commands as one would type them, and figures that are checked.

use crate::failure::Failure;
use crate::steps::seconds;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Story {
    chapters: usize,
    start: Instant,
    right: usize,
    wrong: usize,
}

impl Story {
    pub(crate) fn begin() -> Self {
        Self { chapters: 0, start: Instant::now(), right: 0, wrong: 0 }
    }

    /// What took time so far was a build, no demo.
    pub(crate) fn restart_clock(&mut self) {
        self.start = Instant::now();
    }

    /// A heading, and under it what is about to happen and why.
    pub(crate) fn chapter(&mut self, title: &str, text: &str) {
        self.chapters += 1;
        println!("\n{}. {title}", self.chapters);
        for line in text.lines() {
            println!("   {line}");
        }
    }

    /// A command as the reader would type it.
    pub(crate) fn command(&self, command: &str) {
        println!("   $ {command}");
    }

    pub(crate) fn took(&self, what: &str, time: Duration) {
        let time =
            if time < Duration::from_secs(1) { format!("{} ms", time.as_millis()) } else { seconds(time) };
        println!("   {what}: {time}");
    }

    /// Compares a figure with the one that was computed outside Wattle.
    pub(crate) fn check(&mut self, what: &str, expected: &str, found: &str) {
        if expected == found {
            self.right += 1;
            println!("   ✓ {what}: {found}");
        } else {
            self.wrong += 1;
            println!("   ✗ {what}: {found}, but it should be {expected}");
        }
    }

    pub(crate) fn end(&self) -> Result<(), Failure> {
        let took = seconds(self.start.elapsed());
        println!("\n{} figures checked in {took}, {} of them wrong", self.right + self.wrong, self.wrong);
        match self.wrong {
            0 => Ok(()),
            count => Err(Failure::Figures { count }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_figure_fails_the_demo() {
        let mut story = Story::begin();
        story.check("flights", "3", "3");
        assert!(story.end().is_ok());
        story.check("flights", "3", "4");
        assert!(matches!(story.end(), Err(Failure::Figures { count: 1 })));
    }
}
