//! Real nodes under load, while they are killed, paused, restarted and cut off from one another, and a judge of what clients were shown:
//! every acknowledged write is there, nothing took effect twice, the history of every key is linearizable, all partitions get their
//! copies back, and everybody is answered again.
//!
//! A seed says which faults come and what is asked for; when the machine does what, it does not say.

mod clock;
mod dialler;
mod fault;
mod grid;
mod judge;
mod links;
mod load;
mod node;
mod record;
mod schedule;
mod upload;
mod violation;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use wattle_simulation::Random;
use wattle_simulation::linearizability::Action;

use clock::Clock;
use grid::{Grid, panicked};
use links::Links;
use load::{Load, Maps};
use record::{Key, Records, Told};
pub use schedule::Gap;
use upload::Uploads;
pub use violation::Violation;

/// Of whoever prepares the grid and reads everything at the end.
const PATIENCE: Duration = Duration::from_secs(30);
const READERS: usize = 8;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program `wattle`.
    pub node: PathBuf,
    /// The module of the example `counter`.
    pub counter: Bytes,
    /// How many nodes.
    pub nodes: usize,
    /// For how long faults come.
    pub time: Duration,
    /// Says which.
    pub seed: u64,
}

/// What has become of it.
#[derive(Debug)]
pub struct Report {
    /// What must not be.
    pub violations: Vec<Violation>,
    /// Of each fault.
    pub gaps: Vec<Gap>,
    /// Operations that were answered, and that are in doubt.
    pub shown: u64,
    /// See `shown`.
    pub in_doubt: u64,
    /// Operations that certainly did nothing, by the reason.
    pub nothing: BTreeMap<String, u64>,
    /// Keys whose histories were judged.
    pub keys: usize,
    /// Versions of the function.
    pub uploads: usize,
    /// The logs of the nodes and histories; it is removed if all is well.
    pub folder: PathBuf,
}

/// Does it. What happens is printed as it happens.
pub async fn run(plan: &Plan) -> Report {
    let name = format!("wattle-chaos-{}-{}", plan.seed, std::process::id());
    let mut report = Report {
        violations: Vec::new(),
        gaps: Vec::new(),
        shown: 0,
        in_doubt: 0,
        nothing: BTreeMap::new(),
        keys: 0,
        uploads: 0,
        folder: std::env::temp_dir().join(name),
    };
    if let Err(violation) = run_in(plan, &mut report).await {
        report.violations.push(violation);
    }
    if report.violations.is_empty()
        && let Err(error) = fs::remove_dir_all(&report.folder)
    {
        report.violations.push(Violation::System(error));
    }
    report
}

async fn run_in(plan: &Plan, report: &mut Report) -> Result<(), Violation> {
    fs::create_dir_all(&report.folder).map_err(Violation::System)?;
    let (clock, mut random) = (Clock::start(), Random::new(plan.seed));
    let links = Links::new(plan.nodes, random.fork());
    let mut grid = Grid::start(plan.nodes, (&plan.node, &report.folder), links).await?;
    let client = grid.client(0, PATIENCE);
    let refused = |error| Violation::NotPrepared(Box::new(error));
    Maps::create(&client).await.map_err(refused)?;
    let uploads = Uploads::start(client, plan.counter.clone(), clock).await.map_err(refused)?;
    let load = Load::start(&grid, clock, &mut random);
    let faults = schedule::run(&mut grid, &load, (clock, plan.time), &mut random).await;
    let faults = match faults {
        // Everybody is answered again.
        Ok(gaps) => load.progress().await.map(|()| gaps),
        Err(violation) => Err(violation),
    };
    let (uploads, mut records) = (uploads.stop().await, load.stop().await);
    match faults {
        Ok(gaps) => {
            report.gaps = gaps;
            report.violations.extend(read_back(&mut grid, &mut records, (clock, &mut random)).await);
        }
        Err(violation) => report.violations.push(violation),
    }
    for (node, log) in grid.logs() {
        report.violations.extend(panicked(&log).map(|line| Violation::NodePanicked { node, line }));
    }
    drop(grid);
    report.violations.extend(upload::judge(&records.runs, &uploads));
    report.violations.extend(judge::histories(&mut records, &report.folder));
    (report.shown, report.in_doubt) = (records.shown, records.in_doubt);
    (report.keys, report.uploads) = (records.operations.len(), uploads.len());
    report.nothing = records.nothing;
    Ok(())
}

/// Reads every key; and once more from what is left when a node is dead.
async fn read_back(
    grid: &mut Grid,
    records: &mut Records,
    (clock, random): (Clock, &mut Random),
) -> Vec<Violation> {
    let mut violations = read_all(grid, records, clock).await;
    let node = random.below(grid.len());
    println!("{:>7.1} s  kill node {node}, and read everything from the others", clock.seconds());
    violations.extend(grid.node(node).kill().await.err());
    violations.extend(read_all(grid, records, clock).await);
    violations
}

async fn read_all(grid: &Grid, records: &mut Records, clock: Clock) -> Vec<Violation> {
    let keys: Vec<Key> = records.kept().collect();
    let mut readers = JoinSet::new();
    for (number, keys) in keys.chunks(keys.len().div_ceil(READERS).max(1)).enumerate() {
        readers.spawn(read(Maps::new(&grid.client(number, PATIENCE)), keys.to_vec(), clock));
    }
    let mut violations = Vec::new();
    while let Some(read) = readers.join_next().await {
        let (read, failed) = read.expect("a reader does not panic");
        records.append(read);
        violations.extend(failed);
    }
    violations
}

async fn read(maps: Maps, keys: Vec<Key>, clock: Clock) -> (Records, Vec<Violation>) {
    let (mut records, mut violations) = (Records::default(), Vec::new());
    for key in keys {
        let asked = clock.now();
        match load::ask(&maps, key, Action::Get).await {
            Ok(shown) => records.note(key, Action::Get, asked, (clock.now(), Told::Shown(shown))),
            Err(error) => {
                violations.push(Violation::Unreadable { key: key.to_string(), error: Box::new(error) })
            }
        }
    }
    (records, violations)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { violations, gaps, shown, in_doubt, nothing, keys, uploads, folder } = self;
        let done_nothing: u64 = nothing.values().sum();
        writeln!(
            f,
            "{} operations: {shown} answered, {in_doubt} in doubt, {done_nothing} not applied {nothing:?}",
            shown + in_doubt + done_nothing
        )?;
        let longest = gaps.iter().map(|gap| gap.longest).max().unwrap_or_default();
        writeln!(
            f,
            "{keys} keys, {uploads} versions of a function, {} faults; at most {:.2} s without an acknowledged write to a hot key",
            gaps.len(),
            longest.as_secs_f64()
        )?;
        if violations.is_empty() {
            return f.write_str(
                "nothing was lost, nothing took effect twice, every key's history is linearizable",
            );
        }
        for violation in violations {
            writeln!(f, "VIOLATION {violation}")?;
        }
        write!(f, "the logs of the nodes are in {}", folder.display())
    }
}
