//! What backups cost: writes of maps with none, one and two of them on three nodes, by turns with the same on a single node.

use super::{Grid, NODES};
use crate::bench::options::Options;
use crate::bench::report::{Report, middle};
use crate::bench::{Operation, Sample, VALUE_BYTES, WORKS, Work, wattle};
use crate::failure::Failure;
use std::path::Path;

/// How much more a put with one backup may cost than one with none.
const MOST: f64 = 2.0;
/// Operations of a message, at most: more of them tell of memory, not of backups.
const DEPTH: u32 = 16;

/// Where entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    OneNode,
    Nodes { backups: u32 },
}

impl Place {
    fn name(self) -> String {
        match self {
            Self::OneNode => "one node".to_owned(),
            Self::Nodes { backups: 1 } => format!("{NODES} nodes, 1 backup"),
            Self::Nodes { backups } => format!("{NODES} nodes, {backups} backups"),
        }
    }

    fn map(self, operation: Operation) -> String {
        let kind = if operation == Operation::Invoke { "counters" } else { "values" };
        match self {
            Self::OneNode => kind.to_owned(),
            Self::Nodes { backups } => format!("{kind}-{backups}"),
        }
    }

    fn create_maps(self, grid: &Grid) -> Result<(), Failure> {
        for operation in [Operation::Put, Operation::Invoke] {
            let map = self.map(operation);
            let backups = match self {
                // What a map has by default, and a single node cannot have.
                Self::OneNode | Self::Nodes { backups: 1 } => Vec::new(),
                Self::Nodes { backups } => vec!["--backups".to_owned(), backups.to_string()],
            };
            let mut create = vec!["map", "create", &map];
            create.extend(backups.iter().map(String::as_str));
            grid.first().ask(&create)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Row {
    work: Work,
    place: Place,
    samples: Vec<Sample>,
}

pub(in crate::bench) fn run(binary: &Path, options: &Options, report: &mut Report) -> Result<(), Failure> {
    let (one, several) = (Grid::start(binary, 1)?, Grid::start(binary, NODES)?);
    let grid = |place| if place == Place::OneNode { &one } else { &several };
    let backups = options.backups.iter().map(|&backups| Place::Nodes { backups });
    let places: Vec<Place> = std::iter::once(Place::OneNode).chain(backups).collect();
    for place in &places {
        place.create_maps(grid(*place))?;
    }
    for grid in [&one, &several] {
        wattle::prepare(grid.first())?;
        grid.settle()?;
    }
    let works = WORKS.iter().filter(|work| work.operation != Operation::Get && work.depth <= DEPTH);
    let mut rows: Vec<Row> = works
        .flat_map(|&work| places.iter().map(move |&place| Row { work, place, samples: Vec::new() }))
        .collect();
    for round in 1..=options.rounds {
        println!("writes with and without backups: round {round} of {}", options.rounds);
        for row in &mut rows {
            let grid = grid(row.place);
            let load = row.work.load(options.keys).with("--map", &row.place.map(row.work.operation));
            row.samples.push(load.with("--server-pid", &grid.pids()).run(grid.first())?.sample);
        }
    }
    tell(report, options, &rows);
    Ok(())
}

fn tell(report: &mut Report, options: &Options, rows: &[Row]) {
    report.title("writes with backups");
    report.line(format!(
        "{} keys, uniformly random, {VALUE_BYTES}-byte values, median of {} rounds; CPU time is that of all nodes",
        options.keys, options.rounds
    ));
    report.line(format!(
        "{:<22} {:<20} {:>9} {:>9} {:>9} {:>9} {:>12} {:>12} {:>10}",
        "work", "where", "k/s", "p50 µs", "p99 µs", "p99.9 µs", "nodes µs/op", "client µs/op", "× one node"
    ));
    for row in rows {
        let Some(sample) = middle(&row.samples) else { continue };
        let alone = figures(rows, row.work, Place::OneNode);
        let ratio = alone.map_or(f64::NAN, |alone| sample.per_second / alone.per_second);
        let optional = |value: Option<f64>, digits: usize| {
            value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
        };
        report.line(format!(
            "{:<22} {:<20} {:>9.1} {:>9.0} {:>9.0} {:>9} {:>12} {:>12} {ratio:>10.2}",
            row.work.name(),
            row.place.name(),
            sample.per_second / 1000.0,
            sample.p50_us,
            sample.p99_us,
            optional(sample.p999_us, 0),
            optional(sample.server_us, 2),
            optional(sample.client_us, 2),
        ));
    }
    for verdict in verdicts(rows) {
        report.line(verdict);
    }
}

fn figures(rows: &[Row], work: Work, place: Place) -> Option<Sample> {
    let row = rows.iter().find(|row| row.work.name() == work.name() && row.place == place)?;
    middle(&row.samples)
}

/// Whether one backup costs what it may. On a machine whose cores are all at work a put costs the time between two of them.
fn verdicts(rows: &[Row]) -> Vec<String> {
    let puts = rows.iter().filter(|row| row.work.operation == Operation::Put);
    let replicated = puts.filter(|row| row.place == Place::Nodes { backups: 1 });
    let verdict = |row: &Row| {
        let without = figures(rows, row.work, Place::Nodes { backups: 0 });
        let (Some(with), Some(without)) = (middle(&row.samples), without) else {
            return format!("{}: no verdict, for maps without backups were not measured", row.work.name());
        };
        let cost = without.per_second / with.per_second;
        let cpu = with.server_us.zip(without.server_us).map(|(with, without)| with / without);
        let cpu = cpu.map_or(String::new(), |cpu| format!(" ({cpu:.2} × by the nodes' CPU time)"));
        let verdict = if cost <= MOST { "met" } else { "MISSED" };
        format!(
            "{}: one backup costs {cost:.2} × a put without any{cpu}; at most {MOST:.0}: {verdict}",
            row.work.name()
        )
    };
    replicated.map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(place: Place, per_second: f64) -> Row {
        let work = *WORKS.iter().find(|work| work.operation == Operation::Put).expect("there are puts");
        let (p50_us, p99_us, server_us) = (1.0, 2.0, Some(1e6 / per_second));
        let sample = Sample { per_second, p50_us, p99_us, p999_us: None, server_us, client_us: None };
        Row { work, place, samples: vec![sample] }
    }

    fn check(with: f64, expected: &str) {
        let rows = [
            row(Place::OneNode, 4000.0),
            row(Place::Nodes { backups: 0 }, 3000.0),
            row(Place::Nodes { backups: 1 }, with),
        ];
        assert_eq!(verdicts(&rows), [expected]);
    }

    #[test]
    fn one_backup_is_measured_by_none_on_as_many_nodes() {
        check(
            1500.0,
            "put, unary: one backup costs 2.00 × a put without any (2.00 × by the nodes' CPU time); at most 2: met",
        );
        check(
            1200.0,
            "put, unary: one backup costs 2.50 × a put without any (2.50 × by the nodes' CPU time); at most 2: MISSED",
        );
    }

    #[test]
    fn without_a_map_without_backups_there_is_no_verdict() {
        let rows = [row(Place::OneNode, 4000.0), row(Place::Nodes { backups: 1 }, 1500.0)];
        let expected = "put, unary: no verdict, for maps without backups were not measured";
        assert_eq!(verdicts(&rows), [expected]);
    }

    #[test]
    fn rows_have_the_ratio_to_one_node() {
        let mut report = Report::default();
        let options = Options::default();
        tell(&mut report, &options, &[row(Place::OneNode, 4000.0), row(Place::Nodes { backups: 2 }, 1000.0)]);
        let line = report.lines().find(|line| line.contains("2 backups")).expect("a row");
        assert!(line.starts_with("put, unary") && line.ends_with("0.25"), "{line}");
    }
}
