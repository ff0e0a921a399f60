//! `cargo xtask demo`: Wattle in two minutes, on real data, with every figure checked.
//!
//! It uses the command line as a user would, on a grid of its own that ends with it (`--keep` leaves it running).

mod expected;
mod grid;
mod story;

use crate::failure::Failure;
use crate::guests;
use crate::json::Json;
use crate::node::{self, Node, typed};
use crate::prerequisites;
pub(crate) use expected::Expected;
use expected::{Summary, in_one_line};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Instant;
use story::Story;

const DATA: &str = "examples/data/flights-2013-01.csv.gz";
const MAP: &str = "flights";
const FUNCTION: &str = "flight-delay";
const VERSION_1: &str = "example-flight-delay";
const VERSION_2: &str = "example-flight-delay-v2";

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Leave the nodes running at the end.
    pub(crate) keep: bool,
    /// The quickly built node, not the fast one: what the tests have built already.
    pub(crate) dev: bool,
}

impl Options {
    pub(crate) fn parse(words: &[&str]) -> Result<Self, Failure> {
        let mut options = Self::default();
        for word in words {
            match *word {
                "--keep" => options.keep = true,
                "--dev" => options.dev = true,
                word => return Err(Failure::Usage { word: word.to_owned() }),
            }
        }
        Ok(options)
    }
}

struct Demo {
    /// The node that is asked.
    node: Node,
    /// The first of them leads.
    others: VecDeque<Node>,
    story: Story,
    expected: Expected,
}

pub(crate) fn run_all(options: Options) -> Result<(), Failure> {
    println!("Wattle keeps maps of entries in memory, and runs functions that you upload right beside them.");
    let mut story = Story::begin();
    let binary = build(options, &mut story)?;
    story.restart_clock();
    story.chapter(
        "Start three nodes",
        "One program is a complete grid by itself. Others join it. These have temporary data directories.",
    );
    story.command("wattle serve --data-dir DIR");
    let first = Node::start(&binary)?;
    story.took(&format!("it answers at {} after", first.endpoint()), first.started_in);
    story.command("wattle serve --data-dir DIR --join HOST:PORT");
    story.command("wattle serve --data-dir DIR --join HOST:PORT");
    let (node, third) = (Node::join(&binary, &first)?, Node::join(&binary, &first)?);
    let others = VecDeque::from([first, third]);
    let mut demo = Demo { node, others, story, expected: Expected::read()? };
    demo.settle()?;
    demo.import()?;
    demo.upload(
        VERSION_1,
        "Upload a function",
        "It is a Rust function of a few lines (examples/flight-delay), compiled to WebAssembly. The grid checks it and\n\
         compiles it to machine code; it can touch nothing but the entry that it is called for.",
    )?;
    demo.run_on_all(
        0,
        "Run it on every flight",
        "The code goes to the data: no flight leaves its node to be changed.",
    )?;
    demo.read_back(0)?;
    demo.kill_one()?;
    demo.add_one()?;
    demo.upload(
        VERSION_2,
        "Replace it while the grid runs",
        "Version 2 (examples/flight-delay-v2) has another idea of being late. No restart: the name flips to the new code.",
    )?;
    demo.run_on_all(1, "Run it again", "The same call, the new rule.")?;
    demo.read_back(1)?;
    demo.roll_back()?;
    demo.run_on_all(0, "Run it once more", "The same call again: the first rule's figures are back.")?;
    demo.end(options)
}

fn build(options: Options, story: &mut Story) -> Result<PathBuf, Failure> {
    story.chapter(
        "Build the node and two versions of a function",
        "The first build takes some minutes: the node contains the compiler of the functions that you upload.",
    );
    let start = Instant::now();
    prerequisites::guest_target()?;
    guests::build_rust(&[VERSION_1.to_owned(), VERSION_2.to_owned()])?;
    let binary = node::build(options.dev)?;
    story.took("built in", start.elapsed());
    Ok(binary)
}

impl Demo {
    /// Says the command, runs it, says how long it took.
    fn tell(&self, arguments: &[&str]) -> Result<Vec<Json>, Failure> {
        self.story.command(&typed(arguments));
        let start = Instant::now();
        let answers = self.ask(arguments)?;
        self.story.took("done in", start.elapsed());
        Ok(answers)
    }

    /// What a command prints: one value on each line.
    fn ask(&self, arguments: &[&str]) -> Result<Vec<Json>, Failure> {
        self.node.caller().values(arguments)
    }

    fn import(&mut self) -> Result<(), Failure> {
        self.story.chapter(
            "Load real data",
            "The flights that left New York in January 2013. Each row becomes an entry: a JSON object under a key.",
        );
        let key = "time_hour,carrier,flight";
        self.tell(&["map", "import", MAP, DATA, "--key", key, "--null", "NA", "--null="])?;
        let flights = self.stored()?;
        let sum =
            |column: &str| flights.iter().filter_map(|flight| flight.get(column)?.number()).sum::<f64>();
        let unnumbered = flights.iter().filter(|flight| flight.get("tailnum") == Some(&Json::Null)).count();
        let expected = &self.expected;
        self.story.check("flights in the map", &expected.rows, &flights.len().to_string());
        self.story.check("miles flown by all of them", &expected.miles, &sum("distance").to_string());
        self.story.check(
            "flights without a tail number",
            &expected.without_tail_number,
            &unnumbered.to_string(),
        );
        Ok(())
    }

