//! Docker's engine: the one that runs here, or one of our own until the end of this run.
//!
//! An engine of our own lives in namespaces of its own for networks and mounts: the machine's bridges, routes and
//! firewall stay as they are, and nothing is left of it but a folder, which is removed.

use crate::command::{end, output, program, shown, start_logged, works};
use crate::failure::Failure;
use crate::prerequisites;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Engine {
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    process: Child,
    folder: PathBuf,
}

impl Engine {
    pub(super) fn find() -> Result<Self, Failure> {
        let missing = |advice: String| Failure::Missing { what: "Docker's engine", advice };
        let mut engine = Self { own: None };
        if engine.answers() {
            return Ok(engine);
        }
        if !prerequisites::is_root() {
            let advice = "start it, or run this as root, which starts one for as long as it takes";
            return Err(missing(advice.to_owned()));
        }
        if !prerequisites::debian_program("dockerd", &["docker.io"]) {
            return Err(missing("install it (Debian's package is docker.io)".to_owned()));
        }
        // Its package may have started it.
        if engine.answers() {
            return Ok(engine);
        }
        engine.own = Some(Own::start()?);
        engine.wait_until_it_answers()?;
        Ok(engine)
    }

    /// Its images go with it.
    pub(super) fn ends_with_this_run(&self) -> bool {
        self.own.is_some()
    }

    pub(super) fn docker(&self, arguments: &[&str]) -> Command {
        let mut docker = program("docker", arguments);
        if let Some(own) = &self.own {
            docker.env("DOCKER_HOST", own.address()).env_remove("DOCKER_CONTEXT");
        }
        docker
    }

    fn answers(&self) -> bool {
        works(&mut self.docker(&["version"]))
    }

    fn wait_until_it_answers(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        while !self.answers() {
            let own = self.own.as_mut().expect("who runs already answers");
            let has_ended = own.process.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || start.elapsed() > START_DEADLINE {
                let log = std::fs::read_to_string(own.log()).unwrap_or_default();
                println!("{log}");
                let advice = "it did not start, for the reasons above".to_owned();
                return Err(Failure::Missing { what: "Docker's engine", advice });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Own {
    /// Its socket's path must be short, so its folder is not below the clone.
    fn start() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("wattle-docker-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(Failure::file(&folder))?;
        let mut command = program("unshare", &["--net", "--mount", "dockerd"]);
        for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(option).arg(folder.join(name));
        }
        command.arg("--host").arg(format!("unix://{}", folder.join("socket").display()));
        // Containers talk among themselves: they need no way out, and so no rules of a firewall.
        command.args(["--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]);
        println!("$ {}", shown(&command));
        let process = start_logged(&mut command, &folder.join("log"))?;
        Ok(Self { process, folder })
    }

    fn address(&self) -> String {
        format!("unix://{}", self.folder.join("socket").display())
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Asked to, it ends its containers, and then itself.
        end(&mut self.process, STOP_DEADLINE);
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("{} could not be removed: {error}", self.folder.display());
        }
    }
}

/// What a command of Docker's prints, without the end of the line.
pub(super) fn answer(command: &mut Command) -> Result<String, Failure> {
    Ok(output(command)?.trim_end().to_owned())
}
