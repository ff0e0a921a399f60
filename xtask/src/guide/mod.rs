//! `cargo xtask guide`: the commands of `docs/kubernetes.md`, one after the other as they are written, behind the stand-in
//! for a cluster.

mod page;
mod stand_in;

use crate::command::{cargo, program, root, run, run_watched, works};
use crate::demo::Expected;
use crate::failure::Failure;
use crate::node::build_for_tests;
use crate::prerequisites;
use crate::test_log::TestLog;
use stand_in::StandIn;
use std::net::{Ipv4Addr, TcpListener};

/// What the guide forwards to this machine.
const PORTS: [u16; 3] = [7117, 7118, 7119];
/// Asks for the figure that every failure must leave as it is.
const COUNT: &str = "wattle map size ";

pub(crate) fn run_all() -> Result<(), Failure> {
    if !has_kubectl() {
        let advice = "install it (https://kubernetes.io/docs/tasks/tools/)".to_owned();
        return Err(Failure::Missing { what: "kubectl", advice });
    }
    run(&mut cargo(&["build", "--locked", "--package", "wattle", "--package", "wattle-pods"]))?;
    follow()
}

/// Where there is no kubectl, that counts as skipped.
pub(crate) fn check(log: &mut TestLog) -> Result<(), Failure> {
    if has_kubectl() {
        build_for_tests(&["wattle", "wattle-pods"])?;
        return follow();
    }
    log.skip("guide", "kubectl is not installed");
    Ok(())
}

fn has_kubectl() -> bool {
    works(&mut program("kubectl", &["version", "--client"]))
}

fn follow() -> Result<(), Failure> {
    for port in PORTS {
        check_free(port)?;
    }
    prerequisites::guest_target()?;
    let programs = root().join("target/debug");
    let path = page::path();
    let text = std::fs::read_to_string(&path).map_err(Failure::file(&path))?;
    let stand_in = StandIn::start(&programs)?;
    let mut shell = stand_in.shell(&programs, &page::script(&text))?;
    let mut reading = Reading::default();
    let followed = run_watched(&mut shell, |line| reading.hear(line));
    if followed.is_err() {
        println!("what the stand-in has said:\n{}", stand_in.log());
    }
    followed.map_err(|failure| reading.failed.take().map_or(failure, |place| Failure::Guide { place }))?;
    reading.check(&Expected::read()?.rows)?;
    stand_in.wait_until_it_is_alone()?;
    stand_in.stop()
}

fn check_free(port: u16) -> Result<(), Failure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).map_err(|source| Failure::Port { port, source })
}

/// What the commands print, as far as it is judged.
#[derive(Debug, Default)]
struct Reading {
    /// The command that failed, with its place.
    failed: Option<String>,
    /// Where entries are counted whose count is yet to come.
    counting: Option<String>,
    /// Each place with what was printed there.
    counts: Vec<(String, String)>,
}

impl Reading {
    fn hear(&mut self, line: &str) {
        if let Some((place, command)) = page::shown(line) {
            self.close();
            self.counting = command.starts_with(COUNT).then(|| place.to_owned());
        } else if let Some(place) = page::failed(line) {
            self.failed.get_or_insert_with(|| place.to_owned());
        } else if line.parse::<u64>().is_ok()
            && let Some(place) = self.counting.take()
        {
            self.counts.push((place, line.to_owned()));
        }
    }

    /// A count that did not come is none.
    fn close(&mut self) {
        self.counts.extend(self.counting.take().map(|place| (place, String::new())));
    }

    /// The map has all its entries whenever it is asked.
    fn check(mut self, rows: &str) -> Result<(), Failure> {
        self.close();
        let wrong = self.counts.iter().find(|(_, count)| count != rows);
        match wrong {
            Some((place, count)) => {
                Err(Failure::Unexpected { command: place.clone(), printed: count.clone() })
            }
            None if self.counts.is_empty() => {
                Err(Failure::Unexpected { command: COUNT.trim().to_owned(), printed: String::new() })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Reading {
        let mut reading = Reading::default();
        lines.iter().for_each(|line| reading.hear(line));
        reading
    }

    #[test]
    fn counts_are_read_behind_the_command_that_asks_for_them() {
        let size = "+ docs/kubernetes.md:9: wattle map size january";
        let other = "+ docs/kubernetes.md:8: sleep 1";
        let reading =
            read(&[other, "12", size, "Handling connection for 7118", "27004", "13", size, "27004"]);
        assert_eq!(reading.counts.len(), 2);
        assert!(reading.check("27004").is_ok());
        for lines in [&[size, "27003"][..], &[size, "27004", size, other], &[size, "27004", size], &[other]] {
            assert!(matches!(read(lines).check("27004"), Err(Failure::Unexpected { .. })), "{lines:?}");
        }
    }

    #[test]
    fn the_first_command_that_fails_is_kept() {
        let reading = read(&["FAILED docs/kubernetes.md:3: false", "FAILED docs/kubernetes.md:4: false"]);
        assert_eq!(reading.failed.as_deref(), Some("docs/kubernetes.md:3: false"));
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        match check_free(taken) {
            Err(Failure::Port { port, .. }) => assert_eq!(port, taken),
            other => panic!("{other:?}"),
        }
    }
}
