//! `wattle-chaos --node PROGRAM --counter MODULE [--minutes N] [--seed S] [--nodes N]`: real nodes under load and faults.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wattle_chaos::Plan;

const USAGE: &str =
    "usage: wattle-chaos --node PROGRAM --counter MODULE [--minutes N] [--seed S] [--nodes N, from 3 to 9]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(plan) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the system gives no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("seed {}, {} nodes, {:?} of faults", plan.seed, plan.nodes, plan.time);
    let report = runtime.block_on(wattle_chaos::run(&plan));
    println!("{report}");
    if report.violations.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("the same faults again: cargo xtask chaos --seed {} --nodes {}", plan.seed, plan.nodes);
    ExitCode::FAILURE
}

fn parse(arguments: &[String]) -> Option<Plan> {
    let (mut node, mut counter, mut minutes, mut nodes) = (None, None, 1.0, 3);
    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { return None };
        match name.as_str() {
            "--node" => node = Some(PathBuf::from(value)),
            "--counter" => counter = Some(std::fs::read(value).ok()?),
            "--minutes" => minutes = value.parse().ok()?,
            "--seed" => seed = value.parse().ok()?,
            "--nodes" => nodes = value.parse().ok().filter(|nodes| (3..=9).contains(nodes))?,
            _ => return None,
        }
    }
    let time = Duration::try_from_secs_f64(minutes * 60.0).ok()?;
    Some(Plan { node: node?, counter: counter?.into(), nodes, time, seed })
}
