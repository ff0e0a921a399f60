//! What it takes to share entries with a node that joins, and what who uses them meanwhile notices. Between two rounds the node drains
//! and leaves again.

use super::sent::{self, Sent};
use super::{Grid, NODES};
use crate::bench::options::Options;
use crate::bench::report::Report;
use crate::bench::wattle::{Figures, Load, Running};
use crate::bench::{Operation, cpu, median, work};
use crate::failure::Failure;
use std::path::Path;
use std::time::{Duration, Instant};

/// As many take a while.
const ROUNDS: usize = 3;
const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 1000;
/// Reads in flight, and as many writes.
const IN_FLIGHT: u32 = 8;
/// How long they go on before the node joins.
const BEFORE: Duration = Duration::from_secs(5);
/// Longer than any round: the load is ended with it.
const LONGEST: Duration = Duration::from_secs(3600);
const MEGABYTE: f64 = 1e6;

#[derive(Debug)]
struct Round {
    took: Duration,
    sent: Sent,
    before: Foreground<Figures>,
    during: Foreground<Figures>,
}

/// Of gets, and of puts at the same time.
#[derive(Debug)]
struct Foreground<T> {
    gets: T,
    puts: T,
}

impl Foreground<Running> {
    fn begin(grid: &Grid, keys: u64, duration: Duration) -> Result<Self, Failure> {
        let begin = |operation| load(operation, keys, duration).begin(grid.first());
        Ok(Self { gets: begin(Operation::Get)?, puts: begin(Operation::Put)? })
    }

    fn finish(self) -> Result<Foreground<Figures>, Failure> {
        Ok(Foreground { gets: self.gets.finish()?, puts: self.puts.finish()? })
    }

    fn interrupt(self) -> Result<Foreground<Figures>, Failure> {
        Ok(Foreground { gets: self.gets.interrupt()?, puts: self.puts.interrupt()? })
    }
}

pub(in crate::bench) fn run(binary: &Path, options: &Options, report: &mut Report) -> Result<(), Failure> {
    let keys = (options.rebalanced_bytes / (KEY_BYTES + VALUE_BYTES) as u64).max(1);
    let mut grid = Grid::start(binary, NODES)?;
    println!("writing {keys} entries");
    load(Operation::Put, keys, Duration::from_secs(1)).run(grid.first())?;
    let mut rounds = Vec::new();
    let count = options.rounds.min(ROUNDS);
    for round in 1..=count {
        println!("a fourth node: round {round} of {count}");
        rounds.push(join(&mut grid, keys)?);
        if round < count {
            leave(&mut grid)?;
        }
    }
    let size = options.rebalanced_bytes as f64 / MEGABYTE;
    report.title("a fourth node joins");
    report.line(format!(
        "{size:.0} MB of keys and values on {NODES} nodes, one backup, {IN_FLIGHT} gets and {IN_FLIGHT} puts in flight; \
         median of {count} rounds [least–most]"
    ));
    tell(report, &rounds);
    tell_memory(report, &grid)
}

fn load(operation: Operation, keys: u64, duration: Duration) -> Load {
    let work = work(operation, 1, IN_FLIGHT, 0);
    Load { work, keys, value_bytes: VALUE_BYTES, duration, more: Vec::new() }
}

fn join(grid: &mut Grid, keys: u64) -> Result<Round, Failure> {
    let before = Foreground::begin(grid, keys, BEFORE)?.finish()?;
    let foreground = Foreground::begin(grid, keys, LONGEST)?;
    let sent = sent::by(&grid.nodes)?;
    let start = Instant::now();
    grid.join()?;
    grid.settle()?;
    let took = start.elapsed();
    let sent = sent::by(&grid.nodes)? - sent;
    let during = foreground.interrupt()?;
    Ok(Round { took, sent, before, during })
}

/// The node that has joined last leaves, and the others take what it holds.
fn leave(grid: &mut Grid) -> Result<(), Failure> {
    let Some(last) = grid.nodes.pop() else { return Ok(()) };
    let member = grid.member(&last)?;
    println!("  node {} leaves", member.node);
    grid.first().ask(&["grid", "drain", &member.node.to_string()])?;
    grid.settle()
}

fn tell(report: &mut Report, rounds: &[Round]) {
    let mut line = |what: &str, unit: &str, pick: &dyn Fn(&Round) -> f64| {
        let figures: Vec<f64> = rounds.iter().map(pick).collect();
        let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        report.line(format!("{what:<44} {:>9.1} {unit:<3} [{least:.1}–{most:.1}]", median(figures)));
    };
    line("until all copies are where they should be", "s", &|round| round.took.as_secs_f64());
    line("sent to bring copies in sync", "MB", &|round| round.sent.copying / MEGABYTE);
    line("sent between nodes in all", "MB", &|round| round.sent.all / MEGABYTE);
    line("p99 of gets before", "ms", &|round| round.before.gets.sample.p99_us / 1000.0);
    line("p99 of gets meanwhile", "ms", &|round| round.during.gets.sample.p99_us / 1000.0);
    line("p99 of puts before", "ms", &|round| round.before.puts.sample.p99_us / 1000.0);
    line("p99 of puts meanwhile", "ms", &|round| round.during.puts.sample.p99_us / 1000.0);
    line("gets and puts before", "k/s", &|round| per_second(&round.before) / 1000.0);
    line("gets and puts meanwhile", "k/s", &|round| per_second(&round.during) / 1000.0);
    let longest = |round: &Round| round.during.gets.longest.max(round.during.puts.longest);
    line("the longest get or put meanwhile", "ms", &|round| longest(round).as_secs_f64() * 1000.0);
}

fn per_second(figures: &Foreground<Figures>) -> f64 {
    figures.gets.sample.per_second + figures.puts.sample.per_second
}

fn tell_memory(report: &mut Report, grid: &Grid) -> Result<(), Failure> {
    const MEBIBYTE: f64 = (1 << 20) as f64;
    report.title("memory of each node after that");
    report.line(format!("{:<8} {:>13} {:>14} {:>7}", "node", "resident MiB", "partitions MiB", "ratio"));
    for node in &grid.nodes {
        let member = grid.member(node)?;
        let resident = cpu::resident_bytes(node.pid())? as f64;
        let held = member.bytes_held.unwrap_or(f64::NAN);
        report.line(format!(
            "{:<8} {:>13.1} {:>14.1} {:>7.2}",
            member.node,
            resident / MEBIBYTE,
            held / MEBIBYTE,
            resident / held
        ));
    }
    Ok(())
}
