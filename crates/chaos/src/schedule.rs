//! One fault after the other, each when the grid is at rest again from the one before: two copies promise that one node may die at
//! a time, not two.

use std::time::{Duration, Instant};

use wattle_core::partition::partition_of;
use wattle_simulation::Random;

use crate::clock::Clock;
use crate::fault::{Deck, Fault, Kind};
use crate::grid::{Grid, Roles};
use crate::load::{Load, MAPS};
use crate::record::Key;
use crate::violation::Violation;

/// What went on for how long without a write that was acknowledged.
#[derive(Debug, Clone)]
pub struct Gap {
    /// The fault, or the faults.
    pub fault: String,
    /// The longest time without an acknowledged write to one of the hot keys.
    pub longest: Duration,
}

/// Runs faults until the time is up; returns when the grid is at rest from the last.
pub(crate) async fn run(
    grid: &mut Grid,
    load: &Load,
    (clock, time): (Clock, Duration),
    random: &mut Random,
) -> Result<Vec<Gap>, Violation> {
    let mut deck = Deck::new(random.fork());
    let mut gaps = Vec::new();
    let mut roles = grid.settled().await?;
    let first = Instant::now();
    while first.elapsed() < time {
        let round = load.begin_round();
        // So that there is something to lose.
        load.progress().await?;
        let faults = deck.draw();
        let partition = busy_partition(round, &roles);
        let said: Vec<String> =
            faults.iter().map(|fault| said(*fault, grid.len(), (&roles, partition))).collect();
        let fault = said.join(", and ");
        println!("{:>7.1} s  {fault}", clock.seconds());
        let happened = Instant::now();
        happen(grid, load, &faults, (&roles, partition)).await?;
        roles = grid.settled().await?;
        let longest = load.longest_gap();
        println!(
            "{:>7.1} s    at rest after {:.1} s; {:.2} s without an acknowledged write",
            clock.seconds(),
            happened.elapsed().as_secs_f64(),
            longest.as_secs_f64(),
        );
        gaps.push(Gap { fault, longest });
    }
    Ok(gaps)
}

/// Where one of the round's hot keys lies, among the partitions of all classes. Every round it is one of another map.
fn busy_partition(round: u64, roles: &Roles) -> usize {
    let class = u16::try_from(round % MAPS.len() as u64).expect("there are few maps");
    let key = Key { round, place: class }.to_string();
    let partitions = roles.copies.len() / MAPS.len();
    let of_class = u16::try_from(partitions).expect("a class has fewer");
    usize::from(class) * partitions + usize::from(partition_of(key.as_bytes(), of_class))
}

/// With who is hit.
fn said(fault: Fault, nodes: usize, (roles, partition): (&Roles, usize)) -> String {
    match fault.kind {
        Kind::Kill(role) | Kind::Pause(role) => format!("{fault}: node {}", role.node(roles, partition)),
        Kind::Link(_, shape) => {
            let pairs = shape.pairs(nodes, |role| role.node(roles, partition));
            let pairs: Vec<String> = pairs.iter().map(|(from, to)| format!("{from} to {to}")).collect();
            format!("{fault}: {}", pairs.join(", "))
        }
        Kind::KillAll | Kind::RollingRestart => fault.to_string(),
    }
}

/// Lets all of them happen, and takes them back.
async fn happen(
    grid: &mut Grid,
    load: &Load,
    faults: &[Fault],
    (roles, partition): (&Roles, usize),
) -> Result<(), Violation> {
    for fault in faults {
        match fault.kind {
            Kind::Kill(role) => grid.node(role.node(roles, partition)).kill().await?,
            Kind::KillAll => {
                load.lose_all();
                for node in 0..grid.len() {
                    grid.node(node).kill().await?;
                }
            }
            Kind::Pause(role) => grid.node(role.node(roles, partition)).pause()?,
            Kind::Link(way, shape) => {
                let pairs = shape.pairs(grid.len(), |role| role.node(roles, partition));
                grid.links.set(&pairs, way);
            }
            Kind::RollingRestart => restart_all(grid).await?,
        }
    }
    tokio::time::sleep(faults.iter().map(|fault| fault.time).max().unwrap_or_default()).await;
    grid.links.heal();
    for fault in faults {
        match fault.kind {
            Kind::Kill(role) => grid.start_node(role.node(roles, partition)).await?,
            Kind::KillAll => grid.start_together().await?,
            Kind::Pause(role) => grid.node(role.node(roles, partition)).resume()?,
            Kind::Link(..) | Kind::RollingRestart => {}
        }
    }
    Ok(())
}

async fn restart_all(grid: &mut Grid) -> Result<(), Violation> {
    for node in 0..grid.len() {
        grid.node(node).stop().await?;
        grid.start_node(node).await?;
        grid.settled().await?;
    }
    Ok(())
}
