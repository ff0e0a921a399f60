//! The part of the demo that is about several nodes: how they find one another, and what is left when one dies under load.

use crate::demo::Demo;
use crate::failure::Failure;
use crate::grid::settle;
use crate::node::Node;
use crate::steps::seconds;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The map that is written to while a node dies.
const MAP: &str = "load";
/// Writes before and after the node dies.
const LOAD: Duration = Duration::from_secs(2);

/// What was written while a node died.
#[derive(Debug, Default)]
struct Written {
    acknowledged: u64,
    /// The longest time between two acknowledgements.
    gap: Duration,
}

/// Writes one entry after the other until it is told to stop.
#[derive(Debug)]
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Written, Failure>>,
}

impl Load {
    fn begin(node: &Node) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, client) = (Arc::clone(&stop), node.caller());
        let write = move || {
            let mut written = Written::default();
            let mut last = Instant::now();
            while !told.load(Ordering::Relaxed) {
                client.ask(&["map", "put", MAP, &format!("k{}", written.acknowledged), "1"])?;
                written.acknowledged += 1;
                written.gap = written.gap.max(last.elapsed());
                last = Instant::now();
            }
            Ok(written)
        };
        Self { stop, thread: std::thread::spawn(write) }
    }

    fn end(self) -> Result<Written, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Failure::LoadPanicked)?
    }
}

impl Demo {
    /// Waits until the three nodes share all copies between them, and says now and then how far they are.
    pub(super) fn settle(&self) -> Result<(), Failure> {
        settle(&self.node.caller(), 3, |time, state| println!("   {:>6}  {state}", seconds(time)))
    }

    /// Kills the node that leads, while entries are written.
    pub(super) fn kill_one(&mut self) -> Result<(), Failure> {
        self.story.chapter(
            "Kill a node",
            "The one that leads, without a word, while entries are written one after the other through another node.\n\
             Every write that was acknowledged is on two nodes: the backups take over.",
        );
        let load = Load::begin(&self.node);
        std::thread::sleep(LOAD);
        if let Some(victim) = self.others.pop_front() {
            self.story.command(&format!("kill -9 {}", victim.pid()));
            victim.kill();
        }
        std::thread::sleep(2 * LOAD);
        let written = load.end()?;
        self.story.took("the longest time between two acknowledged writes", written.gap);
        let size = self.ask(&["map", "size", MAP])?;
        let entries = size.first().and_then(|size| size.get("entries")?.number()).unwrap_or_default();
        self.story.check(
            "acknowledged writes that are there",
            &written.acknowledged.to_string(),
            &entries.to_string(),
        );
        let classes = self.expected.versions[0].classes.clone();
        let stored = super::tally(self.stored()?.iter());
        self.story.check("what the flights say now", &classes, &stored);
        Ok(())
    }

    /// Another comes, and gets its share.
    pub(super) fn add_one(&mut self) -> Result<(), Failure> {
        self.story.chapter("Start another node", "It gets its share while the others go on serving.");
        self.story.command("wattle serve --join HOST:PORT");
        let binary = self.node.binary().to_owned();
        self.others.push_back(Node::join(&binary, &self.node)?);
        self.settle()?;
        self.tell(&["grid", "members"])?;
        let classes = self.expected.versions[0].classes.clone();
        let stored = super::tally(self.stored()?.iter());
        self.story.check("what the flights say now", &classes, &stored);
        Ok(())
    }
}
