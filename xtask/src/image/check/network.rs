//! A network of this check's own, the containers in it, and what is asked of them.

use crate::command::{output, run, shown, works};
use crate::failure::Failure;
use crate::image::engine::{Engine, answer};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

pub(super) const NETWORK: &str = "wattle-check";
/// The image with this very program, for requests from within the network.
pub(super) const PROBE: &str = "wattle-check-probe";
/// By which containers are found again that a run has left which was ended.
const LABEL: &str = "wattle-check";
/// Set aside for measurements (RFC 2544), so nobody's network is likely to have it.
const ADDRESSES: &str = "198.18.117.0/24";
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

/// It goes with its containers when it goes out of scope.
pub(super) struct Network<'a> {
    pub(super) engine: &'a Engine,
}

impl<'a> Network<'a> {
    /// Creates one for as long as `check` takes, and shows what its containers say if that fails.
    pub(super) fn during(
        engine: &'a Engine,
        check: impl FnOnce(&Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let network = Self { engine };
        network.remove();
        run(&mut engine.docker(&["network", "create", "--internal", "--subnet", ADDRESSES, NETWORK]))?;
        let result = check(&network);
        if result.is_err() {
            network.show_logs();
        }
        result
    }

    /// The beginning of a command that starts a container, in this network or in that of another one.
    pub(super) fn container(&self, name: &str, network: &str) -> Command {
        let labelled = ["run", "--detach", "--label", LABEL, "--name", name, "--network", network];
        self.engine.docker(&labelled)
    }

    /// The same with no more rights than a pod of the chart has.
    pub(super) fn pod(&self, name: &str, network: &str) -> Command {
        let mut pod = self.container(name, network);
        pod.args(["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]);
        pod
    }

    /// The beginning of a command that waits for what its container prints.
    pub(super) fn tool(&self, network: &str) -> Command {
        self.engine.docker(&["run", "--rm", "--label", LABEL, "--network", network])
    }

    /// A root that can be written, or more rights, would be somebody's mistake in this check.
    pub(super) fn check_rights(&self, name: &str) -> Result<(), Failure> {
        let rights = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.Config.User}}";
        let mut inspect = self.engine.docker(&["inspect", "--format", rights, name]);
        expect(&mut inspect, &format!("true [ALL] [no-new-privileges] {}", super::USER))
    }

    /// Asks from `network` until the answer begins so.
    pub(super) fn wait_for_answer(
        &self,
        network: &str,
        address: &str,
        path: &str,
        expected: &str,
    ) -> Result<(), Failure> {
        let mut probe = self.tool(network);
        probe.args([PROBE, "probe", address, path]);
        let said = wait_for(&mut probe, |said| said.starts_with(expected))?;
        println!("{address}{path}: {}", said.trim_end());
        Ok(())
    }

    /// What the client in a container prints must begin so.
    pub(super) fn expect(&self, name: &str, arguments: &[&str], expected: &str) -> Result<(), Failure> {
        let mut client = self.wattle(name, arguments);
        println!("$ {}", shown(&client));
        expect(&mut client, expected)
    }

    pub(super) fn wattle(&self, name: &str, arguments: &[&str]) -> Command {
        let mut client = self.engine.docker(&["exec", name, "wattle"]);
        client.args(arguments);
        client
    }

    /// It ends by itself when it is asked to, although nothing but itself runs there to pass on the signal.
    pub(super) fn stop(&self, name: &str) -> Result<(), Failure> {
        run(&mut self.engine.docker(&["stop", "-t", "60", name]))?;
        let code = ["inspect", "--format", "code {{.State.ExitCode}}", name];
        let mut inspect = self.engine.docker(&code);
        let printed = answer(&mut inspect)?;
        if printed == "code 0" {
            return Ok(());
        }
        Err(Failure::Unexpected { command: shown(&inspect), printed })
    }

    /// What to print of each container, also of those that have ended.
    fn all(&self, format: &str) -> Result<Vec<String>, Failure> {
        let label = format!("label={LABEL}");
        let list = ["ps", "--all", "--filter", &label, "--format", format];
        Ok(output(&mut self.engine.docker(&list))?.lines().map(str::to_owned).collect())
    }

    fn show_logs(&self) {
        for name in self.all("{{.Names}}").unwrap_or_default() {
            if run(&mut self.engine.docker(&["logs", "--tail", "40", &name])).is_err() {
                println!("{name} has no log");
            }
        }
    }

    fn remove(&self) {
        for id in self.all("{{.ID}}").unwrap_or_default() {
            works(&mut self.engine.docker(&["rm", "--force", "--volumes", &id]));
        }
        works(&mut self.engine.docker(&["network", "rm", NETWORK]));
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// What it prints must begin so.
pub(super) fn expect(command: &mut Command, expected: &str) -> Result<(), Failure> {
    let printed = output(command)?;
    if printed.starts_with(expected) {
        return Ok(());
    }
    Err(Failure::Unexpected { command: shown(command), printed })
}

/// Runs it, also when it fails, until it prints what is expected, and returns that.
pub(super) fn wait_for(command: &mut Command, is_expected: impl Fn(&str) -> bool) -> Result<String, Failure> {
    let start = Instant::now();
    loop {
        let said = command.output();
        let said = said.map_err(|source| Failure::CannotStart { command: shown(command), source })?;
        let printed = String::from_utf8_lossy(&said.stdout).into_owned();
        if is_expected(&printed) {
            return Ok(printed);
        }
        if start.elapsed() > DEADLINE {
            let errors = String::from_utf8_lossy(&said.stderr);
            let printed = format!("{printed}{errors}");
            return Err(Failure::Unexpected { command: shown(command), printed });
        }
        thread::sleep(POLL);
    }
}
