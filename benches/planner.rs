//! Where the copies of a large grid should be: what its leader works out when nodes join or go.

use std::hint::black_box;

use wattle_benches::{nanoseconds_each, rounds, tell};
use wattle_core::ids::NodeId;
use wattle_core::partition::{Site, plan};

const PARTITIONS: usize = 4096;
const NODES: u64 = 500;
const COPIES: usize = 2;
const ZONES: u32 = 3;

fn main() {
    println!("figure: {PARTITIONS} partitions of {COPIES} copies on {NODES} nodes in {ZONES} zones");
    let all = sites(0..NODES);
    let nothing = vec![Vec::new(); PARTITIONS];
    let today = plan(&all, COPIES, &nothing);
    for (name, sites, today) in [
        ("plan of a grid that begins", &all, &nothing),
        ("plan as a node joins", &sites(0..NODES + 1), &today),
        ("plan as a node goes", &sites(1..NODES), &today),
        ("plan that changes nothing", &all, &today),
    ] {
        let milliseconds = |_| nanoseconds_each(1, || drop(black_box(plan(sites, COPIES, today)))) / 1e6;
        tell(name, rounds(milliseconds), ("ms", "-"));
    }
}

fn sites(nodes: std::ops::Range<u64>) -> Vec<Site> {
    let zone = |node: u64| u32::try_from(node).expect("few nodes") % ZONES;
    nodes.map(|node| Site { node: NodeId(node), zone: Some(zone(node)) }).collect()
}
