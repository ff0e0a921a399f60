//! kubectl against a cluster of a test; skipped where it is not installed.

use std::io::Write as _;
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::bench::{Bench, DEADLINE};

pub(crate) struct Kubectl {
    pub(crate) bench: Bench,
}

impl Kubectl {
    /// `None`, and said so, where there is no kubectl.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        if std::process::Command::new("kubectl").args(["version", "--client"]).output().is_err() {
            let line = format!("SKIPPED pods::{test}: kubectl is not installed\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        }
        let bench = Bench::start_with_tls().await;
        bench.server.write_kubeconfig(&bench.folder.path().join("kubeconfig")).unwrap();
        Some(Self { bench })
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(arguments.split(' '))
            .env("KUBECONFIG", self.bench.folder.path().join("kubeconfig"))
            .env("HOME", self.bench.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &str) -> Output {
        let output = timeout(DEADLINE, self.command(arguments).output()).await;
        output.unwrap_or_else(|_| panic!("kubectl {arguments} does not end")).unwrap()
    }

    /// What a command prints that succeeds.
    pub(crate) async fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a command complains of.
    pub(crate) async fn fails(&self, arguments: &str) -> String {
        let output = self.run(arguments).await;
        assert!(!output.status.success(), "kubectl {arguments} succeeds");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// A command that goes on for a while.
    pub(crate) fn begin(&self, arguments: &str, environment: &[(&str, &str)]) -> Running {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (lines, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Running { child, lines: BufReader::new(lines).lines(), errors }
    }
}

pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    errors: ChildStderr,
}

impl Running {
    /// Its next line; none when it has said all.
    pub(crate) async fn line(&mut self) -> Option<String> {
        timeout(DEADLINE, self.lines.next_line()).await.expect("it says nothing").unwrap()
    }

    /// The next line that contains this.
    pub(crate) async fn line_with(&mut self, text: &str) -> String {
        while let Some(line) = self.line().await {
            if line.contains(text) {
                return line;
            }
        }
        panic!("no line has {text:?}; {}", self.end().await.1)
    }

    /// Waits for its end: whether it is satisfied, and what it complains of.
    pub(crate) async fn end(&mut self) -> (bool, String) {
        let mut errors = String::new();
        let rest = async {
            self.errors.read_to_string(&mut errors).await.unwrap();
            self.child.wait().await.unwrap().success()
        };
        let is_satisfied = timeout(DEADLINE, rest).await.expect("it does not end");
        (is_satisfied, errors)
    }
}
