//! The stand-in for a cluster that the guide speaks of, in a folder of its own, until this goes out of scope; and what runs
//! of it: everything that it starts, and that calls it, has the folder in its environment.

use crate::command::{end, program, root, start_logged};
use crate::failure::Failure;
use crate::node::free_port;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

const START_DEADLINE: Duration = Duration::from_secs(30);
const END_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct StandIn {
    child: Child,
    folder: PathBuf,
}

impl StandIn {
    pub(super) fn start(programs: &Path) -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("wattle-guide-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(Failure::file(&folder))?;
        let port = free_port().map_err(Failure::file("a free port"))?;
        let mut command = program(&programs.join("wattle-pods").to_string_lossy(), &["--listen"]);
        command.arg(format!("127.0.0.1:{port}"));
        command.arg("--image").arg(format!("wattle={}", programs.join("wattle").display()));
        command.arg("--kubeconfig").arg(folder.join("kubeconfig"));
        command.arg("--directory").arg(folder.join("cluster"));
        let child = start_logged(&mut command, &folder.join("log"))?;
        let mut stand_in = Self { child, folder };
        stand_in.wait_for_its_kubeconfig()?;
        Ok(stand_in)
    }

    /// It is written when everything runs.
    fn wait_for_its_kubeconfig(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        while !self.folder.join("kubeconfig").is_file() {
            let has_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || start.elapsed() > START_DEADLINE {
                return Err(Failure::NodeDidNotStart { log: self.log() });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// What it has written.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// A shell as the guide has it: kubectl leads here, and changes nothing of the user's.
    pub(super) fn shell(&self, programs: &Path, script: &str) -> Result<Command, Failure> {
        let file = self.folder.join("guide.sh");
        std::fs::write(&file, script).map_err(Failure::file(&file))?;
        let mut path = std::ffi::OsString::from(programs);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut shell = program("bash", &[]);
        shell.arg(file).current_dir(root()).env("PATH", path);
        shell.env("KUBECONFIG", self.folder.join("kubeconfig"));
        shell.env("KUBECACHEDIR", self.folder.join("cache"));
        Ok(shell)
    }

    /// Waits until nothing runs but the stand-in: pods that were deleted, and what was left in the background.
    pub(super) fn wait_until_it_is_alone(&self) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let others = self.others();
            if others.is_empty() {
                return Ok(());
            }
            if start.elapsed() > END_DEADLINE {
                return Err(Failure::LeftBehind { processes: others });
            }
            thread::sleep(POLL);
        }
    }

    /// Command lines of what has this folder in its environment.
    fn others(&self) -> Vec<String> {
        let folder = self.folder.to_string_lossy();
        let read = |file: PathBuf| {
            let bytes = std::fs::read(file).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let others = processes
            .map(|process| process.path())
            .filter(|process| read(process.join("environ")).contains(&*folder));
        others.map(|process| format!("{} {}", process.display(), read(process.join("cmdline")))).collect()
    }

    /// Ends it as Ctrl-C would: with it ends all that it has started.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        end(&mut self.child, END_DEADLINE);
        self.wait_until_it_is_alone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        end(&mut self.child, END_DEADLINE);
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("{} could not be removed: {error}", self.folder.display());
        }
    }
}