    fn upload(&mut self, package: &str, title: &str, text: &str) -> Result<(), Failure> {
        self.story.chapter(title, text);
        let module = guests::module(package);
        self.tell(&["function", "upload", FUNCTION, &module.to_string_lossy()])?;
        Ok(())
    }

    fn run_on_all(&mut self, version: usize, title: &str, text: &str) -> Result<(), Failure> {
        self.story.chapter(title, text);
        let answer = self.tell(&["invoke", FUNCTION, "--map", MAP, "--all", "--responses"])?;
        let Summary { classes, minutes } = self.expected.versions[version].clone();
        let (answered, late) = answers(&answer);
        self.story.check("what the function answered", &classes, &answered);
        self.story.check("minutes of delay in all answers", &minutes, &late);
        let stored = tally(self.stored()?.iter());
        self.story.check("what the entries say now", &classes, &stored);
        Ok(())
    }

    fn read_back(&mut self, version: usize) -> Result<(), Failure> {
        self.story.chapter("Look at single flights", "Anyone can read what the function wrote, by key.");
        for index in 0..self.expected.samples.len() {
            let key = self.expected.samples[index].key.clone();
            let entry = self.ask(&["map", "get", MAP, &key])?;
            let class = entry.first().and_then(|entry| entry.get("value")?.get("delay")?.text());
            let expected = &self.expected.samples[index].classes[version];
            self.story.check(&typed(&["map", "get", MAP, &key]), expected, class.unwrap_or("no class"));
        }
        Ok(())
    }

    fn roll_back(&mut self) -> Result<(), Failure> {
        self.story.chapter("Roll back", "The old code is still there: one command, at once.");
        self.tell(&["function", "rollback", FUNCTION])?;
        Ok(())
    }

    /// Every value in the map, by way of a file as a user would export it.
    fn stored(&self) -> Result<Vec<Json>, Failure> {
        let path = self.node.folder().join("export.ndjson");
        self.node.ask(&["map", "export", MAP, &path.to_string_lossy()])?;
        let text = std::fs::read_to_string(&path).map_err(Failure::file(&path))?;
        std::fs::remove_file(&path).map_err(Failure::file(&path))?;
        let values = text.lines().map(|line| Json::parse(line).ok()?.get("value").cloned());
        values.collect::<Option<Vec<Json>>>().ok_or(Failure::Unreadable { path, text: first_line(&text) })
    }

    fn end(self, options: Options) -> Result<(), Failure> {
        let Self { node, others, story, .. } = self;
        story.end()?;
        if options.keep {
            let nodes: Vec<&Node> = std::iter::once(&node).chain(&others).collect();
            let pids: Vec<String> = nodes.iter().map(|node| node.pid().to_string()).collect();
            let folders: Vec<String> = nodes.iter().map(|node| node.folder().display().to_string()).collect();
            println!("\nThe grid goes on at {} (processes {}).", node.endpoint(), pids.join(" "));
            println!("  use it:  export WATTLE_ENDPOINT={}", node.endpoint());
            println!("           {} map get {MAP} 2013-01-01T10:00:00Z,AA,1141", node.binary().display());
            println!("  its log: {}", node.log().display());
            println!("  stop it: kill {} && rm -r {}", pids.join(" "), folders.join(" "));
            node.keep();
            others.into_iter().for_each(Node::keep);
        }
        Ok(())
    }
}

/// The answers of all entries: how many there are of each class, and the sum of their minutes.
fn answers(printed: &[Json]) -> (String, String) {
    let responses: Vec<&Json> = printed.iter().filter_map(|line| line.get("response")).collect();
    let minutes: f64 = responses.iter().filter_map(|response| response.get("minutes")?.number()).sum();
    (tally(responses.into_iter()), minutes.to_string())
}

/// How many objects have each class in their field `delay`.
fn tally<'a>(objects: impl Iterator<Item = &'a Json>) -> String {
    let mut counts = BTreeMap::new();
    for object in objects {
        let class = object.get("delay").and_then(Json::text).unwrap_or("no class");
        *counts.entry(class.to_owned()).or_insert(0.0) += 1.0;
    }
    in_one_line(counts)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_and_added_up() {
        let printed = [
            r#"{"key": "a", "response": {"delay": "late", "minutes": 20}}"#,
            r#"{"key": "b", "response": {"delay": "on-time", "minutes": 3}}"#,
            r#"{"key": "c", "response": {"delay": "late", "minutes": 40}}"#,
            r#"{"processed": 3, "failed": 0}"#,
        ];
        let printed = printed.map(|line| Json::parse(line).expect("valid"));
        assert_eq!(answers(&printed), ("late 2, on-time 1".to_owned(), "63".to_owned()));
    }

    #[test]
    fn unknown_options_are_refused() {
        assert!(Options::parse(&["--keep"]).is_ok_and(|options| options.keep && !options.dev));
        assert!(matches!(Options::parse(&["--kep"]), Err(Failure::Usage { .. })));
    }
}
