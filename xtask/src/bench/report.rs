//! What a run of the benchmarks says: on the terminal as it comes, and in `target/bench/` at the end.

use super::{Operation, Sample, Work, median};
use crate::command::root;
use crate::failure::Failure;

#[derive(Debug, Default)]
pub(crate) struct Report {
    text: String,
}

/// The samples of one kind of work.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) work: Work,
    pub(crate) wattle: Vec<Sample>,
    pub(crate) redis: Vec<Sample>,
}

impl Row {
    pub(crate) fn new(work: Work) -> Self {
        Self { work, wattle: Vec::new(), redis: Vec::new() }
    }
}

impl Work {
    pub(crate) fn name(&self) -> String {
        let operation = match self.operation {
            Operation::Get => "get",
            Operation::Put => "put",
            Operation::Invoke => "invoke",
        };
        match self.depth {
            1 => format!("{operation}, unary"),
            depth => format!("{operation}, pipelined {depth}"),
        }
    }
}

impl Report {
    pub(crate) fn line(&mut self, line: impl AsRef<str>) {
        println!("{}", line.as_ref());
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    #[cfg(test)]
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    pub(crate) fn title(&mut self, title: &str) {
        self.line(format!("\n{title}"));
    }

    pub(crate) fn table(&mut self, rows: &[Row]) {
        self.line(format!(
            "{:<22} {:<7} {:>11} {:>9} {:>9} {:>9} {:>12} {:>12} {:>9}",
            "work",
            "server",
            "k/s",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "server µs/op",
            "client µs/op",
            "× Redis"
        ));
        for row in rows {
            let wattle = middle(&row.wattle);
            let redis = middle(&row.redis);
            let ratio =
                redis.map(|redis| wattle.map_or(f64::NAN, |wattle| wattle.per_second / redis.per_second));
            for (server, sample, ratio) in [("wattle", wattle, ratio), ("redis", redis, None)] {
                self.lines_of(&row.work.name(), server, sample, ratio);
            }
        }
    }

    fn lines_of(&mut self, name: &str, server: &str, sample: Option<Sample>, ratio: Option<f64>) {
        let Some(sample) = sample else { return };
        let optional = |value: Option<f64>, digits: usize| {
            value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
        };
        self.line(format!(
            "{name:<22} {server:<7} {:>11.1} {:>9.0} {:>9.0} {:>9} {:>12} {:>12} {:>9}",
            sample.per_second / 1000.0,
            sample.p50_us,
            sample.p99_us,
            optional(sample.p999_us, 0),
            optional(sample.server_us, 2),
            optional(sample.client_us, 2),
            optional(ratio, 2),
        ));
    }

    /// Writes it below `target/bench/`.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let folder = root().join("target/bench");
        std::fs::create_dir_all(&folder).map_err(Failure::file(&folder))?;
        let path = folder.join("report.txt");
        std::fs::write(&path, &self.text).map_err(Failure::file(&path))?;
        println!("\nwritten to {}", path.display());
        Ok(())
    }
}

/// The median of each figure by itself.
pub(crate) fn middle(samples: &[Sample]) -> Option<Sample> {
    if samples.is_empty() {
        return None;
    }
    let figure = |pick: fn(&Sample) -> f64| median(samples.iter().map(pick).collect());
    let optional =
        |pick: fn(&Sample) -> Option<f64>| samples.iter().map(pick).collect::<Option<Vec<f64>>>().map(median);
    Some(Sample {
        per_second: figure(|sample| sample.per_second),
        p50_us: figure(|sample| sample.p50_us),
        p99_us: figure(|sample| sample.p99_us),
        p999_us: optional(|sample| sample.p999_us),
        server_us: optional(|sample| sample.server_us),
        client_us: optional(|sample| sample.client_us),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(per_second: f64, server_us: Option<f64>) -> Sample {
        Sample { per_second, p50_us: 1.0, p99_us: 2.0, p999_us: None, server_us, client_us: None }
    }

    #[test]
    fn each_figure_has_its_own_median() {
        let samples = [sample(3.0, Some(1.0)), sample(1.0, Some(3.0)), sample(2.0, Some(2.0))];
        let middle = middle(&samples).expect("samples");
        assert_eq!((middle.per_second, middle.server_us, middle.p999_us), (2.0, Some(2.0), None));
    }

    #[test]
    fn the_table_has_the_ratio() {
        let mut row = Row::new(super::super::WORKS[0]);
        row.wattle.push(sample(3000.0, None));
        row.redis.push(sample(2000.0, None));
        let mut report = Report::default();
        report.table(&[row]);
        let line = report.text.lines().nth(1).expect("a row below the head");
        assert!(line.starts_with("get, unary") && line.ends_with("1.50"), "{line}");
    }
}
