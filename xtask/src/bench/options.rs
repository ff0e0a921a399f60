//! What `cargo xtask bench` is told.

use crate::failure::Failure;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    InProcess,
    Node,
    Backups,
    Failover,
    Rebalance,
}

/// Those with several nodes.
const GRID: [Part; 3] = [Part::Backups, Part::Failover, Part::Rebalance];

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// All of them, unless some are named.
    pub(crate) parts: Vec<Part>,
    /// The quickly built node, not the fast one: to try out the benchmarks themselves.
    pub(crate) dev: bool,
    /// What follows is about the grid. The rounds of which the median is taken.
    pub(crate) rounds: usize,
    pub(crate) keys: u64,
    /// How many backups the maps have that are written to.
    pub(crate) backups: Vec<u32>,
    /// For how long leases are granted when nodes are killed, in milliseconds.
    pub(crate) leases_ms: Vec<u64>,
    /// What there is to share when another node joins, keys and values.
    pub(crate) rebalanced_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            dev: false,
            rounds: super::ROUNDS,
            keys: super::KEYS,
            backups: vec![0, 1, 2],
            leases_ms: vec![2000, 500],
            rebalanced_bytes: 1_000_000_000,
        }
    }
}

impl Options {
    pub(crate) fn parse(words: &[&str]) -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let number = |text: Option<&&str>| {
                let number = text.and_then(|text| text.parse().ok()).filter(|number| *number > 0_u64);
                number.ok_or_else(|| Failure::Usage { word: word.to_owned() })
            };
            match word {
                "in-process" => options.parts.push(Part::InProcess),
                "node" => options.parts.push(Part::Node),
                "backups" => options.parts.push(Part::Backups),
                "failover" => options.parts.push(Part::Failover),
                "rebalance" => options.parts.push(Part::Rebalance),
                "grid" => options.parts.extend(GRID),
                "--dev" => options.dev = true,
                "--rounds" => options.rounds = number(words.next())? as usize,
                "--keys" => options.keys = number(words.next())?,
                "--rebalance-mb" => options.rebalanced_bytes = number(words.next())? * 1_000_000,
                "--backups" => options.backups = list(word, words.next())?,
                "--leases-ms" => options.leases_ms = list(word, words.next())?,
                word => return Err(Failure::Usage { word: word.to_owned() }),
            }
        }
        if options.parts.is_empty() {
            options.parts = [Part::InProcess, Part::Node].into_iter().chain(GRID).collect();
        }
        Ok(options)
    }
}

/// Numbers with commas between them.
fn list<T: FromStr>(option: &str, numbers: Option<&&str>) -> Result<Vec<T>, Failure> {
    let numbers = numbers.map(|list| list.split(',').map(str::parse).collect());
    numbers.and_then(Result::ok).ok_or_else(|| Failure::Usage { word: option.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_run_unless_some_are_named() {
        let all = Options::parse(&[]).expect("no options");
        assert_eq!(all.parts[..2], [Part::InProcess, Part::Node]);
        assert_eq!(all.parts[2..], GRID);
        let words = "grid --dev --rounds 3 --keys 1000 --backups 0,2 --leases-ms 300 --rebalance-mb 20";
        let words: Vec<&str> = words.split(' ').collect();
        let expected = Options {
            parts: GRID.to_vec(),
            dev: true,
            rounds: 3,
            keys: 1000,
            backups: vec![0, 2],
            leases_ms: vec![300],
            rebalanced_bytes: 20_000_000,
        };
        assert_eq!(Options::parse(&words).expect("options"), expected);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for words in
            [&["gird"][..], &["--rounds"], &["--rounds", "0"], &["--backups", "1,x"], &["--leases-ms"]]
        {
            assert!(matches!(Options::parse(words), Err(Failure::Usage { .. })), "{words:?}");
        }
    }
}
