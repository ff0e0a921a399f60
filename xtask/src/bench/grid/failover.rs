//! How long nobody decides when a node dies without a word: from the last write of keys that it decided about to the next one.

use super::{Grid, NODES};
use crate::bench::options::Options;
use crate::bench::report::Report;
use crate::bench::wattle::{Figures, Load};
use crate::bench::{Operation, VALUE_BYTES, median, work};
use crate::failure::Failure;
use std::path::Path;
use std::time::Duration;

/// The longest that it may take.
const MOST: Duration = Duration::from_secs(3);
/// And with leases that are so short, or shorter.
const MOST_WITH_SHORT: Duration = Duration::from_secs(1);
const SHORT_MS: u64 = 500;
/// Every partition has some of them.
const KEYS: u64 = 10_000;
/// Writes in flight.
const IN_FLIGHT: u32 = 16;
/// Until the load is even.
const BEFORE: Duration = Duration::from_secs(2);
/// Of the load: it goes on until what is in flight in the end is answered.
const DURATION: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Follower,
    Leader,
}

pub(in crate::bench) fn run(binary: &Path, options: &Options, report: &mut Report) -> Result<(), Failure> {
    options.leases_ms.iter().try_for_each(|lease_ms| run_with(*lease_ms, (binary, options), report))
}

fn run_with(lease_ms: u64, (binary, options): (&Path, &Options), report: &mut Report) -> Result<(), Failure> {
    let settings = format!("lease_milliseconds = {lease_ms}\n");
    let mut grid = Grid::configured(binary, NODES, &settings)?;
    // Writes all keys once.
    load(Duration::from_secs(1)).run(grid.first())?;
    let mut gaps = [(Victim::Follower, Vec::new()), (Victim::Leader, Vec::new())];
    for round in 1..=options.rounds {
        println!("failover with leases of {lease_ms} ms: round {round} of {}", options.rounds);
        for (victim, figures) in &mut gaps {
            let found = kill(&mut grid, *victim)?;
            println!("  {victim:?}: {} ms", found.longest_gap.as_millis());
            figures.push(found);
        }
    }
    report.title(&format!("a node is killed, leases of {lease_ms} ms"));
    report.line(format!(
        "{IN_FLIGHT} writes in flight of keys that it decided about; time without an acknowledged write, and the longest \
         of all writes; {} rounds of each",
        options.rounds
    ));
    report.line(format!(
        "{:<34} {:>10} {:>9} {:>18} {:>9}  target",
        "who", "median ms", "worst ms", "longest median ms", "worst ms"
    ));
    for (victim, figures) in &gaps {
        report.line(row(*victim, figures, most(lease_ms)));
    }
    Ok(())
}

fn load(duration: Duration) -> Load {
    Load {
        work: work(Operation::Put, 1, IN_FLIGHT, 0),
        keys: KEYS,
        value_bytes: VALUE_BYTES,
        duration,
        more: Vec::new(),
    }
}

/// Kills a node under load, and puts another in its place.
fn kill(grid: &mut Grid, victim: Victim) -> Result<Figures, Failure> {
    let members = grid.members()?;
    let member = members.iter().find(|member| member.leads == (victim == Victim::Leader));
    let place = member.and_then(|member| grid.nodes.iter().position(|node| node.address() == member.address));
    let Some((member, place)) = member.zip(place) else {
        return Err(Failure::NotSettled { state: format!("there is no {victim:?} among {members:?}") });
    };
    let dying = grid.nodes.remove(place);
    let load = load(DURATION).with("--of-node", &member.node).begin(grid.first())?;
    std::thread::sleep(BEFORE);
    dying.kill();
    let figures = load.finish()?;
    grid.first().ask(&["grid", "forget", &member.node.to_string(), "--yes"])?;
    grid.join()?;
    grid.settle()?;
    Ok(figures)
}

fn most(lease_ms: u64) -> Duration {
    if lease_ms <= SHORT_MS { MOST_WITH_SHORT } else { MOST }
}

fn row(victim: Victim, figures: &[Figures], most: Duration) -> String {
    let who = match victim {
        Victim::Follower => "a node that does not lead",
        Victim::Leader => "the leader of the control group",
    };
    let figure = |pick: fn(&Figures) -> Duration| {
        let worst = figures.iter().map(pick).max().unwrap_or_default();
        let middle = median(figures.iter().map(|figures| pick(figures).as_secs_f64() * 1000.0).collect());
        (middle, worst)
    };
    let (gap, worst_gap) = figure(|figures| figures.longest_gap);
    let (longest, worst) = figure(|figures| figures.longest);
    let verdict = if worst_gap <= most { "met" } else { "MISSED" };
    format!(
        "{who:<34} {gap:>10.0} {:>9} {longest:>18.0} {:>9}  ≤ {} ms: {verdict}",
        worst_gap.as_millis(),
        worst.as_millis(),
        most.as_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Sample;

    fn figures(gap_ms: u64) -> Figures {
        let sample = Sample {
            per_second: 1.0,
            p50_us: 1.0,
            p99_us: 1.0,
            p999_us: None,
            server_us: None,
            client_us: None,
        };
        let longest_gap = Duration::from_millis(gap_ms);
        Figures { sample, longest: 2 * longest_gap, longest_gap }
    }

    #[test]
    fn the_worst_round_decides() {
        let met = row(Victim::Leader, &[figures(1000), figures(3000), figures(2000)], most(2000));
        let fields: Vec<&str> = met.split_whitespace().collect();
        assert_eq!(fields[6..], ["2000", "3000", "4000", "6000", "≤", "3000", "ms:", "met"]);
        assert!(row(Victim::Follower, &[figures(1000), figures(3001)], most(2000)).ends_with("MISSED"));
        assert!(row(Victim::Follower, &[figures(1000)], most(500)).ends_with("≤ 1000 ms: met"));
        assert!(row(Victim::Follower, &[figures(1001)], most(500)).ends_with("MISSED"));
    }
}
