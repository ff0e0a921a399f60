//! The figures that the demo must reach, computed outside Wattle by `examples/data/expected.py`.

use crate::command::root;
use crate::failure::Failure;
use crate::json::Json;

const FILE: &str = "examples/data/flights-2013-01.expected.json";

#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) rows: String,
    pub(crate) miles: String,
    pub(crate) without_tail_number: String,
    /// What each version of the function finds, in order.
    pub(crate) versions: Vec<Summary>,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Classes and how many flights each has, as one line.
    pub(crate) classes: String,
    pub(crate) minutes: String,
}

/// One flight, and what each version says of it.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) key: String,
    pub(crate) classes: Vec<String>,
}

impl Expected {
    pub(crate) fn read() -> Result<Self, Failure> {
        let path = root().join(FILE);
        let text = std::fs::read_to_string(&path).map_err(Failure::file(&path))?;
        let figures = Json::parse(&text).ok();
        figures.as_ref().and_then(Self::pick).ok_or(Failure::Unreadable { path, text })
    }

    fn pick(figures: &Json) -> Option<Self> {
        let number = |name: &str| figures.get(name)?.number().map(|number| number.to_string());
        Some(Self {
            rows: number("rows")?,
            miles: number("miles")?,
            without_tail_number: number("without_tail_number")?,
            versions: figures.get("versions")?.items().iter().map(Summary::pick).collect::<Option<_>>()?,
            samples: figures.get("samples")?.items().iter().map(Sample::pick).collect::<Option<_>>()?,
        })
    }
}

impl Summary {
    fn pick(version: &Json) -> Option<Self> {
        let classes = version.get("classes")?.members().iter();
        let counts = classes.map(|(name, count)| Some((name.clone(), count.number()?)));
        let minutes = version.get("minutes")?.number()?.to_string();
        Some(Self { classes: in_one_line(counts.collect::<Option<Vec<_>>>()?), minutes })
    }
}

impl Sample {
    fn pick(sample: &Json) -> Option<Self> {
        let versions = sample.get("versions")?.items().iter();
        let classes = versions.map(|version| Some(version.get("delay")?.text()?.to_owned()));
        Some(Self { key: sample.get("key")?.text()?.to_owned(), classes: classes.collect::<Option<_>>()? })
    }
}

/// `cancelled 521, late 4918`, in the order of names.
pub(crate) fn in_one_line(counts: impl IntoIterator<Item = (String, f64)>) -> String {
    let mut counts: Vec<(String, f64)> = counts.into_iter().collect();
    counts.sort_by(|left, right| left.0.cmp(&right.0));
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_figures_are_read() {
        let expected = Expected::read().expect("a committed file");
        assert_eq!(expected.rows, "27004");
        assert_eq!(expected.versions[0].classes, "cancelled 521, late 4918, on-time 21565");
        assert_eq!(expected.versions[0].minutes, "341410");
        assert_eq!(expected.versions.len(), 2);
        assert!(expected.samples.iter().all(|sample| sample.classes.len() == 2));
    }
}
