//! A node of its own for one run: started on a free port of the loopback interface with a data directory that is
//! removed at the end, and stopped when this goes out of scope, however the run ends.

use crate::command::{cargo, end, end_by_force, output, program, root, run, start_logged};
use crate::failure::Failure;
use crate::json::Json;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const START_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(2);

const LOG: &str = "node.log";

/// Nodes that this run has started.
static NODES: AtomicUsize = AtomicUsize::new(0);

/// Calls a node.
#[derive(Debug)]
pub(crate) struct Caller {
    binary: PathBuf,
    endpoint: String,
}

impl Caller {
    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = program(&self.binary.to_string_lossy(), arguments);
        command.args(["--output", "json"]).env("WATTLE_ENDPOINT", &self.endpoint);
        command
    }

    /// What a call prints.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String, Failure> {
        output(&mut self.client(arguments))
    }

    /// What a call prints: one value on each line.
    pub(crate) fn values(&self, arguments: &[&str]) -> Result<Vec<Json>, Failure> {
        let printed = self.ask(arguments)?;
        let values = printed.lines().map(|line| Json::parse(line).ok());
        let values = values.collect::<Option<Vec<Json>>>();
        values.ok_or_else(|| Failure::Unexpected { command: typed(arguments), printed })
    }

    /// What a call prints that has one value.
    pub(crate) fn value(&self, arguments: &[&str]) -> Result<Json, Failure> {
        let mut values = self.values(arguments)?;
        let last = values.pop();
        last.ok_or_else(|| Failure::Unexpected { command: typed(arguments), printed: String::new() })
    }
}

/// The command as the reader would type it.
pub(crate) fn typed(arguments: &[&str]) -> String {
    format!("wattle {}", arguments.join(" "))
}

/// Builds the program: the fast one, or the quickly built one that the tests have built already.
pub(crate) fn build(dev: bool) -> Result<PathBuf, Failure> {
    if dev {
        build_for_tests(&["wattle"])?;
        return Ok(root().join("target/debug/wattle"));
    }
    run(&mut cargo(&["build", "--locked", "--bin", "wattle", "--release"]))?;
    Ok(root().join("target/release/wattle"))
}

/// Builds programs of the workspace as tests have them.
pub(crate) fn build_for_tests(names: &[&str]) -> Result<(), Failure> {
    // With the features that tests ask for, or all dependencies would be built once more.
    let mut build = cargo(&["build", "--locked", "--workspace", "--tests"]);
    run(build.args(names.iter().flat_map(|name| ["--bin", name])))
}

#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    binary: PathBuf,
    folder: PathBuf,
    /// What its configuration file says.
    settings: String,
    port: u16,
    keep: bool,
    pub(crate) started_in: Duration,
}

impl Node {
    pub(crate) fn start(binary: &Path) -> Result<Self, Failure> {
        Self::configured(binary, "")
    }

    /// With what a configuration file would say.
    pub(crate) fn configured(binary: &Path, settings: &str) -> Result<Self, Failure> {
        Self::with(binary, settings, None)
    }

    /// One that joins the grid of another, and is configured as that is.
    pub(crate) fn join(binary: &Path, other: &Self) -> Result<Self, Failure> {
        Self::with(binary, &other.settings, Some(other))
    }

    fn with(binary: &Path, settings: &str, other: Option<&Self>) -> Result<Self, Failure> {
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("wattle-xtask-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(Failure::file(&folder))?;
        let port = free_port().map_err(Failure::file("a free port"))?;
        let mut command = program(&binary.to_string_lossy(), &["serve", "--listen"]);
        command.arg(format!("127.0.0.1:{port}")).arg("--data-dir").arg(folder.join("data"));
        // What it holds ends with it.
        command.args(["--stop-policy", "leave-now"]);
        let file = folder.join("wattle.toml");
        std::fs::write(&file, settings).map_err(Failure::file(&file))?;
        command.arg("--config").arg(file);
        if let Some(other) = other {
            command.arg("--join").arg(other.address());
        }
        let start = Instant::now();
        let child = start_logged(&mut command, &folder.join(LOG))?;
        let binary = binary.to_owned();
        let (settings, started_in) = (settings.to_owned(), Duration::ZERO);
        let mut node = Self { child, binary, folder, settings, port, keep: false, started_in };
        node.wait_until_it_listens(start)?;
        node.started_in = start.elapsed();
        Ok(node)
    }

    fn wait_until_it_listens(&mut self, start: Instant) -> Result<(), Failure> {
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let has_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || start.elapsed() > START_DEADLINE {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                return Err(Failure::NodeDidNotStart { log });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Leaves it running, with its folder.
    pub(crate) fn keep(mut self) {
        self.keep = true;
    }

    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// As other nodes know it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    /// The node's own binary as its client, answering in JSON.
    pub(crate) fn client(&self, arguments: &[&str]) -> Command {
        self.caller().client(arguments)
    }

    /// What a call of the client prints.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String, Failure> {
        self.caller().ask(arguments)
    }

    /// Calls it from anywhere.
    pub(crate) fn caller(&self) -> Caller {
        Caller { binary: self.binary.clone(), endpoint: self.endpoint() }
    }

    /// Ends it without a word. Its folder goes.
    pub(crate) fn kill(mut self) {
        end_by_force(&mut self.child);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if !end(&mut self.child, STOP_DEADLINE) {
            println!("the node did not stop within {STOP_DEADLINE:?}: it was ended by force");
        }
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("{} could not be removed: {error}", self.folder.display());
        }
    }
}

/// The port is free at this moment; another program could take it before the node does, which then says so. It lies
/// below those that Linux gives to connections (`ip_local_port_range`), which come and go by the hundred here.
pub(crate) fn free_port() -> std::io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another run begins elsewhere.
    let begin = (std::process::id() % 100) as u16 * 100;
    loop {
        let port = 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            bound => return bound.map(|_| port),
        }
    }
}
