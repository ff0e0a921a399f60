//! A node in a process of its own, whose limits are its own.

use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use wattle_client::Client;

pub(crate) struct ProcessNode {
    child: Child,
    endpoint: String,
}

/// A write past the limit of files is refused instead of ending the process. It starts with as few files as a system may give.
const CONFINED: &str = r#"trap '' XFSZ; ulimit -Sn 20; exec "$0" "$@""#;

/// One that may not serve yet.
pub(crate) struct Starting {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Starting {
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::of(Command::new("bash"), &[&["--listen", "127.0.0.1:0"], arguments].concat())
    }

    /// That finds the API server of its cluster by a kubeconfig.
    pub(crate) fn in_cluster(kubeconfig: &Path, arguments: &[&str]) -> Self {
        let mut bash = Command::new("bash");
        bash.env("KUBECONFIG", kubeconfig);
        Self::of(bash, arguments)
    }

    fn of(mut bash: Command, arguments: &[&str]) -> Self {
        bash.args(["-c", CONFINED, env!("CARGO_BIN_EXE_wattle"), "serve", "--log-format", "json"]);
        let mut child =
            bash.args(arguments).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("bash runs");
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until it logs this; `None` if it ends before.
    pub(crate) async fn says(&mut self, message: &str) -> Option<serde_json::Value> {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["message"] == message {
                return Some(line);
            }
        }
        None
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(&self.child), signal).unwrap();
    }

    /// Waits until it has ended; its exit code, if no signal has ended it.
    pub(crate) async fn exit_code(mut self) -> Option<i32> {
        self.child.wait().await.unwrap().code()
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().expect("it runs").try_into().unwrap()).unwrap()
}

impl ProcessNode {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with_data(data: &Path) -> Self {
        Self::with(&["--data-dir", data.to_str().unwrap()]).await
    }

    pub(crate) async fn with(arguments: &[&str]) -> Self {
        Self::serving(Starting::with(arguments)).await
    }

    /// One that has been started, when it serves.
    pub(crate) async fn serving(mut starting: Starting) -> Self {
        let line = starting.says("serving").await.expect("it serves before it ends");
        let endpoint = format!("http://{}", line["address"].as_str().unwrap());
        let Starting { child, mut lines } = starting;
        // Somebody has to read on, or the node would wait for that.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, endpoint }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.endpoint.as_str()).await.expect("the node serves")
    }

    fn pid(&self) -> Pid {
        pid(&self.child)
    }

    /// No file may be written past so many bytes; `None` for as many as the system takes.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        let old =
            prlimit(Some(self.pid()), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
        assert_eq!(old.maximum, None, "the limit can be lifted again");
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    /// It may have no more files open than this.
    pub(crate) fn limit_open_files(&self, files: u64) {
        let limit = Rlimit { current: Some(files), maximum: Some(files) };
        prlimit(Some(self.pid()), Resource::Nofile, limit).unwrap();
    }

    /// How many files it has open.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid().as_raw_nonzero())).unwrap().count()
    }

    /// A process that joins its grid.
    pub(crate) async fn joined(&self) -> Self {
        self.joined_with(&[]).await
    }

    pub(crate) async fn joined_with(&self, arguments: &[&str]) -> Self {
        Self::with(&[&["--join", self.address()], arguments].concat()).await
    }

    /// Where its process is.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// It does nothing and notices nothing, until it is resumed.
    pub(crate) fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub(crate) fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// Ends it without a word.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn has_ended(mut self) {
        assert!(self.child.wait().await.unwrap().success());
    }

    /// Ends it as an init system would.
    pub(crate) async fn stop(mut self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        assert!(self.child.wait().await.unwrap().success());
    }
}
